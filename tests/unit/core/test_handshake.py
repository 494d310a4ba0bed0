"""The four messages: judged in order, refused by name, silent to strangers."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from clusterkit.core.handshake import (
    Admit,
    Admitted,
    Challenged,
    Closed,
    Effect,
    Event,
    Failed,
    Initiator,
    Judge,
    Judged,
    Proven,
    Received,
    Refused,
    Responder,
    Tick,
    Write,
)
from clusterkit.core.judgement import Here, judge, refusal
from clusterkit.core.proof import Party, RecordKeys, Role, Status, expand, opening, parse_proof, prepare_cookies, proof
from clusterkit.errors import (
    AuthFailed,
    ClusterError,
    ConfigError,
    CrossedDials,
    DialledSelf,
    InvalidChecksum,
    JoinError,
    NameConflict,
    NotInRing,
    OldIncarnation,
    PeerFull,
    PeerLeaving,
    ProtocolError,
    VersionMismatch,
    WrongNode,
    WrongRing,
)

COOKIE, OTHER = bytes(range(32)), b"another cookie!!"
KEYS = prepare_cookies(COOKIE)
A, B = Party("node-a", 10, "prod"), Party("node-b", 20, "prod")
CLIENT = Party("cli-1", 5, "", Role.CLIENT)


def initiator(me: Party = A, key: bytes = KEYS[0], expected: str | None = "node-b", known: int = 0) -> Initiator:
    return Initiator(me, key, b"\x11" * 32, expected=expected, known_boot=lambda name: known, now=0.0)


def responder(me: Party = B, keys: tuple[bytes, ...] = KEYS) -> Responder:
    return Responder(me, keys, b"\x22" * 32, now=0.0)


def feed(machine: Initiator | Responder, data: bytes) -> list[Effect]:
    """Give bytes as a reader does: never more than wanted."""
    effects: list[Effect] = []
    while data and machine.wants:
        piece, data = data[: machine.wants], data[machine.wants :]
        effects += admitted(machine, machine.step(Received(piece), 0.0))
    return effects


def admitted(machine: Initiator | Responder, effects: list[Effect]) -> list[Effect]:
    """Let every proof be checked at once."""
    return machine.step(Admitted(), 0.0) if effects == [Admit()] else effects


def written(effects: list[Effect]) -> bytes:
    return b"".join(effect.data for effect in effects if isinstance(effect, Write))


def failed(effects: list[Effect]) -> ClusterError:
    [error] = [effect.error for effect in effects if isinstance(effect, Failed)]
    return error


def converse(dialler: Initiator, listener: Responder, here: Here | None = None, boot: int = 20) -> list[list[Effect]]:
    """Run a handshake to its end; return the last effects of both."""
    chal = written(feed(listener, written(dialler.start())))
    asked = feed(listener, written(feed(dialler, chal)))
    [question] = asked
    assert isinstance(question, Judge)
    status = judge(question.caller, here or Here(B))
    answered = listener.step(Judged(status, boot), 0.0)
    return [feed(dialler, written(answered)), answered]


def at_proof(listener: Responder, dialler: Initiator) -> bytes:
    """Bring both to the point where AUTH_I is on its way, and return it."""
    chal = written(feed(listener, written(dialler.start())))
    return written(feed(dialler, chal))


# -- cookies


@pytest.mark.parametrize("cookies", [COOKIE, [COOKIE], "k" * 16, ["k" * 16, COOKIE, OTHER, "ö" * 8]])
def test_one_to_four_cookies_of_sixteen_bytes_are_accepted(cookies: str | bytes | list[str | bytes]) -> None:
    several = cookies if isinstance(cookies, list) else [cookies]
    assert len(prepare_cookies(cookies)) == len(several)


def test_text_is_utf8_and_a_padded_cookie_is_another() -> None:
    assert prepare_cookies("ö" * 8) == prepare_cookies(("ö" * 8).encode())
    assert prepare_cookies(COOKIE) != prepare_cookies(COOKIE + b"\0")


@pytest.mark.parametrize(
    ("cookies", "says"),
    [
        ([], "0 cookies given"),
        ([COOKIE] * 5, "5 cookies given"),
        ("tooshort", "the cookie has 8 bytes, 16 are the least"),
        (b"k" * 15, "the cookie has 15 bytes, 16 are the least"),
        ([5], "a str or bytes, not int"),
    ],
)
def test_other_cookies_are_refused_without_being_shown(cookies: str | list[bytes], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        prepare_cookies(cookies)
    assert "tooshort" not in str(caught.value)


def test_a_cookie_without_utf8_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError):
        prepare_cookies("k" * 20 + "\udcff")


def test_record_keys_are_never_shown() -> None:
    assert repr(RecordKeys(b"secret", b"secret")) == "RecordKeys(...)"


# -- judgement: the rows of the status table, in their order

SAME_NAME = Party("node-b", 19, "prod")


@pytest.mark.parametrize(
    ("caller", "here", "status"),
    [
        (replace(A, version=2), Here(B), Status.VERSION),
        (replace(B, version=2), Here(B), Status.VERSION),  # before SELF
        (B, Here(B), Status.SELF),
        (replace(B, ring="test"), Here(B), Status.SELF),  # before RING
        (replace(A, ring="test"), Here(B), Status.RING),
        (replace(A, ring=""), Here(B), Status.RING),
        (replace(A, ring=""), Here(replace(B, ring="")), Status.RING),
        (A, Here(replace(B, ring="")), Status.RING),
        (replace(CLIENT, ring="test"), Here(B), Status.RING),
        (replace(CLIENT, ring="prod"), Here(B), Status.ACCEPT),
        (CLIENT, Here(B), Status.ACCEPT),
        (CLIENT, Here(replace(B, ring="")), Status.ACCEPT),
        (replace(A, ring="test"), Here(B, known_boot=11), Status.RING),  # before OLD_BOOT
        (A, Here(B, known_boot=11), Status.OLD_BOOT),
        (A, Here(B, known_boot=10), Status.ACCEPT),
        (A, Here(B, known_boot=11, other_boot_alive=True), Status.OLD_BOOT),  # before NAME_TAKEN
        (replace(CLIENT, ring="prod"), Here(B, known_boot=99), Status.ACCEPT),
        (SAME_NAME, Here(B), Status.NAME_TAKEN),
        (A, Here(B, other_boot_alive=True), Status.NAME_TAKEN),
        (replace(CLIENT, name="node-b"), Here(B, other_boot_alive=True), Status.ACCEPT),
        (replace(A, name="node-c"), Here(B, other_boot_alive=True, dialling_it=True), Status.NAME_TAKEN),
        (replace(A, name="node-c"), Here(B, dialling_it=True, leaving=True), Status.CROSSED),  # before LEAVING
        (A, Here(B, dialling_it=True), Status.ACCEPT),  # the smaller name's dial stays
        (replace(CLIENT, name="node-c"), Here(B, dialling_it=True), Status.ACCEPT),
        (A, Here(B, leaving=True, full=True), Status.LEAVING),  # before FULL
        (CLIENT, Here(B, leaving=True), Status.LEAVING),
        (A, Here(B, full=True), Status.FULL),
        (CLIENT, Here(B, full=True), Status.FULL),
        (A, Here(B), Status.ACCEPT),
    ],
)
def test_the_first_rule_that_applies_is_the_verdict(caller: Party, here: Here, status: Status) -> None:
    assert judge(caller, here) is status


@pytest.mark.parametrize(
    ("status", "there", "kind"),
    [
        (Status.VERSION, replace(B, version=2), VersionMismatch),
        (Status.SELF, A, DialledSelf),
        (Status.RING, replace(B, ring=""), NotInRing),
        (Status.RING, replace(B, ring="test"), WrongRing),
        (Status.OLD_BOOT, B, OldIncarnation),
        (Status.NAME_TAKEN, B, NameConflict),
        (Status.CROSSED, B, CrossedDials),
        (Status.LEAVING, B, PeerLeaving),
        (Status.FULL, B, PeerFull),
    ],
)
def test_each_refusal_is_an_error_of_its_own(status: Status, there: Party, kind: type[JoinError]) -> None:
    assert type(refusal(status, there, A)) is kind


def test_an_old_incarnation_is_told_the_known_one() -> None:
    error = refusal(Status.OLD_BOOT, replace(B, boot=99), A)
    assert isinstance(error, OldIncarnation)
    assert error.known == 99


@pytest.mark.parametrize("status", [Status.CROSSED, Status.FULL])
def test_refusals_that_pass_are_retryable(status: Status) -> None:
    assert refusal(status, B, A).retryable


# -- both ends


def test_two_nodes_prove_themselves_and_share_fresh_keys() -> None:
    dialled, answered = converse(initiator(), responder())
    [proven] = dialled
    assert isinstance(proven, Proven)
    assert proven.peer == B
    assert answered[1:] == [Proven(A, proven.keys, KEYS[0])]
    assert proven.keys.by_initiator != proven.keys.by_responder


def test_bytes_one_by_one_prove_the_same() -> None:
    dialler, listener = initiator(), responder()

    def trickle(machine: Initiator | Responder, data: bytes) -> list[Effect]:
        return [effect for byte in data for effect in feed(machine, bytes((byte,)))]

    chal = written(trickle(listener, written(dialler.start())))
    assert trickle(listener, written(trickle(dialler, chal))) == [Judge(A)]
    answered = listener.step(Judged(Status.ACCEPT, B.boot), 0.0)
    assert isinstance(trickle(dialler, written(answered))[0], Proven)


def test_a_client_is_proven_in_its_role() -> None:
    dialled, answered = converse(initiator(CLIENT, expected=None), responder())
    assert isinstance(dialled[0], Proven)
    assert isinstance(answered[1], Proven)
    assert answered[1].peer == CLIENT


def test_every_accepted_cookie_is_tried_and_the_one_used_is_told() -> None:
    keys = prepare_cookies([OTHER, COOKIE])
    dialled, answered = converse(initiator(), responder(keys=keys))
    assert isinstance(dialled[0], Proven)
    assert isinstance(answered[1], Proven)
    assert answered[1].cookie == keys[1] == KEYS[0]


def test_nothing_secret_or_named_is_sent_before_the_initiator_proved_itself() -> None:
    listener = responder()
    assert written(feed(listener, opening(1, b"\x99" * 32))) == opening(2, b"\x22" * 32)


def test_the_initiator_says_when_it_is_challenged() -> None:
    dialler = initiator()
    assert feed(dialler, opening(2, b"\x22" * 32))[0] == Challenged()


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACCEPT])
def test_a_refusal_is_signed_told_and_ends_both(status: Status) -> None:
    dialler, listener = initiator(), responder()
    feed(listener, at_proof(listener, dialler))
    answered = listener.step(Judged(status, 77), 0.0)
    assert isinstance(failed(answered), JoinError)
    assert feed(dialler, written(answered)) == [Refused(status, replace(B, boot=77))]
    assert (dialler.wants, dialler.next_deadline, listener.wants, listener.next_deadline) == (0, None, 0, None)


# -- what the initiator checks on ACCEPT


@pytest.mark.parametrize(
    ("there", "me", "expected", "known", "kind"),
    [
        (replace(B, version=2), A, "node-b", 0, VersionMismatch),
        (replace(B, ring="test"), A, "node-b", 0, WrongRing),
        (replace(B, ring=""), A, "node-b", 0, NotInRing),
        (replace(B, ring="test"), replace(CLIENT, ring="prod"), None, 0, WrongRing),
        (replace(B, name="node-c"), A, "node-b", 0, WrongNode),
        (replace(B, name="node-a"), A, None, 0, NameConflict),
        (B, A, "node-b", 21, OldIncarnation),
    ],
)
def test_a_responder_that_is_not_as_expected_is_left(
    there: Party, me: Party, expected: str | None, known: int, kind: type[JoinError]
) -> None:
    dialler, listener = initiator(me, expected=expected, known=known), responder(there)
    feed(listener, at_proof(listener, dialler))
    answered = listener.step(Judged(Status.ACCEPT, there.boot), 0.0)
    assert type(failed(feed(dialler, written(answered)))) is kind


@pytest.mark.parametrize(
    ("there", "me", "expected", "known"),
    [
        (replace(B, ring="anything"), CLIENT, None, 0),
        (replace(B, name="cli-1"), CLIENT, None, 0),  # clients and nodes do not clash
        (B, A, None, 0),  # a seed needs no name
        (B, A, "node-b", 20),
    ],
)
def test_a_responder_as_expected_is_taken(there: Party, me: Party, expected: str | None, known: int) -> None:
    dialler, listener = initiator(me, expected=expected, known=known), responder(there)
    feed(listener, at_proof(listener, dialler))
    answered = listener.step(Judged(Status.ACCEPT, there.boot), 0.0)
    assert isinstance(feed(dialler, written(answered))[0], Proven)


# -- bytes that are not allowed


@pytest.mark.parametrize("kind", [0, 1, 3])
def test_an_answer_that_is_no_challenge_fails(kind: int) -> None:
    assert isinstance(failed(feed(initiator(), opening(kind, bytes(32)))), ProtocolError)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: localhost:80\r\n\r", opening(2, bytes(32)), bytes(37)])
def test_a_stranger_who_says_no_hello_gets_nothing(data: bytes) -> None:
    effects = feed(responder(), data)
    assert isinstance(failed(effects), ProtocolError)
    assert not written(effects)


@pytest.mark.parametrize("length", [0, 45, 174, 65_535])
def test_a_proof_of_a_length_that_cannot_be_is_refused_before_it_is_read(length: int) -> None:
    listener = responder()
    feed(listener, opening(1, bytes(32)))
    assert "proof of" in str(failed(listener.step(Received(length.to_bytes(2, "big")), 0.0)))


def test_a_machine_takes_no_more_bytes_than_it_wants() -> None:
    for machine, kind in ((responder(), 1), (initiator(), 2)):
        error = failed(machine.step(Received(opening(kind, bytes(32)) + b"x"), 0.0))
        assert str(error) == "more bytes than the handshake has"


def test_nothing_is_read_while_the_caller_is_judged() -> None:
    dialler, listener = initiator(), responder()
    feed(listener, at_proof(listener, dialler))
    assert listener.wants == 0
    assert isinstance(failed(listener.step(Received(b"x"), 0.0)), ProtocolError)


def test_another_cookie_is_closed_without_a_word() -> None:
    dialler, listener = initiator(key=prepare_cookies(OTHER)[0]), responder()
    effects = feed(listener, at_proof(listener, dialler))
    assert not written(effects)
    assert str(failed(effects)) == "INVALID_CHECKSUM"


def test_another_cookie_is_an_invalid_checksum() -> None:
    dialler, listener = initiator(key=prepare_cookies(OTHER)[0]), responder()
    assert isinstance(failed(feed(listener, at_proof(listener, dialler))), InvalidChecksum)


def test_a_responder_without_the_cookie_is_told_apart() -> None:
    dialler, listener = initiator(), responder()
    auth_i = at_proof(listener, dialler)
    forged = proof(4, B, 0, lambda body: hmac.digest(b"wrong", auth_i + body, "sha256"))
    assert isinstance(failed(feed(dialler, forged)), AuthFailed)


@pytest.mark.parametrize("place", range(-32, 0))
def test_every_byte_of_a_proof_of_the_cookie_counts(place: int) -> None:
    dialler, listener = initiator(), responder()
    auth_i = at_proof(listener, dialler)
    assert isinstance(failed(feed(listener, changed(auth_i, place))), InvalidChecksum)
    dialler, listener = initiator(), responder()
    feed(listener, at_proof(listener, dialler))
    auth_r = written(listener.step(Judged(Status.ACCEPT, B.boot), 0.0))
    assert isinstance(failed(feed(dialler, changed(auth_r, place))), AuthFailed)


def changed(data: bytes, place: int) -> bytes:
    """The same but for one bit of one byte."""
    other = bytearray(data)
    other[place] ^= 1
    return bytes(other)


class Tried(Sequence[bytes]):
    """Keys that count how many of them were tried."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys
        self.tried = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, place: Any) -> Any:
        key = self._keys[place]
        self.tried += 1
        return key


