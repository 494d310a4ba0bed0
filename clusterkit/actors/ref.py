"""References to servers: typed calls and casts, here or on another node.

A `Ref` names a server on a node (`node.ref`), resolved anew at each send, or one
process (`node.start`), which is dead for ever once that process or its node's
incarnation is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from clusterkit.actors.gen_server import GenServer
from clusterkit.actors.handlers import check_timeout
from clusterkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from clusterkit.actors.handlers import Handler
    from clusterkit.core.identity import NodeId
    from clusterkit.kernel.address import Address
    from clusterkit.kernel.kernel import Kernel

A = TypeVar("A", bound=GenServer)
P = ParamSpec("P")
R = TypeVar("R")


class Ref(Generic[A]):
    """A server of type ``A``. Cheap to make; sending through it is what costs."""

    __slots__ = ("_address", "_cls", "_kernel", "_timeout")

    def __init__(self, kernel: Kernel, cls: type[A], address: Address, timeout: float | None = None) -> None:
        self._kernel = kernel
        self._cls = cls
        self._address = address
        self._timeout = timeout

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
        return f"<Ref[{self._cls.__name__}] {self._address}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and (self._address, self.node) == (other._address, other.node)

    def __hash__(self) -> int:
        return hash(self._address)

    def with_(self, *, timeout: float) -> Ref[A]:
        """The same server with another default timeout, in seconds."""
        return Ref(self._kernel, self._cls, self._address, check_timeout(timeout))

    @property
    def proxy(self) -> A:
        """An object with the server's own methods: ``await ref.proxy.withdraw(5)``."""
        return cast("A", _Proxy(self, self._cls.__handlers__))

    @overload
    def call(
        self, method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(self, event: str, data: Any = ..., /) -> Coroutine[Any, Any, Any]: ...
    def call(self, method: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Ask the server and return its answer.

        Raises what the handler raised, or a `CallError` whose ``executed`` tells
        whether the handler may have run. Ends within the timeout (5 s unless said
        otherwise by `with_`, by ``@call(timeout=)`` or by the configuration).
        """
        name, timeout = self._cls.__targets__.get(method) or self._target(method)
        kernel = self._kernel
        return kernel.call(self._address, name, args, kwargs, self._timeout or timeout or kernel.config.call_timeout)

    @overload
    def cast(
        self, method: Callable[Concatenate[A, P], Coroutine[Any, Any, None]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, None]: ...
    @overload
    def cast(self, event: str, data: Any = ..., /) -> Coroutine[Any, Any, None]: ...
    def cast(self, method: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
        """Send without an answer.

        Returns when the mailbox (this node) or the link's queue (another one) has
        taken it, which is all that it promises.
        """
        name, _ = self._cls.__targets__.get(method) or self._target(method)
        kernel = self._kernel
        return kernel.cast(self._address, name, args, kwargs, self._timeout or kernel.config.call_timeout)

    async def send(self, info: Any, /) -> None:
        """Send a value to the server's ``handle_info``; promises what `cast` does."""
        await self._kernel.info(self._address, info, self._timeout or self._kernel.config.call_timeout)

    def _target(self, method: Any) -> tuple[str, float | None]:
        """Name what is called, where the class has no entry for it: another's event, or a base's method."""
        if isinstance(method, str):
            return method, None
        name = getattr(method, "__name__", None)
        handler = self._cls.__handlers__.get(name) if isinstance(name, str) else None
        if handler is not None and handler.attribute == name:
            return str(name), handler.timeout
        raise UsageError(
            f"{method!r} is no handler of {self._cls.__name__}: give one of its exported methods, or the name of an event"
        )


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
