"""References to servers: typed calls and casts, here or on another node.

A `Ref` names a server on a node (`node.ref`), resolved anew at each send, or one
process (`node.start`), which is dead for ever once that process or its node's
incarnation is.
"""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from clusterkit.actors.gen_server import GenServer
from clusterkit.actors.handlers import check_timeout, mark_of
from clusterkit.actors.retries import retried
from clusterkit.errors import ConfigError, UsageError
from clusterkit.kernel.address import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from clusterkit.actors.handlers import Handler, Kind
    from clusterkit.core.identity import NodeId
    from clusterkit.kernel.kernel import Kernel

A_co = TypeVar("A_co", bound=GenServer, covariant=True)
P = ParamSpec("P")
R = TypeVar("R")


class Ref(Generic[A_co]):
    """A server of type ``A``. Cheap to make; sending through it is what costs."""

    __slots__ = ("_address", "_cls", "_kernel", "_retry", "_timeout")

    def __init__(
        self, kernel: Kernel, cls: type[A_co], address: Address, timeout: float | None = None, retry: int = 0
    ) -> None:
        self._kernel = kernel
        self._cls = cls
        self._address = address
        self._timeout = timeout
        self._retry = retry

    @property
    def address(self) -> Address:
        """Where its messages go."""
        return self._address

    @property
    def node(self) -> NodeId:
        """The node that the server is on."""
        return self._address.node or self._kernel.id

    @property
    def name(self) -> str | None:
        """The server's name, None for one process."""
        return self._address.to if isinstance(self._address.to, str) else None

    def __repr__(self) -> str:
        here = "" if self._address.node else f" on {self._kernel.id.name}"
        return f"<Ref[{self._cls.__name__}] {self._address}{here}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, int, str | int]:
        name, incarnation, to = self._address.key
        return name or self._kernel.id.name, incarnation, to

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in self._cls.__handlers__:
                raise AttributeError(f"{self!r} is a reference: use ref.proxy.{name}(...), or ref.call")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def address_for(self, kernel: Kernel) -> Address:
        """Where its messages go from a node, which may be another one of this program."""
        if kernel is self._kernel:
            return self._address
        return Address(self.node, self._address.to, pinned=self._address.pinned or isinstance(self._address.to, int))

    def with_(self, *, timeout: float | EllipsisType = ..., retry: int = 0) -> Ref[A_co]:
        """The same server, for calls and casts with another timeout (seconds), or that try again.

        ``retry`` times a send that failed is tried again, after a short random delay that grows, when it
        is proven that no handler ran (``err.executed == "no"``) and another try may help; the timeout is that of
        all tries together.
        """
        if isinstance(retry, bool) or not isinstance(retry, int) or retry < 0:
            raise ConfigError(f"retry is {retry!r}: it must be an int, not negative")
        seconds = self._timeout if isinstance(timeout, EllipsisType) else check_timeout(timeout)
        return Ref(self._kernel, self._cls, self._address, seconds, retry)

    @property
    def proxy(self) -> A_co:
        """An object with the server's own methods: ``await ref.proxy.withdraw(5)``."""
        return cast("A_co", _Proxy(self, self._cls.__handlers__))

    @overload
    def call(
        self, method: Callable[Concatenate[A_co, P], Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(self, event: str, data: Any = ..., /) -> Coroutine[Any, Any, Any]: ...
    def call(self, method: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Ask the server and return its answer.

        Raises what the handler raised, or a `CallError` whose ``executed`` tells
        whether the handler may have run. Ends within the timeout (5 s unless said
        otherwise by `with_`, by ``@call(timeout=)`` or by the configuration), and never after a `deadline` that
        it is in. Cancelling it takes the request back, or cancels a handler that is ``cancellable``.
        """
        name, timeout = self._cls.__calls__.get(method) or self._target(method, "call")
        kernel = self._kernel
        timeout = self._timeout or timeout or kernel.config.call_timeout
        if self._retry:
            return retried(kernel.call, self._address, name, args, kwargs, timeout, self._retry)
        return kernel.call(self._address, name, args, kwargs, timeout)

    @overload
    def cast(
        self, method: Callable[Concatenate[A_co, P], Coroutine[Any, Any, None]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, None]: ...
    @overload
    def cast(self, event: str, data: Any = ..., /) -> Coroutine[Any, Any, None]: ...
    def cast(self, method: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
        """Send without an answer.

        Returns when the mailbox (this node) or the link's queue (another one) has
        taken it, which is all that it promises. Raises `NodeDown` for a node that is not known, `LinkFull`,
        `UnsupportedPayload`, `MessageTooLarge`, on this node also `NoSuchServer` and `MailboxFull`. What another node
        refuses is told by `Refused`, and for a full mailbox by the next cast.
        """
        name, _ = self._cls.__casts__.get(method) or self._target(method, "cast")
        kernel = self._kernel
        timeout = self._timeout or kernel.config.call_timeout
        if self._retry:
            return retried(kernel.cast, self._address, name, args, kwargs, timeout, self._retry)
        return kernel.cast(self._address, name, args, kwargs, timeout)

    async def send(self, info: Any, /) -> None:
        """Send a value to the server's ``handle_info``; promises what `cast` does."""
        await self._kernel.info(self._address, info, self._timeout or self._kernel.config.call_timeout)

    def _target(self, method: Any, kind: Kind) -> tuple[str, float | None]:
        """Name what is meant, where the class has no entry for it: another's event, or a base's method."""
        if isinstance(method, str):
            return method, None
        name = getattr(method, "__name__", None)
        if self._cls is GenServer and (mark := mark_of(method)) is not None and mark.kind in (kind, "on"):
            return mark.event or str(name), mark.timeout  # of a type that is not known here
        handler = self._cls.__handlers__.get(name) if isinstance(name, str) else None
        if handler is None or handler.attribute != name:
            raise UsageError(
                f"{method!r} is no handler of {self._cls.__name__}: give one of its exported methods, or the name of an event"
            )
        if handler.kind not in (kind, "on"):
            raise UsageError(
                f"{self._cls.__name__}.{name} is a @{handler.kind}: send it with {handler.kind}, not {kind}"
            )
        return str(name), handler.timeout


def check_ref(ref: Any) -> Ref[Any]:
    """Return what is a reference; raises `UsageError` for what is none."""
    if not isinstance(ref, Ref):
        raise UsageError(f"{ref!r} is no Ref: node.start gives one, node.ref(Class, 'name') makes one")
    return ref


class _Proxy:
    """What `Ref.proxy` gives: exported methods, and nothing else."""

    __slots__ = ("_handlers", "_ref")

    def __init__(self, ref: Ref[Any], handlers: dict[str, Handler]) -> None:
        self._ref = ref
        self._handlers = handlers

    def __getattr__(self, name: str) -> Any:
        handler = self._handlers.get(name)
        if handler is None or handler.kind == "on":
            exported = ", ".join(sorted(key for key, each in self._handlers.items() if each.kind != "on")) or "nothing"
            raise AttributeError(
                f"{self._ref!r} exports {exported}: {name!r} is on the other side, and only @call and @cast methods cross"
            )
        send = self._ref.call if handler.kind == "call" else self._ref.cast

        def method(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            return send(name, *args, **kwargs)

        return method

    def __repr__(self) -> str:
        return f"<proxy of {self._ref!r}>"
