"""What waits for an actor: two lanes, bounds by count and bytes, four policies, senders in line, the end."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from clusterkit.core.identity import NodeId
from clusterkit.errors import ConfigError
from clusterkit.kernel.address import Address
from clusterkit.kernel.calls import Call
from clusterkit.kernel.mailbox import From, Inbox, Letter, Mailbox, Op, Overflow

HERE, THERE = NodeId("a", "127.0.0.1", 7022, 1), NodeId("b", "127.0.0.1", 7022, 2)
LINK: Any = object()  # an inbox only compares links
SESSION: Any = object()
POLICIES: tuple[Overflow, ...] = ("reject", "block", "drop_oldest", "drop_newest")


class Held:
    """An actor in the middle of a turn."""

    turn: str | None = "a/3:7/srv"

    def is_held_by(self, frm: From) -> bool:
        return False

    def give_up(self, link: Any, number: int, waiting: Any) -> None:
        raise AssertionError("nobody gives up here")

    def exited(self, address: Address, reason: str) -> None:
        raise AssertionError("nobody exits here")


class Box:
    """An inbox, with what it dropped."""

    def __init__(self, limit: int = 3, *, most_bytes: int = 1_000, overflow: Overflow = "reject") -> None:
        self.dropped: list[str] = []
        policy = Mailbox(limit, bytes=most_bytes, overflow=overflow)
        self.inbox = Inbox(3, "srv", policy, lambda letter, _: self.dropped.append(letter[1]))

    def put(self, *names: str) -> list[bool]:
        return [self.inbox.put(cast_of(name)) for name in names]

    def fill(self) -> None:
        assert all(self.put(*"abc"))

    def taken(self) -> list[str]:
        return names_of(iter(self.inbox.take, None))


def names_of(letters: Iterable[Letter]) -> list[str]:
    return [letter[1] for letter in letters]


def cast_of(name: str) -> Letter:
    return (int(Op.CAST), name, (), {}, From(HERE, None, None, 0, None, False), False)


def packed(name: str, size: int, kwargs: bytes | None = None) -> Letter:
    return (int(Op.CAST), name, b"x" * size, kwargs, From(THERE, None, LINK, 0, SESSION, False), True)


def signal(name: str) -> Letter:
    return (int(Op.SIGNAL), name, (name,), None, From(HERE, None, None, 0, None, False), False)


def system(name: str) -> Letter:
    return (int(Op.STOP), name, ("normal", True), None, From(HERE, None, None, 0, None, False), False)


def call_of(name: str, chain: tuple[str, ...] | None = None) -> Letter:
    call = Call(Address(None, "srv"), name, asyncio.get_running_loop().create_future(), chain)
    return (int(Op.CALL), name, (), {}, From(HERE, None, None, 0, call, True, chain), False)


def call_from_there(name: str, number: int, deadline: float | None = None) -> Letter:
    return (int(Op.CALL), name, b"\x90", None, From(THERE, deadline, LINK, number, SESSION, True), True)


def give_up(letter: Letter) -> None:
    letter[4]._waiting.future.cancel()


def soon(after: float) -> float:
    return asyncio.get_running_loop().time() + after


async def turns() -> None:
    """Let what is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


# -- the policy


@pytest.mark.parametrize("bad", [{"limit": 0}, {"limit": True}, {"limit": 1.5}, {"bytes": 0}, {"overflow": "discard"}])
def test_a_mailbox_that_cannot_be_is_refused_with_its_value(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(bad.values())))):
        Mailbox(**bad)


# -- two lanes


async def test_letters_are_taken_in_the_order_in_which_they_came() -> None:
    box = Box()
    box.fill()
    assert (len(box.inbox), box.taken(), len(box.inbox)) == (3, ["a", "b", "c"], 0)


async def test_the_system_lane_is_read_first_and_full_mailboxes_take_it() -> None:
    box = Box()
    box.fill()
    box.inbox.put_system(system("stop"))
    assert box.taken() == ["stop", "a", "b", "c"]


async def test_a_held_inbox_gives_the_system_lane_alone() -> None:
    box = Box()
    box.fill()
    box.inbox.held = True
    box.inbox.put_system(system("stop"))
    assert (box.taken(), box.inbox.next()) == (["stop"], None)
    box.inbox.held = False
    assert box.taken() == ["a", "b", "c"]


