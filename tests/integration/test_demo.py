"""`clusterkit demo`: every step holds, a lie or a broken child is told, and no process outlives it."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = str(Path(__file__).parents[2])
PATIENCE = 40.0
_marks = iter(range(1_000_000))


class Demo:
    """A demo in a process of its own. Its environment has a mark, by which its children are found."""

    def __init__(self, *options: str, folder: Path, path: str = "", terminal: bool = False) -> None:
        self.mark = f"DEMO_OF_THIS_TEST={os.getpid()}-{next(_marks)}"
        key, _, value = self.mark.partition("=")
        kept = {name: text for name, text in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
        path = os.pathsep.join(filter(None, [path, HERE, os.environ.get("PYTHONPATH")]))
        env = kept | {"PYTHONPATH": path, key: value, "TMPDIR": str(folder), "TERM": "xterm-256color"}
        self.reader, writer = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clusterkit", "demo", *options],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            start_new_session=True,
        )
        os.close(writer)
        self.shown = ""

    def read(self, until: str = "") -> str:
        """Read to a text, or to the end."""
        deadline = time.monotonic() + PATIENCE
        while not (until and until in self.shown):
            assert select.select([self.reader], [], [], max(0.0, deadline - time.monotonic()))[0], self.shown
            try:
                data = os.read(self.reader, 65536)
            except OSError:  # a terminal whose other end closed
                data = b""
            if not data:
                assert not until, self.shown
                break
            self.shown += data.decode(errors="replace")
        return self.shown

    def ends(self) -> tuple[int, str]:
        shown = self.read()
        return self.process.wait(PATIENCE), shown

    @property
    def children(self) -> list[int]:
        """All processes that carry the mark but for the demo itself."""
        found = []
        for each in Path("/proc").iterdir():
            try:
                if each.name.isdigit() and self.mark.encode() in (each / "environ").read_bytes().split(b"\0"):
                    found.append(int(each.name))
            except OSError:
                continue
        return [pid for pid in found if pid != self.process.pid]

    def has_no_children(self, timeout: float = 10.0) -> bool:
        deadline = time.monotonic() + timeout
        while self.children and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.children

    def end(self) -> None:
        for pid in [*self.children, self.process.pid]:
            if self.process.poll() is None or pid != self.process.pid:
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        os.close(self.reader)


Starter = Callable[..., Demo]


@pytest.fixture(name="demo")
def _demo(tmp_path: Path) -> Iterator[Starter]:
    running: list[Demo] = []

    def start(*options: str, path: str = "", terminal: bool = False) -> Demo:
        running.append(Demo(*options, folder=tmp_path, path=path, terminal=terminal))
        return running[-1]

    yield start
    for each in running:
        each.end()


def sabotage(folder: Path, code: str) -> str:
    """Make every Python of the demo run this first; returns the path that does it."""
    folder = folder / "sabotage"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return str(folder)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="children are found in /proc")
def test_five_nodes_play_it_once_and_every_step_holds(demo: Starter, tmp_path: Path) -> None:
    played = demo("--once")
    code, shown = played.ends()
    assert code == 0, shown
    for said in (
        "all 5 list the same 5 members, all alive",
        "25 of 25 calls answered, by the process that was called",
        'the call it worked on: NodeDown, executed="maybe"',
        "all 4 others list echo as down",
        '4 new calls to it: NodeDown, executed="no"',
        "all 4 others list echo as alive, in a new run",
        "4 of 4 calls to it answered",
        "all 4 others list bravo no more",
        "alpha, the last, lists itself alone",
        "4 processes ended with exit code 0",
        "Every step held",
    ):
        assert said in shown, shown
    assert "\x1b" not in shown
    ended = re.search(r"([\d.]+) s  4 processes ended", shown)
    assert ended is not None
    assert float(ended[1]) < 5.0, "nodes that leave together held each other up"
    assert not played.children
    assert list(tmp_path.iterdir()) == []


def test_two_nodes_are_enough(demo: Starter) -> None:
    played = demo("--once", "--nodes", "2")
    code, shown = played.ends()
    assert code == 0, shown
    assert "4 of 4 calls answered" in shown
    assert "alpha, the other one, lists bravo as down" in shown
    assert not played.children


def test_the_restarted_node_has_another_process_and_run_and_its_old_address(demo: Starter) -> None:
    code, shown = demo("--once", "--nodes", "3").ends()
    assert code == 0, shown
    (first, before), (second, after) = re.findall(r"charlie answers on (\S+), process (\d+)", shown)
    assert first == second
    assert before != after
    run = re.search(r"run (\w{6}) is now run (\w{6}), still on port (\d+)", shown)
    assert run is not None
    assert run[1] != run[2]
    assert first.endswith(f":{run[3]}")


def test_on_a_terminal_a_table_lives_below(demo: Starter) -> None:
    played = demo("--once", "--nodes", "3", terminal=True)
    code, shown = played.ends()
    assert code == 0, shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"node\s+process\s+address\s+run\s+sees\s+A B C", plain)
    assert "no answer" in plain
    assert "\x1b[?25h" in shown  # the cursor is back
    assert not played.children


def test_ctrl_c_ends_the_rounds_and_all_processes(demo: Starter) -> None:
    played = demo("--nodes", "2", "--pause", "0.1", terminal=True)
    played.read("Kill bravo")
    played.process.send_signal(signal.SIGINT)
    code, shown = played.ends()
    assert code == 130, shown
    assert "SIGINT: stopping all processes" in shown
    assert "Traceback" not in shown
    assert not played.children


def test_rounds_go_on_until_it_is_told_to_end(demo: Starter) -> None:
    played = demo("--nodes", "2", "--pause", "0.1", terminal=True)
    played.read("Round 1 held")
    played.process.send_signal(signal.SIGTERM)
    code, shown = played.ends()
    assert code == 0, shown
    assert "Every step of 1 round held." in shown
    assert not played.children


def test_sigterm_in_the_middle_leaves_no_process(demo: Starter) -> None:
    played = demo("--once", "--nodes", "3")
    played.read("answers on")
    played.process.send_signal(signal.SIGTERM)
    code, shown = played.ends()
    assert code == 128 + signal.SIGTERM, shown
    assert not played.children


def test_a_demo_that_is_killed_leaves_no_process(demo: Starter) -> None:
    played = demo("--once", "--nodes", "3")
    played.read("2. Call")
    played.process.kill()
    assert played.has_no_children(), played.children


def test_a_child_that_cannot_start_is_told_with_its_log(demo: Starter, tmp_path: Path) -> None:
    code = (
        "import os, sys\nif any(each.startswith('bravo@') for each in sys.orig_argv):\n"
        "    print('no bravo today', flush=True)\n    os._exit(1)\n"
    )
    played = demo("--once", "--nodes", "3", path=sabotage(tmp_path, code))
    ended, shown = played.ends()
    assert ended == 1, shown
    assert "clusterkit: the process of bravo ended with exit code 1 before it listened" in shown
    assert "what bravo printed last\nno bravo today" in shown
    assert "Traceback" not in shown
    kept = re.search(r"hint: the logs are kept in (\S+)", shown)
    assert kept is not None
    assert (Path(kept[1]) / "bravo.log").read_text() == "no bravo today\n"
    assert not played.children


LIAR = """
import sys
if 'start' in sys.orig_argv:
    from clusterkit.services import command
    tell = command.tell_member
    command.tell_member = lambda member: tell(member) | {'state': 'alive'}
"""


def test_nodes_that_never_notice_a_death_fail_the_demo(demo: Starter, tmp_path: Path) -> None:
    played = demo("--once", "--nodes", "3", "--patience", "3", path=sabotage(tmp_path, LIAR))
    ended, shown = played.ends()
    assert ended == 1, shown
    assert "clusterkit: it does not hold that alpha and bravo list charlie as down" in shown
    assert not played.children


MUTE = """
import sys
if 'start' in sys.orig_argv:
    from clusterkit.cli.demo_app import Greeter
    async def wrong(self, caller): return {'text': 'hello', 'name': 'alpha', 'pid': 1}
    Greeter.hello = wrong
"""


def test_a_greeting_of_another_process_fails_the_demo(demo: Starter, tmp_path: Path) -> None:
    played = demo("--once", "--nodes", "2", path=sabotage(tmp_path, MUTE))
    ended, shown = played.ends()
    assert ended == 1, shown
    assert re.search(r"clusterkit: alpha called (alpha|bravo) \(process \d+\)", shown)
