"""One frozen configuration: every field with its unit, its default and its reason.

Seconds and bytes throughout. Most programs never touch it; tests shorten timers.
"""

from dataclasses import dataclass, field, fields
from math import inf
from typing import Self

from clusterkit.core.liveness_timers import Timers
from clusterkit.errors import ConfigError

_ORDERED = (
    ("message_limit", "outbox_size"),
    ("ping_after", "cut_after"),
    ("redial_first", "redial_most"),
    ("proof_timeout", "handshake_timeout"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The knobs of one node. All limits are on, and none can be off.

    >>> Config(call_timeout=1.0).call_timeout
    1.0
    >>> Config(call_timeout=0)
    Traceback (most recent call last):
    clusterkit.errors.ConfigError: call_timeout is 0: it must be a positive number
    """

    call_timeout: float = 5.0
    """Seconds that a call, or a send into a full outbox, waits when nothing else says how long. Never infinite."""

    mailbox: int = 1_000
    """Messages that wait for one actor; past it senders get `MailboxFull`. An actor class may set its own."""

    message_limit: int = 1 << 20
    """Bytes of one record that this node accepts, and so of one message, less 128; 64 KiB to 64 MiB. Larger
    values delay what stands behind them; their MAC costs 0.6 us a KiB at each end."""

    outbox_messages: int = 32_768
    """Messages queued and unacknowledged to one peer; a full outbox holds the sender."""

    outbox_size: int = 16 << 20
    """The same in bytes; the memory that one silent peer can cost."""

    connect_timeout: float = 3.0
    """Seconds to open a connection: a black hole answers never."""

    handshake_timeout: float = 10.0
    """Seconds for the whole handshake."""

    proof_timeout: float = 5.0
    """Seconds that a stranger may hold a connection without a proof."""

    unproven_limit: int = 256
    """Connections without a proof; past it the oldest of the busiest address is closed."""

    proof_rate: float = 200.0
    """Proofs checked a second for one address (IPv6: for one /64); more of them wait. A check costs some 10 us."""

    proof_burst: int = 256
    """Proofs that an address may save up: a cluster that restarts behind one address is not held up."""

    link_limit: int = 1_024
    """Links of this node; past it callers are told FULL."""

    session_limit: int = 1_024
    """Sessions that wait for their peer to come back; past it a client's is ended, or the oldest."""

    client_linger: float = 60.0
    """Seconds that a client's session waits for it: its answers are kept as long."""

    redial_first: float = 0.1
    """Cap of the first delay before a peer is dialled again; it doubles each time."""

    redial_most: float = 5.0
    """Cap of the later delays."""

    down_after: float = 3.0
    """Seconds without a link after which a peer that the ring does not judge is down; a refused dial says so at once."""

    ping_after: float = 5.0
    """Seconds of silence, while an answer is due, after which a link sends PING."""

    cut_after: float = 15.0
    """Seconds of such silence after which a link is cut."""

    write_stall: float = 10.0
    """Seconds without progress of a write after which a link is cut."""

    record_timeout: float = 30.0
    """Seconds in which a record that has begun must end."""

    timers: Timers = field(default_factory=Timers)
    """The durations of the failure detector; ``Timers.wan()`` for wide-area networks."""

    auto_remove_after: float | None = None
    """Seconds after which a member that is down is removed from the ring, by the side that has more than half
    of all members; None: never by itself."""

    drain_timeout: float = 10.0
    """Seconds that a graceful stop gives to running handlers, mailboxes and unacknowledged messages."""

    tracebacks: bool = True
    """Whether an exception that goes to another member carries the text of its traceback. Clients never see it."""

    watchdog: float | None = None
    """Seconds that the event loop may stand still before a thread names the handler that holds it; None: no thread."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None and each.default is None:
                continue
            if each.name == "tracebacks":
                if not isinstance(value, bool):
                    raise ConfigError(f"tracebacks is {value!r}: it must be True or False")
                continue
            if each.name == "timers":
                if not isinstance(value, Timers):
                    raise ConfigError(f"timers is {value!r}: it must be Timers")
                continue
            whole = each.type in (int, "int")
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 < value < inf:
                raise ConfigError(
                    f"{each.name} is {value!r}: it must be a positive number{' without fraction' if whole else ''}"
                )
        if not 1 << 16 <= self.message_limit <= 1 << 26:
            raise ConfigError(f"message_limit is {self.message_limit}: it must be 65,536 to 67,108,864 bytes")
        for less, more in _ORDERED:
            if not getattr(self, less) <= getattr(self, more):
                raise ConfigError(f"{less} is {getattr(self, less)}, over {more}, which is {getattr(self, more)}")

    @classmethod
    def default(cls) -> Self:
        """All defaults."""
        return cls()
