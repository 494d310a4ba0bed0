"""What may be sent arrives; what may not is refused by its sender, with the path to it."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum
from typing import Any

import msgpack
import pytest

from clusterkit.core.payload import MOST_DEEP, MOST_WIDE, PayloadError, decode, encode
from clusterkit.errors import UnsupportedPayload

Point = namedtuple("Point", "x y")  # noqa: PYI024 - the plain one, as users have it


class Colour(IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


def nested(depth: int, make: Callable[[Any], Any] = lambda inner: [inner]) -> Any:
    """``depth`` containers in one another."""
    value: Any = make(0)
    for _ in range(depth - 1):
        value = make(value)
    return value


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (None, None),
        (True, True),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (1.5, 1.5),
        ("ö", "ö"),
        (b"\xff", b"\xff"),
        ((), []),
        ([1, ("two", [3.0])], [1, ["two", [3.0]]]),
        ({"a": {"b": (1,)}}, {"a": {"b": [1]}}),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        ([Colour.RED, Text("t")], [1, "t"]),
        ({Text("t"): 1}, {"t": 1}),
        (datetime(1969, 12, 31, 23, 59, 59, 5, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 5, tzinfo=UTC)),
        ([datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))], [datetime(2026, 1, 1, tzinfo=UTC)]),
        ([0] * MOST_WIDE, [0] * MOST_WIDE),
    ],
)
def test_a_value_arrives(value: Any, arrives: Any) -> None:
    assert decode(encode(value)) == arrives


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: (inner,), lambda inner: {"k": inner}])
def test_64_containers_in_one_another_arrive_and_65_do_not(make: Callable[[Any], Any]) -> None:
    assert decode(encode(nested(MOST_DEEP, make)))
    with pytest.raises(UnsupportedPayload, match="nested deeper than 64"):
        encode(nested(MOST_DEEP + 1, make))


REFUSED: list[tuple[Any, str, str]] = [
    ({1: "x"}, "args", "a key 1 of type int; keys are str"),
    ([{(1, 2): 3}], "args[0]", "a key (1, 2) of type tuple"),
    ({"a": {b"k": 1}}, "args['a']", "of type bytes"),
    ([0] * (MOST_WIDE + 1), "args", "65537 elements, 65536 are the most"),
    (["x", [0] * (MOST_WIDE + 1)], "args[1]", "65537 elements"),
    ({"a": dict.fromkeys(map(str, range(MOST_WIDE + 1)))}, "args['a']", "65537 elements"),
    (2**64, "args", "an int of 65 bits, 64 are the most"),
    ([1, -(2**63) - 1], "args[1]", "an int of 64 bits"),
    ({"a": [2**99]}, "args['a'][0]", "an int of 100 bits"),
    ("\ud800", "args", "lone surrogate"),
    (["ok", "\udfff"], "args[1]", "lone surrogate"),
    ({"\ud800": 1}, "args['\\ud800']", "lone surrogate"),
    ([[1], {"k": 2}, [2**64]], "args[2][0]", "an int of 65 bits"),
    ({"a": ({"b": "\ud800"},)}, "args['a'][0]['b']", "lone surrogate"),
    (datetime(2026, 1, 1), "args", "a datetime without a time zone"),  # noqa: DTZ001 - that is the case
    ({"at": [datetime(2026, 1, 1)]}, "args['at'][0]", "a datetime without a time zone"),  # noqa: DTZ001
    ({1, 2}, "args", "builtins.set cannot cross the wire"),
    ([frozenset()], "args[0]", "builtins.frozenset"),
    (object(), "args", "builtins.object"),
    ([1j], "args[0]", "builtins.complex"),
    ([[Decimal(1)]], "args[0][0]", "decimal.Decimal"),
    (iter([1]), "args", "list_iterator"),
    ([msgpack.Timestamp(1)], "args[0]", "Timestamp"),
]


@pytest.mark.parametrize(("value", "path", "says"), REFUSED)
def test_a_value_that_cannot_cross_is_refused_with_its_path(value: Any, path: str, says: str) -> None:
    with pytest.raises(UnsupportedPayload) as caught:
        encode(value)
    assert caught.value.path == path
    assert says in str(caught.value)
    assert caught.value.executed == "no"


def test_the_root_of_the_path_is_named_by_the_caller() -> None:
    with pytest.raises(UnsupportedPayload) as caught:
        encode([{1}], "reply")
    assert caught.value.path == "reply[0]"


def test_a_list_in_itself_is_too_deep() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnsupportedPayload, match="nested deeper"):
        encode(endless)


def test_a_subclass_of_datetime_is_refused_with_its_path() -> None:
    class Moment(datetime):
        pass

    with pytest.raises(UnsupportedPayload) as caught:
        encode({"at": Moment.now(UTC)})
    assert caught.value.path == "args['at']"


def test_a_refusal_leaves_nothing_for_the_next_value() -> None:
    with pytest.raises(UnsupportedPayload):
        encode(["a secret", "\ud800"])
    assert decode(encode([1])) == [1]


class Fickle(dict[str, int]):
    """Shows the packer another value than everybody else."""

    def items(self) -> Any:
        first, self.first = getattr(self, "first", True), False
        return [("k", 2**64 if first else 0)]


def test_a_value_that_fails_without_a_culprit_is_refused_at_the_root() -> None:
    with pytest.raises(UnsupportedPayload) as caught:
        encode(Fickle(k=0))
    assert caught.value.path == "args"


class Nowhere(tzinfo):
    """A time zone that knows no offset."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        raise KeyError(when)

    def dst(self, when: datetime | None) -> timedelta | None:
        return None

    def tzname(self, when: datetime | None) -> str | None:
        return None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(msgpack.ExtType(5, b"x"), id="extension"),
        pytest.param(datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), id="before year 1 in UTC"),
        pytest.param(datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))), id="after year 9999 in UTC"),
        pytest.param(memoryview(b"abcdef")[::2], id="memoryview with gaps"),
        pytest.param(datetime(2026, 1, 1, tzinfo=Nowhere()), id="time zone that raises"),
    ],
)
def test_the_sender_refuses_whatever_the_receiver_would(value: Any) -> None:
    with pytest.raises(UnsupportedPayload) as caught:
        encode([value])
    assert caught.value.path == "args[0]"


