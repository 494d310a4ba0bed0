"""The vectors of docs/wire.md, section 10, byte for byte, through the real machines."""

import hashlib
from dataclasses import replace

import pytest

from clusterkit.core.channel import Channel, Deliver, Goodbye, Health, Ponged, Reason, Resumed
from clusterkit.core.handshake import (
    Admit,
    Admitted,
    Initiator,
    Judge,
    Judged,
    Proven,
    Received,
    Refused,
    Responder,
    Write,
)
from clusterkit.core.judgement import Here, judge
from clusterkit.core.proof import Party, RecordKeys, Role, Status, expand, opening, prepare_cookies, proof
from clusterkit.core.record import Kind, RecordWriter, part
from clusterkit.core.session import Lane, Outbox, Outgoing, Resume, Session

VECTORS = """
PRK          5f0407b34441b48acef7821652686dd5659a0fc17f4d23382ce2724370d0ea76
T1           55b2899f5d0e9d39892a03c56b76fedcdee6d37c26d6aa17d370c06ef3b8a009
A_i          c1e4e2bde0b95cd341db36f789f326672347885dcff1d17eae011b4aa82759d3
A_r          c2bc798317f231f3609aecdaeb59dbbf58b68ea89a39c92acfaff1926619e4da
AUTH_I       0037030101a1a2a3a4a5a6a7a80470726f64066e6f64652d611b5082ea2c3954acad934e7d5c53991f2e998fbbc033faa2cdc9d430eca0f70f
AUTH_R       0037040100b1b2b3b4b5b6b7b80470726f64066e6f64652d6238e7af7e911b4d7c32c14fc9a50654bedbe1e6855926989e09a325c33dcfa420
T2           69fcc4d13c4e24542fa8acd3ae70296c1c778dc6d114c3108e69631ff4fe3ba6
K_ir         629d5b388be83e93b69c234ff3ba917c572ddea602f37cec9ac8c64772405746
K_ri         e09043f04cc577aedc84653ba1b214e4d51db0ee5fa7bcdd35868a5f84bdc6f7
I0           000000210000001d0100000000000000030000000000000000000000000000000000100000753c273bdaffdb4c18ac1dd2633f5dfc
R0           000000210000001d0100000000000000070000000000000000000000000000000000100000ca059c0e3eb6f273bf1134c89b9e5a1a
I1           0000000f0000000b029181a26576a470696e671bc9d3f4ee4926df403a8373f51334b8
I2           000000250000000904010203040506070800000014029281a26576a470696e6781a26576a470696e67e5257af286963cc319f01916cd8be660
R1           000000210000000905010203040506070800000009030000000000000003000000030291c073688494c8293d1a7569afa9c325a589
I3           0000000f0000000b029181a26576a470696e674c282f496c0ee9afb20ef840db71d417
again.AUTH_I 0037030101a1a2a3a4a5a6a7a80470726f64066e6f64652d615a6dc97d8564069f3124cd36255034853ef3c888f549f51e9ae3c3746ce45e43
again.AUTH_R 0037040100b1b2b3b4b5b6b7b80470726f64066e6f64652d624933d00735beedf48d0e215f8b68ec5451f8b5691db26b089fc4ee6fa69a5203
again.I0     000000210000001d010000000000000003000000000000000700000000000000010010000075695f9a20c562620e9a90e2aa5ad140
again.R0     000000210000001d01000000000000000700000000000000030000000000000003001000003f1eae63abcf3c84306ad7a5f285b0dd
again.I1     0000000f0000000b029181a26576a470696e679bf42ef5cb1ac4bf72e815bfda8c59ae
again.I2     000000130000000903000000000000000100000002060220b537e98d79f4aaf325c929549e6a2c
ring.AUTH_R  0037040103b1b2b3b4b5b6b7b80474657374066e6f64652d62f1bd6bc738c582852223e49fd683d19f32467a04e1eed526876391bcd319e5d9
vers.AUTH_I  0037030201a1a2a3a4a5a6a7a80470726f64066e6f64652d61f2ebee52d8c87af085a3854cfa3b812ab958eda78eca4cae0bf1acc9020ab6ec
vers.AUTH_R  0037040101b1b2b3b4b5b6b7b80470726f64066e6f64652d629a1dca8238da9c22baaceed7fc49fd13a55c0ed24c69bd7a555fe1eecdf473c3
cli.AUTH_I   0032030102a1a2a3a4a5a6a7a80005636c692d310dba40f62ddcd1bb4c987321fe9e7e31fa1b837755a71498380c597474973c19
cli.AUTH_R   0037040100b1b2b3b4b5b6b7b80470726f64066e6f64652d62039b333a59d9fbba978eb7db5d73d27ce5944e0b9956a925b5dcc07ff504c69d
cli.K_ir     45488716c494ae032408d795ecb933c73588d26946c2569c51916a34fdd0cd8a
longest.K_ri 8c110cb337739b5fa33a4442cfa10e3f5409e643021570fad0da5f324fd82a9d
longest.mac_i 252b52af53af5881283090269baffa8239af36be3a5573f93ae5ab612597b343
"""
V = {name: bytes.fromhex(text) for name, text in (line.split() for line in VECTORS.strip().splitlines())}

