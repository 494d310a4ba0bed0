"""``clusterkit monitor``: the events of a node as they come, a line each.

Rules: on a terminal a line, in a pipe a JSON object with ``ts`` and ``type``; it goes on when the
node is restarted, and says so; each line is out before the next event is awaited; when nobody reads the
pipe any more it ends, and does not wait for an event to find out.
"""

import asyncio
import json
import os
import stat
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import click

from clusterkit.cli.event_lines import as_json, as_line
from clusterkit.cli.failure import Exit
from clusterkit.cli.follow import CONNECTED, DISCONNECTED, MISSED, Event, Wire, closing, follow, run_following
from clusterkit.cli.output import plain, wants_json
from clusterkit.cli.session import client_of
from clusterkit.cli.settings import Settings
from clusterkit.runtime import Tasks

_OF_THE_WAY = (CONNECTED, DISCONNECTED, MISSED)
"""What befalls the connection: no events of the node, so not counted, and never filtered out in silence."""


class Enough(Exception):
    """As many events were told as were asked for."""


class Teller:
    """Prints the events that were asked for: of these types, of these nodes, so many; ``aside`` is for what must be said."""

    def __init__(
        self,
        printed: Callable[[Event], object],
        aside: Callable[[Event], object],
        types: Sequence[str] = (),
        nodes: Sequence[str] = (),
        count: int | None = None,
    ) -> None:
        self._print = printed
        self._aside = aside
        self._types = {each.lower() for each in types}
        self._nodes = set(nodes)
        self._left = count

    def wants(self, event: Event) -> bool:
        """Whether an event is one of those."""
        of_type = not self._types or event["type"].lower() in self._types
        return of_type and (not self._nodes or event.get("node") in self._nodes)

    def __call__(self, event: Event) -> None:
        """Print it, if it is; raises `Enough` after the last."""
        if not self.wants(event):
            if event["type"] in _OF_THE_WAY:
                self._aside(event)
            return
        self._print(event)
        if self._left is not None and event["type"] not in _OF_THE_WAY:
            self._left -= 1
            if not self._left:
                raise Enough


@click.command()
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only events of this type, as MemberDown; may be repeated."
)
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Only events of this node; may be repeated.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N events.")
@click.pass_obj
def monitor(settings: Settings, /, types: tuple[str, ...], nodes: tuple[str, ...], count: int | None) -> int:
    """Tell the events of a node as they come: members, links, services.

    Connected, Disconnected and Missed tell of the way to the node itself, which is made anew when it breaks.
    """
    settings.speaks_json = wants_json(settings.output)

    def printed(event: Event) -> None:
        click.echo(json.dumps(plain(as_json(event))) if settings.speaks_json else as_line(event))

    def aside(event: Event) -> None:
        click.echo(as_line(event), err=True)

    wire = Wire(client_of(settings), settings.timeout, settings.node)
    with suppress(Enough):
        run_following(closing(wire, _while_read(follow(wire, Teller(printed, aside, types, nodes, count)))))
    return Exit.OK


async def _while_read(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work`` for as long as somebody reads the pipe that is written to; raises `BrokenPipeError`."""
    loop, tasks = asyncio.get_running_loop(), Tasks("monitor", logged=False)
    working = tasks.spawn(work, "events")
    gone: asyncio.Future[None] = loop.create_future()
    pipe = _pipe()
    if pipe is not None:  # the writing end of a pipe has nothing to read: it is told when the other end is closed
        loop.add_reader(pipe, lambda: None if gone.done() else gone.set_result(None))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise BrokenPipeError
        working.result()
    finally:
        if pipe is not None:
            loop.remove_reader(pipe)
        await tasks.aclose()


def _pipe() -> int | None:
    with suppress(OSError, ValueError):  # it may be closed, or no file at all
        descriptor = sys.stdout.fileno()
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return descriptor
    return None
