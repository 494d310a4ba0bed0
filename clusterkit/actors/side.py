"""What one actor does beside its turn: handlers in tasks, deferred answers, tasks of its own.

All of it ends with the actor. Who waits for an answer of a task that did not give one is told;
the failure of a task that answers nobody is the actor's.
"""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from clusterkit.actors.gen_server import NoReply, Stop
from clusterkit.actors.handling import is_cancelled, own_cancellation
from clusterkit.core.messages import Code
from clusterkit.errors import ClusterError
from clusterkit.kernel.mailbox import From
from clusterkit.kernel.turns import AMBIENT
from clusterkit.runtime import Tasks

if TYPE_CHECKING:
    from clusterkit.actors.process import Process

R = TypeVar("R")


class Side:
    """The tasks of one process, and whom they answer."""

    def __init__(self, process: "Process", tasks: Tasks) -> None:
        self.tasks = Tasks(f"actor/{process.mailbox.shown}", tasks, logged=False)
        self.running: dict[From, asyncio.Task[Any]] = {}
        """By whom they answer: handlers, that of the turn too, and deferred work."""
        self._process = process
        self._cancellable: dict[From, asyncio.Task[Any]] = {}
        self._given_up: set[asyncio.Task[Any]] = set()  # cancelled here, because nobody waits for what they do

    def spawn(self, work: Coroutine[Any, Any, R], name: str) -> asyncio.Task[R]:
        """Run a task whose failure is the process's."""
        task = self.tasks.spawn(work, name)
        task.add_done_callback(self.note_failure)
        return task

    def note_failure(self, task: asyncio.Task[Any]) -> None:
        """A task has ended: let the process look how."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._process.fail(error)
        else:
            self._process.mailbox.wake()

    # -- tasks that answer somebody

    def hold(self, frm: From, task: asyncio.Task[Any], *, cancellable: bool) -> None:
        """Hold a task that answers ``frm``; a cancellable one ends at the deadline of that."""
        self.running[frm] = task
        expiry = None
        if cancellable:
            self._cancellable[frm] = task
            if frm.deadline is not None:
                expiry = self._process.kernel.loop.call_at(frm.deadline, self._cancel, frm)
        task.add_done_callback(lambda done: self._let_go(frm, done, expiry))

    def _let_go(self, frm: From, task: asyncio.Task[Any], expiry: asyncio.TimerHandle | None) -> None:
        if expiry is not None:
            expiry.cancel()
        if self.running.get(frm) is not task:
            return  # the handler has deferred its answer, to another task
        if task in self._given_up:
            self._given_up.discard(task)
        elif task.cancelled() or task.exception() is not None:
            self._let_down(frm, killed=task.cancelled() and not self._process.mailbox.closing)
        self.running.pop(frm, None)
        self._cancellable.pop(frm, None)
        frm._holder = None
        self._process.mailbox.wake()

    def _let_down(self, frm: From, *, killed: bool) -> None:
        """A task gave no answer; who cancelled it, unless that was the process itself, killed the process."""
        process = self._process
        process.handlers.open.pop(frm, None)
        text = f"{process.mailbox.shown} {'was cancelled' if killed else 'stopped'}"
        process.kernel.fail(frm, Code.SERVER_DOWN, text, maybe=True)
        if killed:
            process.kill()

    def give_up(self, link: Any, number: int, waiting: Any) -> None:
        """Cancel what answers a caller that waits no more, if it may be cancelled."""
        for frm in list(dict.fromkeys([*self.running, *self._process.handlers.open])):
            mine = frm._waiting is waiting if link is None else frm._link is link and frm._number == number
            if mine:
                self._process.handlers.open.pop(frm, None)
                self._cancel(frm)

    def _cancel(self, frm: From) -> None:
        if frm.expects_reply and (task := self._cancellable.get(frm)) is not None:
            frm.expects_reply = False
            self._process.kernel.counters["cancelled"] += 1
            self._given_up.add(task)
            self._process.handlers.open.pop(frm, None)
            task.cancel()

    @property
    def is_given_up(self) -> bool:
        """Whether the running task was cancelled here, because nobody waits for what it does."""
        return asyncio.current_task() in self._given_up

    # -- what the actor asks for

    def defer(self, frm: From, work: Coroutine[Any, Any, Any]) -> None:
        """Answer a call with what ``work`` comes to."""
        self._process.handlers.leave_open(frm)
        task = self.spawn(self._deferred(frm, work), "deferred")
        task.add_done_callback(lambda _: work.close())  # which it may never have begun
        self.hold(frm, task, cancellable=True)

    async def _deferred(self, frm: From, work: Coroutine[Any, Any, Any]) -> None:
        handlers = self._process.handlers
        frm._holder = self._process
        AMBIENT.set(frm)
        try:
            handlers.reply(frm, await work)
        except NoReply:
            return
        except Stop as stop:
            handlers.stopped(frm, stop)
            raise
        except Exception as error:
            if not (frm.expects_reply or self.is_given_up or isinstance(error, ClusterError)):
                raise  # nobody to tell: as in a cast
            handlers.fail(frm, error)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            handlers.fail(frm, own_cancellation())
