"""One letter to one handler: which it is, what it is given, and what becomes of what it returns or raises."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clusterkit.actors.gen_server import NOREPLY, NoReply, Stop, _NotHandled
from clusterkit.actors.handlers import Handler
from clusterkit.core.messages import Code
from clusterkit.core.payload import PayloadError, decode
from clusterkit.errors import ClusterError, RemoteError
from clusterkit.kernel.mailbox import From, Letter, Op, is_awaited
from clusterkit.kernel.telemetry import CALL_START, CALL_STOP

if TYPE_CHECKING:
    from clusterkit.actors.process import Process

logger = logging.getLogger("clusterkit.actors")

_CALL, _INFO, _SIGNAL = int(Op.CALL), int(Op.INFO), int(Op.SIGNAL)  # plain ints: an enum's attribute costs 100 ns
_NOBODY: tuple[Handler | None, Callable[..., Any]] = (None, lambda *_args, **_kwargs: None)
Outcome = tuple[str, str | None]  # how a call went, and the type of its error
_FEW_OPEN = 64  # calls left open among which nobody looks for those that nobody waits for
_OK: Outcome = ("ok", None)
_LATER: Outcome = ("noreply", None)
_UNWANTED: Outcome = ("cancelled", None)


class Handling:
    """The handlers of one process. ``open`` are the calls that they left without an answer."""

    def __init__(self, process: "Process") -> None:
        self.open: dict[From, None] = {}
        self._sweep_at = _FEW_OPEN
        self._process = process
        self._actor = process.actor
        self._kernel = process.kernel
        table = type(self._actor).__handlers__
        self._methods = {name: (handler, getattr(self._actor, handler.attribute)) for name, handler in table.items()}
        self._concurrent, self._cancellable = type(self._actor).__concurrent__, type(self._actor).__cancellable__
        self.splits = bool(self._concurrent or self._cancellable)
        process.mailbox.concurrent = self._concurrent

    def is_concurrent(self, letter: Letter) -> bool:
        """Whether its handler may run while another awaits."""
        return letter[0] == _CALL and letter[1] in self._concurrent

    def is_cancellable(self, letter: Letter) -> bool:
        """Whether its handler is cancelled when the caller gives up."""
        return letter[0] == _CALL and letter[1] in self._cancellable

    # -- calls

    async def call(self, letter: Letter) -> Outcome:
        """Answer a call, or leave it open. Raises `Stop`, and an error that is in ``crash_on``."""
        _, name, args, kwargs, frm, packed = letter
        method = _NOBODY[1]
        if self._nobody_waits(frm):
            self._kernel.counters["expired"] += 1
            return _UNWANTED
        try:
            if packed:
                args, kwargs = _unpack(args, kwargs)
            handler, method = self._methods.get(name) or _NOBODY
            if handler is None or handler.kind == "cast":
                value = await _value_of(self._actor.handle_call(_request(name, args, kwargs), frm))
            else:
                if handler.kind == "on":
                    args = _event_arguments(handler, name, args, kwargs, frm)
                value = method(*args, **kwargs)
                value = await value if handler.is_async else await _value_of(value)
            if value is NOREPLY:
                raise NoReply
            self._kernel.reply(frm, value)
        except Exception as error:  # noqa: BLE001 - the caller's to handle
            return self._ended_in(error, frm, method, args, kwargs)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return self._raised(frm, own_cancellation())
        return _OK

    def _ended_in(self, error: Exception, frm: From, method: Callable[..., Any], args: Any, kwargs: Any) -> Outcome:
        """What becomes of a call whose handler raised. Raises `Stop`, and an error that is in ``crash_on``."""
        match error:
            case NoReply():
                self.leave_open(frm)
                return _LATER
            case Stop():
                self.stopped(frm, error)
                raise error
            case _NotHandled():
                return self._refused(frm, Code.NO_METHOD, self._no_handler())
            case _BadArguments():
                return self._refused(frm, Code.BAD_ARGUMENTS, str(error))
            case TypeError() if not _fits(method, args, kwargs):
                return self._refused(frm, Code.BAD_ARGUMENTS, f"{self._process.mailbox.shown}: {error}")
        return self._raised(frm, error)

    async def observed(self, letter: Letter) -> None:
        """Answer a call, and tell telemetry of it."""
        process, telemetry = self._process, self._kernel.telemetry
        meta = {
            "server": process.mailbox.shown,
            "method": letter[1],
            "caller": str(letter[4].peer),
            "node": str(self._kernel.id),
        }
        start = self._kernel.loop.time()
        telemetry.tell(CALL_START, {"depth": len(process.mailbox)}, meta)
        outcome: Outcome = ("error", "Stop")
        try:
            outcome = await self.call(letter)
        except Stop as stop:
            outcome = outcome if stop.reply is NOREPLY else _OK
            raise
        except asyncio.CancelledError:
            outcome = _UNWANTED
            raise
        except Exception as error:
            outcome = ("error", type(error).__name__)
            raise
        finally:
            took = {"seconds": self._kernel.loop.time() - start}
            telemetry.tell(CALL_STOP, took, {**meta, "outcome": outcome[0], "error": outcome[1]})

    def _nobody_waits(self, frm: From) -> bool:
        """Whether the caller gave up already; a request past its deadline is not started."""
        if frm._link is None:
            call = frm._waiting
            call.started = True
            return bool(call.future.done())
        now = self._kernel.loop.time() if self.splits else self._process.since  # when the handler was begun
        return frm.deadline is not None and frm.deadline < now

    def stopped(self, frm: From, stop: Stop) -> None:
        """Answer with what `Stop` said; else the caller is told that the server is down, when it is."""
        if stop.reply is NOREPLY:
            self.leave_open(frm)
            return
        try:
            self.reply(frm, stop.reply)
        except ClusterError as error:
            logger.error("the last answer of %s cannot be sent: %s", self._process.mailbox.shown, error)

    def leave_open(self, frm: From) -> None:
        """Hold a call that is to be answered later. Those that nobody waits for are let go in time."""
        if not frm.expects_reply:
            return
        if len(self.open) >= self._sweep_at:
            now = self._kernel.loop.time()
            awaited = [each for each in self.open if each.expects_reply and is_awaited(each, now)]
            self.open = dict.fromkeys(awaited)
            self._sweep_at = 2 * len(awaited) + _FEW_OPEN
        self.open[frm] = None

    def _refused(self, frm: From, code: Code, text: str) -> Outcome:
        self._kernel.fail(frm, code, text, maybe=False)
        return "error", str(code)

    def _raised(self, frm: From, error: Exception) -> Outcome:
        if not (frm.expects_reply or self._process.side.is_given_up):
            raise error  # it was answered already: nobody to tell, as in a cast
        self._kernel.fail(frm, Code.RAISED, error, maybe=True)
        if isinstance(error, type(self._actor).crash_on):
            raise error
        return "error", type(error).__name__

    def _no_handler(self) -> str:
        name, shown = self._process.handling, self._process.mailbox.shown
        return f"{shown} exports no handler {name!r}: it has {', '.join(sorted(self._methods)) or 'none'}"

    def reply(self, frm: From, value: Any) -> None:
        """Answer a call; what cannot be packed is the caller's error too."""
        self.open.pop(frm, None)
        try:
            self._kernel.reply(frm, value)
        except ClusterError as error:
            self._kernel.fail(frm, Code.RAISED, error, maybe=True)
            raise

    def fail(self, frm: From, error: Exception) -> None:
        """Answer a call with an error."""
        self.open.pop(frm, None)
        self._kernel.fail(frm, Code.RAISED, error, maybe=True)

    # -- casts, infos and signals

    async def other(self, letter: Letter) -> None:
        """Handle what nobody waits for. Raises what the handler raised."""
        op, name, args, kwargs, frm, packed = letter
        method = _NOBODY[1]
        try:
            if op >= _INFO:
                if op == _INFO or kwargs is None or kwargs():
                    await _value_of(self._actor.handle_info(decode(args, "info") if packed else args[0]))
                return
            if packed:
                args, kwargs = _unpack(args, kwargs)
            handler, method = self._methods.get(name) or _NOBODY
            if handler is None or handler.kind == "call":
                await _value_of(self._actor.handle_cast(_request(name, args, kwargs)))
                return
            if handler.kind == "on":
                args = _event_arguments(handler, name, args, kwargs, frm)
            done = method(*args, **kwargs)
            await (done if handler.is_async else _value_of(done))
        except (NoReply, _NotHandled, _BadArguments, PayloadError, TypeError) as error:
            self._not_taken(error, letter, method, args, kwargs)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise own_cancellation() from None

    def _not_taken(self, error: Exception, letter: Letter, method: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Tell of a message that no handler takes; raises an error of the handler's own."""
        if isinstance(error, NoReply):
            return
        is_own = isinstance(error, TypeError) and not isinstance(error, _BadArguments)
        if is_own and (letter[0] >= _INFO or _fits(method, args, kwargs)):
            raise error
        if letter[0] != _SIGNAL:  # what the runtime tells may be left alone
            self._dead(letter[1], str(error) or "no handler takes it")

    def _dead(self, name: str, why: str) -> None:
        self._kernel.dead(self._kernel.id, f"{self._process.mailbox.shown}.{name}", why, "no")


class _BadArguments(TypeError):
    """The arguments do not fit the handler: it was not started."""


async def _value_of(given: Any) -> Any:
    """What a callback returned, or what that comes to: it may be plain ``def``."""
    return await given if inspect.isawaitable(given) else given


def is_cancelled() -> bool:
    """Whether the running task itself was cancelled, and not only something that it awaited."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def own_cancellation() -> RemoteError:
    """What a handler ends in that awaited something which was cancelled, and was not cancelled itself."""
    return RemoteError("asyncio.CancelledError", "the handler awaited something that was cancelled")


def _unpack(args: bytes, kwargs: bytes | None) -> tuple[Any, Any]:
    try:
        positional = decode(args)
        named = decode(kwargs, "kwargs") if kwargs is not None else {}
    except PayloadError as error:
        raise _BadArguments(f"the arguments cannot be read: {error}") from None
    if type(positional) is not list or type(named) is not dict:
        raise _BadArguments("the arguments are no array and map")
    return positional, named


def _fits(method: Callable[..., Any], args: Any, kwargs: Any) -> bool:
    """Whether arguments fit a handler; asked only after a `TypeError`, to tell whose it was."""
    try:
        inspect.signature(method).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _event_arguments(handler: Handler, name: str, args: Any, kwargs: Any, frm: From) -> Any:
    if kwargs or len(args) > 1:
        raise _BadArguments(f"event {name!r} takes one value, data")
    data = args[0] if args else None
    return (data, frm) if handler.takes_frm else (data,)


def _request(name: str, args: Any, kwargs: Any) -> Any:
    if kwargs or len(args) > 1:
        raise _BadArguments(f"no handler is named {name!r}, and a request takes one value, data")
    return (name, args[0]) if args else name
