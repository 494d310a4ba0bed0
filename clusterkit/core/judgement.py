"""Whom a listener takes: the verdict on a caller that has proven the cookie.

The statuses are judged in order, the first that applies is given, and the caller
raises the error that `refusal` makes of it. docs/wire.md, "Handshake".
"""

from dataclasses import dataclass

from clusterkit.core.proof import Party, Role, Status
from clusterkit.errors import (
    CrossedDials,
    DialledSelf,
    JoinError,
    NameConflict,
    NotInRing,
    OldIncarnation,
    PeerFull,
    PeerLeaving,
    VersionMismatch,
    WrongRing,
)


@dataclass(frozen=True, slots=True)
class Here:
    """What the responder knows when it judges a caller."""

    me: Party
    known_boot: int = 0  # the greatest boot proven by the caller's name, 0 = none
    other_boot_alive: bool = False  # another boot of that name has a link and answered a PING
    dialling_it: bool = False  # we dial that name; its CHAL came less than 1 s ago; not open
    leaving: bool = False
    full: bool = False


def judge(caller: Party, here: Here) -> Status:
    """Give the first verdict that applies, in the order of docs/wire.md."""
    me = here.me
    node = caller.role is Role.NODE
    if caller.version != me.version:
        return Status.VERSION
    if (caller.name, caller.boot) == (me.name, me.boot):
        return Status.SELF
    if caller.ring != me.ring if node or caller.ring else False:
        return Status.RING
    if node and not caller.ring:
        return Status.RING
    if node and (verdict := _judge_name(caller, here)) is not Status.ACCEPT:
        return verdict
    if here.leaving:
        return Status.LEAVING
    return Status.FULL if here.full else Status.ACCEPT


def _judge_name(caller: Party, here: Here) -> Status:
    if here.known_boot > caller.boot:
        return Status.OLD_BOOT
    if caller.name == here.me.name or here.other_boot_alive:
        return Status.NAME_TAKEN
    if here.dialling_it and here.me.name < caller.name:
        return Status.CROSSED
    return Status.ACCEPT


def refusal(status: Status, responder: Party, me: Party) -> JoinError:
    """Turn a refusal into the error that says what differs."""
    who = f"node {responder.name!r}"
    match status:
        case Status.VERSION:
            return VersionMismatch(f"{who} speaks wire version {responder.version}, this is version {me.version}")
        case Status.SELF:
            return DialledSelf(f"the address is the one of {me.name!r} itself")
        case Status.RING if not responder.ring:
            return NotInRing(f"{who} is in no ring yet")
        case Status.RING:
            return WrongRing(f"{who} is in ring {responder.ring!r}, not in {me.ring!r}")
        case Status.OLD_BOOT:
            return OldIncarnation(f"{who} knows a later incarnation of {me.name!r}", responder.boot)
        case Status.NAME_TAKEN:
            return NameConflict(f"{who} says that another live node is named {me.name!r}")
        case Status.CROSSED:
            return CrossedDials(f"{who} dials this node at the same time")
        case Status.LEAVING:
            return PeerLeaving(f"{who} is leaving")
        case _:
            return PeerFull(f"{who} takes no more links")
