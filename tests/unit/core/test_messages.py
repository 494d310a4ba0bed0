"""The kernel's messages: what is packed is of a known shape, anything else breaks the protocol."""

from typing import Any

import msgpack
import pytest

from clusterkit.core.messages import (
    Code,
    Op,
    check,
    pack_call,
    pack_cancel,
    pack_cast,
    pack_demonitor,
    pack_down,
    pack_error,
    pack_exit,
    pack_info,
    pack_link,
    pack_linked,
    pack_monitor,
    pack_refused,
    pack_reply,
    pack_ring,
)
from clusterkit.errors import ProtocolError

PACKED: list[tuple[bytes, list[Any]]] = [
    (pack_ring(b"p"), [0, b"p"]),
    (pack_call(7, "srv", "get", 1.5, b"a", None), [1, 7, "srv", "get", 1500, b"a"]),
    (pack_call(7, 99, "get", 0.0004, b"a", b"k"), [1, 7, 99, "get", 0, b"a", b"k"]),
    (pack_call(7, "srv", "get", 1.5, b"a", None, ("a/3:1/x",)), [1, 7, "srv", "get", 1500, b"a", None, ["a/3:1/x"]]),
    (pack_call(7, "srv", "get", 1.5, b"a", b"k", ()), [1, 7, "srv", "get", 1500, b"a", b"k", []]),
    (pack_cast("srv", "put", b"a", None), [2, "srv", "put", b"a"]),
    (pack_cast(99, "put", b"a", b"k"), [2, 99, "put", b"a", b"k"]),
    (pack_info("srv", b"p"), [3, "srv", b"p"]),
    (pack_reply(7, b"p"), [4, 7, b"p"]),
    (pack_error(7, Code.RAISED, b"p", maybe=True), [5, 7, "raised", True, b"p"]),
    (pack_refused("srv", Code.MAILBOX_FULL, 40), [6, "srv", "mailbox_full", 40]),
    (pack_refused(99, Code.NO_SERVER, 1), [6, 99, "no_server", 1]),
    (pack_cancel(7, "srv"), [7, 7, "srv"]),
    (pack_cancel(7, 99), [7, 7, 99]),
    (pack_monitor(7, "srv"), [8, 7, "srv"]),
    (pack_monitor(7, 99), [8, 7, 99]),
    (pack_link(7, "srv", 3), [9, 7, "srv", 3]),
    (pack_link(7, 99, 3), [9, 7, 99, 3]),
    (pack_demonitor(7), [10, 7]),
    (pack_down(7, "normal"), [11, 7, "normal"]),
    (pack_exit(7, "ValueError: no"), [12, 7, "ValueError: no"]),
    (pack_linked(7, 3), [13, 7, 3]),
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
        [14, 7],
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
        [1, 7, "srv", "get", 1500, b"a", []],
        [1, 7, "srv", "get", 1500, b"a", b"k", None],
        [1, 7, "srv", "get", 1500, b"a", None, "x"],
        [1, 7, "srv", "get", 1500, None, None, []],
        [1, 7, "srv", "get", 1500, b"a", None, [], []],
        [2, "srv", b"put", b"a"],
        [2, "srv", "put", b"a", None],
        [3, b"srv", b"p"],
        [4, 7, []],
        [5, 7, "raised", 1, b"p"],
        [5, 7, "raised", None, b"p"],
        [6, b"p"],
        [6, "srv", "mailbox_full"],
        [6, "srv", "mailbox_full", 1.0],
        [6, None, "mailbox_full", 1],
        [6, "srv", 3, 1],
        [7, 7],
        [7, "7", "srv"],
        [7, 7, None],
        [8, 7],
        [8, None, "srv"],
        [8, 7, b"srv"],
        [8, 7, "srv", 3],
        [9, 7, "srv"],
        [9, 7, "srv", "3"],
        [9, 7, 1.5, 3],
        [10],
        [10, "7"],
        [10, 7, 7],
        [11, 7],
        [11, 7, None],
        [11, 7, b"normal"],
        [12, 7],
        [12, 7, 0],
        [12, "7", "normal"],
        [13, 7],
        [13, 7, "srv"],
        [13, None, 3],
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


@pytest.mark.parametrize(
    "message",
    [
        [4, True, b"p"],
        [3, False, b"p"],
        [1, 7, "srv", "get", True, b"a"],
        [10, True],
        [8, 7, True],
        [6, "srv", "x", True],
    ],
)
def test_a_bool_is_no_number(message: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        check(message)
