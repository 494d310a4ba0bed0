"""Ring messages: all that can be said comes back as it was; anything else is refused by one error."""

from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from clusterkit.core.payload import encode
from clusterkit.core.ring_messages import RingMessage, pack, unpack
from clusterkit.errors import ProtocolError
from tests.property.core.ring_things import U64, messages


@given(messages)
def test_what_is_packed_is_read_again(message: RingMessage) -> None:
    assert unpack(pack(message)) == message


def is_read_or_refused(data: bytes) -> None:
    """Whatever can be read can be packed again."""
    try:
        message = unpack(data)
    except ProtocolError:
        return
    assert unpack(pack(message)) == message


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xc1")
def test_arbitrary_bytes_are_refused_by_one_error(data: bytes) -> None:
    is_read_or_refused(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, U64) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=15,
)


@given(st.integers(0, 20), st.lists(values, max_size=9))
def test_messages_of_any_values_are_refused_by_one_error(kind: int, body: list[object]) -> None:
    is_read_or_refused(encode([kind, *body]))


@given(messages, st.randoms(use_true_random=False))
def test_good_messages_with_something_changed_are_refused_by_one_error(message: RingMessage, rng: Random) -> None:
    raw = bytearray(pack(message))
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(4):
            case 0 if at < len(raw):
                raw[at] ^= 1 << rng.randrange(8)
            case 1:
                del raw[at : at + rng.randrange(1, 9)]
            case 2:
                raw[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                raw[at:at] = raw[at : at + 20]
    is_read_or_refused(bytes(raw))