@pytest.mark.parametrize("right", range(4))
def test_how_long_a_proof_is_checked_does_not_tell_which_cookie_it_was(right: int) -> None:
    several = [OTHER, b"o" * 16, b"p" * 16]
    several.insert(right, COOKIE)
    keys = Tried(prepare_cookies(several))
    converse(initiator(), Responder(B, keys, b"\x22" * 32, now=0.0))
    assert keys.tried == 4


def signed(kind: int, raw: bytes, cookie_key: bytes = KEYS[0]) -> bytes:
    """A proof with a good MAC around fields of our choice."""
    t1 = parse_t1(opening(1, b"\x11" * 32) + opening(2, b"\x22" * 32))
    key_i, key_r = expand(cookie_key, b"clusterkit/1 auth", t1)
    body = (len(raw) + 32).to_bytes(2, "big") + raw
    if kind == 3:
        return body + hmac.digest(key_i, body, "sha256")
    auth_i = proof(3, A, Role.NODE, lambda each: hmac.digest(key_i, each, "sha256"))
    return body + hmac.digest(key_r, auth_i + body, "sha256")


def parse_t1(transcript: bytes) -> bytes:
    return hashlib.sha256(transcript).digest()


def fields(
    kind: int = 3, flag: int = 1, boot: int = 9, ring: bytes = b"prod", name: bytes = b"node-a", rest: bytes = b""
) -> bytes:
    sized = bytes((len(ring),)) + ring + bytes((len(name),)) + name
    return bytes((kind, 1, flag)) + boot.to_bytes(8, "big") + sized + rest


