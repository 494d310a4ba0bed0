"""Objects of marked classes in payloads: they arrive built and checked, or are refused with the path of the bad part."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgpack
import pytest

from clusterkit.core.message_types import message
from clusterkit.core.payload import MOST_DEEP, PayloadError, decode, decode_without_messages, encode
from clusterkit.errors import UnsupportedPayload
from clusterkit.kernel.faults import pack_exception, unpack_exception


class Size(StrEnum):
    SMALL = "s"
    LARGE = "l"


@message(name="test.Line")
@dataclass
class Line:
    sku: str
    cents: int
    size: Size = Size.SMALL


@message(name="test.Order")
@dataclass(frozen=True)
class Order:
    lines: tuple[Line, ...]
    at: datetime | None = None
    notes: dict[str, list[str]] = field(default_factory=dict)
    weight: float = 0.0
    span: tuple[int, str] = (0, "")


@message(name="test.Box")
@dataclass
class Box:
    content: Any


@message(name="test.Positive")
@dataclass
class Positive:
    cents: int

    def __post_init__(self) -> None:
        if self.cents < 0:
            raise ValueError("less than nothing")


class BelowLine(Line):
    """Not marked itself."""


@dataclass
class Unmarked:
    x: int


ORDER = Order(
    (Line("apple", 120), Line("pear", 2**63, Size.LARGE)),
    at=datetime(2026, 1, 1, tzinfo=UTC),
    notes={"a": ["x", "y"], "b": []},
    weight=2,
    span=(1, "day"),
)


def ext(name: Any, fields: Any) -> msgpack.ExtType:
    """A message as a stranger might pack it."""
    return msgpack.ExtType(1, msgpack.packb([name, fields]))


def packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


def boxed(depth: int, inner: Any = None) -> Any:
    for _ in range(depth):
        inner = Box(inner)
    return inner


@pytest.mark.parametrize(
    "value",
    [
        ORDER,
        [ORDER],
        {"order": ORDER},
        [[1, Line("a", 1)], {"k": [Line("b", 2)]}, datetime(2026, 1, 1, tzinfo=UTC)],
        Box(Box([Line("a", 1), {"k": Positive(1)}])),
        boxed(MOST_DEEP),
        [Line("x" * 70_000, 1), list(range(200))],
    ],
)
def test_an_object_arrives_as_it_was_sent(value: Any) -> None:
    assert decode(encode(value)) == value


def test_containers_and_members_arrive_as_annotated() -> None:
    [order] = decode(encode([Order([Line("a", 1, Size.LARGE)], span=[1, "x"])]))  # type: ignore[arg-type]
    assert order == Order((Line("a", 1, Size.LARGE),), span=(1, "x"))
    assert order.lines[0].size is Size.LARGE


def test_the_layout_of_an_object() -> None:
    fields = {"sku": "a", "cents": 1, "size": "s"}
    assert encode([Line("a", 1)]) == packed([ext("test.Line", fields)])
    assert decode(packed([ext("test.Line", fields)])) == [Line("a", 1)]


# -- the sender

UNSENT: list[tuple[Any, str, str]] = [
    (Order((Line("a", 1), Line("b", "2"))), "args[0].lines[1].cents", "expected int, got str"),  # type: ignore[arg-type]
    (Order(lines=Line("a", 1)), "args[0].lines", "expected tuple[Line, ...], got Line"),  # type: ignore[arg-type]
    (Order((), notes={"k": [1]}), "args[0].notes['k'][0]", "expected str, got int"),  # type: ignore[list-item]
    (Order((), notes={1: []}), "args[0].notes", "a key 1 of type int; keys are str"),  # type: ignore[dict-item]
    (Order(({1},)), "args[0].lines[0]", "builtins.set cannot cross"),  # type: ignore[arg-type]
    (Order((), at=datetime(2026, 1, 1)), "args[0].at", "without a time zone"),  # noqa: DTZ001
    (Line("a", 2**64), "args[0].cents", "an int of 65 bits"),
    ({"k": Box([Line("\ud800", 1)])}, "args[0]['k'].content[0].sku", "lone surrogate"),
    (Box(object()), "args[0].content", "builtins.object cannot cross the wire"),
    (Box(Unmarked(1)), "args[0].content", "and @message classes can"),
    (BelowLine("a", 1), "args[0]", "BelowLine cannot cross"),
    (object.__new__(Line), "args[0].sku", "cannot be read: AttributeError"),
    (boxed(MOST_DEEP), "args[0]" + ".content" * (MOST_DEEP - 1), "nested deeper than 64"),
    (boxed(MOST_DEEP - 1, []), "args[0]" + ".content" * (MOST_DEEP - 1), "nested deeper than 64"),
]


@pytest.mark.parametrize(("value", "path", "says"), UNSENT)
def test_the_sender_refuses_what_would_not_arrive(value: Any, path: str, says: str) -> None:
    with pytest.raises(UnsupportedPayload) as caught:
        encode([value])
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_an_object_in_itself_is_too_deep() -> None:
    endless = Box(None)
    endless.content = [endless]
    with pytest.raises(UnsupportedPayload, match="nested deeper"):
        encode(endless)


class Fickle(dict[str, Any]):
    """Shows the packer another value than everybody else."""

    def __init__(self, then: Any) -> None:
        super().__init__(k=0)
        self.then = then
        self.first = True

    def items(self) -> Any:
        first, self.first = self.first, False
        return [("k", self.then if first else 0)]


@pytest.mark.parametrize("then", [object(), object.__new__(Line)], ids=["no form", "unreadable"])
def test_a_value_that_turns_bad_on_the_way_is_refused_too(then: Any) -> None:
    with pytest.raises(UnsupportedPayload) as caught:
        encode([Fickle(then)])
    assert caught.value.path == "args"
    assert decode(encode([Line("a", 1)])) == [Line("a", 1)]


class Shy:
    """A field that gives these values, then none."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __get__(self, owner: object, kind: type) -> Any:
        return self.values.pop(0)


