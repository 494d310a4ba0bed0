"""A mailbox does what a plain list would, whatever comes, is taken and is given up in any order."""

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from clusterkit.core.identity import NodeId
from clusterkit.kernel.address import Address
from clusterkit.kernel.calls import Call
from clusterkit.kernel.mailbox import From, Inbox, Letter, Mailbox, Op, Overflow

HERE = NodeId("a", "127.0.0.1", 7022, 1)
POLICIES = st.sampled_from(["reject", "block", "drop_oldest", "drop_newest"])
ACTS = st.sampled_from(
    [
        "cast",
        "cast",
        "cast",
        "call",
        "call",
        "call",
        "signal",
        "anyway",
        "take",
        "take",
        "give up",
        "give up",
        "hold",
        "ask",
    ]
)


class Model:
    """A mailbox and the list that it is to be like."""

    def __init__(self, limit: int, overflow: Overflow) -> None:
        self.limit = limit
        self.overflow = overflow
        self.dropped: list[str] = []
        self.inbox = Inbox(
            1, "srv", Mailbox(limit, overflow=overflow), lambda letter, why: self.dropped.append(letter[1])
        )
        self.waiting: list[Letter] = []
        self.gone: list[str] = []  # what has to have been dropped
        self.asked = 0
        self.told = 0
        self._names = iter(range(10_000))

    def act(self, what: str, where: int) -> None:
        match what:
            case "cast" | "call":
                self.put(what)
            case "signal":
                self.signal()
            case "anyway":
                self.anyway()
            case "take":
                self.take()
            case "hold":
                self.inbox.held = not self.inbox.held
            case "ask":
                self.ask()
            case "give up":
                self.give_up(where)
        self.check()

    @property
    def counted(self) -> list[Letter]:
        return [letter for letter in self.waiting if letter[0] != Op.SIGNAL]

    @property
    def is_full(self) -> bool:
        return len(self.counted) >= self.limit

    def letter(self, what: str) -> Letter:
        name = f"{what} {next(self._names)}"
        if what == "call":
            call: Any = Call(Address(None, "srv"), name, asyncio.get_running_loop().create_future())
            return (int(Op.CALL), name, b"args", None, From(HERE, None, None, 0, call, True), True)
        return (int(Op.CAST), name, b"arguments", b"named", From(HERE, None, None, 0, None, False), True)

    def put(self, what: str) -> None:
        letter = self.letter(what)
        taken = self.inbox.put(letter)
        match self.overflow:
            case "drop_newest" if self.is_full:
                self.gone.append(letter[1])
                assert taken
                return
            case "drop_oldest":
                while self.is_full:
                    oldest = self.counted[0]
                    self.waiting = [each for each in self.waiting if each is not oldest]
                    self.gone.append(oldest[1])
        assert taken == (not self.is_full)
        if taken:
            self.waiting.append(letter)

    def signal(self) -> None:
        letter: Letter = (int(Op.SIGNAL), "down", (), None, From(HERE, None, None, 0, None, False), False)
        self.inbox.put_signal(letter)
        self.waiting.append(letter)

    def anyway(self) -> None:
        letter = self.letter("cast")
        assert self.inbox.put_anyway(letter)
        self.waiting.append(letter)

    def take(self) -> None:
        letter = self.inbox.take()
        if self.inbox.held or not self.waiting:
            assert letter is None
            return
        assert letter is self.waiting.pop(0)
        letter[4]._holder = Reader()

    def ask(self) -> None:
        if self.overflow == "block" and not self.inbox.has_room:
            self.inbox.when_room(self._tell)
            self.asked += 1

    def _tell(self) -> None:
        self.told += 1

    def give_up(self, where: int) -> None:
        calls = [letter for letter in self.waiting if letter[0] == Op.CALL]
        if calls:
            gone = calls[where % len(calls)]
            assert self.inbox.remove(gone[4])
            assert not self.inbox.remove(gone[4])
            self.waiting = [each for each in self.waiting if each is not gone]

    def check(self) -> None:
        assert len(self.inbox) == len(self.waiting)
        assert self.dropped == self.gone
        assert self.told == self.asked or self.counted, "nobody waits for room at an empty mailbox"
        shown = self.inbox.next()
        assert shown is (self.waiting[0] if self.waiting and not self.inbox.held else None)

    def drain(self) -> None:
        self.inbox.held = False
        while self.waiting:
            self.take()
        assert self.inbox.take() is None, "nor one that was given up"
        assert (len(self.inbox), self.inbox.size) == (0, 0)
        assert self.told == self.asked
        taken = sum(self.inbox.put(self.letter("cast")) for _ in range(2 * self.limit))
        assert taken == (2 * self.limit if self.overflow.startswith("drop") else self.limit), (
            "all places are free again"
        )


class Reader:
    """Who took a letter."""

    turn = None

    def is_held_by(self, frm: From) -> bool:
        return False

    def give_up(self, link: Any, number: int, waiting: Any) -> None: ...

    def exited(self, address: Address, reason: str) -> None: ...


def play(limit: int, overflow: Overflow, acts: list[tuple[str, int]], end: Callable[[Model], None]) -> None:
    async def run() -> None:
        model = Model(limit, overflow)
        for what, where in acts:
            model.act(what, where)
        end(model)

    asyncio.run(run())


SCRIPTS = st.lists(st.tuples(ACTS, st.integers(0, 50)), max_size=120)


@given(limit=st.integers(1, 12), overflow=POLICIES, acts=SCRIPTS)
@settings(max_examples=150, deadline=None)
def test_a_mailbox_is_a_bounded_list_from_which_callers_may_withdraw(
    limit: int, overflow: Overflow, acts: list[tuple[str, int]]
) -> None:
    play(limit, overflow, acts, Model.drain)


@given(limit=st.integers(1, 12), overflow=POLICIES, acts=SCRIPTS)
@settings(max_examples=60, deadline=None)
def test_closed_it_hands_back_all_that_somebody_still_waits_for(
    limit: int, overflow: Overflow, acts: list[tuple[str, int]]
) -> None:
    def end(model: Model) -> None:
        waited = [letter[1] for letter in model.counted]
        assert [letter[1] for letter in model.inbox.close()] == waited
        assert (len(model.inbox), model.inbox.size, model.told) == (0, 0, model.asked)

    play(limit, overflow, acts, end)
