"""What a reader of a chronicle is given: everything, in order, or how much it missed."""

import asyncio

import pytest

from clusterkit.services.chronicle import MOST_KEPT, MOST_POLLS, MOST_POLLS_EACH, MOST_TOLD, UNKNOWN, Asker, Chronicle

FIRST = 1_795_000_000_000_000
PATIENCE = 10.0
READER: Asker = ("cli-1", 7)


def numbered(count: int, *, most: int = MOST_KEPT) -> Chronicle:
    """A chronicle of so many events, numbered from 0."""
    chronicle = Chronicle(FIRST, most)
    for n in range(count):
        chronicle.add(n / 10, "Counted", n=n)
    return chronicle


def read_all(chronicle: Chronicle, cursor: int) -> tuple[list[int], int]:
    """The numbers that a reader gets who asks until there is no more, and what it missed of them."""
    read: list[int] = []
    missed = 0
    while True:
        page = chronicle.read(cursor)
        missed += page["missed"]
        if not page["events"]:
            return read, missed
        read += [event["n"] for event in page["events"]]
        cursor = page["cursor"]


def test_a_reader_without_a_cursor_begins_now() -> None:
    chronicle = numbered(3)
    assert chronicle.read(None) == {"cursor": FIRST + 3, "missed": 0, "events": []}


def test_a_reader_is_given_what_came_after_its_cursor() -> None:
    chronicle = numbered(3)
    page = chronicle.read(FIRST + 1)
    assert page == {
        "cursor": FIRST + 3,
        "missed": 0,
        "events": [
            {"cursor": FIRST + 2, "at": 0.1, "type": "Counted", "n": 1},
            {"cursor": FIRST + 3, "at": 0.2, "type": "Counted", "n": 2},
        ],
    }
    assert chronicle.read(page["cursor"]) == {"cursor": FIRST + 3, "missed": 0, "events": []}


@pytest.mark.parametrize("count", [1, MOST_TOLD - 1, MOST_TOLD, MOST_TOLD + 1, 5 * MOST_TOLD, MOST_KEPT])
def test_pages_have_every_event_once_and_in_order(count: int) -> None:
    assert read_all(numbered(count), FIRST) == (list(range(count)), 0)
    assert len(numbered(count).read(FIRST)["events"]) == min(count, MOST_TOLD)


def test_the_last_thousand_are_kept_and_who_is_too_slow_is_told_how_many_it_missed() -> None:
    chronicle = numbered(MOST_KEPT + 234)
    assert len(chronicle) == MOST_KEPT == 1_000
    assert read_all(chronicle, FIRST) == (list(range(234, MOST_KEPT + 234)), 234)
    assert read_all(chronicle, FIRST + 233) == (list(range(234, MOST_KEPT + 234)), 1)
    assert read_all(chronicle, FIRST + 234) == (list(range(234, MOST_KEPT + 234)), 0)


def test_a_reader_that_is_overtaken_between_two_pages_is_told() -> None:
    chronicle = numbered(10, most=10)
    cursor = chronicle.read(FIRST + 4)["cursor"]
    for n in range(10, 25):
        chronicle.add(0.0, "Counted", n=n)
    page = chronicle.read(cursor)
    assert (page["missed"], [event["n"] for event in page["events"]]) == (5, list(range(15, 25)))


@pytest.mark.parametrize("cursor", [0, -1, FIRST - 1, FIRST + 4, 1 << 63])
def test_a_cursor_of_another_run_is_told_and_given_all_that_this_run_has(cursor: int) -> None:
    chronicle = numbered(3)
    page = chronicle.read(cursor)
    assert (page["missed"], page["cursor"], len(page["events"])) == (UNKNOWN, FIRST + 3, 3)
    assert chronicle.read(page["cursor"])["missed"] == 0


async def test_a_cursor_of_another_run_is_answered_at_once_when_this_run_has_nothing() -> None:
    async with asyncio.timeout(PATIENCE):
        page = await Chronicle(FIRST).poll(READER, 5, 1_000.0)
    assert page == {"cursor": FIRST, "missed": UNKNOWN, "events": []}


