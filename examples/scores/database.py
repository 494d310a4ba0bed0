"""The slow database behind the cache. `load` is what a cache server calls for a key that nobody has yet."""

import os
import sqlite3
import time
from contextlib import closing

SLOW = 0.2  # seconds that a question takes


def load(student: str) -> int:
    """Ask for one score; a plain function, so it runs in a thread and may block."""
    time.sleep(SLOW)  # noqa: TID251 - this is what makes it slow
    with closing(sqlite3.connect(os.environ["SCORES_DATABASE"])) as database, database:
        database.execute("INSERT INTO asked VALUES (?)", [student])
        found = database.execute("SELECT score FROM scores WHERE student = ?", [student]).fetchone()
    if found is None:
        raise KeyError(student)  # the cache's word for: there is no such key
    score: int = found[0]
    return score