async def test_next_shows_what_take_would_give() -> None:
    box = Box()
    assert box.inbox.next() is None
    box.put("a")
    assert names_of([box.inbox.next() or cast_of("none")]) == ["a"]
    box.inbox.put_system(system("stop"))
    assert names_of([box.inbox.next() or cast_of("none")]) == ["stop"]
    assert box.taken() == ["stop", "a"]


@pytest.mark.parametrize("overflow", POLICIES)
async def test_signals_keep_their_place_count_against_nothing_and_are_never_dropped(overflow: Overflow) -> None:
    box = Box(2, overflow=overflow)
    box.inbox.put_signal(signal("down 1"))
    box.put("a", "b")
    box.inbox.put_signal(signal("down 2"))
    for number in range(20):
        box.put(f"over {number}")
    box.inbox.put_signal(signal("down 3"))
    taken = box.taken()
    assert [name for name in taken if name.startswith("down")] == ["down 1", "down 2", "down 3"]
    assert (taken[0], taken[-1], len(taken)) == ("down 1", "down 3", 5)


async def test_taking_a_signal_makes_no_room() -> None:
    box = Box(1)
    box.inbox.put_signal(signal("down"))
    box.put("a")
    assert names_of([box.inbox.take() or cast_of("none")]) == ["down"]
    assert box.put("b") == [False]


# -- bounds


async def test_a_full_mailbox_rejects_and_says_how_many_wait() -> None:
    box = Box()
    assert box.put(*"abcd") == [True, True, True, False]
    assert box.inbox.full_text == "the mailbox of srv is full: 3 messages wait"
    box.inbox.take()
    assert box.put("e") == [True]
    assert (box.taken(), box.dropped) == (["b", "c", "e"], [])


async def test_bytes_of_packed_payloads_are_bounded_too() -> None:
    box = Box(100, most_bytes=100)
    assert box.inbox.put(packed("a", 60, b"y" * 39))
    assert box.inbox.size == 99
    assert box.inbox.put(packed("b", 500)), "the last one may be as large as a message can be"
    assert not box.inbox.put(packed("c", 1))
    assert not box.inbox.put(cast_of("d")), "full is full, for what is not packed too"
    box.inbox.take()
    assert not box.inbox.put(packed("c", 1))
    box.inbox.take()
    assert box.inbox.size == 0
    assert box.inbox.put(packed("c", 1))


async def test_what_drop_oldest_drops_is_told_and_the_newest_is_taken() -> None:
    box = Box(overflow="drop_oldest")
    assert all(box.put(*"abcdef"))
    assert (box.dropped, box.taken()) == (["a", "b", "c"], ["d", "e", "f"])


async def test_drop_oldest_drops_as_many_as_the_bytes_need() -> None:
    box = Box(100, most_bytes=100, overflow="drop_oldest")
    for name in "abcde":
        assert box.inbox.put(packed(name, 30))
    assert (box.dropped, box.inbox.size) == (["a"], 120)
    assert box.inbox.put(packed("f", 30))
    assert (box.dropped, box.inbox.size, box.taken()) == (["a", "b"], 120, ["c", "d", "e", "f"])
    assert box.inbox.size == 0


async def test_what_drop_newest_drops_is_told_and_the_sender_goes_on() -> None:
    box = Box(overflow="drop_newest")
    assert all(box.put(*"abcdef"))
    assert (box.dropped, box.taken()) == (["d", "e", "f"], ["a", "b", "c"])


# -- requests that nobody waits for


async def test_a_request_is_removed_when_its_caller_gives_up() -> None:
    box = Box()
    first, gone = call_of("first"), call_of("gone")
    assert box.inbox.put(first)
    assert box.inbox.put(gone)
    assert box.inbox.remove(gone[4])
    assert not box.inbox.remove(gone[4]), "it is not here any more"
    assert len(box.inbox) == 1
    assert box.put("b", "c", "d") == [True, True, False]
    assert box.taken() == ["first", "b", "c"]


async def test_requests_of_another_node_are_found_by_their_numbers_on_its_link() -> None:
    box = Box(5, most_bytes=100_000)
    requests = [call_from_there(f"call {number}", number) for number in range(4)]
    for letter in requests:
        assert box.inbox.put(letter)
    assert box.inbox.numbered(object(), {1, 2}) == []
    assert box.inbox.numbered(LINK, {9}) == []
    assert box.inbox.numbered(LINK, {2, 1, 9}) == [requests[1][4], requests[2][4]]
    assert box.inbox.remove(requests[1][4])
    assert box.inbox.numbered(LINK, {2, 1}) == [requests[2][4]]
    assert (box.taken(), box.inbox.size) == (["call 0", "call 2", "call 3"], 0)