def test_cursors_are_exact_in_json() -> None:
    assert numbered(1_000_000).read(None)["cursor"] < 1 << 53


# -- waiting


async def test_a_poll_is_answered_at_the_next_event() -> None:
    chronicle = Chronicle(FIRST)
    polls = [asyncio.create_task(chronicle.poll((f"cli-{n}", 1), FIRST, 1_000.0)) for n in range(5)]
    await asyncio.sleep(0)
    assert chronicle.waiting == 5
    chronicle.add(1.0, "Counted", n=0)
    chronicle.add(1.0, "Counted", n=1)
    async with asyncio.timeout(PATIENCE):
        pages = await asyncio.gather(*polls)
    assert [[event["n"] for event in page["events"]] for page in pages] == [[0, 1]] * 5
    assert chronicle.waiting == 0


async def test_a_poll_ends_with_nothing_when_its_time_is_over() -> None:
    chronicle = Chronicle(FIRST)
    async with asyncio.timeout(PATIENCE):
        assert await chronicle.poll(READER, FIRST, 0.01) == {"cursor": FIRST, "missed": 0, "events": []}
        assert await chronicle.poll(READER, FIRST, 0.0) == {"cursor": FIRST, "missed": 0, "events": []}
        assert await chronicle.poll(READER, None, 1_000.0) == {"cursor": FIRST, "missed": 0, "events": []}
    assert chronicle.waiting == 0


async def test_a_poll_that_is_cancelled_waits_no_more() -> None:
    chronicle = Chronicle(FIRST)
    poll = asyncio.create_task(chronicle.poll(READER, FIRST, 1_000.0))
    await asyncio.sleep(0)
    assert chronicle.waiting == 1
    poll.cancel()
    await asyncio.wait({poll}, timeout=PATIENCE)
    assert chronicle.waiting == 0
    chronicle.add(1.0, "Counted", n=0)


async def test_of_too_many_polls_of_one_asker_the_oldest_are_answered_early() -> None:
    chronicle = Chronicle(FIRST)
    other = asyncio.create_task(chronicle.poll(("cli-2", 1), FIRST, 1_000.0))
    await asyncio.sleep(0)
    polls = [asyncio.create_task(chronicle.poll(READER, FIRST, 1_000.0)) for _ in range(2_000)]
    async with asyncio.timeout(PATIENCE):
        early = await asyncio.gather(*polls[:-MOST_POLLS_EACH])
    assert all(page == {"cursor": FIRST, "missed": 0, "events": []} for page in early)
    assert chronicle.waiting == MOST_POLLS_EACH + 1
    assert not other.done()
    chronicle.add(1.0, "Counted", n=0)
    async with asyncio.timeout(PATIENCE):
        late = await asyncio.gather(other, *polls[-MOST_POLLS_EACH:])
    assert all(len(page["events"]) == 1 for page in late)


async def test_of_too_many_polls_altogether_one_of_the_busiest_asker_is_answered_early() -> None:
    chronicle = Chronicle(FIRST)
    askers = [(f"cli-{n}", 1) for n in range(MOST_POLLS // 2)]
    polls = [asyncio.create_task(chronicle.poll(asker, FIRST, 1_000.0)) for asker in askers for _ in range(2)]
    single = asyncio.create_task(chronicle.poll(READER, FIRST, 1_000.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert chronicle.waiting == MOST_POLLS
    assert [poll.done() for poll in polls].count(True) == 1
    assert not single.done()
    chronicle.add(1.0, "Counted", n=0)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(single, *polls)


async def test_a_reader_that_polls_again_and_again_misses_nothing() -> None:
    chronicle = Chronicle(FIRST)
    read: list[int] = []

    async def follow() -> None:
        cursor = FIRST
        while len(read) < 3_000:
            page = await chronicle.poll(READER, cursor, 1_000.0)
            assert page["missed"] == 0
            read.extend(event["n"] for event in page["events"])
            cursor = page["cursor"]

    following = asyncio.create_task(follow())
    for n in range(3_000):
        chronicle.add(0.0, "Counted", n=n)
        if n % 7 == 0:
            await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await following
    assert read == list(range(3_000))