# -- the receiver's side


def packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


BAD = {
    "nothing": b"",
    "a byte too many": b"\x01\x01",
    "cut short": b"\x92\x01",
    "an unused code": b"\xc1",
    "no UTF-8": b"\xa1\xff",
    "an int key": packed({1: 2}),
    "an extension": packed(msgpack.ExtType(5, b"x")),
    "a timestamp of 3 bytes": b"\xc7\x03\xff\x00\x00\x00",
    "a timestamp out of range": b"\xc7\x0c\xff" + bytes(4) + b"\x7f" + b"\xff" * 7,
    "65,537 elements": packed([0] * (MOST_WIDE + 1)),
    "65,537 keys": packed(dict.fromkeys(map(str, range(MOST_WIDE + 1)))),
    "an array larger than its bytes": b"\xdd\xff\xff\xff\xff",
    "65 arrays": packed(nested(65)),
    "65 maps": packed(nested(65, lambda inner: {"k": inner})),
    "5,000 arrays": b"\x91" * 5_000 + b"\x90",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_bytes_over_the_limits_are_no_payload(data: bytes) -> None:
    with pytest.raises(PayloadError):
        decode(data)


def test_bytes_are_no_keys() -> None:
    with pytest.raises(PayloadError):
        decode(packed({b"k": 1}))


@pytest.mark.parametrize("value", [["x" * 99], {"k": "x" * 99}, "x" * 99, [[1], {"k": ["x" * 99]}], ["x" * 70_000]])
def test_long_payloads_within_the_limits_are_decoded(value: Any) -> None:
    assert decode(packed(value)) == value