def test_a_field_that_can_be_read_no_more_is_refused_with_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    value = object.__new__(Box)
    monkeypatch.setattr(Box, "content", Shy([1, 2**64]), raising=False)
    with pytest.raises(UnsupportedPayload, match=r"args\[0\].content: cannot be read: IndexError"):
        encode([value])


# -- the receiver


def order_with(line: Any) -> msgpack.ExtType:
    return ext("test.Order", {"lines": [ext("test.Line", {"sku": "a", "cents": 1}), line]})


REFUSED: dict[str, tuple[Any, str, str]] = {
    "an unknown name": (ext("os.system", {}), "args[0]", "no message type 'os.system' here"),
    "an unknown name inside": (order_with(ext("gone", {})), "args[0].lines[1]", "no message type 'gone' here"),
    "a bad field": (order_with(ext("test.Line", {"sku": "a", "cents": "1"})), "args[0].lines[1].cents", "got str"),
    "a missing field": (order_with(ext("test.Line", {"sku": "a"})), "args[0].lines[1]", "without its field 'cents'"),
    "an unknown field": (ext("test.Box", {"content": 1, "lid": 2}), "args[0]", "has no field 'lid' here"),
    "a long unknown field": (ext("test.Box", {"x" * 999: 2}), "args[0]", f"no field '{'x' * 59}...' here"),
    "a field that is no str": (ext("test.Box", {b"lid": 2}), "args[0]", "no [name, map of fields by name]"),
    "another message": (order_with(ext("test.Box", {"content": 1})), "args[0].lines[1]", "expected Line, got Box"),
    "no message": (order_with({"sku": "a", "cents": 1}), "args[0].lines[1]", "expected Line, got dict"),
    "too few elements": (ext("test.Order", {"lines": [], "span": [1]}), "args[0].span", "got 1 elements"),
    "no member": (ext("test.Line", {"sku": "a", "cents": 1, "size": "xl"}), "args[0].size", "got 'xl'"),
    "an object that refuses": (
        {"k": [ext("test.Positive", {"cents": -1})]},
        "args[0]['k'][0]",
        "refused what came: ValueError: less than nothing",
    ),
    "no bytes": (msgpack.ExtType(1, b""), "args[0]", "ValueError"),
    "bytes left over": (msgpack.ExtType(1, packed(["test.Box", {}]) + b"\x00"), "args[0]", "ExtraData"),
    "no array": (msgpack.ExtType(1, packed({})), "args[0]", "no [name, map of fields by name]"),
    "one element": (msgpack.ExtType(1, packed(["test.Box"])), "args[0]", "no [name, map of fields by name]"),
    "three elements": (msgpack.ExtType(1, packed(["test.Box", {}, 1])), "args[0]", "no [name, map of fields by name]"),
    "a name of bytes": (ext(b"test.Box", {"content": 1}), "args[0]", "no [name, map of fields by name]"),
    "fields in an array": (ext("test.Box", [1]), "args[0]", "no [name, map of fields by name]"),
    "a message for a name": (ext(ext("test.Box", {}), {}), "args[0]", "no [name, map of fields by name]"),
    "a message for the fields": (ext("test.Box", ext("test.Box", {})), "args[0]", "no [name, map of fields by name]"),
    "an int key": (ext("test.Box", {"content": [{1: 2}]}), "args[0]", "int is not allowed for map key"),
    "a key of bytes": (ext("test.Box", {"content": [{b"k": 2}]}), "args[0].content[0]", "a key that is no str"),
    "another extension": (ext("test.Box", {"content": msgpack.ExtType(2, b"")}), "args[0]", "extension of type 2"),
    "another extension of 0 bytes": (msgpack.ExtType(0, b""), "args", "extension of type 0"),
    "65,537 elements": (ext("test.Box", {"content": [0] * 65_537}), "args[0]", "65537"),
    "65,537 fields": (ext("test.Box", dict.fromkeys(map(str, range(65_537)), 0)), "args[0]", "65537"),
    "a bad part of a map": ({"k": {"j": ext("gone", {})}}, "args[0]['k']['j']", "no message type"),
    "a bad part of a long key": ({"k" * 999: ext("gone", {})}, f"args[0]['{'k' * 59}...']", "no message type"),
}


