"""What happens to a node's membership, and what it then wants done: the events and effects of `Membership`."""

from dataclasses import dataclass

from clusterkit.core.identity import NodeId
from clusterkit.core.members import MemberEvent
from clusterkit.core.ring_frames import Full, Verdict
from clusterkit.core.ring_messages import RingMessage

# -- events


@dataclass(frozen=True, slots=True)
class Begun:
    """The node entered a ring, alone for now; ``saved`` is what it kept of an earlier run.

    With ``seeds`` it waits for a member to judge its boot; without it has nobody to ask.
    """

    saved: Full | None = None
    seeds: bool = False


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A link to a node opened, whoever dialled."""

    name: str
    boot: int


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The link to a node ended."""

    name: str


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """A record came from a member, last ``at`` then, whatever was in it."""

    name: str
    at: float


@dataclass(frozen=True, slots=True)
class Unreached:
    """A dial of this address ended without a link; ``refused`` when it is proven that the member is not there."""

    node: NodeId
    why: str
    refused: bool


@dataclass(frozen=True, slots=True)
class Outnamed:
    """A member was dialled, and says that another live process has this node's name."""


@dataclass(frozen=True, slots=True)
class Parted:
    """A node said goodbye; ``left`` when it left the ring, otherwise it only stopped."""

    name: str
    boot: int
    left: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """A message came from the run of a node that proved itself."""

    name: str
    boot: int
    message: RingMessage


@dataclass(frozen=True, slots=True)
class Insert:
    """The user inserts a node."""

    node: NodeId
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """The user removes a member."""

    name: str


@dataclass(frozen=True, slots=True)
class Reweigh:
    """The user gives a member another weight."""

    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class Announce:
    """The user has other metadata told beside this node: a packed map."""

    meta: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """The user's health check speaks."""

    ready: bool


@dataclass(frozen=True, slots=True)
class Leave:
    """The user leaves the ring."""


@dataclass(frozen=True, slots=True)
class Compare:
    """The user waits for agreement: ask every member what it knows."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline may have passed."""


Event = (
    Begun
    | LinkOpened
    | LinkLost
    | SignOfLife
    | Unreached
    | Outnamed
    | Parted
    | Heard
    | Insert
    | Remove
    | Reweigh
    | Announce
    | Ready
    | Leave
    | Compare
    | Tick
)

# -- effects


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message on the link to that node, if it is open; otherwise drop it."""

    name: str
    message: RingMessage


@dataclass(frozen=True, slots=True)
class Meet:
    """Keep a link to this member from now on, at this address."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Judge:
    """What the ring believes of a member's link: ``why`` it is down, or None when it is not."""

    name: str
    why: str | None


@dataclass(frozen=True, slots=True)
class Hurry:
    """Dial this member now: others of its side came back."""

    name: str


@dataclass(frozen=True, slots=True)
class Forget:
    """End the link to a node that is no member any more; ``gone`` when it has said goodbye itself."""

    name: str
    gone: bool


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the users."""

    event: MemberEvent


@dataclass(frozen=True, slots=True)
class Accepted:
    """A member took us in."""

    name: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Take an incarnation above ``after`` and begin again: a later run of this name is known."""

    after: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """This run is no member any more: it was removed, or a later run superseded it."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Invited:
    """A member asks this node, which was removed, to join again through it."""

    name: str


@dataclass(frozen=True, slots=True)
class LeaveKnown:
    """All members that are alive know that this node leaves."""


Effect = Send | Meet | Judge | Hurry | Forget | Notify | Accepted | Renew | Stopped | Invited | LeaveKnown