COOKIE, NEXT_COOKIE = bytes(range(0x20)), bytes(range(0x20, 0x40))
NODE_A = Party("node-a", 0xA1A2A3A4A5A6A7A8, "prod")
NODE_B = Party("node-b", 0xB1B2B3B4B5B6B7B8, "prod")
MIB = 1 << 20
EVENT = bytes.fromhex("81a26576a470696e67")  # {"ev": "ping"}
NIL = b"\xc0"
TOKEN = 0x0102030405060708


class Meeting:
    """One handshake: the four messages, and what each side made of them."""

    def __init__(
        self, dialling: Party, listening: Party, cookie: bytes = COOKIE, nonces: tuple[int, int] = (0x11, 0x22)
    ) -> None:
        keys = prepare_cookies(cookie)
        expected = listening.name if dialling.role is Role.NODE else None
        nonce_i, nonce_r = (bytes((each,)) * 32 for each in nonces)
        one = Initiator(dialling, keys[0], nonce_i, expected=expected, known_boot=lambda name: 0, now=0.0)
        other = Responder(listening, keys, nonce_r, now=0.0)
        [hello] = one.start()
        assert isinstance(hello, Write)
        [chal] = other.step(Received(hello.data), 0.0)
        assert isinstance(chal, Write)
        self.opening = hello.data, chal.data
        _, auth_i = one.step(Received(chal.data), 0.0)
        assert isinstance(auth_i, Write)
        self.auth_i = auth_i.data
        other.step(Received(self.auth_i[:2]), 0.0)
        assert other.step(Received(self.auth_i[2:]), 0.0) == [Admit()]
        [question] = other.step(Admitted(), 0.0)
        assert isinstance(question, Judge)
        verdict = Judged(judge(question.caller, Here(listening)), listening.boot)
        auth_r, self.by_responder = other.step(verdict, 0.0)
        assert isinstance(auth_r, Write)
        self.auth_r = auth_r.data
        one.step(Received(self.auth_r[:2]), 0.0)
        [self.by_initiator] = one.step(Received(self.auth_r[2:]), 0.0)

    @property
    def keys(self) -> RecordKeys:
        """The record keys, on which both sides agree."""
        assert isinstance(self.by_initiator, Proven)
        assert isinstance(self.by_responder, Proven)
        assert self.by_initiator.keys == self.by_responder.keys
        return self.by_initiator.keys

    def channels(self) -> tuple[Channel, Channel]:
        """The record phase at both ends."""
        one, other = (
            Channel(self.keys, initiator=dialled, most=MIB, health=Health(), expects_reply=lambda: False)
            for dialled in (True, False)
        )
        return one, other


def queue(session: Session, *bodies: bytes) -> None:
    assert all(session.put(Outgoing(body, Lane.REQUEST)) for body in bodies)


def test_the_key_schedule() -> None:
    [prk] = prepare_cookies(COOKIE)
    hello, chal = Meeting(NODE_A, NODE_B).opening
    assert (hello, chal) == (b"CKT1\x01" + b"\x11" * 32, b"CKT1\x02" + b"\x22" * 32)
    t1 = hashlib.sha256(hello + chal).digest()
    t2 = hashlib.sha256(t1 + V["AUTH_I"] + V["AUTH_R"]).digest()
    assert (prk, t1, t2) == (V["PRK"], V["T1"], V["T2"])
    assert expand(prk, b"clusterkit/1 auth", t1) == (V["A_i"], V["A_r"])
    assert expand(prk, b"clusterkit/1 records", t2) == (V["K_ir"], V["K_ri"])


def test_the_handshake_of_two_nodes() -> None:
    meeting = Meeting(NODE_A, NODE_B)
    assert (meeting.auth_i, meeting.auth_r) == (V["AUTH_I"], V["AUTH_R"])
    assert meeting.keys == RecordKeys(V["K_ir"], V["K_ri"])


