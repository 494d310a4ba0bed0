"""A process of the ring's model, what it saves, and what is on its way to it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from clusterkit.core.ring_entry import Actor, Claim
from clusterkit.core.ring_frames import Change, Clock, Delta, Full
from clusterkit.core.ring_state import RingState


@dataclass(slots=True)
class File:
    """What a process saved."""

    boot: int
    state: Full
    had: int


@dataclass(slots=True, eq=False)
class Process:
    """One process; its name may be that of another."""

    number: int
    name: str
    skew: float
    state: RingState
    port: int = 0
    island: int = 0
    had: int = 0  # the events that it incorporated
    brought: int = 0  # those of them that came from outside of its view
    running: bool = True
    out: bool = False  # it was told that it is no member any more
    ready: bool = False
    files: list[File] = field(default_factory=list)
    heard: dict[str, Claim] = field(default_factory=dict)
    checked: tuple[object, ...] = ()

    @property
    def actor(self) -> Actor:
        return self.state.me


class Told(NamedTuple):
    """A frame on its way, and the record's knowledge of it."""

    to: Process
    sender: Actor
    frame: Change | Delta | Full | Clock | tuple[str, Claim]
    had: int
    asked: Process | None = None
