"""What comes off the wire: calls that are given up, refusals, and batches that break the protocol."""

from typing import Any

import pytest

from clusterkit.core.messages import Op
from clusterkit.core.payload import encode
from clusterkit.errors import ProtocolError
from clusterkit.kernel.kernel import Kernel
from clusterkit.kernel.mailbox import From, Inbox
from clusterkit.transport.link import Link
from tests.unit.kernel.pairs import Ears, linked, open_inbox

pytestmark = pytest.mark.simulation(seed=14)
NO_ARGS = encode([])


class Hearing(Ears):
    """Hears also who gives up what it has taken."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up: list[int] = []

    def give_up(self, link: Any, number: int, waiting: Any) -> None:
        self.given_up.append(number)


def call_of(number: int, to: str = "srv") -> list[Any]:
    return [int(Op.CALL), number, to, "get", 60_000, NO_ARGS]


def cancel_of(number: int, to: str = "srv") -> list[Any]:
    return [int(Op.CANCEL), number, to]


def server(kernel: Kernel) -> tuple[Inbox, Hearing]:
    inbox, _ = open_inbox(kernel, "srv")
    inbox.holder = hearing = Hearing()
    return inbox, hearing


def numbers(inbox: Inbox) -> list[int]:
    """The calls that wait, by number; they are taken out."""
    return [letter[4]._number for letter in iter(inbox.take, None)]


def another_link(kernel: Kernel) -> Link:
    """A link of the kernel to somebody else, who cannot be reached."""
    return kernel.links.link_to(kernel.id.__class__("c", "10.9.9.9", 1, 3))


async def test_those_who_give_up_in_one_batch_are_taken_out_and_the_others_stay() -> None:
    async with linked() as pair:
        inbox, hearing = server(pair.b)
        deliver = pair.b.inbound.delivered
        deliver(pair.back, [call_of(number) for number in range(1, 6)])
        deliver(pair.back, [cancel_of(2), call_of(6), cancel_of(4), cancel_of(6)])
        assert numbers(inbox) == [1, 3, 5]
        assert hearing.given_up == []
        assert pair.b.counters["cancelled"] == 3


async def test_who_gives_up_what_was_taken_is_told_to_the_process() -> None:
    async with linked() as pair:
        inbox, hearing = server(pair.b)
        deliver = pair.b.inbound.delivered
        deliver(pair.back, [call_of(1), call_of(2)])
        letter = inbox.take()
        assert letter is not None
        letter[4]._holder = hearing
        deliver(pair.back, [cancel_of(1), cancel_of(9)])
        assert sorted(hearing.given_up) == [1, 9]
        assert numbers(inbox) == [2]


async def test_numbers_are_each_links_own() -> None:
    async with linked() as pair:
        inbox, _ = server(pair.b)
        other = another_link(pair.b)
        pair.b.inbound.delivered(other, [call_of(1)])
        pair.b.inbound.delivered(pair.back, [call_of(2), cancel_of(1)])
        assert numbers(inbox) == [1, 2]
        await pair.b.links.forget("c", "a test")


async def test_what_a_broken_batch_began_touches_nobody_else() -> None:
    async with linked() as pair:
        inbox, _ = server(pair.b)
        other = another_link(pair.b)
        pair.b.inbound.delivered(other, [call_of(1)])
        with pytest.raises(ProtocolError):
            pair.b.inbound.delivered(pair.back, [cancel_of(1), ["no message"]])
        pair.b.inbound.delivered(other, [call_of(2)])
        pair.b.inbound.delivered(other, [cancel_of(2)])
        assert numbers(inbox) == [1]
        await pair.b.links.forget("c", "a test")


async def test_to_give_up_what_nobody_has_does_nothing() -> None:
    async with linked() as pair:
        pair.b.inbound.delivered(pair.back, [cancel_of(1, "nobody")])
        inbox, _ = open_inbox(pair.b, "unread")
        inbox.holder = None
        pair.b.inbound.delivered(pair.back, [cancel_of(1, "unread")])
        assert pair.b.counters["cancelled"] == 0


@pytest.mark.parametrize(
    "message",
    [
        [int(Op.CALL), 1, "srv", "get", 60_000, NO_ARGS, None],
        [int(Op.CALL), 1, "srv", "get", 60_000, NO_ARGS, None, [1]],
        [int(Op.CALL), 1, "srv", "get", 60_000, NO_ARGS, None, "chain"],
        [int(Op.CALL), True, "srv", "get", 60_000, NO_ARGS],
        [int(Op.CAST), "srv", "get", NO_ARGS, None],
        [int(Op.CAST), None, "get", NO_ARGS],
        [int(Op.INFO), "srv"],
        [int(Op.REPLY), "1", b""],
        [int(Op.CANCEL), 1],
        [int(Op.LINKED), 1, None],
        [99],
        [],
        None,
    ],
)
async def test_what_is_no_message_breaks_the_protocol_and_reaches_nobody(message: Any) -> None:
    async with linked() as pair:
        inbox, _ = server(pair.b)
        with pytest.raises(ProtocolError):
            pair.b.inbound.delivered(pair.back, [message])
        assert numbers(inbox) == []


async def test_a_call_with_a_chain_hands_it_on() -> None:
    async with linked() as pair:
        inbox, _ = server(pair.b)
        pair.b.inbound.delivered(pair.back, [[*call_of(1), None, ["a/1:1/x", "c/2:5/y"]]])
        letter = inbox.take()
        assert letter is not None
        assert letter[4]._chain == ("a/1:1/x", "c/2:5/y")


async def test_a_call_to_who_waits_for_it_is_refused() -> None:
    async with linked() as pair:
        inbox, hearing = server(pair.b)
        hearing.turn = "b/3:7/srv"
        pair.b.inbound.delivered(pair.back, [[*call_of(1), None, ["b/3:7/srv", "a/1:1/x"]]])
        assert numbers(inbox) == []
        assert pair.b.counters["cycles"] == 1
        inbox.concurrent = frozenset({"get"})
        pair.b.inbound.delivered(pair.back, [[*call_of(2), None, ["b/3:7/srv", "a/1:1/x"]]])
        assert numbers(inbox) == [2], "but for a handler that runs beside others"


async def test_a_call_from_there_knows_how_long_it_is_waited_for() -> None:
    async with linked() as pair:
        inbox, _ = server(pair.b)
        pair.b.inbound.delivered(pair.back, [call_of(1)])
        letter = inbox.take()
        assert letter is not None
        frm: From = letter[4]
        assert frm.deadline == pytest.approx(pair.b.loop.time() + 60, abs=1)
        assert (frm.peer.name, frm.expects_reply) == ("a", True)