async def test_casts_and_signals_have_no_number_by_which_they_could_be_found() -> None:
    box = Box()
    assert box.inbox.put(packed("cast", 1))
    box.inbox.put_signal(signal("down"))
    assert box.inbox.numbered(LINK, {0}) == []
    assert box.taken() == ["cast", "down"]


async def test_a_full_mailbox_makes_room_by_forgetting_requests_that_nobody_waits_for() -> None:
    box = Box(4)
    expired, awaited = call_from_there("expired", 1, soon(-1)), call_from_there("awaited", 2, soon(60))
    local = call_of("given up")
    for letter in (expired, awaited, local, cast_of("cast")):
        assert box.inbox.put(letter)
    give_up(local)
    assert box.put("new") == [True]
    assert box.taken() == ["awaited", "cast", "new"]


async def test_bytes_of_requests_that_nobody_waits_for_are_free_too() -> None:
    box = Box(100, most_bytes=4)
    for number in range(4):
        assert box.inbox.put(call_from_there("expired", number, soon(-1)))
    assert box.inbox.put(packed("new", 1))
    assert (box.inbox.size, box.taken(), box.inbox.size) == (1, ["new"], 0)


async def test_a_request_that_is_handled_is_not_removed() -> None:
    box = Box(1)
    request = call_of("a")
    assert box.inbox.put(request)
    assert box.taken() == ["a"]
    request[4]._holder = Held()
    assert not box.inbox.remove(request[4])
    assert (len(box.inbox), box.put("b", "c")) == (0, [True, False])


async def test_those_who_give_up_leave_the_others_in_their_order() -> None:
    box = Box(1_000)
    calls = [call_of(str(number)) for number in range(300)]
    for letter in calls:
        assert box.inbox.put(letter)
    for letter in calls[100:200]:
        assert box.inbox.remove(letter[4])
    assert len(box.inbox) == 200
    assert box.taken() == [str(number) for number in (*range(100), *range(200, 300))]
    assert len(box.inbox) == 0
    assert sum(box.put(*map(str, range(1_001)))) == 1_000


async def test_a_request_behind_those_who_gave_up_is_what_next_shows() -> None:
    box = Box()
    gone, stays = call_of("gone"), call_of("stays")
    for letter in (gone, stays):
        assert box.inbox.put(letter)
    assert box.inbox.remove(gone[4])
    assert box.inbox.next() is stays
    assert box.inbox.take() is stays


async def test_drop_oldest_does_not_tell_of_a_request_that_nobody_waits_for() -> None:
    box = Box(overflow="drop_oldest")
    gone = call_of("gone")
    assert box.inbox.put(gone)
    assert box.inbox.remove(gone[4])
    assert all(box.put(*"abcd"))
    assert (box.dropped, box.taken()) == (["a"], ["b", "c", "d"])


# -- senders of this node in line


async def test_senders_wait_in_the_order_in_which_they_came() -> None:
    box = Box(overflow="block")
    box.fill()
    assert box.put("no") == [False]
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(box.inbox.put_when_room(cast_of(name), soon(5))) for name in "defg"]
        await turns()
        assert not any(task.done() for task in waiting)
        seen: list[str] = []
        while len(seen) < 7:
            letter = box.inbox.take()
            assert letter is not None
            seen.append(letter[1])
            await turns()
    assert seen == list("abcdefg")
    assert [task.result() for task in waiting] == [True] * 4


async def test_nobody_overtakes_those_who_wait() -> None:
    box = Box(1, overflow="block")
    box.put("a")
    async with asyncio.TaskGroup() as group:
        group.create_task(box.inbox.put_when_room(cast_of("b"), soon(5)))
        await turns()
        assert names_of([box.inbox.take() or cast_of("none")]) == ["a"]
        assert box.put("c") == [False]
    assert box.taken() == ["b"]


async def test_a_sender_waits_to_its_deadline_and_leaves_nothing_behind() -> None:
    box = Box(1, overflow="block")
    box.put("a")
    assert not await box.inbox.put_when_room(cast_of("late"), soon(0.01))
    assert box.taken() == ["a"]
    assert box.put("b") == [True]