def test_two_meetings_and_a_message_lost_between_them() -> None:
    a, b = Session(3, Outbox()), Session(7, Outbox())

    one, other = Meeting(NODE_A, NODE_B).channels()
    one.start(a)
    assert one.next_record(0.0) == V["I0"]
    [resumed] = other.receive(V["I0"], 0.0)
    assert resumed == Resumed(Resume(3, 0, 0, MIB))
    assert other.open(b, Resume(3, 0, 0, MIB)) == []
    assert other.next_record(0.0) == V["R0"]
    [resumed] = one.receive(V["R0"], 0.0)
    assert resumed == Resumed(Resume(7, 0, 0, MIB))
    assert one.open(a, Resume(7, 0, 0, MIB)) == []

    queue(a, EVENT)
    assert one.next_record(0.0) == V["I1"]
    queue(a, EVENT, EVENT)
    one.probe(TOKEN)
    assert one.next_record(0.0) == V["I2"]
    assert list(other.receive(V["I1"] + V["I2"], 0.0)) == [Deliver([{"ev": "ping"}]), Deliver([{"ev": "ping"}] * 2)]
    queue(b, NIL)
    assert other.next_record(1.0) == V["R1"]
    queue(a, EVENT)
    assert one.next_record(1.0) == V["I3"]  # number 4, before R1 came: lost, and the connection with it
    assert list(one.receive(V["R1"], 1.0)) == [Ponged(TOKEN), Deliver([None])]
    assert (a.acked, a.unacked) == (3, 1)

    meeting = Meeting(NODE_A, NODE_B, NEXT_COOKIE, (0x33, 0x44))
    assert (meeting.auth_i, meeting.auth_r) == (V["again.AUTH_I"], V["again.AUTH_R"])
    one, other = meeting.channels()
    one.start(a)
    assert one.next_record(2.0) == V["again.I0"]
    [resumed] = other.receive(V["again.I0"], 2.0)
    assert resumed == Resumed(Resume(3, 7, 1, MIB))
    assert other.open(b, Resume(3, 7, 1, MIB)) == []
    assert b.unacked == 0
    assert other.next_record(2.0) == V["again.R0"]
    [resumed] = one.receive(V["again.R0"], 2.0)
    assert resumed == Resumed(Resume(7, 3, 3, MIB))
    assert one.open(a, Resume(7, 3, 3, MIB)) == []
    assert one.next_record(2.0) == V["again.I1"]
    assert list(other.receive(V["again.I1"], 2.0)) == [Deliver([{"ev": "ping"}])]
    assert (a.written, b.received) == (4, 4)


def test_the_last_record_of_the_second_meeting() -> None:
    """Its ACK says 1, as RESUME did: legal, though a channel of ours says nothing twice."""
    keys = Meeting(NODE_A, NODE_B, NEXT_COOKIE, (0x33, 0x44)).keys
    writer = RecordWriter(keys.by_initiator)
    resume = Resume(3, 7, 1, MIB)
    data = b"\x91" + EVENT
    ack, goodbye = (1).to_bytes(8, "big"), bytes((Reason.LEAVE,))
    assert writer.seal([part(Kind.RESUME, resume.pack())]) == V["again.I0"]
    assert writer.seal([part(Kind.DATA, data)]) == V["again.I1"]
    assert writer.seal([part(Kind.ACK, ack), part(Kind.GOODBYE, goodbye)]) == V["again.I2"]

    _, other = Meeting(NODE_A, NODE_B, NEXT_COOKIE, (0x33, 0x44)).channels()
    b = Session(7, Outbox())
    b.peer, b.received, b.written, b.acked = 3, 3, 1, 0
    b._unacked.append(Outgoing(NIL, Lane.REQUEST))
    effects = []
    for effect in other.receive(V["again.I0"] + V["again.I1"] + V["again.I2"], 0.0):
        if isinstance(effect, Resumed):
            other.open(b, effect.theirs)
        effects.append(effect)
    assert effects == [Resumed(resume), Deliver([{"ev": "ping"}]), Goodbye(Reason.LEAVE)]


def test_a_responder_in_another_ring() -> None:
    there = replace(NODE_B, ring="test")
    meeting = Meeting(NODE_A, there)
    assert (meeting.auth_i, meeting.auth_r) == (V["AUTH_I"], V["ring.AUTH_R"])
    assert meeting.by_initiator == Refused(Status.RING, there)


def test_an_initiator_of_another_version() -> None:
    meeting = Meeting(replace(NODE_A, version=2), NODE_B)
    assert (meeting.auth_i, meeting.auth_r) == (V["vers.AUTH_I"], V["vers.AUTH_R"])
    assert meeting.by_initiator == Refused(Status.VERSION, NODE_B)


def test_a_client_in_no_ring() -> None:
    meeting = Meeting(Party("cli-1", NODE_A.boot, "", Role.CLIENT), NODE_B)
    assert (meeting.auth_i, meeting.auth_r) == (V["cli.AUTH_I"], V["cli.AUTH_R"])
    assert meeting.keys.by_initiator == V["cli.K_ir"]


def test_the_longest_handshake() -> None:
    one, other = Party("n" * 64, 1, "R" * 64), Party("N" * 64, 2**64 - 1, "R" * 64)
    meeting = Meeting(one, other, b"\xff" * 100)
    assert len(meeting.auth_i) == len(meeting.auth_r) == 2 + 173
    assert meeting.auth_i[-32:] == V["longest.mac_i"]
    assert meeting.keys.by_responder == V["longest.K_ri"]


@pytest.mark.parametrize("kind", [1, 2])
def test_an_opening_has_37_bytes_and_the_shortest_proof_48(kind: int) -> None:
    assert len(opening(kind, bytes(32))) == 37
    assert len(proof(3, Party("n", 1), Role.CLIENT, lambda body: bytes(32))) == 2 + 46
