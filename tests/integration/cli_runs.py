"""Runs many command lines side by side, each in a process of its own, into pipes or on a terminal.

It is a program of its own, `run_all` starts it: it loads the command line once and forks for each
line, so that hundreds of them need no hundred starts of an interpreter. A forked process runs what
`python -m clusterkit` runs, with standard streams, environment and terminal of its own; how fast a real start
is, and that one works, is shown in test_cli.py.
"""

import fcntl
import gc
import json
import os
import pty
import selectors
import signal
import subprocess
import sys
import termios
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import clusterkit.cli.main
import clusterkit.cli.question  # noqa: F401 - what nearly all of them load is there when a line is run
from clusterkit.__main__ import main
from clusterkit.cli.commands import TABLE, load

AT_ONCE = 10
_FAULT = 99  # the exit code of what even `main` did not catch


@dataclass(frozen=True)
class Run:
    """A command line; what takes longer than ``cap`` seconds has hung, and is killed."""

    arguments: list[str]
    environ: dict[str, str]
    terminal: bool = False
    cap: float = 20.0
    beside: bool = False
    """The next one does not wait for it, in `run_in_turn`."""


@dataclass(frozen=True)
class Ran:
    """What came of it. On a terminal ``out`` is what the terminal got, and stderr is a pipe all the same."""

    code: int
    out: str
    err: str
    seconds: float
    hung: bool


def run_all(runs: Sequence[Run], *, at_once: int = AT_ONCE, timeout: float = 120.0) -> list[Ran]:
    """Run them, at most so many at a time; the answers are in the order of the runs."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps({"at_once": at_once, "runs": [asdict(each) for each in runs]}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Ran(**each) for each in json.loads(done.stdout)]


def run_in_turn(runs: Sequence[Run], *, timeout: float = 120.0) -> list[Ran]:
    """Run one after the other, but for those that run beside the next."""
    return run_all(runs, at_once=1, timeout=timeout)


# -- in the process that forks


@dataclass(eq=False)
class _Running:
    run: Run
    number: int
    pid: int
    begun: float
    out: int
    err: int
    read: dict[int, list[bytes]]
    hung: bool = False

    def text(self, stream: int) -> str:
        return b"".join(self.read[stream]).decode(errors="replace")


def _start(run: Run, number: int) -> _Running:
    err, err_end = os.pipe()
    out, out_end = pty.openpty() if run.terminal else os.pipe()
    begun = time.monotonic()
    if not (pid := os.fork()):
        _become(run, out_end, err_end)
    os.close(out_end)
    os.close(err_end)
    return _Running(run, number, pid, begun, out, err, {out: [], err: []})


def _become(run: Run, out: int, err: int) -> None:
    """Be the command: never returns."""
    code = _FAULT
    try:
        os.setsid()
        if run.terminal:
            fcntl.ioctl(out, termios.TIOCSCTTY, 0)
            os.dup2(out, 0)
        else:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.closerange(3, 4096)
        os.environ.clear()
        os.environ.update(run.environ)
        sys.argv = ["clusterkit", *run.arguments]
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _run(runs: list[Run], at_once: int) -> list[Ran]:
    waiting, ran = list(enumerate(runs)), dict[int, Ran]()
    running: list[_Running] = []
    with selectors.DefaultSelector() as selector:
        while waiting or running:
            while waiting and sum(not each.run.beside for each in running) < at_once:
                number, run = waiting.pop(0)
                running.append(begun := _start(run, number))
                selector.register(begun.out, selectors.EVENT_READ, begun)
                selector.register(begun.err, selectors.EVENT_READ, begun)
            for key, _ in selector.select(0.05):
                if not _read(key.data, key.fd):
                    selector.unregister(key.fd)
                    os.close(key.fd)
            is_open = {key.data.number for key in selector.get_map().values()}
            ended = [each for each in running if _has_ended(each, ran, is_open=each.number in is_open)]
            running = [each for each in running if each not in ended]
    return [ran[number] for number in range(len(runs))]


def _read(running: _Running, stream: int) -> bool:
    try:
        data = os.read(stream, 65536)
    except OSError:  # a terminal whose other end is closed
        return False
    running.read[stream].append(data)
    return bool(data)


def _has_ended(each: _Running, ran: dict[int, Ran], *, is_open: bool) -> bool:
    seconds = time.monotonic() - each.begun
    if not each.hung and seconds > each.run.cap:
        each.hung = True
        os.kill(each.pid, signal.SIGKILL)
    if is_open:
        return False
    pid, status = os.waitpid(each.pid, os.WNOHANG)
    if pid:
        code = os.waitstatus_to_exitcode(status)
        ran[each.number] = Ran(code, each.text(each.out), each.text(each.err), seconds, each.hung)
    return bool(pid)


def _main() -> None:
    for name in TABLE.keys() - {"shell"}:  # a prompt is not forked
        load(name)
    gc.freeze()  # a forked process need not look through what it shares
    given: dict[str, Any] = json.load(sys.stdin)
    ran = _run([Run(**each) for each in given["runs"]], given["at_once"])
    json.dump([asdict(each) for each in ran], sys.stdout)


if __name__ == "__main__":
    _main()