async def test_a_sender_that_is_cancelled_in_line_lets_the_next_one_in() -> None:
    box = Box(1, overflow="block")
    box.put("a")
    async with asyncio.TaskGroup() as group:
        first = group.create_task(box.inbox.put_when_room(cast_of("first"), soon(5)))
        second = group.create_task(box.inbox.put_when_room(cast_of("second"), soon(5)))
        await turns()
        first.cancel()
        await turns()
        assert box.taken() == ["a", "second"]
    assert second.result()


async def test_a_caller_that_is_cancelled_as_it_is_let_in_leaves_no_request() -> None:
    box = Box(1, overflow="block")
    box.put("a")
    async with asyncio.TaskGroup() as group:
        caller = group.create_task(box.inbox.put_when_room(call_of("call"), soon(5)))
        await turns()
        assert names_of([box.inbox.take() or cast_of("none")]) == ["a"]  # the caller is let in,
        caller.cancel()  # and gives up before it has run
    assert box.taken() == []
    assert box.put("b") == [True]


async def test_senders_wait_for_bytes_too() -> None:
    box = Box(100, most_bytes=10, overflow="block")
    assert box.inbox.put(packed("a", 10))
    async with asyncio.TaskGroup() as group:
        group.create_task(box.inbox.put_when_room(cast_of("b"), soon(5)))
        await turns()
        assert len(box.inbox) == 1
        box.inbox.take()
    assert box.taken() == ["b"]


async def test_a_removed_request_lets_a_sender_in() -> None:
    box = Box(1, overflow="block")
    gone = call_of("gone")
    assert box.inbox.put(gone)
    async with asyncio.TaskGroup() as group:
        group.create_task(box.inbox.put_when_room(cast_of("b"), soon(5)))
        await turns()
        assert box.inbox.remove(gone[4])
    assert box.taken() == ["b"]


# -- senders on other nodes


async def test_what_another_node_sent_before_it_knew_is_taken_past_the_bound() -> None:
    box = Box(2, overflow="block")
    box.put("a", "b")
    ahead = [box.inbox.put_anyway(packed(str(number), 1)) for number in range(900)]
    assert all(ahead), "two windows of the smallest casts"
    assert len(box.inbox) == 902
    assert box.put("c") == [False], "who is on this node knows"


async def test_not_without_end() -> None:
    box = Box(2, overflow="block")
    taken = 0
    while box.inbox.put_anyway(packed("x", 1)):
        taken += 1
        assert taken < 100_000
    assert box.inbox.put_anyway(packed("x", 1)) is False


async def test_other_nodes_are_told_when_there_is_room_again() -> None:
    box = Box(2, overflow="block")
    told: list[str] = []
    assert box.inbox.has_room
    box.put("a", "b")
    assert not box.inbox.has_room
    box.inbox.when_room(lambda: told.append("first"))
    box.inbox.when_room(lambda: told.append("second"))
    assert told == []
    for _ in range(2):
        box.inbox.take()
    assert told == ["first", "second"]
    assert box.inbox.has_room


async def test_no_other_node_waits_for_room_at_an_empty_mailbox() -> None:
    box = Box(1, overflow="block")
    told: list[str] = []
    box.put("a")
    for name in ("first", "second", "third"):
        box.inbox.when_room(lambda name=name: told.append(name))  # type: ignore[misc]
    box.inbox.take()
    assert told == ["first", "second", "third"]


async def test_a_mailbox_of_which_the_last_caller_gave_up_is_empty() -> None:
    box = Box(1, overflow="block")
    told: list[str] = []
    request = call_of("a")
    box.inbox.put(request)
    for name in ("first", "second"):
        box.inbox.when_room(lambda name=name: told.append(name))  # type: ignore[misc]
    assert box.inbox.remove(request[4])
    assert told == ["first", "second"]


async def test_one_who_asks_behind_others_that_wait_waits_too() -> None:
    box = Box(1, overflow="block")
    told: list[str] = []
    assert box.inbox.put_anyway(packed("a", 1))
    assert box.inbox.put_anyway(packed("b", 1))
    box.inbox.when_room(lambda: told.append("room"))
    box.inbox.take()
    assert (told, box.inbox.has_room) == ([], False)
    box.inbox.take()
    assert (told, box.inbox.has_room) == (["room"], True)


# -- a request for a concurrent handler


