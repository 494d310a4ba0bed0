"""Who listens to the ring: everybody hears everything once and in order, and who is slow hears what it missed."""

import asyncio
import logging
from typing import Any

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.core.members import Lagged, Member, MemberDown, MemberJoined, MemberUp
from clusterkit.errors import ConfigError, UsageError
from clusterkit.ring.subscribers import EventStream, Subscribers

MEMBER = Member(NodeId("a", "127.0.0.1", 7022, 5))
UP, DOWN, JOINED = MemberUp(MEMBER), MemberDown(MEMBER), MemberJoined(MEMBER)


async def rest_of(stream: EventStream[Any]) -> list[Any]:
    """All that is in a stream that ends."""
    async with asyncio.timeout(1):
        return [event async for event in stream]


async def test_callbacks_hear_their_type_and_streams_hear_all_in_order() -> None:
    subscribers, heard = Subscribers(), list[MemberUp]()
    subscribers.on(MemberUp, heard.append)
    one, two = subscribers.stream(10), subscribers.stream(10)
    for event in (JOINED, UP, DOWN):
        subscribers.tell(event)
    subscribers.close()
    assert heard == [UP]
    assert await rest_of(one) == await rest_of(two) == [JOINED, UP, DOWN]


async def test_who_reads_too_slowly_is_told_how_much_it_missed_before_the_rest() -> None:
    subscribers = Subscribers()
    stream = subscribers.stream(2)
    for _ in range(3):
        subscribers.tell(UP)
    subscribers.tell(DOWN)
    assert await anext(stream) == Lagged(2)
    assert await anext(stream) == UP
    subscribers.tell(JOINED)
    subscribers.close()
    assert await rest_of(stream) == [DOWN, JOINED]


async def test_a_stream_waits_for_what_comes_next() -> None:
    subscribers = Subscribers()
    stream = subscribers.stream(2)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert not waiting.done()
    subscribers.tell(UP)
    async with asyncio.timeout(1):
        assert await waiting == UP


async def test_a_stream_that_is_closed_hears_nothing_more_and_may_be_closed_twice() -> None:
    subscribers = Subscribers()
    stream = subscribers.stream(2)
    subscribers.tell(UP)
    await stream.aclose()
    await stream.aclose()
    assert not subscribers.wants(MemberUp)
    subscribers.tell(DOWN)
    assert await rest_of(stream) == []


async def test_a_stream_of_a_ring_that_is_closed_has_ended() -> None:
    subscribers = Subscribers()
    subscribers.close()
    assert await rest_of(subscribers.stream(2)) == []


def test_a_callback_is_ended_once_and_by_itself_if_it_likes() -> None:
    subscribers, heard = Subscribers(), list[MemberUp]()

    def hear(event: MemberUp) -> None:
        heard.append(event)
        end()

    end = subscribers.on(MemberUp, hear)
    assert subscribers.wants(MemberUp)
    subscribers.tell(UP)
    subscribers.tell(UP)
    end()
    assert heard == [UP]
    assert not subscribers.wants(MemberUp)


def test_a_callback_that_fails_is_logged_and_the_others_hear(caplog: pytest.LogCaptureFixture) -> None:
    subscribers, heard = Subscribers(), list[MemberUp]()

    def fail(_: MemberUp) -> None:
        raise RuntimeError("a bug of the user's")

    subscribers.on(MemberUp, fail)
    subscribers.on(MemberUp, heard.append)
    with caplog.at_level(logging.ERROR, "clusterkit.ring"):
        subscribers.tell(UP)
    assert heard == [UP]
    assert "a listener to MemberUp failed" in caplog.text


def test_what_the_ring_does_not_tell_of_cannot_be_listened_to() -> None:
    with pytest.raises(UsageError, match="MemberJoined"):
        Subscribers().on(int, print)


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "2"])
def test_a_stream_has_a_bound(most: Any) -> None:
    with pytest.raises(ConfigError, match="whole number from 1"):
        Subscribers().stream(most)
