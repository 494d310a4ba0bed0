"""Simulated machines: which callbacks of the one loop belong to which node.

All nodes of a simulated cluster share a loop. The tasks of each run in a context
that names its machine, and asyncio keeps with every handle the context it was made
in; so the loop can tell whose a handle is, and hold it back while the machine
stands still. The machine's clock stands beside it, for it may be wrong.

Rules. A machine is one life of a node: after a crash it never runs again, and a
restart is another machine of the same name. The monotonic clock goes on while a
machine is paused, as it does for a process that was stopped.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")
_HERE: "ContextVar[Machine | None]" = ContextVar("clusterkit.testing.machine", default=None)


class Machine:
    """One life of one node: its name, its wall clock's error, and whether it runs.

    Invariant: ``held`` is empty unless ``halted``.
    """

    def __init__(self, name: str, skew: float = 0.0) -> None:
        self.name = name
        self.skew = skew
        """Seconds that its wall clock is ahead of the true one."""
        self.halted = False
        self.held: deque[asyncio.Handle] = deque()

    def __repr__(self) -> str:
        return f"<Machine {self.name}{' halted' if self.halted else ''}>"

    def context(self) -> Context:
        """Copy the current context, and make it this machine's."""
        context = copy_context()
        context.run(_HERE.set, self)
        return context

    def spawn(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start a task on this machine; the caller owns it."""
        return asyncio.get_running_loop().create_task(work, name=name, context=self.context())

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work`` on this machine; cancelled with the caller."""
        return await self.spawn(work)


def here() -> Machine | None:
    """The machine that the running code belongs to; None for the test itself."""
    return _HERE.get()


def machine_of(handle: asyncio.Handle) -> Machine | None:
    """The machine whose code made ``handle``."""
    return context_of(handle).get(_HERE)


def context_of(handle: asyncio.Handle) -> Context:
    """The context that ``handle`` will run in; asyncio has it public since 3.12."""
    context: Context = handle._context  # type: ignore[attr-defined]  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue]
    return context