@pytest.mark.parametrize(("value", "path", "says"), REFUSED.values(), ids=REFUSED)
def test_the_receiver_refuses_with_the_path(value: Any, path: str, says: str) -> None:
    with pytest.raises(PayloadError) as caught:
        decode(packed([value]))
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_the_root_of_the_path_is_named_by_the_caller() -> None:
    with pytest.raises(PayloadError, match=r"reply.content.cents: expected int"):
        decode(packed(ext("test.Box", {"content": ext("test.Positive", {"cents": "x"})})), "reply")
    with pytest.raises(PayloadError, match="reply: ValueError"):
        decode(b"", "reply")


def test_a_message_is_no_key() -> None:
    with pytest.raises(PayloadError):
        decode(b"\x81\xc7\x01\x01\xc0\x01")


def test_a_receiver_of_the_older_code_takes_what_tells_nothing_new() -> None:
    assert decode(packed(ext("test.Box", {"content": 1, "lid": None}))) == Box(1)


def test_a_receiver_of_the_newer_code_fills_in_defaults() -> None:
    assert decode(packed(ext("test.Order", {"lines": []}))) == Order(())


def test_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.__import__", None)
    with pytest.raises(PayloadError, match="no message type"):
        decode(packed(ext("this.This", {})))


def raw_boxes(depth: int, inner: bytes = b"\xc0", name: bytes = b"\xa8test.Box") -> bytes:
    """Messages in each other, packed by hand, as deep as one likes."""
    head = b"\x92" + name + b"\x81\xa7content"
    for _ in range(depth):
        size = len(head) + len(inner)
        inner = b"\xc9" + size.to_bytes(4, "big") + b"\x01" + head + inner
    return inner


@pytest.mark.parametrize(
    "bomb",
    [
        raw_boxes(2_000),
        raw_boxes(200, packed(bytes(1 << 20))),
        raw_boxes(63, packed([[0] * 1000] * 65)),
        raw_boxes(5_000, name=b"\xa4gone"),
    ],
    ids=["many", "large", "lists inside", "unknown"],
)
def test_messages_nested_without_end_are_refused_at_the_64th(bomb: bytes) -> None:
    with pytest.raises(PayloadError) as caught:
        decode(bomb)
    assert caught.value.path.count(".content") <= MOST_DEEP


def test_64_levels_arrive() -> None:
    assert decode(raw_boxes(64)) == boxed(64)
    with pytest.raises(PayloadError, match="nested deeper than 64"):
        decode(raw_boxes(65))
    with pytest.raises(PayloadError, match="nested deeper than 64"):
        decode(raw_boxes(64, b"\x90"))


# -- who needs only the rest


def test_a_payload_can_be_read_without_its_messages() -> None:
    value = [1, ext("gone", {}), {"k": ext("test.Box", {"content": 1}), "l": [2]}]
    assert decode_without_messages(packed(value)) == [1, None, {"k": None, "l": [2]}]
    for bad in (b"", packed(msgpack.ExtType(2, b"")), packed([{b"k": 1}])):
        with pytest.raises(PayloadError):
            decode_without_messages(bad)


def test_an_exception_may_carry_a_message_and_never_fails_for_one() -> None:
    error = LookupError("sold out", Line("a", 1))
    error.boxed = Box(object())  # type: ignore[attr-defined]
    rebuilt = unpack_exception(pack_exception(error))
    assert type(rebuilt) is LookupError
    assert rebuilt.args == ("sold out", Line("a", 1))
    assert not hasattr(rebuilt, "boxed")