async def test_a_concurrent_request_from_who_waits_for_the_turn_is_taken_out_of_its_place() -> None:
    box = Box(10)
    box.inbox.holder, box.inbox.concurrent = Held(), frozenset({"peek"})
    letters = [
        call_of("work"),
        call_of("peek"),
        call_of("peek", ("b/1:1/x",)),
        call_of("peek", ("a/3:7/srv", "b/1:1/x")),
    ]
    for letter in letters:
        assert box.inbox.put(letter)
    assert box.inbox.take_reentrant() is letters[3]
    assert box.inbox.take_reentrant() is None, "the others wait for nobody"
    assert box.taken() == ["work", "peek", "peek"]


async def test_nothing_is_taken_out_of_its_place_for_a_handler_that_is_not_concurrent_or_while_suspended() -> None:
    box = Box(10)
    box.inbox.holder, box.inbox.concurrent = Held(), frozenset({"peek"})
    assert box.inbox.put(call_of("work", ("a/3:7/srv",)))
    assert box.inbox.take_reentrant() is None
    assert box.inbox.put(call_of("peek", ("a/3:7/srv",)))
    box.inbox.held = True
    assert box.inbox.take_reentrant() is None
    box.inbox.held = False
    assert box.inbox.take_reentrant() is not None


async def test_nothing_is_taken_out_of_its_place_when_no_turn_runs() -> None:
    box = Box(10)
    box.inbox.holder, box.inbox.concurrent = Held(), frozenset({"peek"})
    box.inbox.holder.turn = None
    assert box.inbox.put(call_of("peek", ("a/3:7/srv",)))
    assert box.inbox.take_reentrant() is None


# -- arrival


async def test_the_reader_is_woken_by_a_letter_of_each_lane() -> None:
    box = Box()
    for bring in (
        lambda: box.inbox.put(cast_of("a")),
        lambda: box.inbox.put_signal(signal("down")),
        lambda: box.inbox.put_system(system("stop")),
        lambda: box.inbox.put_anyway(packed("b", 1)),
        box.inbox.wake,
    ):
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            reader = group.create_task(box.inbox.arrival())
            await turns()
            assert not reader.done()
            bring()
        box.taken()


async def test_waking_nobody_does_nothing() -> None:
    box = Box()
    box.inbox.wake()
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(box.inbox.arrival())
        await turns()
        assert not reader.done()
        box.inbox.wake()
        box.inbox.wake()


# -- the end


@pytest.mark.parametrize("overflow", POLICIES)
async def test_a_mailbox_that_is_shut_takes_nothing_and_keeps_what_waits(overflow: Overflow) -> None:
    box = Box(overflow=overflow)
    box.put("a")
    box.inbox.shut()
    box.inbox.shut()
    assert box.put("b") == [False]
    assert not box.inbox.put_anyway(packed("c", 1))
    box.inbox.put_signal(signal("down"))
    assert box.inbox.full_text == "srv is stopping"
    assert (box.taken(), box.dropped) == (["a"], [])


async def test_who_waits_in_line_is_turned_away_when_it_shuts() -> None:
    box = Box(1, overflow="block")
    box.put("a")
    told: list[str] = []
    box.inbox.when_room(lambda: told.append("there"))
    async with asyncio.TaskGroup() as group:
        sender = group.create_task(box.inbox.put_when_room(cast_of("b"), soon(5)))
        await turns()
        box.inbox.shut()
        assert told == ["there"]
    assert not sender.result()
    assert box.taken() == ["a"]


async def test_a_closed_one_hands_back_what_waited_but_for_signals() -> None:
    box = Box()
    box.put("a")
    box.inbox.put_signal(signal("down"))
    box.inbox.put_system(system("stop"))
    gone = call_of("gone")
    assert box.inbox.put(gone)
    assert box.inbox.put(packed("b", 5))
    assert box.inbox.remove(gone[4])
    assert names_of(box.inbox.close()) == ["a", "b"]
    assert (box.taken(), len(box.inbox), box.inbox.size) == ([], 0, 0)


async def test_a_closed_one_can_still_be_asked_to_remove() -> None:
    box = Box()
    request = call_of("a")
    assert box.inbox.put(request)
    box.inbox.close()
    request[4].expects_reply = False  # it was answered
    assert not box.inbox.remove(request[4])


async def test_no_more_than_so_many_wait_for_room() -> None:
    box = Box(1, overflow="block")
    box.put("a")
    assert not box.inbox.has_room
    for _ in range(4_096):
        box.inbox.when_room(lambda: None)
    assert box.inbox.has_room, "who asks now is answered at once, and refused what is too much"
