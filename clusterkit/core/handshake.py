"""Who is there, and does it hold the cookie: the four messages before the records.

HELLO, CHAL, AUTH_I, AUTH_R; `clusterkit.core.proof` has their bytes and keys. The
initiator proves itself first; a stranger sees 37 bytes that say nothing. Two machines
of one shape, `Initiator` and `Responder`: ``step(event, now)`` gives effects, ``wants``
is how many bytes to read next, ``next_deadline`` when to step with `Tick`. After
`Failed` or `Refused` the connection is closed.

Rules: only fixed sizes and ``len`` are read before a MAC is proven, fields are
parsed after; comparisons take constant time; every accepted cookie is tried.

References: docs/wire.md, "Handshake" and "State machines".
"""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from clusterkit.core.judgement import refusal
from clusterkit.core.proof import (
    AUTH_LENGTHS,
    OPENING_SIZE,
    Party,
    RecordKeys,
    Role,
    Status,
    check_opening,
    expand,
    opening,
    parse_proof,
    proof,
    sha256,
)
from clusterkit.errors import (
    AuthFailed,
    ClusterError,
    InvalidChecksum,
    JoinError,
    NameConflict,
    OldIncarnation,
    ProtocolError,
    WrongNode,
)

# -- events and effects -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes came, at most ``wants`` of them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The other end closed, or the connection was lost."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline may have passed."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The proof that came may be checked now."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on the caller; ``boot`` goes into AUTH_R (for OLD_BOOT: the known one)."""

    status: Status
    boot: int


Event = Received | Closed | Tick | Admitted | Judged


