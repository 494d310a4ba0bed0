"""Messages of any class arrive as they were sent, and no bytes break the receiver."""

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from itertools import count
from types import GenericAlias
from typing import Any, Literal

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterkit.core import message_types
from clusterkit.core.message_types import message
from clusterkit.core.payload import PayloadError, decode, encode
from clusterkit.errors import UnsupportedPayload

numbers = count()


@pytest.fixture(autouse=True, scope="module")
def names() -> Iterator[None]:
    """The classes that are made here are forgotten in the end."""
    before = dict(message_types._types)
    yield
    message_types._types.clear()
    message_types._types.update(before)


class Size(StrEnum):
    SMALL = "s"
    LARGE = "l"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@message(name="laws.Price")
@dataclasses.dataclass
class Price:
    sku: str
    cents: int = 0


@message(name="laws.Tree")
@dataclasses.dataclass
class Tree:
    value: Any = None
    branches: tuple["Tree", ...] = ()
    named: dict[str, "Tree | Price"] = dataclasses.field(default_factory=dict)


integers = st.integers(-(2**63), 2**64 - 1)
moments = st.datetimes(datetime(1, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone follows
prices = st.builds(Price, st.text(max_size=5), integers)
trees = st.recursive(
    st.builds(Tree, integers | st.text(max_size=3)),
    lambda inner: st.builds(
        Tree,
        st.none() | inner | st.lists(inner, max_size=2),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(st.text(max_size=2), inner | prices, max_size=2),
    ),
    max_leaves=6,
)
Typed = tuple[Any, st.SearchStrategy[Any]]  # an annotation, and values that fit it
leaves: list[Typed] = [
    (None, st.none()),
    (bool, st.booleans()),
    (int, integers),
    (float, st.floats(allow_nan=False) | integers),
    (str, st.text(max_size=5)),
    (bytes, st.binary(max_size=5)),
    (datetime, moments),
    (Size, st.sampled_from(Size)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 1, True], st.sampled_from(["a", 1, True])),
    (Any, st.one_of(st.none(), integers, st.lists(st.text(max_size=3), max_size=3), prices)),
    (Price, prices),
    (Tree, trees),
]


words = st.text(max_size=3)


def pairs_of(one: Typed, other: Typed) -> st.SearchStrategy[Any]:
    return st.tuples(one[1], other[1])


def around(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return st.one_of(
        inner.map(lambda each: (GenericAlias(list, each[0]), st.lists(each[1], max_size=3))),
        inner.map(lambda each: (GenericAlias(tuple, (each[0], ...)), st.lists(each[1], max_size=3).map(tuple))),
        inner.map(lambda each: (GenericAlias(dict, (str, each[0])), st.dictionaries(words, each[1], max_size=3))),
        inner.map(lambda each: (each[0] | None if each[0] else None, st.none() | each[1])),
        st.tuples(inner, inner).map(lambda two: (GenericAlias(tuple, (two[0][0], two[1][0])), pairs_of(*two))),
    )


annotations = st.recursive(st.sampled_from(leaves), around, max_leaves=4)


@st.composite
def marked_classes(draw: st.DrawFn) -> tuple[type[Any], list[st.SearchStrategy[Any]]]:
    """A class of up to five fields, and the values of each."""
    typed = draw(st.lists(annotations, max_size=5))
    names = [f"field_{index}" for index in range(len(typed))]
    made = dataclasses.make_dataclass(
        f"Made{next(numbers)}",
        [(name, annotation) for name, (annotation, _) in zip(names, typed, strict=True)],
        frozen=draw(st.booleans()),
        slots=draw(st.booleans()),
    )
    return message(made), [values for _, values in typed]


def typed(value: Any) -> Any:
    """A value with all its types, so that 1, 1.0 and True differ, and (1,) and [1]."""
    if dataclasses.is_dataclass(value):
        return type(value), {each.name: typed(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return type(value), [typed(each) for each in value]
    if isinstance(value, dict):
        return {key: typed(each) for key, each in value.items()}
    return type(value), value


@given(st.data())
def test_an_object_of_any_marked_class_arrives(data: st.DataObject) -> None:
    cls, fields = data.draw(marked_classes())
    value = cls(*(data.draw(each) for each in fields))
    assert typed(decode(encode([value]))) == typed([value])


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=3),
        st.binary(max_size=3),
        st.sampled_from([Size.SMALL, Level.LOW, {1}, object(), datetime(2026, 1, 1), "\ud800"]),  # noqa: DTZ001
        moments,
        prices,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=3),
        st.builds(Price, inner, inner),
        st.builds(Tree, inner, inner, inner),
    ),
    max_leaves=8,
)


@given(st.data())
def test_the_sender_refuses_whatever_the_receiver_would(data: st.DataObject) -> None:
    cls, fields = data.draw(marked_classes())
    value = cls(*(data.draw(anything) for _ in fields))
    try:
        packed = encode([value])
    except UnsupportedPayload:
        return
    [arrived] = decode(packed)
    assert type(arrived) is cls


wires = st.recursive(
    st.one_of(st.none(), st.booleans(), integers, st.floats(), st.text(max_size=3), st.binary(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["sku", "cents", "value", "branches", "named"]) | st.text(), inner, max_size=4),
        st.builds(
            lambda name, fields: msgpack.ExtType(1, msgpack.packb([name, fields])),
            st.sampled_from(["laws.Price", "laws.Tree", "gone"]) | inner,
            inner
            | st.fixed_dictionaries({"sku": inner}, optional={"cents": inner})
            | st.fixed_dictionaries({}, optional={"value": inner, "branches": st.lists(inner, max_size=2)}),
        ),
        st.builds(msgpack.ExtType, st.sampled_from([1, 1, 1, 2]), st.binary(max_size=20)),
    ),
    max_leaves=12,
)


def decoded_or_refused(data: bytes) -> None:
    with suppress(PayloadError):
        decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_in_a_message_are_read_or_refused(data: bytes) -> None:
    decoded_or_refused(msgpack.packb([msgpack.ExtType(1, data)]))


@given(wires)
def test_any_values_in_a_message_are_read_or_refused(value: Any) -> None:
    decoded_or_refused(msgpack.packb(value))


@given(trees, st.data())
def test_a_message_with_bytes_changed_is_read_or_refused(tree: Tree, data: st.DataObject) -> None:
    raw = bytearray(encode([tree]))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    decoded_or_refused(bytes(raw))
