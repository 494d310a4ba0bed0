"""What may cross between nodes, and what its sender is told of the rest."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from clusterkit import (
    GenServer,
    UnsupportedPayload,
    call,
    message,
)
from tests.conftest import NodeFactory
from tests.integration.places import place_of


@message
@dataclass(frozen=True)
class Price:
    """What a price is."""

    symbol: str
    value: float
    at: datetime | None = None


@message
@dataclass
class Order:
    """Several of them."""

    prices: list[Price]
    note: tuple[int, str] = (0, "")


class Desk(GenServer):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    @call
    async def keep(self, value: Any) -> Any:
        self.seen.append(value)
        return value


VALUES: list[tuple[Any, Any]] = [
    (None, None),
    ([True, -(2**63), 2**64 - 1, 1.5, "é", b"\x00"], [True, -(2**63), 2**64 - 1, 1.5, "é", b"\x00"]),
    ({"a": (1, 2), "b": {"c": []}}, {"a": [1, 2], "b": {"c": []}}),
    (bytearray(b"ab"), b"ab"),
    (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), datetime(2026, 1, 2, 3, 4, 5, 6, UTC)),
    (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 1, 1, 22, tzinfo=UTC)),
    (Price("x", 1.5), Price("x", 1.5)),
    (Order([Price("x", 2.0, datetime(2026, 1, 2, tzinfo=UTC))], (3, "n")),) * 2,
]


@pytest.mark.parametrize(("sent", "comes"), VALUES)
async def test_a_payload_comes_as_the_wire_says_both_ways(sent: Any, comes: Any, start_node: NodeFactory) -> None:
    place = await place_of(start_node, "there")
    desk = Desk()
    ref = await place.start(desk, "desk")
    assert await ref.call(Desk.keep, sent) == comes
    assert desk.seen == [comes]
    assert type(desk.seen[0]) is type(comes)


async def test_a_local_payload_is_given_away_as_it_is(start_node: NodeFactory) -> None:
    place = await place_of(start_node, "here")
    ref = await place.start(Desk(), "desk")
    value = object()
    assert await ref.call(Desk.keep, value) is value


BAD: list[tuple[Any, str]] = [
    ({"a": [1, {2}]}, r"args\[0\]\['a'\]\[1\]"),
    ({1: 2}, r"args\[0\]"),
    ([2**64], r"args\[0\]\[0\]"),
    (datetime(2026, 1, 2), r"args\[0\]"),  # noqa: DTZ001 - that is what is wrong with it
    ([Price("x", "dear")], r"args\[0\]\[0\]\.value"),  # type: ignore[arg-type]
    (Order([Price("x", 1.0), "y"]), r"args\[0\]\.prices\[1\]"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("value", "path"), BAD)
async def test_what_cannot_cross_is_the_senders_error_with_its_path(
    value: Any, path: str, start_node: NodeFactory
) -> None:
    place = await place_of(start_node, "there")
    desk = Desk()
    ref = await place.start(desk, "desk")
    for send in (ref.call, ref.cast):
        with pytest.raises(UnsupportedPayload, match=path) as caught:
            await send("keep", value)
        assert caught.value.executed == "no"
    assert desk.seen == []
