"""The state directory: what a node must not forget when its process ends.

One sqlite file holds the node's name, the last boot that it used (the *incarnation*
of `clusterkit.core.identity`), and the ring as it last saw it. A node that starts with
it draws a higher boot whatever its clock says, and finds its cluster without seeds.

Rules. A boot is on the disk before it is given out. A save replaces the one before it
as a whole: after a crash, at any moment, the one or the other is there. Each row bears a
digest of all that it says, so what is read is what was written. Whatever is not a good
file of this node is a `StateError` that says why, and stays as it is: a fresh start
happens only where there was no file.

The lock is sqlite's own, on the file, taken when it is opened and kept until it is
closed: it ends with its process, and children of the process do not inherit it. Who
holds it is written beside it, for people. On POSIX a process that opens and closes
``clusterkit.sqlite`` by other means, to copy it, loses the lock: copy from another
process, with the node stopped.

Everything here blocks, for a millisecond or as long as the disk takes to sync; any
thread may call, one at a time. `close` writes nothing: what was saved is safe already.
"""

import hashlib
import os
import platform
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgpack

from clusterkit.core.identity import check_name, draw_incarnation
from clusterkit.errors import StateError, UsageError

FORMAT = 1
_APPLICATION = 0x636B6974  # "ckit", in the header of the file: whose it is
_FILE, _HOLDER, _BEGUN = "clusterkit.sqlite", "clusterkit.pid", "clusterkit.begun"
_PATIENCE = 0.5  # seconds to wait for the lock: another's try, or its end, is over by then
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNUSABLE = {  # what the machine refuses; all else that sqlite says is about the file's content
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
_READ = "SELECT name, boot, ring, ring_boot, state, digest FROM node"
_WRITE = "INSERT OR REPLACE INTO node VALUES (1, ?, ?, ?, ?, ?, ?)"
_SCHEMA = (
    "CREATE TABLE node (one INTEGER PRIMARY KEY, name TEXT NOT NULL, boot TEXT NOT NULL,"
    " ring TEXT, ring_boot TEXT, state BLOB, digest BLOB NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Saved:
    """What a save wrote: the ring, the boot of this node in it, and its packed state."""

    ring_id: str
    boot: int
    state: bytes


class StateFile:
    """The state directory of one node, open and locked. Made by `open`; usable in ``with``."""

    def __init__(self, directory: Path, name: str, db: sqlite3.Connection) -> None:
        self.directory = directory
        self.name = name
        self._db = db
        self._closed = False
        self._boot = 0
        self._saved: Saved | None = None

    @classmethod
    def open(cls, directory: str | os.PathLike[str], name: str) -> Self:
        """Open and lock ``directory``; it is made (mode 0700) if only its parent is there.

        Raises `StateError` when it is no directory or cannot be written, when another
        process holds it, and when the file in it is damaged, another node's, in another
        format, or no state file.
        """
        check_name(name)
        if not os.fspath(directory):
            raise StateError("the state directory is an empty path")
        where = Path(directory).absolute()
        with _explained(where):
            fresh = _prepare(where)
            file = cls(where, name, _connect(where / _FILE))
        try:
            with _explained(where):
                file._lock()
                file._load(fresh=fresh)
                file._sign()
        except BaseException:
            file._db.close()
            raise
        return file

    # -- what is known

    @property
    def boot(self) -> int:
        """The last boot that was drawn here; 0 when there was none."""
        return self._boot

    @property
    def saved(self) -> Saved | None:
        """What the last `save` wrote, in this run or an earlier one; None after `clear`. Costs no I/O."""
        return self._saved

    # -- what is written

    def begin(self, wall_ms: int, chance: int, after: int = 0) -> int:
        """Draw the next boot, greater than all before it and than ``after``; on disk when this returns.

        ``wall_ms`` and ``chance`` are those of `clusterkit.core.identity.draw_incarnation`.
        """
        boot = draw_incarnation(wall_ms, chance, max(self._boot, after))
        self._write(boot, self._saved)
        return boot

    def save(self, ring_id: str, boot: int, state: bytes) -> None:
        """Replace what was saved; on disk when this returns. The same again costs no I/O."""
        saved = Saved(ring_id, boot, bytes(state))
        if saved != self._saved or self._closed:
            self._write(self._boot, saved)

    def clear(self) -> None:
        """Forget the ring, not the boot: the node left it, or was removed."""
        if self._saved is not None or self._closed:
            self._write(self._boot, None)

    def close(self) -> None:
        """Release the lock; writes nothing. May be called twice."""
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):
            (self.directory / _HOLDER).unlink()
        with _explained(self.directory):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the file

    def _write(self, boot: int, saved: Saved | None) -> None:
        if self._closed:
            raise UsageError(f"the state directory {self.directory} was closed")
        row = [self.name, str(boot), *((saved.ring_id, str(saved.boot), saved.state) if saved else (None, None, None))]
        with _explained(self.directory):
            self._db.execute(_WRITE, [*row, _digest(row)])  # one statement is one transaction
        self._boot, self._saved = boot, saved

    def _lock(self) -> None:
        """Take the lock for good, and begin; a journal that a crash left behind is rolled back here."""
        self._db.execute("PRAGMA synchronous = EXTRA")  # the directory too, so that a commit stays one
        self._db.execute("PRAGMA fullfsync = ON")
        self._db.execute("BEGIN EXCLUSIVE")
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")

    def _load(self, *, fresh: bool) -> None:
        file = self.directory / _FILE
        empty = file.stat().st_size <= 1  # sqlite takes one byte for none, and has a first page in mind by now
        if empty and not fresh:
            raise _damaged(self.directory, "it is empty")
        if empty:
            self._create()
        if self._one("PRAGMA application_id") != _APPLICATION:
            raise StateError(f"{file} is a sqlite file, and none of clusterkit's")
        if (version := self._one("PRAGMA user_version")) != FORMAT:
            raise StateError(f"{file} has format {version}: this clusterkit reads format {FORMAT} alone")
        self._read()

    def _sign(self) -> None:
        """Write who holds the directory, and once to the file: what cannot be written shows now."""
        holder = self.directory / _HOLDER
        holder.write_text(f"{os.getpid()} {platform.node()}\n")
        try:
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            self._db.execute("COMMIT")
            (self.directory / _BEGUN).unlink(missing_ok=True)
        except BaseException:
            holder.unlink(missing_ok=True)
            raise

    def _create(self) -> None:
        self._db.execute(_SCHEMA)
        self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")
        row = [self.name, "0", None, None, None]
        self._db.execute(_WRITE, [*row, _digest(row)])

    def _read(self) -> None:
        if (report := self._one("PRAGMA integrity_check(1)")) != "ok":
            raise _damaged(self.directory, str(report))
        rows = self._db.execute(_READ).fetchall()
        if len(rows) != 1 or rows[0][-1] != _digest(rows[0][:-1]):
            raise _damaged(self.directory, "its content does not match its digest")
        name, boot, ring, ring_boot, state, _ = rows[0]
        if name != self.name:
            raise StateError(f"the state directory {self.directory} is of node {name!r}, not of {self.name!r}")
        self._boot = int(boot)
        self._saved = None if ring is None else Saved(ring, int(ring_boot), state)

    def _one(self, question: str) -> Any:
        return self._db.execute(question).fetchall()[0][0]


def _prepare(directory: Path) -> bool:
    """Make what is missing; tell whether no first start has ended yet."""
    if not directory.is_dir():
        _make(directory)
    file, begun = directory / _FILE, directory / _BEGUN
    if not file.exists():
        if not begun.exists() and file.with_name(f"{_FILE}-journal").exists():
            raise StateError(f"{file} is gone, and its journal is there: put the file back, or remove the journal too")
        begun.touch(0o600)  # an empty file beside it is a first start that was cut short
        _sync(directory)
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    return begun.exists()


def _make(directory: Path) -> None:
    if not directory.parent.is_dir():
        raise StateError(f"cannot make the state directory {directory}: there is no directory {directory.parent}")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)  # another process may make it at this moment
    except FileExistsError:
        raise StateError(f"{directory} is no directory: a state directory is needed") from None
    _sync(directory.parent)


