"""Members as users see them, and what is told when one changes.

`Member` is what one node knows and believes of another: the ring entry (who, where,
weight, metadata) beside the liveness (state, ready). `changes` compares two views of
one name and says what happened, so that each change is told once, and in order: a
member joins before anything else is told of it, and every `MemberUp` is followed by
one of `MemberDown`, `MemberLeft` or `MemberRemoved` before the next incarnation's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from clusterkit.core.identity import NodeId

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class State(StrEnum):
    """What is believed of a member."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DOWN = "down"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the ring.

    ``node.incarnation`` is 0 for one that was inserted by hand and has not announced
    itself. ``ready`` is its own word, from its health check. ``why`` says what
    is known of one that is down.
    """

    node: NodeId
    state: State = State.ALIVE
    ready: bool = True
    weight: int = 1
    meta: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    why: str = ""

    @property
    def name(self) -> str:
        """Its name, which is unique in the ring."""
        return self.node.name

    @property
    def is_out(self) -> bool:
        """Whether nothing can be asked of it: it is down, or on its way out."""
        return self.state in (State.DOWN, State.LEFT)

    @property
    def verdict(self) -> str | None:
        """Why calls to it fail at once; None while they go.

        >>> node = NodeId("a", "127.0.0.1", 7022, 1)
        >>> Member(node).verdict, Member(node, State.DOWN, why="stopped").verdict, Member(node, State.LEFT).verdict
        (None, 'stopped', 'left')
        """
        return (self.why or self.state.value) if self.is_out else None

    @property
    def available(self) -> bool:
        """Whether look-ups with ``alive=True`` choose it: alive or suspected, and ready."""
        return self.ready and not self.is_out


@dataclass(frozen=True, slots=True)
class MemberJoined:
    """A name is in the ring that was not: it joined, or was inserted."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberUp:
    """A member is believed alive: a new one, a new incarnation, or one that was suspected or down."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberSuspect:
    """A member does not answer; `MemberUp` or `MemberDown` follows in seconds."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberDown:
    """A member is down, or its incarnation is over. It stays in the ring until it is removed."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberLeft:
    """A member left by itself."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberRemoved:
    """A member was removed, by whomever; of this node itself when it was removed while alive."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberUpdated:
    """Weight, metadata, address or readiness of a member changed."""

    member: Member


@dataclass(frozen=True, slots=True)
class RingChanged:
    """Keys have other owners: ``moved`` is the part of all keys, from 0 to 1."""

    moved: float


@dataclass(frozen=True, slots=True)
class Lagged:
    """A subscriber read too slowly: ``missed`` events are lost to it."""

    missed: int


MemberEvent = MemberJoined | MemberUp | MemberSuspect | MemberDown | MemberLeft | MemberRemoved | MemberUpdated

_Enters = type[MemberUp] | type[MemberSuspect] | type[MemberDown] | type[MemberLeft]
_ENTERS: dict[State, _Enters] = {
    State.ALIVE: MemberUp,
    State.SUSPECT: MemberSuspect,
    State.DOWN: MemberDown,
    State.LEFT: MemberLeft,
}


def changes(before: Member | None, after: Member | None) -> list[MemberEvent]:
    """Say what happened to one name between two views of it; None stands for "not in the ring".

    >>> node = NodeId("a", "127.0.0.1", 7022, 1)
    >>> [type(event).__name__ for event in changes(None, Member(node))]
    ['MemberJoined', 'MemberUp']
    >>> changes(Member(node), None)[0].member.name
    'a'
    """
    if before == after:
        return []
    if before is None:
        assert after is not None
        joined = MemberJoined(after)
        return [joined, _ENTERS[after.state](after)] if after.node.incarnation else [joined]  # nobody has met it yet
    if after is None:
        return [MemberLeft(before) if before.state is State.LEFT else MemberRemoved(before)]
    if before.node.incarnation != after.node.incarnation:
        return _reborn(before, after)
    entered: list[MemberEvent] = [_ENTERS[after.state](after)] if before.state is not after.state else []
    same = (before.node, before.weight, before.meta, before.ready) == (
        after.node,
        after.weight,
        after.meta,
        after.ready,
    )
    return entered if same else [*entered, MemberUpdated(after)]


def _reborn(before: Member, after: Member) -> list[MemberEvent]:
    """Another incarnation: the earlier one is over, whatever was believed of it."""
    if before.state is State.LEFT:
        return changes(None, after)
    over: list[MemberEvent] = []
    if before.node.incarnation and before.state in (State.ALIVE, State.SUSPECT):
        over.append(MemberDown(Member(before.node, State.DOWN, False, before.weight, before.meta, "restarted")))
    return [*over, _ENTERS[after.state](after)] if after.node.incarnation else over  # nobody has met it yet
