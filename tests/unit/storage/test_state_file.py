"""The state directory: what is kept, what is refused and why, and that nothing refused is changed."""

import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusterkit.core.identity import draw_incarnation
from clusterkit.errors import ConfigError, StateError, UsageError
from clusterkit.storage.state_file import FORMAT, Saved, StateFile

NOW = 1_767_225_600_000  # ms
LONG_AGO = 1_600_000_000_000
FILE, HOLDER, BEGUN = "clusterkit.sqlite", "clusterkit.pid", "clusterkit.begun"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that two runs of node a have used: one boot each, the second saved a ring."""
    where = tmp_path / "state"
    with StateFile.open(where, "a") as state:
        state.begin(NOW, 1)
    with StateFile.open(where, "a") as state:
        state.save("demo", state.begin(NOW, 2), b"members")
    return where


def refused(directory: Path, name: str = "a") -> str:
    """Why the directory cannot be opened; what is in it stays as it was."""
    before = contents(directory)
    with pytest.raises(StateError) as caught:
        StateFile.open(directory, name)
    assert contents(directory) == before
    return str(caught.value)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()} if directory.is_dir() else {}


def change(directory: Path, *statements: str) -> None:
    """What another program than clusterkit does to the file."""
    db = sqlite3.connect(directory / FILE)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


# -- kept


def test_a_first_start_knows_nothing(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "state", "a") as state:
        assert (state.name, state.boot, state.saved) == ("a", 0, None)
        assert state.directory == tmp_path / "state"


def test_what_was_saved_last_is_there_at_the_next_start(directory: Path) -> None:
    boot = draw_incarnation(NOW, 2, after=draw_incarnation(NOW, 1))
    with StateFile.open(directory, "a") as state:
        assert (state.boot, state.saved) == (boot, Saved("demo", boot, b"members"))
        state.save("demo", boot, b"")
        state.save("demo", boot, b"others")
        assert state.saved == Saved("demo", boot, b"others")
    with StateFile.open(directory, "a") as state:
        assert state.saved == Saved("demo", boot, b"others")


def test_a_boot_exceeds_all_before_it_whatever_the_clock_says(directory: Path) -> None:
    boots = []
    for wall in (NOW, LONG_AGO, 0, NOW):
        with StateFile.open(directory, "a") as state:
            boots += [state.begin(wall, 0), state.begin(wall, 0)]
            assert state.boot == boots[-1]
    assert boots == sorted(set(boots))
    assert boots[0] == draw_incarnation(NOW, 0, after=draw_incarnation(NOW, 2, after=draw_incarnation(NOW, 1)))


def test_a_boot_exceeds_one_that_others_know(directory: Path) -> None:
    known = (NOW << 22) | 7
    with StateFile.open(directory, "a") as state:
        assert state.begin(NOW, 9, after=known) == draw_incarnation(NOW, 9, after=known)
        assert state.begin(NOW, 9, after=5) > known


def test_a_boot_beyond_63_bits_is_kept(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "state", "a") as state:
        most = state.begin(0, 1, after=((1 << 42) - 2) << 22)
        state.save("demo", most, b"x")
    assert most >> 63
    with StateFile.open(tmp_path / "state", "a") as state:
        assert (state.boot, state.saved) == (most, Saved("demo", most, b"x"))
        with pytest.raises(ConfigError, match="cannot be used any more"):
            state.begin(0, 1)
        assert state.boot == most


def test_a_boot_keeps_the_ring_and_clearing_the_ring_keeps_the_boot(directory: Path) -> None:
    with StateFile.open(directory, "a") as state:
        saved, boot = state.saved, state.begin(NOW, 3)
        assert state.saved == saved
        state.clear()
        state.clear()
        assert state.saved is None
    with StateFile.open(directory, "a") as state:
        assert (state.boot, state.saved) == (boot, None)


def test_the_same_again_is_not_written_and_all_else_is(directory: Path) -> None:
    with StateFile.open(directory, "a") as state:
        assert state.saved is not None
        ring, boot, packed = state.saved.ring_id, state.saved.boot, state.saved.state
        for again, written in (
            ((ring, boot, packed), 0),
            ((ring, boot, packed + b"+"), 1),
            ((ring, boot + 1, packed + b"+"), 1),
            (("other", boot + 1, packed + b"+"), 1),
        ):
            before = state._db.total_changes
            state.save(*again)
            assert bool(state._db.total_changes - before) == bool(written)


@pytest.mark.parametrize("size", [0, 1, 4096, 3_000_000])
def test_a_state_of_any_size_is_kept(tmp_path: Path, size: int) -> None:
    packed = os.urandom(size)
    with StateFile.open(tmp_path / "state", "a") as state:
        state.save("demo", 1, packed)
    with StateFile.open(tmp_path / "state", "a") as state:
        assert state.saved == Saved("demo", 1, packed)


def test_any_thread_may_call_one_at_a_time(directory: Path) -> None:
    boots: list[int] = []
    with StateFile.open(directory, "a") as state:
        for number in range(4):
            thread = threading.Thread(target=lambda: boots.append(state.begin(NOW, 0)))
            thread.start()
            thread.join(timeout=10)
            state.save("demo", state.boot, b"%d" % number)
    assert boots == sorted(set(boots))
    assert len(boots) == 4


# -- moved, restored


def test_the_directory_may_be_moved(directory: Path) -> None:
    there = directory.rename(directory.with_name("elsewhere"))
    with StateFile.open(there, "a") as state:
        assert state.saved is not None
        assert state.begin(NOW, 1) > state.saved.boot


def test_a_restored_copy_is_opened_and_its_boots_exceed_its_own(directory: Path) -> None:
    copy = directory.with_name("copy")
    shutil.copytree(directory, copy)
    with StateFile.open(directory, "a") as state:
        state.save("demo", state.begin(NOW, 3), b"newer")
    shutil.rmtree(directory)
    copy.rename(directory)
    with StateFile.open(directory, "a") as state:
        assert state.saved is not None
        assert state.saved.state == b"members"
        assert state.begin(NOW, 3) > state.saved.boot


def test_the_directory_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with StateFile.open(tmp_path / "state", "a") as state:
            state.save("demo", 1, b"x")
            modes = {path.name: path.stat().st_mode & 0o777 for path in state.directory.iterdir()}
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert modes[FILE] == 0o600
    assert modes.get(f"{FILE}-journal", 0o600) == 0o600


def test_one_file_is_left_when_it_is_closed(directory: Path) -> None:
    (directory / "lost+found").mkdir()
    StateFile.open(directory, "a").close()
    assert sorted(path.name for path in directory.iterdir()) == [FILE, "lost+found"]


# -- in use


@pytest.mark.parametrize("writes", [True, False])
def test_a_second_one_is_refused_until_the_first_is_closed(directory: Path, writes: bool) -> None:
    first = StateFile.open(directory, "a")
    if writes:
        first.begin(NOW, 1)
    for name in ("a", "b"):
        with pytest.raises(StateError, match="in use by this process already"):
            StateFile.open(directory, name)
    first.begin(NOW, 1)
    first.close()
    StateFile.open(directory, "a").close()


@pytest.mark.parametrize(
    ("written", "holder"),
    [
        (b"4711 web-1\n", "process 4711 on host web-1"),
        (b"", "another process"),
        (b"4711", "another process"),
        (b"\xff\xff", "another process"),
        (None, "another process"),
    ],
)
def test_the_holder_is_named_as_far_as_it_is_known(directory: Path, written: bytes | None, holder: str) -> None:
    with StateFile.open(directory, "a"):
        (directory / HOLDER).unlink()
        if written is not None:
            (directory / HOLDER).write_bytes(written)
        with pytest.raises(StateError, match=f"in use by {holder}$"):
            StateFile.open(directory, "a")


def test_who_held_it_before_is_no_lock(directory: Path) -> None:
    (directory / HOLDER).write_text("4711 web-1\n")
    StateFile.open(directory, "a").close()


def test_a_closed_one_is_closed(directory: Path) -> None:
    state = StateFile.open(directory, "a")
    assert state.saved is not None
    state.close()
    state.close()
    for write in (
        lambda: state.begin(NOW, 1),
        lambda: state.save("demo", state.boot, b"members"),
        state.clear,
    ):
        with pytest.raises(UsageError, match="was closed"):
            write()


def test_a_closed_one_without_a_ring_is_closed_too(tmp_path: Path) -> None:
    state = StateFile.open(tmp_path, "a")
    state.close()
    with pytest.raises(UsageError, match="was closed"):
        state.clear()


def test_one_that_is_just_being_closed_is_waited_for(directory: Path) -> None:
    first = StateFile.open(directory, "a")
    ending = threading.Timer(0.02, first.close)
    ending.start()
    StateFile.open(directory, "a").close()
    ending.join(timeout=10)


def test_closing_forgives_a_directory_that_is_gone(directory: Path) -> None:
    state = StateFile.open(directory, "a")
    shutil.rmtree(directory)
    state.close()


# -- refused


def test_another_nodes_directory_is_refused(directory: Path) -> None:
    assert f"{directory} is of node 'a', not of 'b'" in refused(directory, "b")


@pytest.mark.parametrize("name", ["", "a b", "x" * 65])
def test_a_name_that_no_node_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="node name"):
        StateFile.open(tmp_path / "state", name)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("version", [0, FORMAT + 1, -1])
def test_another_format_is_refused(directory: Path, version: int) -> None:
    change(directory, f"PRAGMA user_version = {version}")
    assert f"has format {version}: this clusterkit reads format {FORMAT} alone" in refused(directory)


def test_a_sqlite_file_of_another_program_is_refused(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE node (name TEXT)", "INSERT INTO node VALUES ('a')")
    assert "none of clusterkit's" in refused(tmp_path)


def test_a_sqlite_file_without_tables_is_refused(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE x (y)", "DROP TABLE x")
    assert "none of clusterkit's" in refused(tmp_path)


def _cut(size: int) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:size]


def _zeroed(start: int, end: int) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:start] + bytes(end - start) + whole[end:]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_cut(0), id="cut to nothing"),
        pytest.param(_cut(1), id="cut to a byte"),
        pytest.param(_cut(100), id="cut to the header"),
        pytest.param(_cut(4096), id="cut to a page"),
        pytest.param(_cut(5000), id="cut within a page"),
        pytest.param(_zeroed(0, 4096), id="the first page is zero"),
        pytest.param(_zeroed(4096, 8192), id="the second page is zero"),
        pytest.param(_zeroed(100, 4096), id="the schema is zero"),
        pytest.param(lambda whole: bytes(len(whole)), id="all zero"),
        pytest.param(lambda whole: whole[:35] + b"\2\0\0\0\1" + whole[40:], id="the header calls a used page free"),
        pytest.param(lambda whole: b"[ring]\nnodes = a, b\n", id="a text"),
        pytest.param(lambda whole: b"\x7fELF" + whole, id="bytes before it"),
        pytest.param(lambda whole: whole.replace(b"members", b"numbers"), id="another state"),
        pytest.param(lambda whole: whole.replace(b"demo", b"memo"), id="another ring"),
    ],
)
def test_a_damaged_file_is_refused_and_stays_as_it_is(directory: Path, damage: Callable[[bytes], bytes]) -> None:
    file = directory / FILE
    file.write_bytes(damage(file.read_bytes()))
    assert f"{file} is damaged, or no state file" in refused(directory)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM node",
        "DROP TABLE node",
        "ALTER TABLE node RENAME COLUMN boot TO shoe",
        "UPDATE node SET boot = '1'",
        "UPDATE node SET boot = 1",
        "UPDATE node SET boot = 'one'",
        "UPDATE node SET name = 'b'",
        "UPDATE node SET ring_boot = NULL",
        "UPDATE node SET state = NULL",
        "UPDATE node SET digest = x'00'",
        "UPDATE node SET state = CAST(x'ff' AS TEXT)",
        "INSERT INTO node SELECT 2, name, boot, ring, ring_boot, state, digest FROM node",
    ],
)
def test_a_file_that_somebody_changed_is_refused(directory: Path, statement: str) -> None:
    change(directory, statement)
    assert "is damaged, or no state file" in refused(directory)


def test_a_journal_without_its_file_is_refused(directory: Path) -> None:
    (directory / FILE).rename(directory / f"{FILE}-journal")
    assert "is gone, and its journal is there" in refused(directory)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("x")
    assert "is no directory" in refused(tmp_path / "state")


def test_a_directory_that_another_makes_at_this_moment_is_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, is_dir = tmp_path / "state", Path.is_dir

    def look(path: Path) -> bool:
        found = is_dir(path)
        if path == where and not found:
            path.mkdir()  # the other one's
        return found

    monkeypatch.setattr(Path, "is_dir", look)
    StateFile.open(where, "a").close()


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(StateError, match="cannot use the state directory"):
        StateFile.open(tmp_path, "a")


def test_a_directory_whose_parent_is_not_there_is_refused(tmp_path: Path) -> None:
    assert f"there is no directory {tmp_path / 'no'}" in refused(tmp_path / "no" / "state")


@pytest.mark.parametrize(("path", "why"), [("", "empty path"), ("/tmp/\0", "null byte"), ("/tmp/" + "x" * 300, "long")])
def test_a_path_that_cannot_be_is_refused(path: str, why: str) -> None:
    with pytest.raises(StateError, match=why):
        StateFile.open(path, "a")


# -- a first start that was cut short


@pytest.mark.parametrize("file_was_made", [True, False])
def test_a_first_start_that_was_cut_short_begins_anew(tmp_path: Path, file_was_made: bool) -> None:
    (tmp_path / BEGUN).touch()
    if file_was_made:
        (tmp_path / FILE).touch()
    with StateFile.open(tmp_path, "a") as state:
        assert state.boot == 0
        state.begin(NOW, 1)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    (tmp_path / FILE).write_bytes(b"")
    assert "it is empty" in refused(tmp_path)


def test_a_sign_of_a_first_start_beside_a_whole_file_is_removed(directory: Path) -> None:
    (directory / BEGUN).touch()
    with StateFile.open(directory, "a") as state:
        assert state.boot
    assert not (directory / BEGUN).exists()


# -- not allowed


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory that anybody may enter, and for root to be nobody meanwhile: root may write everywhere."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="clusterkit-") as name:
        where = Path(name)
        where.chmod(0o755)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield where
        finally:
            if root:
                os.seteuid(0)


def test_a_place_where_nothing_may_be_made_is_refused(unprivileged: Path) -> None:
    if os.access(unprivileged, os.W_OK, effective_ids=True):
        unprivileged.chmod(0o555)  # not root: it is our own
    assert "Permission denied" in refused(unprivileged / "state")
    assert "Permission denied" in refused(unprivileged)


@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "why"),
    [
        pytest.param(0o444, 0o777, "readonly database", id="the file"),
        pytest.param(0o666, 0o555, "Permission denied", id="the directory"),
        pytest.param(0o444, 0o555, "Permission denied", id="both"),
        pytest.param(0o000, 0o777, "unable to open", id="the file may not even be read"),
    ],
)
def test_what_may_only_be_read_is_refused(unprivileged: Path, file_mode: int, directory_mode: int, why: str) -> None:
    nobody = os.geteuid()
    os.seteuid(os.getuid())
    with StateFile.open(unprivileged, "a") as state:
        state.begin(NOW, 1)
    (unprivileged / FILE).chmod(file_mode)
    unprivileged.chmod(directory_mode)
    os.seteuid(nobody)
    with pytest.raises(StateError, match=why):
        StateFile.open(unprivileged, "a")
    assert [path.name for path in unprivileged.iterdir()] == [FILE]
