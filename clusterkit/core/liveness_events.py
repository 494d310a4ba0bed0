"""What happens to a failure detector, and what it asks for: the words of `Liveness`.

Events are past tense, effects imperative. Members are named by name; the boot of a
member is in its `Claim`, and whatever could outlive a boot (a refused dial, an
accusation) says which one it is about.
"""

from dataclasses import dataclass

from clusterkit.core.ring_entry import Claim

# -- events: members and links


@dataclass(frozen=True, slots=True)
class Watch:
    """There is a visible member of that name, other than this one."""

    name: str


@dataclass(frozen=True, slots=True)
class Unwatch:
    """The member left or was removed."""

    name: str


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A link to a member opened, whoever dialled."""

    name: str


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The link to a member ended without goodbye."""

    name: str


@dataclass(frozen=True, slots=True)
class DialRefused:
    """Nobody listens at a member's address; no other failure of a dial is evidence.

    ``boot`` is that of the ring entry whose address was dialled: a refusal says nothing
    of a later boot, which may listen elsewhere.
    """

    name: str
    boot: int


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """A record came from a member, last ``at`` then: only a loop that runs can have sent it.

    A probe may stand behind megabytes, or be lost with one connection after the other; what
    comes meanwhile answers it as well.
    """

    name: str
    at: float


# -- events: what others say


@dataclass(frozen=True, slots=True)
class Answered:
    """A member answered our own probe ``number``."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class IndirectAnswered:
    """A helper told what came of probe ``number``: the target answered it, or not in time."""

    number: int
    via: str
    ok: bool


@dataclass(frozen=True, slots=True)
class ProbeRequested:
    """A member asks for a probe of ``target`` in its stead; ``number`` is its own."""

    number: int
    by: str
    target: str


@dataclass(frozen=True, slots=True)
class AskedToProbe:
    """A member that suspects ``target`` wants our own judgement of it."""

    target: str


@dataclass(frozen=True, slots=True)
class Accused:
    """A claim of SUSPECT or DOWN was received from its observer ``by``, stored already or not.

    The claim is stored before; whether `Believed` comes before or after makes no difference.
    """

    name: str
    claim: Claim
    by: str


@dataclass(frozen=True, slots=True)
class AccusedMe:
    """Somebody claims that this member is SUSPECT or DOWN."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Believed:
    """The stored claim about a member changed, whoever changed it."""

    name: str


@dataclass(frozen=True, slots=True)
class RefusedElsewhere:
    """The dial of another observer was refused; see `DialRefused`."""

    name: str
    boot: int
    by: str


@dataclass(frozen=True, slots=True)
class Tick:
    """``next_deadline`` has come."""


Event = (
    Watch
    | Unwatch
    | LinkOpened
    | LinkLost
    | DialRefused
    | SignOfLife
    | Answered
    | IndirectAnswered
    | ProbeRequested
    | AskedToProbe
    | Accused
    | AccusedMe
    | Believed
    | RefusedElsewhere
    | Tick
)

# -- effects


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask a member for an answer with that number; without an open link to it, do nothing.

    The frame, or a digest in it, must let the member see when it is accused: it may have
    missed that.
    """

    to: str
    number: int


@dataclass(frozen=True, slots=True)
class AskProbe:
    """Ask the member ``via`` to probe ``target`` for us."""

    via: str
    target: str
    number: int


@dataclass(frozen=True, slots=True)
class AnswerProbe:
    """Tell the member that asked what came of its probe ``number`` of ``target``."""

    to: str
    number: int
    target: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Accuse:
    """Store this claim; with ``push`` also tell all members, the accused one first."""

    name: str
    claim: Claim
    push: bool


@dataclass(frozen=True, slots=True)
class AskToProbe:
    """Ask the member ``via`` for its own judgement of ``target``."""

    via: str
    target: str


@dataclass(frozen=True, slots=True)
class TellRefused:
    """Tell all members that a dial was refused here."""

    name: str
    boot: int


@dataclass(frozen=True, slots=True)
class Refute:
    """Make (own boot, ``inc``, ALIVE, ready) the claim about this member, and tell all."""

    inc: int


Effect = Probe | AskProbe | AnswerProbe | Accuse | AskToProbe | TellRefused | Refute
