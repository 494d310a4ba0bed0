"""A state file is read as it was written, or refused: whatever bytes of it are changed or lost."""

import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clusterkit.core.identity import draw_incarnation
from clusterkit.errors import StateError
from clusterkit.storage.state_file import Saved, StateFile

FILE = "clusterkit.sqlite"
NOW = 1_767_225_600_000
SAVED = Saved("demo", draw_incarnation(NOW, 5), bytes(range(256)) * 40)
SECTIONS = 24  # so that each part of the file, the headers of its pages too, is drawn often


@cache
def whole() -> bytes:
    """A good file of node a: three pages of state, and one boot after it."""
    with tempfile.TemporaryDirectory() as name:
        with StateFile.open(name, "a") as state:
            state.begin(NOW, 5)
            state.save(SAVED.ring_id, SAVED.boot, SAVED.state)
            state.begin(NOW, 6)
        return Path(name, FILE).read_bytes()


BOOT = draw_incarnation(NOW, 6, after=SAVED.boot)


class Wound(NamedTuple):
    """What happens to the bytes from ``at``: changed by a mask, or overwritten, or cut off with all that follows."""

    at: int
    kind: str
    what: bytes

    def applied(self, content: bytes) -> bytes:
        if self.kind == "cut":
            return content[: self.at]
        if self.kind == "flip":
            return content[: self.at] + bytes([content[self.at] ^ (self.what[0] or 1)]) + content[self.at + 1 :]
        return content[: self.at] + self.what + content[self.at + len(self.what) :]


@st.composite
def wounds(draw: st.DrawFn) -> Wound:
    size = len(whole())
    start = draw(st.sampled_from([0, 4096, 8192, 12288, *range(0, size, size // SECTIONS)]))
    at = min(start + draw(st.integers(0, 120) | st.integers(0, size // SECTIONS)), size - 1)
    kind = draw(st.sampled_from(["flip", "flip", "over", "cut"]))
    return Wound(at, kind, draw(st.binary(min_size=1, max_size=1 if kind == "flip" else 600)))


@settings(deadline=None, max_examples=300)
@given(wounded=st.lists(wounds(), min_size=1, max_size=3))
def test_a_damaged_file_is_read_as_it_was_or_refused(wounded: list[Wound]) -> None:
    content = whole()
    for wound in wounded:
        content = wound.applied(content) if wound.at < len(content) else content
    with tempfile.TemporaryDirectory() as name:
        Path(name, FILE).write_bytes(content)
        try:
            state = StateFile.open(name, "a")
        except StateError:
            assert Path(name, FILE).read_bytes() == content
        else:
            with state:
                assert (state.boot, state.saved) == (BOOT, SAVED)
                assert state.begin(NOW, 6) > BOOT


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_byte_that_is_changed_is_noticed_or_means_nothing() -> None:
    content = whole()
    noticed = 0
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, FILE)
        for at in range(len(content)):
            for mask in (0x01, 0x80, 0xFF):
                file.write_bytes(Wound(at, "flip", bytes([mask])).applied(content))
                try:
                    with StateFile.open(name, "a") as state:
                        assert (state.boot, state.saved) == (BOOT, SAVED), at
                except StateError:
                    noticed += 1
    assert noticed > len(SAVED.state) * 3


class StateDirectory(RuleBasedStateMachine):
    """A model of the directory: the last boot, the last save, and runs that begin and end."""

    @initialize()
    def first_start(self) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.directory = Path(self.temporary.name, "0")
        self.boots = [0]
        self.saved: Saved | None = None
        self.state = StateFile.open(self.directory, "a")

    @rule(wall=st.integers(0, NOW * 2), chance=st.integers(0, 2**32), after=st.integers(0, 1 << 63))
    def begin(self, wall: int, chance: int, after: int) -> None:
        boot = self.state.begin(wall, chance, after)
        assert boot > max(after >> 22 << 22, self.boots[-1])
        self.boots.append(boot)

    @rule(ring=st.text(st.characters(codec="utf-8")), boot=st.integers(0, 2**64 - 1), packed=st.binary())
    def save(self, ring: str, boot: int, packed: bytes) -> None:
        self.state.save(ring, boot, packed)
        self.saved = Saved(ring, boot, packed)

    @rule()
    def clear(self) -> None:
        self.state.clear()
        self.saved = None

    @rule(move=st.booleans())
    def start_again(self, move: bool) -> None:
        self.state.close()
        if move:
            self.directory = self.directory.rename(self.directory.with_name(f"{int(self.directory.name) + 1}"))
        self.state = StateFile.open(self.directory, "a")

    @rule()
    def another_node_comes(self) -> None:
        self.state.close()
        with pytest.raises(StateError, match="of node 'a', not of 'b'"):
            StateFile.open(self.directory, "b")
        self.state = StateFile.open(self.directory, "a")

    @invariant()
    def it_knows_what_was_written(self) -> None:
        assert (self.state.boot, self.state.saved) == (self.boots[-1], self.saved)

    def teardown(self) -> None:
        if hasattr(self, "state"):
            self.state.close()
            self.temporary.cleanup()


TestStateDirectory = StateDirectory.TestCase
TestStateDirectory.settings = settings(deadline=None, max_examples=40, stateful_step_count=25)
