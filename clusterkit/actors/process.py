"""A running actor: one task that takes letters from an inbox and has them handled, one at a time.

Who raised what, and what follows (docs/architecture.md, "Who handles a message"):
a call handler's error goes to the caller; an error in any other handler stops the
actor; `SystemExit` and its like never reach a caller.

Order of an end: ``terminate`` runs, open calls are answered, the name is free, the
supervisor acts, and then those who watch are told.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import TYPE_CHECKING, Any

from clusterkit.actors.gen_server import GenServer, Stop
from clusterkit.actors.handling import Handling, is_cancelled, own_cancellation
from clusterkit.actors.ref import Ref
from clusterkit.actors.side import Side
from clusterkit.actors.signals import KILLED, NORMAL, SHUTDOWN, TimerFired, reason_text
from clusterkit.actors.ties import Ties
from clusterkit.actors.timers import Timer, Timers
from clusterkit.core.messages import Code
from clusterkit.errors import ServerDown, UsageError
from clusterkit.kernel.address import Address
from clusterkit.kernel.faults import ALWAYS_REMOTE
from clusterkit.kernel.kernel import Kernel
from clusterkit.kernel.mailbox import From, Inbox, Letter, Mailbox, Op
from clusterkit.kernel.telemetry import ACTOR_STOP
from clusterkit.kernel.turns import AMBIENT, current_turn
from clusterkit.runtime import Tasks

if TYPE_CHECKING:
    from clusterkit.node import Node

logger = logging.getLogger("clusterkit.actors")

_CALL, _SIGNAL, _STOP, _SUSPEND, _RESUME, _FAILED = map(
    int, (Op.CALL, Op.SIGNAL, Op.STOP, Op.SUSPEND, Op.RESUME, Op.FAILED)
)
_CALLBACK = "callback"  # what stands in a From that no message made


class Process:
    """One life of one actor."""

    def __init__(
        self,
        actor: GenServer,
        kernel: Kernel,
        node: "Node",
        name: str | None,
        *,
        tasks: Tasks,
        ended: Callable[["Process"], None],
        parent: "Process | None" = None,
        on_end: Callable[["Process", object], bool] | None = None,
    ) -> None:
        self.actor = actor
        self.node = node
        self._letter: Letter | None = None  # what is being handled, in turn
        self.since = 0.0  # since when, in loop time
        self.continues: deque[Any] = deque()
        self.mailbox: Inbox = kernel.register(name, type(actor).mailbox or Mailbox(kernel.config.mailbox))
        self.mailbox.holder = self
        self.ref: Ref[Any] = Ref(kernel, type(actor), Address(None, self.mailbox.serial))
        self.kernel = kernel
        try:
            _claim(actor, self)
            self.handlers = Handling(self)
        except BaseException:
            kernel.unregister(self.mailbox)
            if actor._clusterkit_process is self:
                actor._clusterkit_process = None
            raise
        self.started: asyncio.Future[None] = kernel.loop.create_future()
        self.born = kernel.loop.time()
        self.task: asyncio.Task[None] | None = None
        self.children: dict[Process, None] = {}
        self.parent = parent
        self._on_end = on_end
        self._ended = ended
        self.side = Side(self, tasks)
        self._turn_task: asyncio.Task[None] | None = None
        self._stopping: tuple[object, bool] | None = None  # the reason, and whether the mailbox is drained first
        self._turn: tuple[Letter | None, str] = (None, "")  # the name of its turn, when somebody asked for that
        self._failed: object = None  # why init did not do
        self._has_begun = self._is_killed = False
        self._holding: list[asyncio.Future[None]] = []  # who waits for suspend or resume
        self._turns = self._callbacks = 0
        self._reason = ""
        self._is_released = False
        if parent is not None:
            parent.children[self] = None

    @cached_property
    def timers(self) -> Timers:
        """Its timers; most actors have none."""
        return Timers(self.kernel.loop, self._timer_fired)

    @cached_property
    def ties(self) -> Ties:
        """What it has to do with the ends of others; most actors nothing."""
        return Ties(self)

    def __repr__(self) -> str:
        return f"<Process {self.mailbox.shown} of {self.kernel.id.name}>"

    # -- life

    async def run(self) -> None:
        """Live: init, letters one by one, terminate."""
        reason: object = SHUTDOWN
        self._has_begun = True
        try:
            if self._is_killed:
                raise asyncio.CancelledError
            await self._init()
            reason = await self._serve() if self._failed is None else self._failed
        except asyncio.CancelledError:
            reason = KILLED
            raise
        except BaseException as error:
            reason = error
            raise
        finally:
            try:
                await self.side.tasks.aclose()
            finally:
                self._close(reason)

    async def _init(self) -> None:
        try:
            await self._callback("init", self.actor.init)
            if type(self.actor)._clusterkit_begin is not GenServer._clusterkit_begin:
                await self._callback("init", self.actor._clusterkit_begin)
        except BaseException as error:
            if not self.started.done():
                self.started.set_exception(_wrapped(error))
                self.started.exception()  # who started it may have given up
            if not isinstance(error, Exception):
                raise
            self._failed = error.reason if isinstance(error, Stop) else error
            return
        if not self.started.done():
            self.started.set_result(None)

    async def _serve(self) -> object:
        reason: object = NORMAL
        try:
            await self._go_on()
            await (self._in_tasks() if self.handlers.splits else self._in_turn())
        except Stop as stop:
            reason = stop.reason
        except Exception as error:
            logger.error("actor %s of %s stops: %r", self.mailbox.shown, self.kernel.id.name, error, exc_info=error)
            reason = error
        self.mailbox.shut()
        self._stop_timers()
        await self.side.tasks.aclose()
        try:
            if type(self.actor)._clusterkit_end is not GenServer._clusterkit_end:
                await self._callback("terminate", self.actor._clusterkit_end)
            await self._callback("terminate", self.actor.terminate, reason)
        except Exception as error:
            logger.error("terminate of %s failed: %r", self.mailbox.shown, error, exc_info=error)
        return reason

    async def _callback(self, name: str, callback: Callable[..., Any], *args: Any) -> None:
        """Run a callback that no message asked for, as a turn of its own."""
        frm = From(self.kernel.id, None, None, 0, _CALLBACK, False)
        self._callbacks += 1
        self._begin(frm, name)
        try:
            if inspect.isawaitable(done := callback(*args)):
                await done
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise own_cancellation() from None
        self._end(frm)

    async def _go_on(self) -> None:
        """Run what callbacks left to do before the next message."""
        while self.continues:
            await self._callback("handle_continue", self.actor.handle_continue, self.continues.popleft())

    def _begin(self, frm: From, handler: str) -> None:
        """Begin a turn: no other message comes in until it ends."""
        self._letter = (0, handler, (), None, frm, False)
        self.since = self.kernel.loop.time()
        self._turns += 1
        frm._holder = self
        AMBIENT.set(frm)

    def _end(self, frm: From) -> None:
        if frm not in self.side.running:  # deferred work goes on with it
            frm._holder = None
        self._letter = None

    # -- letters, one after the other

    async def _in_turn(self) -> None:
        """Handle letters one by one: for actors whose handlers all keep the turn."""
        inbox, handlers, telemetry = self.mailbox, self.handlers, self.kernel.telemetry
        call, other, time, set_ambient = handlers.call, handlers.other, self.kernel.loop.time, AMBIENT.set
        beside = self.side.running
        while True:
            too_many = beside and len(beside) >= inbox.limit and not inbox.has_system
            if too_many or (letter := inbox.take()) is None:
                self._stop_if_done()
                await inbox.arrival()
                continue
            if letter[0] >= _STOP:
                self._special(letter)
                continue
            frm = letter[4]  # what follows is _begin and _end, without their calls
            self._letter = letter
            self.since = time()
            self._turns += 1
            frm._holder = self
            set_ambient(frm)
            if letter[0] != _CALL:
                await other(letter)
            elif telemetry.calls:
                await handlers.observed(letter)
            else:
                await call(letter)
            if not beside or frm not in beside:
                frm._holder = None
            self._letter = None
            if self.continues:
                await self._go_on()

    def _special(self, letter: Letter) -> None:
        inbox = self.mailbox
        if letter[0] == _FAILED:
            raise letter[2][0]
        if letter[0] == _STOP:
            reason, drain = letter[2]
            self._stopping = (reason, drain)
            inbox.held = False
            inbox.shut()
            self._stop_if_done()
        else:
            inbox.held = letter[0] == _SUSPEND and self._stopping is None
            self._holding.append(letter[2][0])
            self._say_held()

    def _say_held(self) -> None:
        """Tell who suspended or resumed that it is so, when no handler keeps the turn."""
        if self._turn_task is None:
            holding, self._holding = self._holding, []
            for done in holding:
                if not done.done():
                    done.set_result(None)

    def _stop_if_done(self) -> None:
        """Raise `Stop` when it was asked for and nothing is left to do before."""
        if self._stopping is None or self._turn_task is not None:
            return
        reason, drain = self._stopping
        if not drain or not (self.side.running or len(self.mailbox)):
            raise Stop(reason)

    # -- letters, beside each other

    async def _in_tasks(self) -> None:
        """Handle letters in tasks: for actors with handlers that run beside others, or are cancelled."""
        inbox = self.mailbox
        while True:
            if self.continues and self._turn_task is None:
                self._take_turn(self._go_on(), "handle_continue")
            letter = self._next()
            if letter is None:
                self._stop_if_done()
                await inbox.arrival()
            elif letter[0] >= _STOP:
                self._special(letter)
            else:
                self._run(letter, beside=self.handlers.is_concurrent(letter))

    def _next(self) -> Letter | None:
        """The next letter that may be handled now: any, when no handler keeps the turn."""
        inbox = self.mailbox
        if self._stopping is not None and not self._stopping[1]:
            return None
        if self._turn_task is None and len(self.side.running) < inbox.limit:
            return inbox.take()
        letter = inbox.next()
        if letter is None or letter[0] >= _STOP:
            return inbox.take()
        if len(self.side.running) >= inbox.limit:
            return None
        return inbox.take() if self.handlers.is_concurrent(letter) else inbox.take_reentrant()

    def _take_turn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        task = self._turn_task = self.side.tasks.spawn(work, name)
        task.add_done_callback(self._turn_over)
        return task

    def _turn_over(self, task: "asyncio.Task[None]") -> None:
        self._turn_task = None
        if self.current is not None:
            self._end(self.current)
        self._say_held()
        self.side.note_failure(task)

    def _run(self, letter: Letter, *, beside: bool) -> None:
        """Run a handler in a task; a cancellable one ends at its caller's deadline."""
        frm = letter[4]
        frm._holder = self
        if beside:
            self._turns += 1
            task = self.side.spawn(self._one(letter, beside=True), letter[1])
        else:
            task = self._take_turn(self._one(letter), letter[1])
        self.side.hold(frm, task, cancellable=self.handlers.is_cancellable(letter))

    async def _one(self, letter: Letter, *, beside: bool = False) -> None:
        frm = letter[4]
        if beside:
            AMBIENT.set(frm)
        else:
            self._begin(frm, letter[1])
        try:
            if letter[0] != _CALL:
                await self.handlers.other(letter)
            elif self.kernel.telemetry.calls:
                await self.handlers.observed(letter)
            else:
                await self.handlers.call(letter)
        finally:
            if not beside:
                self._end(frm)

    # -- what the kernel asks (kernel.mailbox.Holder)

    @property
    def turn(self) -> str | None:
        """The name of the turn that runs now, as it stands in the chain of a call."""
        if self._letter is None:
            return None
        if self._turn[0] is not self._letter:
            life = f"{self.kernel.id.name}/{self.kernel.id.incarnation & 0xFFFF_FFFF:x}"
            self._turn = self._letter, f"{life}/{self.mailbox.serial}:{self._turns}/{self.mailbox.shown}"
        return self._turn[1]

    def is_held_by(self, frm: From) -> bool:
        """Whether that is the turn."""
        return self._letter is not None and frm is self._letter[4]

    def give_up(self, link: Any, number: int, waiting: Any) -> None:
        """Cancel what runs for a caller that waits no more, if it may be cancelled; nobody is answered."""
        self.side.give_up(link, number, waiting)

    def exited(self, address: Address, reason: str) -> None:
        """A linked process ended."""
        self.ties.exited(address, reason)

    # -- what the actor asks

    @property
    def caller(self) -> From:
        """Who sent what the running task handles; raises `UsageError` when that is no message."""
        frm = current_turn()
        if frm is None or frm._holder is not self or frm._waiting is _CALLBACK:
            raise UsageError("self.caller is for handlers: no message is being handled")
        return frm

    def signal(self, info: object, wanted: Callable[[], bool] | None = None) -> None:
        """Put something of the runtime's own into the mailbox; ``wanted`` says, when it is taken, whether it still is."""
        frm = From(self.kernel.id, None, None, 0, None, False)
        self.mailbox.put_signal((_SIGNAL, type(info).__name__, (info,), wanted, frm, False))

    def _timer_fired(self, timer: Timer) -> None:
        self.signal(TimerFired(timer.tag), timer.taken)

    # -- the end

    @property
    def current(self) -> From | None:
        """Whose message is being handled, in turn."""
        return self._letter[4] if self._letter is not None else None

    @property
    def handling(self) -> str | None:
        """By which handler or callback."""
        return self._letter[1] if self._letter is not None else None

    @property
    def handled(self) -> int:
        """Messages taken from the mailbox and given to a handler."""
        return self._turns - self._callbacks

    @property
    def suspended(self) -> bool:
        """Whether its mailbox is held."""
        return self.mailbox.held

    @property
    def beside(self) -> int:
        """Handlers and deferred answers that run beside the turn."""
        return len(self.side.running) - (self._turn_task is not None)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs inside this actor."""
        task = asyncio.current_task()
        return task is not None and (task is self.task or task in self.side.tasks)

    def handler_of(self, task: "asyncio.Task[Any]") -> str | None:
        """By which handler a task of this actor works; None for another's. Any thread may ask."""
        if task is self.task:
            return self.handling
        return task.get_name().rpartition("/")[2] if task in self.side.tasks else None

    def stop(self, reason: object, *, drain: bool = True) -> None:
        """Take nothing new, and stop after the handler that runs now; with ``drain`` after all that waits too."""
        self.mailbox.shut()
        self._system(_STOP, "stop", (reason, drain))

    def hold(self, *, held: bool) -> "asyncio.Future[None]":
        """Suspend or resume; done when it is."""
        done: asyncio.Future[None] = self.kernel.loop.create_future()
        self._system(_SUSPEND if held else _RESUME, "suspend" if held else "resume", (done,))
        return done

    def fail(self, error: BaseException) -> None:
        """End it for the failure of a task of its own."""
        self._system(_FAILED, "fail", (error,))

    def _system(self, op: int, name: str, args: tuple[Any, ...]) -> None:
        frm = From(self.kernel.id, None, None, 0, None, False)
        self.mailbox.put_system((op, name, args, None, frm, False))

    def kill(self) -> None:
        """End it at its next await; ``terminate`` does not run."""
        self._is_killed = True
        if self.task is not None and self._has_begun:  # a task that is cancelled before would never run its end
            self.task.cancel()

    async def join(self, timeout: float) -> bool:
        """Wait until it has ended, for ``timeout`` seconds at the most; say whether it has."""
        assert self.task is not None
        done, _ = await asyncio.wait([self.task], timeout=timeout)
        return bool(done)

    def _close(self, reason: object) -> None:
        self.actor._clusterkit_process = None
        self.mailbox.shut()
        self._stop_timers()
        if not self.started.done():
            self.started.set_exception(ServerDown(f"{self.mailbox.shown} was killed before it began"))
            self.started.exception()  # nobody may wait
        self._fail_open(f"{self.mailbox.shown} stopped ({reason_text(reason)})")
        if self.current is not None:
            self._end(self.current)
        for child in list(self.children):
            child.kill()
        if self.parent is not None:
            self.parent.children.pop(self, None)
        if "ties" in vars(self):
            self.ties.close()
        self.kernel.unregister(self.mailbox)
        self._reason = reason_text(reason)
        self._ended(self)
        life = {"seconds": self.kernel.loop.time() - self.born}
        self.kernel.telemetry.tell(ACTOR_STOP, life, {"server": self.mailbox.shown, "reason": self._reason})
        if self._on_end is None or not self._on_end(self, reason):
            self.release()

    def _stop_timers(self) -> None:
        if "timers" in vars(self):
            self.timers.close()

    def _fail_open(self, text: str) -> None:
        """Answer the calls that were taken and have no answer."""
        waiting = [*self.side.running, *self.handlers.open]
        if self.current is not None:
            waiting.append(self.current)
        for frm in waiting:
            self.kernel.fail(frm, Code.SERVER_DOWN, text, maybe=True)
        self.handlers.open.clear()

    def release(self) -> None:
        """Tell those who watch that it has ended."""
        if not self._is_released:
            self._is_released = True
            self.kernel.monitors.ended(self.mailbox, self._reason)


def _claim(actor: GenServer, process: Process) -> None:
    if actor._clusterkit_process is not None:
        raise UsageError(f"this {type(actor).__name__} runs already: an actor object has one life at a time")
    try:
        actor._clusterkit_process = process
    except AttributeError as error:  # frozen, or with slots and no place for it
        raise UsageError(f"a {type(actor).__name__} cannot be an actor: {error}") from None


def _wrapped(error: BaseException) -> Exception:
    """A future takes no StopIteration, and its reader no SystemExit, nor a `Stop` of another."""
    if isinstance(error, Stop):
        return ServerDown(f"init stopped it: {reason_text(error.reason)}", executed="maybe")
    if isinstance(error, Exception) and not isinstance(error, ALWAYS_REMOTE):
        return error
    return RuntimeError(f"init ended in {error!r}")
