"""How an event of a node is told: a line for people, an object for programs, a notice in the prompt.

Rules: what a peer chose (a name, a reason) cannot move the cursor or break a line; an event of a type that is
not known here is told too, with all its fields.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from clusterkit.cli.follow import CONNECTED, DISCONNECTED, MISSED, Event
from clusterkit.cli.output import one_line
from clusterkit.core.identity import format_host_port

_FRAME = ("at", "ts", "type", "node", "incarnation", "cursor")
_COLOURS = {
    "MemberJoined": "green",
    "MemberUp": "green",
    "MemberSuspect": "yellow",
    "MemberDown": "red",
    "NameConflict": "red",
    "LinkDown": "yellow",
    DISCONNECTED: "red",
    MISSED: "red",
    CONNECTED: "green",
}


def as_json(event: Event) -> dict[str, Any]:
    """The event for a program: ``ts`` in RFC 3339 and ``type`` first.

    >>> as_json({"at": 1.5, "type": "MemberUp", "node": "a", "cursor": 7})
    {'ts': '1970-01-01T00:00:01.500Z', 'type': 'MemberUp', 'node': 'a', 'cursor': 7}
    """
    rest = {name: value for name, value in event.items() if name not in ("at", "type")}
    return {"ts": timestamp(event["at"]), "type": event["type"]} | rest


def timestamp(at: float) -> str:
    """Unix time in RFC 3339, to the millisecond, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(at: float) -> str:
    """The time of day here."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")


def as_line(event: Event) -> str:
    """The event in a line: when, what, whose, and what more is known.

    >>> line = as_line({"at": 0, "type": "MemberDown", "node": "bravo", "host": "::1", "port": 7, "why": "stopped"})
    >>> click.unstyle(line)[10:]
    'MemberDown     bravo        [::1]:7 (stopped)'
    """
    kind, name = one_line(str(event["type"])), one_line(str(event.get("node") or "-"))
    styled = click.style(f"{kind:<14}", fg=_COLOURS.get(kind))
    return f"{clock(event['at'])}  {styled} {name:<12} {details(event)}".rstrip()


def details(event: Event) -> str:
    """What an event says beside who and when."""
    kind = str(event["type"])
    match kind:
        case "Connected":
            return "connected to another run of the node" if event["restarted"] else "connected"
        case "Disconnected":
            return one_line(f"{event['why']}; trying again")
        case "Missed":
            return missed(event["missed"])
        case "RingChanged":
            return f"{event['moved']:.1%} of the keys have another owner"
        case "LinkDown":
            lost = f", {event['lost']} messages in doubt" if event.get("lost") else ""
            return one_line(f"{event.get('why') or 'closed'}{lost}")
    if kind.startswith("Member"):
        return _of_member(event)
    told = (f"{name}={value}" for name, value in event.items() if name not in _FRAME and value not in (None, "", 0))
    return one_line(" ".join(told))


def _of_member(event: Event) -> str:
    parts = [format_host_port(str(event["host"]), event["port"]) if event.get("host") else ""]
    if event["type"] == "MemberUpdated":
        parts.append(f"weight {event['weight']}{'' if event['ready'] else ', not ready'}")
    return one_line(" ".join(filter(None, parts)) + _why(event))


def missed(count: int | None) -> str:
    """How many events were lost to who followed.

    >>> missed(1), missed(12), missed(None)
    ('1 event was missed', '12 events were missed', 'an unknown number of events was missed')
    """
    if count is None:
        return "an unknown number of events was missed"
    return f"{count} event{'s were' if count > 1 else ' was'} missed"


class Notices:
    """Members coming and going, as the prompt tells them; one that came is not told to be up beside."""

    def __init__(self) -> None:
        self._came: set[str] = set()

    def of(self, event: Event, me: str) -> str:
        """What to tell of an event seen by the node ``me``; empty for what is no news."""
        name = one_line(str(event.get("node") or ""))
        told = self._of_connection(event, name)
        if told or not name or (name == me and event["type"] != "MemberRemoved"):
            return told
        if event["type"] == "MemberUp" and name in self._came:
            self._came.discard(name)
            return ""
        if event["type"] == "MemberJoined":
            self._came.add(name)
        elif event["type"].startswith("Member"):
            self._came.discard(name)
        say = _NEWS.get(event["type"])
        return say(name, event) if say else ""

    @staticmethod
    def _of_connection(event: Event, name: str) -> str:
        match event["type"]:
            case "Disconnected":
                return one_line(f"lost {name or 'the node'}: {event['why']}; trying again")
            case "Connected":
                return f"connected to {name}{', which was restarted' if event['restarted'] else ''}"
            case "Missed":
                return missed(event["missed"])
        return ""


def _why(event: Event) -> str:
    return f" ({one_line(str(event['why']))})" if event.get("why") else ""


def _address(event: Event) -> str:
    return f", from {one_line(format_host_port(str(event['host']), event['port']))}" if event.get("host") else ""


_NEWS: dict[str, Callable[[str, Event], str]] = {
    "MemberJoined": lambda name, event: f"{name} came{_address(event)}",
    "MemberUp": lambda name, _: f"{name} is up",
    "MemberDown": lambda name, event: f"{name} is down{_why(event)}",
    "MemberLeft": lambda name, _: f"{name} left",
    "MemberRemoved": lambda name, _: f"{name} was removed",
    "NameConflict": lambda name, _: f"another live node is named {name}",
}
