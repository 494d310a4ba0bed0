"""The data service: keeps the players' best scores in a file, so that they outlive it.

CLUSTERKIT_COOKIE=... python -m examples.game_cluster.data
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from clusterkit import call
from clusterkit.runtime import in_thread
from examples.game_cluster.role import Role, main


class DataService(Role):
    module, resource = "data", "data_service"

    def __init__(self, file: Path) -> None:
        self.file = file

    @call
    async def load(self, player: str) -> int:
        """A player's best score; 0 for one that is new."""
        return await in_thread(lambda: self.read(player))

    @call
    async def save(self, player: str, score: int) -> int:
        """Keep a score if it is the best, and return what that is now: saving twice is as saving once."""
        return await in_thread(lambda: self.write(player, score))

    def read(self, player: str) -> int:
        with closing(self.open()) as db:
            return next((best for (best,) in db.execute("SELECT best FROM scores WHERE player = ?", [player])), 0)

    def write(self, player: str, score: int) -> int:
        with closing(self.open()) as db, db:
            best = "INSERT INTO scores VALUES (?, ?) ON CONFLICT DO UPDATE SET best = max(best, excluded.best)"
            db.execute(best, [player, score])
        return self.read(player)

    def open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.file)
        db.execute("CREATE TABLE IF NOT EXISTS scores (player TEXT PRIMARY KEY, best INTEGER)")
        return db


if __name__ == "__main__":
    main("data", lambda folder: DataService(folder / "scores.sqlite"))
