"""Questions to one owner, several keys in one message.

A question alone costs both ends a whole call; thirty more in the same message cost little.
So the first goes at once and alone, and those that come while it is awaited are gathered.
They go when the turn of the loop has ended, or before when they are enough for a message; while two
messages are on their way, when the first of these is answered. An owner answers such a
message at once, with what it holds; for any other key it is asked alone, and loads it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from clusterkit.core.identity import NodeId
from clusterkit.runtime import Tasks
from clusterkit.services.cache_loads import Loaded

MOST_KEYS = 32
MOST_BYTES = 64 << 10  # of values in one answer: what one record carries
_ON_THE_WAY = 2  # messages: the owner works on one while the answer to the other is read
_HARDLY_WORTH = 3  # keys that fit into an answer, from whose size on each goes alone

Waiting = list[asyncio.Future[Any]]
Gathered = dict[str, Waiting]
Answers = list[Loaded | None]


class Batches:
    """The questions of one node to one owner.

    ``send`` asks for some keys, and gives what came, in order, None for what is to be asked for alone; ``done`` is
    told of each batch what came of it, None for all when the owner gave no word. It resolves the futures.
    """

    def __init__(
        self,
        owner: NodeId,
        send: Callable[[NodeId, Gathered], Awaitable[Answers | None]],
        done: Callable[[Gathered, Answers | None], None],
        tasks: Tasks,
    ) -> None:
        self.owner = owner
        self._send = send
        self._done = done
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._gathered: Gathered = {}
        self._away: dict[asyncio.Task[Answers | None], Gathered] = {}
        self._in_turn = False
        self._most = MOST_KEYS

    def join(self, key: str) -> Waiting | None:
        """Ask for a key with others; returns who waits for it, or None: it is to be asked for alone."""
        if self._most < _HARDLY_WORTH:
            self._most += 1  # so that after a few of them values are measured again
            return None
        if not (self._away or self._in_turn):
            self._end_turn_later()
            return None
        waiting = self._gathered[key] = [self._loop.create_future()]
        if len(self._gathered) >= self._most:
            self._go()
        elif not self._in_turn:
            self._end_turn_later()
        return waiting

    def _end_turn_later(self) -> None:
        self._in_turn = True
        self._loop.call_soon(self._turn_over)

    def _turn_over(self) -> None:
        self._in_turn = False
        if self._gathered and len(self._away) < _ON_THE_WAY:
            self._go()

    def _go(self) -> None:
        gathered, self._gathered = self._gathered, {}
        task = self._tasks.spawn(self._ask(gathered), "ask")
        self._away[task] = gathered
        task.add_done_callback(self._answered)  # which is called for a task, too, that never began

    async def _ask(self, gathered: Gathered) -> Answers | None:
        return await self._send(self.owner, gathered)

    def _answered(self, task: "asyncio.Task[Answers | None]") -> None:
        gathered = self._away.pop(task)
        answers = None if task.cancelled() or task.exception() is not None else task.result()
        self._done(gathered, answers)
        if answers is None:
            self.give_up()
            return
        self._learn(answers)
        if self._gathered and not self._in_turn:
            self._end_turn_later()

    def give_up(self) -> None:
        """Ask nothing of what is gathered: the owner gives no word, or the group ends."""
        gathered, self._gathered = self._gathered, {}
        self._done(gathered, None)

    def _learn(self, answers: Answers) -> None:
        """See how many values go into one answer."""
        size = sum(len(each.entry.body) for each in answers if each is not None)
        self._most = min(MOST_KEYS, max(1, MOST_BYTES * len(answers) // max(1, size)))
