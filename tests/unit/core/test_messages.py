"""The kernel's messages: what is packed is of a known shape, anything else breaks the protocol."""

from typing import Any

import msgpack
import pytest

from clusterkit.core.messages import (
    Code,
    Op,
    check,
    pack_call,
    pack_cast,
    pack_error,
    pack_info,
    pack_reply,
    pack_ring,
)
from clusterkit.errors import ProtocolError

PACKED: list[tuple[bytes, list[Any]]] = [
    (pack_ring(b"p"), [0, b"p"]),
    (pack_call(7, "srv", "get", 1.5, b"a", None), [1, 7, "srv", "get", 1500, b"a"]),
    (pack_call(7, 99, "get", 0.0004, b"a", b"k"), [1, 7, 99, "get", 0, b"a", b"k"]),
    (pack_cast("srv", "put", b"a", None), [2, "srv", "put", b"a"]),
    (pack_cast(99, "put", b"a", b"k"), [2, 99, "put", b"a", b"k"]),
    (pack_info("srv", b"p"), [3, "srv", b"p"]),
    (pack_reply(7, b"p"), [4, 7, b"p"]),
    (pack_error(7, Code.RAISED, b"p", maybe=True), [5, 7, "raised", True, b"p"]),
]


@pytest.mark.parametrize(("data", "message"), PACKED)
def test_a_message_is_one_array_of_its_shape(data: bytes, message: list[Any]) -> None:
    assert msgpack.unpackb(data) == message
    check(message)


def test_every_operation_has_a_packer() -> None:
    assert {message[0] for _, message in PACKED} == set(Op)


@pytest.mark.parametrize(
    "message",
    [
        None,
        "text",
        {},
        [],
        [6, b"p"],
        [-1],
        ["0", b"p"],
        [False, b"p"],
        [0.0, b"p"],
        [0],
        [0, "p"],
        [0, b"p", b"p"],
        [1, 7, "srv", "get", 1500],
        [1, 7, "srv", "get", 1.5, b"a"],
        [1, "7", "srv", "get", 1500, b"a"],
        [1, 7, None, "get", 1500, b"a"],
        [1, 7, "srv", "get", 1500, b"a", None],
        [2, "srv", b"put", b"a"],
        [3, b"srv", b"p"],
        [4, 7, []],
        [5, 7, "raised", 1, b"p"],
        [5, 7, "raised", None, b"p"],
    ],
)
def test_anything_else_breaks_the_protocol_and_a_holder_of_the_key_did_it(message: Any) -> None:
    with pytest.raises(ProtocolError, match="no known shape") as caught:
        check(message)
    assert caught.value.proven


def test_the_error_shows_no_more_than_the_beginning() -> None:
    with pytest.raises(ProtocolError) as caught:
        check(["x" * 10_000])
    assert len(str(caught.value)) < 200


def test_a_message_nested_as_deep_as_msgpack_reads_breaks_the_protocol_too() -> None:
    [message] = msgpack.unpackb(b"\x91" * 1_020 + b"\x90")
    with pytest.raises(ProtocolError):
        check(message)


@pytest.mark.parametrize("message", [[4, True, b"p"], [3, False, b"p"], [1, 7, "srv", "get", True, b"a"]])
def test_a_bool_is_no_number(message: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        check(message)
