"""What a node tells of itself: parts that do not know of each other, packed once, and told when they change."""

import asyncio
import logging
from dataclasses import dataclass

import pytest

from clusterkit.core.message_types import message
from clusterkit.core.payload import decode
from clusterkit.errors import ConfigError, UnsupportedPayload, UsageError
from clusterkit.ring.presence import Presence
from clusterkit.runtime import now


@message(name="tests.presence.Place")
@dataclass(frozen=True)
class Place:
    where: str


def test_what_is_announced_is_told_when_it_changes() -> None:
    told: list[bytes] = []
    presence = Presence(told.append)
    presence.announce("zone", "x")
    presence.put("clusterkit.one", [1])
    presence.announce("zone", "x")
    assert [decode(each) for each in told] == [{"zone": "x"}, {"zone": "x", "clusterkit.one": [1]}]
    presence.announce("zone", None)
    presence.put("clusterkit.one", None)
    assert (presence.meta, presence.packed, told[-1]) == ({}, b"", b"")


def test_what_cannot_be_told_changes_nothing() -> None:
    told: list[bytes] = []
    presence = Presence(told.append)
    presence.announce("zone", "x")
    with pytest.raises(UsageError, match="'large' makes the metadata 40.. bytes long; a node tells 4096"):
        presence.announce("large", "x" * 4_080)
    with pytest.raises(UnsupportedPayload, match="zone"):
        presence.announce("zone", object())
    with pytest.raises(UnsupportedPayload, match="'zone' holds a message"):
        presence.announce("zone", [{"at": Place("x")}])
    presence.announce("zone", "x")
    for key in ("clusterkit.cache", 7):
        with pytest.raises(ConfigError, match="is no key"):
            presence.announce(key, 1)  # type: ignore[arg-type]
    assert (presence.meta, len(told)) == ({"zone": "x"}, 1)
    presence.announce("large", "x" * 4_070)


def test_followers_hear_names_and_one_that_fails_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    presence = Presence(lambda _packed: None)
    heard: list[str] = []

    def fails(name: str) -> None:
        raise ValueError(name)

    end = presence.follow(fails)
    presence.follow(heard.append)
    presence.changed("a")
    end()
    presence.changed("b")
    assert (heard, caplog.text.count("ValueError: a"), "ValueError: b" in caplog.text) == (["a", "b"], 1, False)


async def test_work_before_a_leave_goes_side_by_side_and_ends_at_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    presence = Presence(lambda _packed: None)
    await presence.hand_over(now() + 10.0)
    done: list[str] = []
    first, second = asyncio.Event(), asyncio.Event()

    async def one(deadline: float) -> None:
        first.set()
        await second.wait()
        done.append("one")

    async def other(deadline: float) -> None:
        second.set()
        await first.wait()
        done.append("other")

    async def stuck(deadline: float) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            done.append("stuck")

    async def fails(deadline: float) -> None:
        raise ValueError("cannot")

    for work in (one, other, fails):
        presence.before_leave(work)
    with caplog.at_level(logging.ERROR):
        await presence.hand_over(now() + 10.0)
    assert (sorted(done), "ValueError: cannot" in caplog.text) == (["one", "other"], True)
    presence.before_leave(stuck)
    end = presence.before_leave(stuck)
    await presence.hand_over(now() + 0.05)
    assert done[-1] == "stuck"
    end()