def _sync(directory: Path) -> None:
    """Make new names in a directory last; sqlite does this for its own."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)


def _digest(row: Any) -> bytes:
    return hashlib.sha256(msgpack.packb([FORMAT, *row])).digest()


# -- what went wrong


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Turn what sqlite and the system raise into one `StateError` that names the directory."""
    try:
        yield
    except sqlite3.Error as error:
        raise _judged(directory, error) from error
    except OSError as error:
        raise _unusable(directory, f"{error.filename or directory}: {error.strerror or error}") from error
    except ValueError as error:
        raise _unusable(directory, str(error)) from error


def _judged(directory: Path, error: sqlite3.Error) -> StateError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it is detail
    if code in _LOCKED:
        return StateError(f"the state directory {directory} is in use by {_holder(directory)}")
    if code in _UNUSABLE:
        return _unusable(directory, str(error))
    return _damaged(directory, str(error))


def _holder(directory: Path) -> str:
    try:
        pid, _, host = (directory / _HOLDER).read_text().strip().partition(" ")
    except (OSError, ValueError):
        return "another process"
    if (pid, host) == (str(os.getpid()), platform.node()):
        return "this process already: one node, one directory"
    return f"process {pid} on host {host}" if pid and host else "another process"


def _unusable(directory: Path, what: str) -> StateError:
    return StateError(f"cannot use the state directory {directory}: {what}")


def _damaged(directory: Path, what: str) -> StateError:
    return StateError(
        f"{directory / _FILE} is damaged, or no state file ({what}): put a copy back, or remove it to start without"
    )
