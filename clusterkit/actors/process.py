"""A running actor: one task that takes letters from a mailbox and runs handlers.

Who raised what, and what follows (docs/architecture.md, "Who handles a message"):
a call handler's error goes to the caller; an error in any other handler stops the
actor; `SystemExit` and its like never reach a caller.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

from clusterkit.actors.gen_server import NOREPLY, GenServer, NoReply, _NotHandled
from clusterkit.actors.handlers import Handler
from clusterkit.core.messages import Code
from clusterkit.core.payload import PayloadError, decode
from clusterkit.errors import ClusterError, UsageError
from clusterkit.kernel.kernel import Kernel
from clusterkit.kernel.mailbox import From, Letter, Mailbox, Op

logger = logging.getLogger("clusterkit.actors")

_CALL, _, _INFO, _STOP = map(int, Op)  # plain ints: an enum's attribute costs 100 ns


_NOBODY: tuple[Handler | None, Callable[..., Any]] = (None, lambda *_args, **_kwargs: None)


class _Stop(Exception):
    """The actor ends; ``reason`` is what `terminate` is told."""

    def __init__(self, reason: object) -> None:
        super().__init__(reason)
        self.reason = reason


class Process:
    """One life of one actor."""

    def __init__(
        self, actor: GenServer, kernel: Kernel, node: Any, name: str | None, ended: Callable[["Process"], None]
    ) -> None:
        if actor._process is not None:  # noqa: SLF001 - the runtime's own marks
            raise UsageError(f"this {type(actor).__name__} runs already: an actor object has one life at a time")
        self.actor = actor
        self.node = node
        self.ref: Any = None
        self.current: From | None = None
        self.mailbox: Mailbox = kernel.register(name, actor.mailbox_limit or kernel.config.mailbox)
        self.task: asyncio.Task[None] | None = None
        self._kernel = kernel
        self._methods = {
            name: (handler, getattr(actor, handler.attribute)) for name, handler in type(actor).__handlers__.items()
        }
        self._open: dict[From, None] = {}  # calls left open with NoReply
        self._ended = ended
        actor._process = self  # noqa: SLF001 - the runtime's own marks

    # -- life

    async def run(self, started: asyncio.Future[None]) -> None:
        """Live: init, letters one by one, terminate."""
        reason: object = "shutdown"
        try:
            if await self._init(started):
                reason = await self._serve()
        except asyncio.CancelledError:
            reason = "killed"
            raise
        except BaseException as error:
            reason = error
            raise
        finally:
            self._close(reason)

    async def _init(self, started: asyncio.Future[None]) -> bool:
        try:
            await self.actor.init()
        except BaseException as error:
            if not started.done():
                started.set_exception(_wrapped(error))
            if not isinstance(error, Exception):
                raise
            return False
        if not started.done():
            started.set_result(None)
        return True

    async def _serve(self) -> object:
        reason: object
        mailbox, call, other = self.mailbox, self._call, self._other
        try:
            while True:
                if (letter := mailbox.take()) is None:
                    await mailbox.wait()
                    continue
                self.current = letter[4]
                if letter[0] == _CALL:
                    await call(letter)
                elif letter[0] == _STOP:
                    raise _Stop(letter[2][0])
                else:
                    await other(letter)
                self.current = None
        except _Stop as stop:
            reason = stop.reason
        except Exception as error:
            logger.error("actor %s of %s stops: %r", self.mailbox.shown, self._kernel.id.name, error, exc_info=error)
            reason = error
        self.current = None
        try:
            await self.actor.terminate(reason)
        except Exception as error:
            logger.error("terminate of %s failed: %r", self.mailbox.shown, error, exc_info=error)
        return reason

    def _close(self, reason: object) -> None:
        self.actor._process = None  # noqa: SLF001 - the runtime's own marks
        text = f"{self.mailbox.shown} stopped ({reason if isinstance(reason, str) else type(reason).__name__})"
        if self.current is not None:
            self._kernel.fail(self.current, Code.SERVER_DOWN, text, maybe=True)
        for frm in self._open:
            self._kernel.fail(frm, Code.SERVER_DOWN, text, maybe=True)
        self._open.clear()
        self._kernel.unregister(self.mailbox)
        self._ended(self)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs inside this actor."""
        return self.task is not None and self.task is asyncio.current_task()

    def stop(self, reason: object) -> None:
        """Stop after the handler that runs now."""
        frm = From(self._kernel.id, None, None, 0, None, False)
        self.mailbox.put_system((_STOP, "stop", (reason,), None, frm, False))

    # -- letters

    def _nobody_waits(self, frm: From) -> bool:
        """Whether the caller gave up already; a request past its deadline is not started."""
        if frm._link is None:  # noqa: SLF001 - the runtime's own marks
            call = frm._waiting  # noqa: SLF001 - the runtime's own marks
            call.started = True
            return bool(call.future.done())
        return frm.deadline is not None and frm.deadline < self._kernel.loop.time()

    async def _call(self, letter: Letter) -> None:
        _, name, args, kwargs, frm, packed = letter
        method = _NOBODY[1]
        if self._nobody_waits(frm):
            return
        try:
            if packed:
                args, kwargs = _unpack(args, kwargs)
            handler, method = self._methods.get(name) or _NOBODY
            if handler is None or handler.kind == "cast":
                value = await self.actor.handle_call(_request(name, args, kwargs), frm)
            else:
                if handler.kind == "on":
                    args = _event_arguments(handler, name, args, kwargs, frm)
                value = method(*args, **kwargs)
                if handler.is_async:
                    value = await value
            if value is NOREPLY:
                raise NoReply
            self._kernel.reply(frm, value)
        except NoReply:
            if frm.expects_reply:
                self._open[frm] = None
        except _NotHandled:
            self._kernel.fail(frm, Code.NO_METHOD, self._no_handler(name), maybe=False)
        except _BadArguments as error:
            self._kernel.fail(frm, Code.BAD_ARGUMENTS, str(error), maybe=False)
        except Exception as error:  # noqa: BLE001 - the caller's to handle
            self._raised(frm, error, fits=not isinstance(error, TypeError) or _fits(method, args, kwargs))

    def _raised(self, frm: From, error: Exception, *, fits: bool) -> None:
        if fits:
            self._kernel.fail(frm, Code.RAISED, error, maybe=True)
        else:
            self._kernel.fail(frm, Code.BAD_ARGUMENTS, f"{self.mailbox.shown}: {error}", maybe=False)

    def _no_handler(self, name: str) -> str:
        exported = ", ".join(sorted(self._methods)) or "none"
        return f"{self.mailbox.shown} exports no handler {name!r}: it has {exported}"

    async def _other(self, letter: Letter) -> None:
        op, name, args, kwargs, frm, packed = letter
        method = _NOBODY[1]
        try:
            if op == _INFO:
                await self._awaited(self.actor.handle_info(decode(args) if packed else args[0]))
                return
            if packed:
                args, kwargs = _unpack(args, kwargs)
            handler, method = self._methods.get(name) or _NOBODY
            if handler is None or handler.kind == "call":
                await self._awaited(self.actor.handle_cast(_request(name, args, kwargs)))
                return
            if handler.kind == "on":
                args = _event_arguments(handler, name, args, kwargs, frm)
            done = method(*args, **kwargs)
            if handler.is_async:
                await done
        except NoReply:
            return
        except (_NotHandled, _BadArguments, PayloadError) as error:
            self._dead(name, str(error) or "no handler takes it")
        except TypeError as error:
            if op == _INFO or _fits(method, args, kwargs):
                raise  # the handler's own
            self._dead(name, str(error))

    def _dead(self, name: str, why: str) -> None:
        self._kernel.dead(self._kernel.id, f"{self.mailbox.shown}.{name}", why, "no")

    @staticmethod
    async def _awaited(value: Any) -> None:
        if inspect.isawaitable(value):
            await value

    def reply(self, frm: From, value: Any) -> None:
        """Answer a call; what cannot be packed is the caller's error too."""
        self._open.pop(frm, None)
        try:
            self._kernel.reply(frm, value)
        except ClusterError as error:
            self._kernel.fail(frm, Code.RAISED, error, maybe=True)
            raise


class _BadArguments(TypeError):
    """The arguments do not fit the handler: it was not started."""


def _unpack(args: bytes, kwargs: bytes | None) -> tuple[Any, Any]:
    try:
        positional = decode(args)
        named = decode(kwargs) if kwargs is not None else {}
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


def _wrapped(error: BaseException) -> Exception:
    """A future takes no StopIteration, and its reader no SystemExit."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"init ended in {error!r}")
