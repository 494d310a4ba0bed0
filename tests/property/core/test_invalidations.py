"""A log that forgets nearly at once, beside one that remembers everything: it may say too much, and never too little."""

from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from clusterkit.core.invalidations import (
    ALL,
    KEY,
    PREFIX,
    RECENT,
    Invalidation,
    Invalidations,
    pack_told,
    size_of,
    unpack_told,
)

KEYS = ["a", "aa", "ab", "b", "c"]
whats = st.one_of(
    st.tuples(st.just(KEY), st.sampled_from(KEYS)),
    st.tuples(st.just(KEY), st.sampled_from(KEYS)),
    st.tuples(st.just(PREFIX), st.sampled_from(["", "a", "aa", "b"])),
    st.tuples(st.just(ALL), st.just("")),
)
told_by_others = st.builds(
    lambda maker, number, what: Invalidation(maker[0], maker[1], number, what[0], what[1]),
    st.sampled_from([("x", 4), ("x", 5), ("y", 5), ("me", 4), ("me", 5)]),
    st.integers(1, 6),
    whats,
)


def new_log(name: str = "me", **limits: Any) -> Invalidations:
    return Invalidations(name, 5, count(100).__next__, **limits)


class Everything:
    """What a node heard, all of it: when, and at which `seq`; None stands for what overtakes all."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, float, Invalidation | None]] = []
        """None stands for a new beginning."""

    def knows(self, what: Invalidation) -> bool:
        """Whether it says nothing new: its maker was heard of the same place before, as late or later."""
        return any(
            (each.name, each.kind, each.text) == (what.name, what.kind, what.text)
            and (each.boot, each.number) >= (what.boot, what.number)
            for _, _, each in self.heard
            if each is not None
        )

    def since(self, began: int) -> list[Invalidation | None]:
        return [what for seq, _, what in self.heard if seq > began]

    def is_stale(self, key: str, began: int) -> bool:
        return any(what is None or what.covers(key) for what in self.since(began))


def is_told(what: Invalidation, told: list[Invalidation]) -> bool:
    """Whether who applies ``told`` needs ``what`` no more."""
    return any(
        (each.name, each.kind, each.text, True)
        == (what.name, what.kind, what.text, (each.boot, each.number) >= (what.boot, what.number))
        or (each.name == "me" and each.kind == ALL)
        for each in told
    )


class LogMachine(RuleBasedStateMachine):
    """Told in any order, again and again, by makers that live twice."""

    keep, most = 20.0, 3

    def __init__(self) -> None:
        super().__init__()
        self.log = new_log(keep=self.keep, most=self.most)
        self.all = Everything()
        self.now = 100.0

    @rule(seconds=st.sampled_from([0.0, 0.5, 7.0, 20.0, 20.5, 700.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(what=told_by_others)
    def apply(self, what: Invalidation) -> None:
        own = (what.name, what.boot) == ("me", 5)
        known = own or self.all.knows(what)
        before = self.log.seq
        is_news = self.log.apply(what, self.now)
        assert is_news or known
        assert not (is_news and own)
        assert self.log.seq == before + is_news
        if is_news:
            self.all.heard.append((self.log.seq, self.now, what))

    @rule(what=whats)
    def make(self, what: tuple[int, str]) -> None:
        made = self.log.make(*what, self.now)
        assert not self.all.knows(made)
        self.all.heard.append((self.log.seq, self.now, made))

    @rule()
    def begin_anew(self) -> None:
        self.log.begin_anew()
        self.all.heard = [each for each in self.all.heard if each[0] > self.log.oldest]
        self.all.heard.append((self.log.seq, self.now, None))

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.log) <= self.most

    @invariant()
    def what_may_be_old_is_stale(self) -> None:
        for began in range(max(0, self.log.seq - 8), self.log.seq + 1):
            for key in KEYS:
                assert self.log.is_stale(key, began) or not self.all.is_stale(key, began)

    @invariant()
    def who_asks_what_came_after_learns_it(self) -> None:
        for began in range(max(0, self.log.seq - 8), self.log.seq + 1):
            told = read_on(self.log, began)
            assert all(is_told(what, told) for what in self.all.since(began) if what is not None)

    @invariant()
    def what_came_since_a_moment_is_after_what_came_before_it(self) -> None:
        for at in {self.now, self.now - 7.0, *[at for _, at, _ in self.all.heard[-4:]]}:
            told = read_on(self.log, self.log.before(at))
            assert all(is_told(what, told) for _, heard, what in self.all.heard if what is not None and heard >= at)

    @invariant()
    def who_asks_what_was_made_here_learns_it(self) -> None:
        for since in (self.now, self.now - 7.0, self.now - 1e4):
            told = read_on(self.log, self.log.before(since, own=True), own=True)
            assert all(each.name == "me" for each in told)
            made = [what for _, at, what in self.all.heard if what and what.name == "me" and at >= since]
            assert all(is_told(what, told) for what in made)

    @invariant()
    def one_that_may_have_missed_something_is_told_it_with_the_question(self) -> None:
        for behind in range(max(0, self.log.seq - 8), self.log.seq + 1):
            for key in KEYS:
                told = self.log.about(key, self.now, behind)
                assert all(each.covers(key) for each in told)
                missed = [what for what in self.all.since(behind) if what is not None and what.covers(key)]
                assert all(is_told(what, told) for what in missed)


def read_on(log: Invalidations, seq: int, *, own: bool = False) -> list[Invalidation]:
    """All that is told to one who begins after a `seq`."""
    came: list[Invalidation] = []
    while True:
        told, seq = log.after(seq, own=own)
        came += told
        if not told or seq >= log.seq:
            return came


class RoomyMachine(LogMachine):
    """With room for all it says no more than it must."""

    keep, most = 1e9, 1_000

    @invariant()
    def what_is_not_old_is_not_stale(self) -> None:
        for began in range(max(0, self.log.seq - 8), self.log.seq + 1):
            for key in KEYS:
                assert self.log.is_stale(key, began) == self.all.is_stale(key, began)

    @invariant()
    def what_is_recent_is_told_with_each_question(self) -> None:
        for key in KEYS:
            told = self.log.about(key, self.now)
            assert all(
                is_told(what, told)
                for _, at, what in self.all.heard
                if what is not None and at > self.now - RECENT and what.covers(key)
            )

    @invariant()
    def the_recent_ones_are_found(self) -> None:
        recent = [what for _, at, what in self.all.heard if what is not None and at >= self.now - RECENT]
        assert all(is_told(what, read_on(self.log, self.log.lately(self.now))) for what in recent)
        for name in ("x", "y", "me"):
            theirs = [what for what in recent if what.name == name]
            after = self.log.lately_by(name, self.now)
            assert (after is None) == (not theirs)
            if after is not None:
                told = read_on(self.log, after)
                assert all(is_told(what, told) for what in theirs)


TestLog = LogMachine.TestCase
TestRoomyLog = RoomyMachine.TestCase
TestLog.settings = TestRoomyLog.settings = settings(max_examples=60, stateful_step_count=30)  # each looks back at all


# -- on the wire

parts = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.lists(st.integers(), max_size=2)
)
values = st.recursive(parts, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=20)
nearly = st.lists(
    st.tuples(st.text(max_size=3), st.integers(0, 2**64 - 1), st.integers(0, 9), st.integers(-1, 3) | parts, parts),
    max_size=4,
).map(lambda rows: [part for row in rows for part in row])


@given(values | nearly)
def test_what_another_node_tells_is_read_whole_or_refused(told: Any) -> None:
    try:
        read = unpack_told(told)
    except ValueError:
        return
    assert [part for each in read for part in each[:4]] == [part for at, part in enumerate(told) if at % 5 < 4]
    assert all(each.text == ("" if each.kind == ALL else text) for each, text in zip(read, told[4::5], strict=True))
    log = new_log()
    for each in read:
        log.apply(each, 0.0)
        assert type(each.covers("a")) is bool
    assert len(log) <= len(read)


invalidations = st.builds(
    lambda name, boot, number, kind, text: Invalidation(name, boot, number, kind, "" if kind == ALL else text),
    st.text(max_size=3),
    st.integers(0, 2**64 - 1),
    st.integers(1),
    st.sampled_from([KEY, PREFIX, ALL]),
    st.text(),
)


@given(st.lists(invalidations, max_size=5))
def test_what_is_told_is_what_is_read(told: list[Invalidation]) -> None:
    assert unpack_told(pack_told(told)) == told


@given(st.lists(st.integers(0, 40_000), max_size=12))
def test_one_message_is_bounded_and_none_is_left_out(lengths: list[int]) -> None:
    log = new_log()
    made = [log.make(PREFIX, str(number) + "x" * length, 0.0) for number, length in enumerate(lengths)]
    came: list[Invalidation] = []
    seq = 0
    while seq < log.seq:
        told, seq = log.after(seq)
        assert len(told) == 1 or sum(map(size_of, told)) <= 64 << 10
        assert told
        came += told
    assert came == made