@dataclass(frozen=True, slots=True)
class Write:
    """Send these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Challenged:
    """The peer that we dialled answered: from now on crossing dials are judged."""


@dataclass(frozen=True, slots=True)
class Admit:
    """A proof came whole: step with `Admitted` when its sender may cost us a check."""


@dataclass(frozen=True, slots=True)
class Judge:
    """The caller proved the cookie: judge it and step with `Judged`."""

    caller: Party


@dataclass(frozen=True, slots=True)
class Proven:
    """Both ends are proven: the record phase begins. ``cookie`` is the key of the one used."""

    peer: Party
    keys: RecordKeys
    cookie: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """A proven responder said no; ``status`` is never ACCEPT."""

    status: Status
    responder: Party


@dataclass(frozen=True, slots=True)
class Failed:
    """Close the connection; ``error`` says why. Nothing is sent."""

    error: ClusterError


Effect = Write | Challenged | Admit | Judge | Proven | Refused | Failed


# -- machines -----------------------------------------------------------------------


class _Handshake:
    """What both machines share: exact reading, one deadline, one end."""

    LIMIT: ClassVar[str]

    def __init__(self, now: float, timeout: float) -> None:
        self.next_deadline: float | None = now + timeout
        self._buffer = b""
        self._size = OPENING_SIZE

    @property
    def wants(self) -> int:
        """How many bytes to read next; 0 when none."""
        return self._size - len(self._buffer) if self.next_deadline is not None else 0

    def step(self, event: Event, now: float) -> list[Effect]:
        """Take one event; an ended machine answers nothing."""
        if self.next_deadline is None:
            return []
        try:
            return self._step(event, now)
        except ProtocolError as error:
            return self._fail(error)

    def _step(self, event: Event, now: float) -> list[Effect]:
        match event:
            case Received(data=data):
                return self._collect(data)
            case Closed():
                return self._fail(self._closed())
            case Tick() if self.next_deadline is not None and now >= self.next_deadline:
                return self._fail(ProtocolError("the handshake took too long"))
        return []

    def _collect(self, data: bytes) -> list[Effect]:
        if not self._size or len(data) > self._size - len(self._buffer):
            raise ProtocolError("more bytes than the handshake has")
        self._buffer += data
        if len(self._buffer) < self._size:
            return []
        if self._size == 2:  # the length of a proof
            length = int.from_bytes(self._buffer, "big")
            if length not in AUTH_LENGTHS:
                raise ProtocolError(f"a proof of {length} bytes")
            self._size += length
            return []
        message, self._buffer = self._buffer, b""
        return self._take(message)

    def _take(self, message: bytes) -> list[Effect]:
        raise AssertionError(message)  # pragma: no cover - both machines have their own

    def _closed(self) -> ClusterError:
        return ProtocolError("closed during the handshake")

    def _fail(self, error: ClusterError) -> list[Effect]:
        self.next_deadline = None
        return [Failed(error)]


class Initiator(_Handshake):
    """The side that dials: HELLO, then its proof, then a look at the other's.

    ``expected`` is the name that was dialled (None for a seed); ``known_boot``
    gives the greatest boot that is known of a name, 0 for none. ``nonce`` is 32
    fresh random bytes, ``key`` one of `prepare_cookies`.
    """

    def __init__(
        self,
        me: Party,
        key: bytes,
        nonce: bytes,
        *,
        expected: str | None,
        known_boot: Callable[[str], int],
        now: float,
        timeout: float = 10.0,
    ) -> None:
        super().__init__(now, timeout)
        self._me = me
        self._key = key
        self._expected = expected
        self._known_boot = known_boot
        self._hello = opening(1, nonce)
        self._t1 = b""
        self._auth_i = b""
        self._auth_key_r = b""

    def start(self) -> list[Effect]:
        """What to do when the connection stands."""
        return [Write(self._hello)]

    def _take(self, message: bytes) -> list[Effect]:
        return self._answer_challenge(message) if not self._auth_i else self._check_responder(message)

    def _answer_challenge(self, chal: bytes) -> list[Effect]:
        check_opening(chal, 2)
        self._t1 = sha256(self._hello, chal)
        key_i, self._auth_key_r = expand(self._key, b"clusterkit/1 auth", self._t1)
        self._auth_i = proof(3, self._me, self._me.role, lambda body: hmac.digest(key_i, body, "sha256"))
        self._size = 2
        return [Challenged(), Write(self._auth_i)]

    def _check_responder(self, auth_r: bytes) -> list[Effect]:
        expected = hmac.digest(self._auth_key_r, self._auth_i + auth_r[:-32], "sha256")
        if not hmac.compare_digest(expected, auth_r[-32:]):
            return self._fail(AuthFailed("the other node could not prove the cookie: theirs is another"))
        responder, flag = parse_proof(auth_r, 4)
        if flag != Status.ACCEPT:
            if flag not in Status.__members__.values():
                raise ProtocolError(f"a refusal of unknown status {flag}", proven=True)
            self.next_deadline = None
            return [Refused(Status(flag), responder)]
        if (error := self._not_as_expected(responder)) is not None:
            return self._fail(error)
        self.next_deadline = None
        t2 = sha256(self._t1, self._auth_i, auth_r)
        return [Proven(responder, RecordKeys(*expand(self._key, b"clusterkit/1 records", t2)), self._key)]

    def _not_as_expected(self, responder: Party) -> JoinError | None:
        me = self._me
        if responder.version != me.version:
            return refusal(Status.VERSION, responder, me)
        if responder.ring != me.ring and (me.ring or me.role is Role.NODE):
            return refusal(Status.RING, responder, me)
        if self._expected is not None and responder.name != self._expected:
            return WrongNode(f"dialled {self._expected!r}, but {responder.name!r} answered")
        if me.role is Role.NODE and responder.name == me.name:
            return NameConflict(f"another node is named {me.name!r}")
        if responder.boot < self._known_boot(responder.name):
            return OldIncarnation(f"an earlier incarnation of {responder.name!r} answered")
        return None

    def _closed(self) -> ClusterError:
        if self._auth_i:
            return AuthFailed("closed after our proof: another cookie?")
        return super()._closed()


class Responder(_Handshake):
    """The side that listens. It asks with `Admit` whether to look at a proof, and with `Judge` for a verdict."""

    def __init__(
        self, me: Party, keys: Sequence[bytes], nonce: bytes, *, now: float, timeout: float = 5.0, whole: float = 10.0
    ) -> None:
        super().__init__(now, timeout)
        self._me = me
        self._keys = keys
        self._chal = opening(2, nonce)
        self._whole = now + whole
        self._t1 = b""
        self._auth_i = b""
        self._caller: Party | None = None
        self._key = b""

    def _step(self, event: Event, now: float) -> list[Effect]:
        if isinstance(event, Admitted) and self._auth_i and self._caller is None:
            self._caller = self._check_caller(self._auth_i)
            return [Judge(self._caller)]
        if isinstance(event, Judged) and self._caller is not None:
            return self._answer(self._caller, event)
        return super()._step(event, now)

    def _take(self, message: bytes) -> list[Effect]:
        if not self._t1:
            check_opening(message, 1)
            self._t1 = sha256(message, self._chal)
            self._size = 2
            return [Write(self._chal)]
        self._auth_i = message
        self._size = 0
        return [Admit()]

    def _check_caller(self, auth_i: bytes) -> Party:
        for key in self._keys:  # no early exit: time tells nothing
            key_i, _ = expand(key, b"clusterkit/1 auth", self._t1)
            if hmac.compare_digest(hmac.digest(key_i, auth_i[:-32], "sha256"), auth_i[-32:]):
                self._key = key
        if not self._key:
            raise InvalidChecksum("INVALID_CHECKSUM")
        caller, role = parse_proof(auth_i, 3)
        if role not in (Role.NODE, Role.CLIENT):
            raise ProtocolError(f"a proof with role {role}", proven=True)
        self.next_deadline = self._whole
        return Party(caller.name, caller.boot, caller.ring, Role(role), caller.version)

    def _answer(self, caller: Party, verdict: Judged) -> list[Effect]:
        key = self._key
        _, key_r = expand(key, b"clusterkit/1 auth", self._t1)
        me = Party(self._me.name, verdict.boot, self._me.ring, version=self._me.version)
        auth_r = proof(4, me, verdict.status, lambda body: hmac.digest(key_r, self._auth_i + body, "sha256"))
        self.next_deadline = None
        if verdict.status is not Status.ACCEPT:
            return [Write(auth_r), Failed(refusal(verdict.status, me, caller))]
        t2 = sha256(self._t1, self._auth_i, auth_r)
        records = RecordKeys(*expand(key, b"clusterkit/1 records", t2))
        return [Write(auth_r), Proven(caller, records, key)]
