"""What is said beside the commands: notices that appear above the prompt, or before the next one.

Rules: any thread may post; a notice never stands in the middle of what a command prints, and
none is lost but the oldest of more than a thousand.
"""

import logging
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from prompt_toolkit.application import Application, run_in_terminal

from clusterkit.cli.output import one_line

_KEPT = 1_000


class Board:
    """Notices, on their way to the terminal."""

    def __init__(self) -> None:
        self.app: Application[Any] | None = None
        """The editor of the line, which is asked to make room while it runs."""

        self._waiting: deque[str] = deque(maxlen=_KEPT)

    def post(self, text: str) -> None:
        """Show a notice as soon as there is room for it; from any thread."""
        self._waiting.append(one_line(text))
        loop = self.app.loop if self.app is not None else None
        if loop is None:
            return  # a command runs: before the next prompt
        try:
            loop.call_soon_threadsafe(self._make_room)
        except RuntimeError:  # the line has just ended, and with it its loop
            return

    def _make_room(self) -> None:
        if self.app is not None and self.app.is_running and self._waiting:
            run_in_terminal(self.flush)

    def flush(self) -> None:
        """Print what waits."""
        while self._waiting:
            click.echo(click.style(f"* {self._waiting.popleft()}", fg="cyan"), err=not sys.stdout.isatty())


class _Posting(logging.Handler):
    def __init__(self, board: Board) -> None:
        super().__init__(logging.WARNING)
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        self._board.post(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def logged_on(board: Board) -> Iterator[None]:
    """Post what the library logs as a warning or worse."""
    handler, logger = _Posting(board), logging.getLogger("clusterkit")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
