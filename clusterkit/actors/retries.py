"""Sends that are tried again: only where it is proven that no handler ran, and another try may help."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from clusterkit.core.backoff import Backoff
from clusterkit.errors import CallError, LinkFull, MailboxFull, NodeDown, NoSuchServer, ServerDown
from clusterkit.kernel.address import Address
from clusterkit.kernel.turns import inherited
from clusterkit.runtime import now, rng

_FIRST, _MOST = 0.05, 1.0  # caps of the delay before a try, in seconds
_PASSING = (LinkFull, MailboxFull, NoSuchServer, NodeDown, ServerDown)  # the rest fails again
Send = Callable[[Address, str, tuple[Any, ...], dict[str, Any], float], Awaitable[Any]]


async def retried(
    send: Send, address: Address, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float, tries: int
) -> Any:
    """Send, and up to ``tries`` times again; ``timeout`` seconds are for all of it."""
    deadline, _ = inherited(now() + timeout)
    backoff = Backoff(_FIRST, _MOST, rng("retry"))
    while True:
        try:
            return await send(address, name, args, kwargs, max(deadline - now(), 0.001))
        except CallError as error:
            if not tries or error.executed != "no" or not isinstance(error, _PASSING):
                raise
            delay = backoff.next()
            if now() + delay >= deadline:
                raise
            tries -= 1
        await asyncio.sleep(delay)
