"""The user's health check: asked again and again, and told to the ring when its answer changes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable

logger = logging.getLogger("clusterkit.ring")

Check = Callable[[], bool | Awaitable[bool]]


async def watch_health(check: Check, interval: float, told: Callable[[bool], None]) -> None:
    """Ask ``check`` every ``interval`` seconds, for ever, and call ``told`` when its answer changes.

    One that raises, or takes longer than ``interval``, says no.
    """
    before: bool | None = None
    while True:
        try:
            async with asyncio.timeout(interval):
                answer = check()
                ready = bool(await answer if isawaitable(answer) else answer)
        except Exception as error:  # noqa: BLE001 - the user's own code: whatever it raises says no
            ready = False
            if before is not False:
                logger.warning("the health check failed: %r", error)
        if ready != before:
            before = ready
            told(ready)
        await asyncio.sleep(interval)
