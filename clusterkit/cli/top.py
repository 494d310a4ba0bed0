"""``clusterkit top``: a live view of a node: its members, links, busiest actors, last events.

Rules: the first look is taken before the screen is, so a node that cannot be reached fails as with every
command; a node that is lost later is said to be, over the last picture; the terminal is as it
was when it ends, however it ends. What is not a terminal gets one frame.
"""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.live import Live

from clusterkit.cli.failure import Exit, Failure
from clusterkit.cli.follow import Event, Wire, closing, follow, recent, run_following
from clusterkit.cli.output import wants_json
from clusterkit.cli.session import answer, client_of
from clusterkit.cli.settings import Settings
from clusterkit.cli.top_frame import Frame, Look, make_frame, next_sort
from clusterkit.cli.top_screen import draw
from clusterkit.runtime import Tasks, now

if TYPE_CHECKING:
    from clusterkit.cli.question import Asked

_ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_KEPT = 100  # events
_TOLD = 10  # of them in a single frame
_RTT = 1.5  # seconds that the node may take to ping its members


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--once", is_flag=True, help="Show one frame and end; so does what is no terminal.")
@click.pass_obj
def top(settings: Settings, /, interval: float, *, once: bool) -> int:
    """Watch a node live: members, links, busiest actors, events.

    q quits, s sorts by another column.
    """
    settings.speaks_json = wants_json(settings.output)
    if once or settings.speaks_json or not sys.stdout.isatty():
        return _one_frame(settings, interval)
    given = client_of(settings)
    return run_following(_Live(given, settings).run(interval))


# -- one frame


def _one_frame(settings: Settings, interval: float) -> int:
    answer(settings, _question(min(interval, settings.timeout / 4)), _shown)
    return Exit.OK


def _question(between: float) -> Any:
    async def question(asked: "Asked") -> dict[str, Any]:
        before = await _look(asked.call, rtt=False)
        await asyncio.sleep(between)
        after = await _look(asked.call, rtt=asked.left > _RTT)
        events, _ = await recent(asked.call)
        return make_frame(before, after, events[-_TOLD:]).data

    return question


def _shown(data: dict[str, Any]) -> str:
    events = [event | {"at": datetime.fromisoformat(event["ts"]).timestamp()} for event in data["events"]]
    frame = Frame(data["node"], "rate", data["members"], data["links"], data["actors"], events)
    console = Console(highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(draw(frame, None))
    return captured.get().rstrip()


async def _look(call: Callable[..., Any], *, rtt: bool) -> Look:
    ping, members, links, actors = await asyncio.gather(
        call("ping"), call("members", rtt), call("links"), call("actors")
    )
    return Look(now(), ping, members, links, actors)


# -- live


class _Live:
    """The screen, and what is drawn on it."""

    def __init__(self, given: dict[str, Any], settings: Settings) -> None:
        self._wire = Wire(given, settings.timeout, settings.node)
        self._ears = Wire(given, settings.timeout, settings.node)
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._looks: tuple[Look | None, Look]
        self._no_color = bool(settings.no_color)
        self._sort = "rate"
        self._note = ""
        self._over = asyncio.Event()
        self._draw: Callable[[], None] = lambda: None

    async def run(self, interval: float) -> int:
        """Show the node until a key or a signal ends it."""
        return await closing(self._wire, self._run(interval))

    async def _run(self, interval: float) -> int:
        self._looks = None, await self._look()
        events, cursor = await recent(self._wire.call)
        self._events.extend(events)
        tasks = Tasks("top")
        try:
            with _signals() as signalled, self._screen(), _keys(self._pressed):
                over = tasks.spawn(self._over.wait(), "over")
                seen = self._looks[1].ping, cursor
                tasks.spawn(closing(self._ears, follow(self._ears, self._told, seen)), "events")
                tasks.spawn(self._watch(interval), "looks")
                ends: set[asyncio.Future[Any]] = {signalled, over}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.aclose()
        return 128 + signalled.result() if signalled.done() else Exit.OK

    async def _watch(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self._look_again()

    async def _look(self) -> Look:
        async def call(command: str, *args: Any) -> Any:
            return await self._wire.call(command, *args, wait=_RTT)

        return await _look(call, rtt=True)

    async def _look_again(self) -> None:
        try:
            self._looks, self._note = (self._looks[1], await self._look()), ""
        except Failure as failure:
            self._note = f"{failure.message}; trying again"
        self._draw()

    def _told(self, event: Event) -> None:
        self._events.append(event)
        self._draw()

    def _pressed(self, key: str) -> None:
        if key in ("q", "Q"):
            self._over.set()
        elif key in ("s", "S"):
            self._sort = next_sort(self._sort)
            self._draw()

    @contextmanager
    def _screen(self) -> Iterator[None]:
        console = Console(highlight=False, emoji=False, no_color=self._no_color or None)

        def picture() -> Any:
            return draw(make_frame(*self._looks, self._events, self._sort), console.height, self._note)

        with Live(picture(), console=console, screen=True, auto_refresh=False) as live:
            self._draw = lambda: live.update(picture(), refresh=True)
            try:
                yield
            finally:
                self._draw = lambda: None


@contextmanager
def _signals() -> Iterator["asyncio.Future[int]"]:
    """Take the signals that end the process until the terminal is as it was; the first is the result.

    Ctrl-Z, which would leave the terminal as it is now, does nothing.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Future[int] = loop.create_future()

    def caught(which: int) -> None:
        if not came.done():
            came.set_result(which)

    before = {each: signal.getsignal(each) for each in (*_ENDS, signal.SIGTSTP)}
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    for each in _ENDS:
        loop.add_signal_handler(each, caught, each)
    try:
        yield came
    finally:
        for each in _ENDS:
            loop.remove_signal_handler(each)
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _keys(pressed: Callable[[str], None]) -> Iterator[None]:
    """Call ``pressed`` with each key, as it is pressed; where there is no keyboard, with none."""
    import termios  # noqa: PLC0415 - not on every system; the rest of this file is
    import tty  # noqa: PLC0415

    if not sys.stdin.isatty():
        yield
        return
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def readable() -> None:
        for key in os.read(descriptor, 64).decode("ascii", "ignore"):
            pressed(key)

    try:
        tty.setcbreak(descriptor)
        loop.add_reader(descriptor, readable)
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
