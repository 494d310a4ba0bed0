"""What arrives in ``handle_info`` beside what others send: ends that were watched for, and timers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clusterkit.actors.ref import Ref
    from clusterkit.kernel.monitors import Monitor

NORMAL, SHUTDOWN, KILLED = "normal", "shutdown", "killed"
_LONGEST = 1_024


@dataclass(frozen=True, slots=True)
class Down:
    """A process that was monitored has ended; told once, after all that it sent to this one.

    ``reason`` is "normal", "shutdown", "killed", what `Stop` or ``node.stop`` said, the summary of
    an exception (``"ValueError: text"``), "noproc" when there was no such process, "noconnection"
    when its node is down, restarted or unknown. ``monitor`` is what `GenServer.monitor` returned.
    """

    ref: Ref[Any]
    reason: str
    monitor: Monitor | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """A linked process has ended, and this one traps exits; ``reason`` as in `Down`."""

    ref: Ref[Any]
    reason: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The delay of `GenServer.send_after`, or a period of `GenServer.every`, has passed.

    >>> TimerFired("sweep")
    TimerFired(tag='sweep')
    """

    tag: object


def reason_text(reason: object) -> str:
    """Say in a line why a process ended.

    >>> reason_text("boom"), reason_text(ValueError("no such account"))
    ('boom', 'ValueError: no such account')
    """
    try:
        text = reason if isinstance(reason, str) else _summary(reason)
    except Exception:  # noqa: BLE001 - a foreign __str__ or __repr__ may raise anything
        text = type(reason).__qualname__
    return text.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore") or "unknown"


def _summary(reason: object) -> str:
    if not isinstance(reason, BaseException):
        return repr(reason)
    text = str(reason)
    return f"{type(reason).__qualname__}: {text}" if text else type(reason).__qualname__
