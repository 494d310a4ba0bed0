"""Payloads: what is encoded arrives the same, and nothing is encoded that the receiver refuses."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clusterkit.core.identity import NodeId
from clusterkit.core.payload import MOST_DEEP, decode, encode
from clusterkit.errors import UnsupportedPayload

zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones)  # noqa: DTZ001 - zones follow
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    moments,
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=5),
    )


values = st.recursive(scalars, containers, max_leaves=20)


def arriving(value: Any) -> Any:
    """How a value looks at the other end."""
    if isinstance(value, list | tuple):
        return [arriving(each) for each in value]
    if isinstance(value, dict):
        return {key: arriving(each) for key, each in value.items()}
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def typed(value: Any) -> Any:
    """A value with all its types, so that 1, 1.0 and True differ."""
    if isinstance(value, list):
        return [typed(each) for each in value]
    if isinstance(value, dict):
        return {key: typed(each) for key, each in value.items()}
    return type(value), value


@given(values)
@example([2**64 - 1, -(2**63)])
def test_what_is_encoded_arrives(value: Any) -> None:
    assert typed(decode(encode(value))) == typed(arriving(value))


refused = st.one_of(
    st.integers(min_value=2**64),
    st.integers(max_value=-(2**63) - 1),
    st.sampled_from(["\ud800", "a\udfff", {1: 2}, {None: 1}, {(1,): 2}, {b"k": 1}, {1.5: 1}, [0] * 65_537]),
    st.sampled_from([{1}, frozenset(), object(), 1j, range(3), int, len, Exception("x")]),
    st.datetimes(),
)
places = st.lists(st.sampled_from(["[]", "()", "{}", "{ö}"]), max_size=10)


def put_at(bad: Any, place: list[str]) -> tuple[Any, str]:
    """A value with ``bad`` inside, and the path to it."""
    value, path = bad, ""
    for kind in place:
        if kind in {"[]", "()"}:
            value, path = (["before", value] if kind == "[]" else ("before", value)), f"[1]{path}"
        else:
            key = kind.strip("{}") or "k"
            value, path = {"before": None, key: value}, f"[{key!r}]{path}"
    return value, f"args{path}"


@given(refused, places)
def test_what_cannot_cross_is_refused_with_the_path_to_it(bad: Any, place: list[str]) -> None:
    value, path = put_at(bad, place)
    with pytest.raises(UnsupportedPayload) as caught:
        encode(value)
    assert caught.value.path == path


@given(st.integers(1, 80), st.sampled_from(["[]", "()", "{}"]), scalars)
def test_64_levels_are_the_most(depth: int, kind: str, inner: Any) -> None:
    value, path = put_at(inner, [kind] * depth)
    if depth <= MOST_DEEP:
        assert typed(decode(encode(value))) == typed(arriving(value))
        return
    with pytest.raises(UnsupportedPayload) as caught:
        encode(value)
    assert path.startswith(caught.value.path)
    assert caught.value.path.count("[") == MOST_DEEP


anything = st.recursive(
    scalars | refused | st.just(bytearray(b"x")),
    lambda inner: containers(inner) | st.dictionaries(st.integers() | st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(anything)
def test_the_sender_refuses_whatever_the_receiver_would(value: Any) -> None:
    try:
        packed = encode(value)
    except UnsupportedPayload:
        return
    decode(packed)


names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
hosts = st.one_of(
    st.ip_addresses().map(str),
    st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z][a-z0-9-]{0,20}){0,3}", fullmatch=True),
)


@given(names, hosts, st.integers(0, 65_535))
def test_a_node_id_is_parsed_from_what_it_prints(name: str, host: str, port: int) -> None:
    node = NodeId(name, host, port)
    assert NodeId.parse(str(node)) == node
