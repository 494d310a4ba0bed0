"""The state directory and real processes: one at a time, and killed in the middle of a save."""

import os
import platform
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusterkit.core.identity import draw_incarnation
from clusterkit.errors import StateError
from clusterkit.storage.state_file import Saved, StateFile
from tests.integration import saving_app
from tests.integration.saving_app import SIZE, WALL, content

ROOT = Path(__file__).parents[2]
FILE = "clusterkit.sqlite"
KILLS = 50
HOT = bytes.fromhex("d9d505f920a163d7")  # how a journal begins that a crash left: the save was not finished
TIMEOUT = 20


@contextmanager
def process(directory: Path, task: str, name: str = "a") -> Iterator[subprocess.Popen[str]]:
    """A process with the directory, which is dead when the block is left."""
    with subprocess.Popen(
        [sys.executable, "-m", saving_app.__name__, str(directory), name, task],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().rstrip("\n")


def rest(child: subprocess.Popen[str]) -> list[str]:
    """What it told to its end; a line that the kill cut short was not told."""
    assert child.stdout is not None
    return [each.rstrip("\n") for each in child.stdout.readlines() if each.endswith("\n")]


# -- the lock


def test_a_second_process_is_refused_and_told_which_has_it(tmp_path: Path) -> None:
    with process(tmp_path, "hold") as first:
        assert line(first) == "0"
        with process(tmp_path, "hold") as second:
            assert second.communicate(timeout=TIMEOUT)[0] == (
                f"refused: the state directory {tmp_path} is in use by process {first.pid} on host {platform.node()}\n"
            )
        with pytest.raises(StateError, match=f"in use by process {first.pid} on host"):
            StateFile.open(tmp_path, "b")
        first.communicate(timeout=TIMEOUT)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    StateFile.open(tmp_path, "a").close()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        with process(tmp_path, "hold") as child:
            assert line(child) == "0"


def test_children_of_a_process_hold_nothing(tmp_path: Path) -> None:
    with StateFile.open(tmp_path, "a"):
        heir = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with heir:
        StateFile.open(tmp_path, "a").close()
        heir.kill()


def test_of_many_that_start_at_once_one_gets_it(tmp_path: Path) -> None:
    for round_ in range(3):
        directory = tmp_path / str(round_)
        starts = [process(directory, "hold") for _ in range(4)]
        children = [start.__enter__() for start in starts]
        try:
            told = [line(child) for child in children]
        finally:
            for start in starts:
                start.__exit__(None, None, None)
        assert sorted(each.startswith("refused: ") for each in told) == [False, True, True, True], told
        assert all("is in use by" in each for each in told if each != "0"), told


# -- the crash


def test_a_kill_in_the_middle_of_a_save_leaves_the_one_before_or_the_new_one(tmp_path: Path) -> None:
    directory, rng = tmp_path / "state", random.Random(6)
    boots, saved, amid = [0], Saved("", 0, content(0)), 0
    for kill in range(KILLS):
        with process(directory, "save") as child:
            boots.append(int(line(child)))
            told = [int(line(child)) for _ in range(rng.randrange(4))]
            if kill % 2:
                wait_until_hot(directory)
            child.kill()
            told += [int(each) for each in rest(child)]
        amid += is_hot(directory)
        last = told[-1] if told else number_of(saved)
        with StateFile.open(directory, "a") as state:
            assert state.boot == boots[-1] == draw_incarnation(WALL, 0, after=boots[-2])
            found = state.saved or saved
        assert number_of(found) in (last, last + 1)
        assert found == saved or found == Saved("demo", boots[-1], content(number_of(found)))
        saved = found
    assert amid > KILLS // 10, "hardly a kill hit a save: this test showed nothing"


def number_of(saved: Saved) -> int:
    return int(saved.state[:10])


def is_hot(directory: Path) -> bool:
    """Whether the file holds a save that is not finished, and the journal can undo it."""
    try:
        with (directory / f"{FILE}-journal").open("rb") as journal:
            return journal.read(len(HOT)) == HOT
    except FileNotFoundError:
        return False


def wait_until_hot(directory: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not is_hot(directory):
        assert time.monotonic() < deadline


def test_a_directory_that_is_moved_with_the_journal_of_a_crash_is_opened(tmp_path: Path) -> None:
    directory, last = tmp_path / "0", 0
    for number in range(8):
        with process(directory, "save") as child:
            line(child)
            last = int(line(child))
            wait_until_hot(directory)
            child.kill()
            told = rest(child)
            last = int(told[-1]) if told else last
        directory = Path(shutil.move(directory, tmp_path / f"{number + 1}"))
        with StateFile.open(directory, "a") as state:
            assert state.saved is not None
            assert number_of(state.saved) in (last, last + 1)
            assert state.saved.state == content(number_of(state.saved))


def test_a_disk_that_is_full_fails_the_save_and_keeps_what_was_there(tmp_path: Path) -> None:
    with process(tmp_path, "fill") as child:
        told = child.communicate(timeout=TIMEOUT)[0].splitlines()
    assert told[0].startswith(f"cannot use the state directory {tmp_path}: ")
    assert told[1:] == ["True", "True"]
    with StateFile.open(tmp_path, "a") as state:
        assert state.saved == Saved("demo", state.boot, content(4) * 4)
        assert len(state.saved.state) == SIZE * 4


# -- the copy


def test_a_copy_made_by_another_process_while_it_is_held_and_idle_is_whole(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "state", "a") as state:
        state.save("demo", state.begin(WALL, 1), content(1))
        subprocess.run(["cp", "-r", tmp_path / "state", tmp_path / "copy"], check=True, timeout=TIMEOUT)
        with process(tmp_path / "state", "hold") as child:
            assert f"in use by process {os.getpid()} on" in line(child)
        with StateFile.open(tmp_path / "copy", "a") as copy:
            assert (copy.boot, copy.saved) == (state.boot, state.saved)
