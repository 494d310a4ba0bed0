"""A process that holds a state directory, for test_state_directory.py: ``python saving_app.py DIRECTORY NAME TASK``.

It tells on stdout what is on the disk, a line each, and ends when its stdin does.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from clusterkit.errors import StateError
from clusterkit.storage.state_file import Saved, StateFile

WALL = 1_767_225_600_000  # ms; the clock stands still, so that boots differ by the file alone
SIZE = 400_000


def content(number: int) -> bytes:
    """The state of the n-th save: long, so that a save takes many writes, and telling its number everywhere."""
    return b"%010d" % number * (SIZE // 10)


def tell(text: object) -> None:
    """Say a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def save(state: StateFile) -> None:
    """Draw a boot, then save for ever, and tell the number of each save that returned."""
    tell(state.begin(WALL, 0))
    number = int(state.saved.state[:10]) if state.saved else 0
    while True:
        number += 1
        state.save("demo", state.boot, content(number))
        tell(number)


def hold(state: StateFile) -> None:
    """Do nothing until stdin ends."""
    tell(state.boot)
    sys.stdin.read()


def fill(state: StateFile) -> None:
    """Save more than the process may write, and then what it may."""
    import resource  # noqa: PLC0415 - POSIX alone
    import signal  # noqa: PLC0415

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    state.save("demo", state.begin(WALL, 0), content(1))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE * 3, unlimited[1]))
    try:
        state.save("demo", state.boot, content(2) * 8)
    except StateError as error:
        tell(error)
    tell(state.saved == Saved("demo", state.boot, content(1)))
    state.save("demo", state.boot, content(3))
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    state.save("demo", state.boot, content(4) * 4)
    tell(state.saved == Saved("demo", state.boot, content(4) * 4))


TASKS: dict[str, Callable[[StateFile], None]] = {"save": save, "hold": hold, "fill": fill}


def main(directory: str, name: str, task: str) -> None:
    """Open the directory and run the task in it, or tell why not."""
    try:
        state = StateFile.open(Path(directory), name)
    except StateError as error:
        tell(f"refused: {error}")
    else:
        with state:
            TASKS[task](state)


if __name__ == "__main__":
    main(*sys.argv[1:])
