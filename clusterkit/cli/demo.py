"""``clusterkit demo``: a cluster of real processes that loses a node and gets it back.

Rules: no process outlives it, however it ends; a step that does not hold ends it with
exit code 1, and the logs are kept. The steps are in `clusterkit.cli.demo_play`.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path

from clusterkit.cli.cookie import new_cookie
from clusterkit.cli.demo_play import Play
from clusterkit.cli.demo_process import Broken, NodeProcess, child_environment, end_all
from clusterkit.cli.demo_show import Show
from clusterkit.cli.demo_watch import Watch
from clusterkit.cli.failure import Exit, Failure
from clusterkit.runtime import Tasks, wait_for_signal

_NAMES = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliett",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
]


def run_demo(*, nodes: int, once: bool, patience: float, pause: float) -> int:
    """Play the demo; raises `Failure` when a step did not hold."""
    folder = Path(tempfile.mkdtemp(prefix="clusterkit-demo-"))
    try:
        code = asyncio.run(_perform(folder, nodes, once=once, patience=patience, pause=pause))
    except Broken as why:
        raise Failure(Exit.REFUSED, "demo", str(why), f"the logs are kept in {folder}") from why
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return code


async def _perform(folder: Path, count: int, *, once: bool, patience: float, pause: float) -> int:
    cookie = await new_cookie()
    environment = child_environment(cookie, os.environ)
    nodes = [NodeProcess(name, folder, environment) for name in _NAMES[:count]]
    watch = Watch(cookie, count)
    tasks = Tasks("demo")
    with Show(nodes, watch) as show:
        play = Play(nodes, watch, show, patience)
        signalled = tasks.spawn(wait_for_signal(), "signal")
        played = tasks.spawn(_caught(play, once=once, pause=pause), "play")
        try:
            await asyncio.wait({signalled, played}, return_when=asyncio.FIRST_COMPLETED)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the second one ends the demo, and so its processes
            return _outcome(show, play, signalled, played)
        finally:
            await tasks.aclose()
            await watch.aclose()
            await end_all(nodes)


async def _caught(play: Play, *, once: bool, pause: float) -> Broken | None:
    try:
        await (play.once() if once or not play.show.alive else play.for_ever(pause))
    except Broken as why:
        return why
    return None


def _outcome(show: Show, play: Play, signalled: "asyncio.Task[str]", played: "asyncio.Task[Broken | None]") -> int:
    show.clear()
    if played.done():
        if (why := played.result()) is not None:
            play.tell_broken(why)
            raise why
        return Exit.OK
    show.say(f"\n{signalled.result()}: stopping all processes")
    if play.rounds:
        show.say(f"Every step of {play.rounds} round{'s' * (play.rounds > 1)} held.", "bold green")
        return Exit.OK
    return 128 + signal.Signals[signalled.result()]