BAD_FIELDS = {
    "another type": fields(kind=5),
    "boot 0": fields(boot=0),
    "a byte too many": fields(rest=b"x"),
    "no name": fields(name=b"", rest=b""),
    "a name with a space": fields(name=b"node a"),
    "a name of 65": fields(name=b"n" * 65),
    "a ring with a slash": fields(ring=b"a/b"),
    "a ring of 65": fields(ring=b"r" * 65),
    "a name cut short": fields()[:-1],
    "a ring cut short": bytes((3, 1, 1)) + bytes(7) + b"\x09" + b"\x09abcd",
    "no name field": bytes((3, 1, 1)) + bytes(7) + b"\x09" + b"\x04abcd",
    "role 0": fields(flag=0),
    "role 3": fields(flag=3),
}


@pytest.mark.parametrize("raw", BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_field_that_breaks_its_rule_after_a_good_mac_closes(raw: bytes) -> None:
    listener = responder()
    feed(listener, opening(1, b"\x11" * 32))
    effects = feed(listener, signed(3, raw))
    error = failed(effects)
    assert isinstance(error, ProtocolError)
    assert error.proven
    assert not written(effects)


@pytest.mark.parametrize("raw", [fields(4, 9, name=b"node-b"), fields(4, 0, boot=0), fields(3, 0, name=b"node-b")])
def test_an_answer_with_a_broken_field_or_unknown_status_closes(raw: bytes) -> None:
    dialler = initiator()
    feed(dialler, opening(2, b"\x22" * 32))
    error = failed(feed(dialler, signed(4, raw)))
    assert isinstance(error, ProtocolError)
    assert error.proven


def test_a_proof_reads_back_what_was_said() -> None:
    made = proof(3, replace(A, ring="", version=7), 2, lambda body: bytes(32))
    assert parse_proof(made, 3) == (replace(A, ring="", version=7), 2)


# -- ends


@pytest.mark.parametrize("make", [initiator, responder])
def test_a_close_in_the_first_step_says_nothing_of_cookies(make: Callable[[], Initiator | Responder]) -> None:
    error = failed(make().step(Closed(), 0.0))
    assert isinstance(error, ProtocolError)


def test_a_close_after_our_proof_hints_at_another_cookie() -> None:
    dialler = initiator()
    feed(dialler, opening(2, b"\x22" * 32))
    error = failed(dialler.step(Closed(), 0.0))
    assert isinstance(error, AuthFailed)
    assert "another cookie" in str(error)


def test_the_deadlines_are_five_seconds_to_the_proof_and_ten_for_all() -> None:
    dialler, listener = initiator(), responder()
    assert (dialler.next_deadline, listener.next_deadline) == (10.0, 5.0)
    feed(listener, at_proof(listener, dialler))
    assert listener.next_deadline == 10.0


@pytest.mark.parametrize("make", [initiator, responder])
def test_a_tick_ends_the_machine_at_its_deadline_and_not_before(make: Callable[[], Initiator | Responder]) -> None:
    machine = make()
    deadline = machine.next_deadline
    assert deadline is not None
    assert machine.step(Tick(), deadline - 0.001) == []
    assert "too long" in str(failed(machine.step(Tick(), deadline)))


@pytest.mark.parametrize("event", [Received(b"x"), Closed(), Tick(), Judged(Status.ACCEPT, 1)])
def test_an_ended_machine_answers_nothing(event: Event) -> None:
    listener = responder()
    listener.step(Closed(), 0.0)
    assert listener.step(event, 99.0) == []
    assert listener.wants == 0


def asking() -> Responder:
    """A listener that has a whole proof and asks whether to check it."""
    dialler, listener = initiator(), responder()
    auth_i = at_proof(listener, dialler)
    listener.step(Received(auth_i[:2]), 0.0)
    assert listener.step(Received(auth_i[2:]), 0.0) == [Admit()]
    return listener


def test_a_proof_is_checked_when_it_is_admitted_and_within_its_deadline() -> None:
    listener = asking()
    assert (listener.next_deadline, listener.wants) == (5.0, 0)
    assert listener.step(Admitted(), 4.9) == [Judge(A)]
    assert listener.step(Admitted(), 4.9) == []
    assert "too long" in str(failed(asking().step(Tick(), 5.0)))


def test_a_byte_that_comes_while_a_proof_waits_closes() -> None:
    assert "more bytes" in str(failed(asking().step(Received(b"x"), 1.0)))
    assert isinstance(failed(asking().step(Closed(), 1.0)), ProtocolError)


def test_an_admission_that_nobody_asked_for_is_ignored() -> None:
    assert responder().step(Admitted(), 0.0) == []
    assert initiator().step(Admitted(), 0.0) == []


def test_a_verdict_that_nobody_asked_for_is_ignored() -> None:
    assert responder().step(Judged(Status.ACCEPT, 1), 0.0) == []
    assert initiator().step(Judged(Status.ACCEPT, 1), 0.0) == []


@pytest.mark.parametrize("cookies", [5, None, object()])
def test_what_is_no_cookie_at_all_is_a_config_error(cookies: object) -> None:
    with pytest.raises(ConfigError, match="a cookie is a str or bytes"):
        prepare_cookies(cookies)  # type: ignore[arg-type]
