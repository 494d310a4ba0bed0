"""What a node remembers of invalidations: what is stale, what is told on, and what follows once something is forgotten."""

from itertools import count
from typing import Any

import pytest

from clusterkit.core.invalidations import (
    ALL,
    KEY,
    MOST,
    PREFIX,
    RECENT,
    Invalidation,
    Invalidations,
    pack_told,
    size_of,
    unpack_told,
)
from clusterkit.core.payload import encode


class Made:
    """Invalidations by another node, numbered."""

    def __init__(self, name: str = "a", boot: int = 7) -> None:
        self.name, self.boot, self.number = name, boot, 0

    def _next(self, kind: int, text: str) -> Invalidation:
        self.number += 1
        return Invalidation(self.name, self.boot, self.number, kind, text)

    def key(self, text: str) -> Invalidation:
        return self._next(KEY, text)

    def prefix(self, text: str) -> Invalidation:
        return self._next(PREFIX, text)

    def all(self) -> Invalidation:
        return self._next(ALL, "")


def new_log(**limits: Any) -> Invalidations:
    """What a node named me, of incarnation 5, has heard of."""
    return Invalidations("me", 5, count(1).__next__, **limits)


def heard(log: Invalidations, *told: Invalidation, at: float = 0.0) -> list[Invalidation]:
    for each in told:
        assert log.apply(each, at)
    return list(told)


# -- what is meant


@pytest.mark.parametrize(
    ("what", "covered", "others"),
    [
        (Made().key("user:1"), ["user:1"], ["user:", "user:10", "", "User:1"]),
        (Made().prefix("user:"), ["user:", "user:1"], ["user", "auser:", ""]),
        (Made().prefix(""), ["", "x", "käse"], []),
        (Made().all(), ["", "x", "user:1"], []),
        (Made().prefix("kä"), ["kä", "käse"], ["ka", "k"]),
    ],
)
def test_which_keys_are_meant(what: Invalidation, covered: list[str], others: list[str]) -> None:
    assert [key for key in [*covered, *others] if what.covers(key)] == covered


# -- what is heard


def test_what_this_node_makes_bears_its_name_and_a_number_of_its_own() -> None:
    log = new_log()
    assert log.make(KEY, "x", 0.0) == Invalidation("me", 5, 1, KEY, "x")
    assert log.make(ALL, "", 0.0) == Invalidation("me", 5, 2, ALL, "")
    assert (log.seq, len(log)) == (2, 2)


def test_what_it_made_is_no_news_when_others_tell_it() -> None:
    log = new_log()
    made = log.make(KEY, "x", 0.0)
    assert not log.apply(made, 1.0)
    assert not log.apply(Invalidation("me", 5, 99, KEY, "y"), 1.0)
    assert log.seq == 1


def test_what_an_earlier_run_of_this_node_made_is_news() -> None:
    assert new_log().apply(Invalidation("me", 4, 99, KEY, "x"), 0.0)


def test_the_same_again_is_known_and_changes_nothing() -> None:
    log, made = new_log(), Made()
    told = heard(log, made.key("x"), made.key("y"))
    assert not log.apply(told[0], 5.0)
    assert (log.seq, len(log)) == (2, 2)
    assert log.after(0) == (told, 2)


def test_of_one_maker_and_place_the_newest_is_kept() -> None:
    log, made = new_log(), Made()
    old, other, new = heard(log, made.key("x"), made.key("y"), made.key("x"))
    assert log.after(0) == ([other, new], 3)
    assert not log.apply(old, 9.0), "it comes late, and is known by its successor"
    assert log.is_stale("x", 2)


def test_a_later_run_of_a_maker_is_newer_whatever_its_numbers() -> None:
    log = new_log()
    heard(log, Invalidation("a", 7, 50, KEY, "x"), Invalidation("a", 8, 1, KEY, "x"))
    assert not log.apply(Invalidation("a", 7, 51, KEY, "x"), 0.0)
    assert len(log) == 1


def test_each_makers_newest_is_kept() -> None:
    log = new_log()
    told = heard(log, Made("b").key("x"), Made("a").key("x"), Made("c").prefix("x"), Made("a").prefix("x"))
    assert log.after(0) == (told, 4)


def test_a_key_a_prefix_and_all_of_one_text_are_three_places() -> None:
    log, made = new_log(), Made()
    told = heard(log, made.key(""), made.prefix(""), made.all())
    assert log.after(0) == (told, 3)


# -- what is stale


def test_what_began_before_is_stale_and_what_began_after_is_not() -> None:
    log, made = new_log(), Made()
    began = log.seq
    heard(log, made.key("x"))
    assert log.is_stale("x", began)
    assert not log.is_stale("y", began)
    assert not log.is_stale("x", log.seq)


def test_an_invalidation_after_another_key_is_no_reason() -> None:
    log, made = new_log(), Made()
    heard(log, made.key("x"))
    began = log.seq
    heard(log, made.key("y"))
    assert not log.is_stale("x", began)
    assert log.is_stale("y", began)


@pytest.mark.parametrize("wide", [Made().prefix("us"), Made().prefix(""), Made().all()])
def test_prefixes_and_all_make_stale_too(wide: Invalidation) -> None:
    log, made = new_log(), Made("b")
    heard(log, made.key("other"))
    began = log.seq
    heard(log, wide)
    heard(log, made.key("user:1"), made.prefix("zz"))
    assert log.is_stale("user:2", began)
    assert not log.is_stale("user:2", began + 1)


def test_a_prefix_of_others_makes_nothing_stale() -> None:
    log = new_log()
    heard(log, Made().prefix("b"))
    assert not log.is_stale("a", 0)


def test_who_begins_anew_takes_what_is_on_its_way_as_overtaken_and_remembers_what_was_heard() -> None:
    log, made = new_log(), Made()
    told = heard(log, made.key("x"), made.prefix("y"))
    log.begin_anew()
    assert (len(log), log.seq) == (2, 3)
    assert log.is_stale("unheard of", 2)
    assert not log.is_stale("x", 3)
    assert not log.apply(told[0], 0.0)
    assert log.after(0) == (told, 3)
    assert log.about("x", 0.0) == told[:1]


# -- what is forgotten


def test_past_the_most_the_oldest_is_forgotten_and_counts_as_meant_for_all() -> None:
    log, made = new_log(most=2), Made()
    heard(log, made.key("x"), made.key("y"), made.prefix("z"))
    assert len(log) == 2
    assert log.is_stale("unheard of", 0)
    assert not log.is_stale("unheard of", 1)


def test_who_may_have_missed_what_is_forgotten_is_told_that_all_is_invalid() -> None:
    log, made = new_log(most=2), Made()
    _, second, third = heard(log, made.key("x"), made.key("y"), made.prefix("z"))
    instead = Invalidation("me", 5, 1, ALL, "")
    assert log.after(0) == ([instead], 1)
    assert log.after(0) == ([instead], 1), "one for all who missed the same"
    assert log.after(1) == ([second, third], 3)
    assert not log.apply(instead, 0.0), "this node does not heed it"
    heard(log, made.key("w"))
    assert log.after(0) == ([Invalidation("me", 5, 2, ALL, "")], 2), "more is forgotten by now"


def test_forgotten_after_the_time_to_keep_but_not_at_it() -> None:
    log, made = new_log(keep=10.0), Made()
    heard(log, made.prefix("x"), at=0.0)
    heard(log, made.key("y"), at=10.0)
    assert len(log) == 2
    heard(log, made.key("z"), at=10.5)
    assert len(log) == 2
    assert log.is_stale("unheard of", 0)
    assert log.about("x", 10.5) == []


def test_a_forgotten_one_is_a_reason_no_more_for_what_began_after_it() -> None:
    log, made = new_log(most=1), Made()
    heard(log, made.prefix("x"), made.key("y"))
    assert not log.is_stale("x", 1)
    assert log.is_stale("x", 0)


def test_a_forgotten_one_of_several_makers_leaves_the_others() -> None:
    log = new_log(most=2)
    heard(log, Made("a").key("x"), Made("b").key("x"), Made("c").key("y"))
    assert [each.name for each in log.about("x", 0.0)] == ["b"]


def test_a_forgotten_prefix_leaves_others_of_its_length() -> None:
    log, made = new_log(most=2), Made()
    heard(log, made.prefix("aa"), made.prefix("bb"), made.prefix("bbb"))
    assert not log.is_stale("aaa", 1)
    assert log.is_stale("bbb", 1)
    assert [each.text for each in log.about("bbb", 0.0)] == ["bb", "bbb"]
    heard(log, made.key("x"), made.key("y"))
    assert log.about("bbb", 0.0) == []


def test_what_is_forgotten_and_heard_again_counts_again() -> None:
    log, made = new_log(most=1), Made()
    first, _ = heard(log, made.key("x"), made.key("y"))
    assert log.apply(first, 0.0), "a second time is harmless"
    assert log.is_stale("x", 2)


# -- what is told on


def test_after_begins_where_the_last_look_ended() -> None:
    log, made = new_log(), Made()
    first, second = heard(log, made.key("x"), made.all())
    assert log.after(0) == ([first, second], 2)
    assert log.after(1) == ([second], 2)
    assert log.after(2) == ([], 2)


@pytest.mark.parametrize("text", ["x" * 1_000, "ä" * 500, "😀" * 250])
def test_one_message_tells_a_bounded_number_of_bytes_and_says_where_to_go_on(text: str) -> None:
    log, made = new_log(most_told=10_000), Made()
    told = heard(log, *[made.key(f"{each}{text}") for each in range(50)])
    seq, came = 0, []
    while seq < log.seq:
        some, seq = log.after(seq)
        assert 0 < sum(map(size_of, some)) <= 10_000
        came += some
    assert came == told


@pytest.mark.parametrize("name", ["a", "n" * 253])
@pytest.mark.parametrize("text", ["", "x" * 1_024, "😀" * 256])
def test_one_takes_no_more_bytes_than_is_counted(name: str, text: str) -> None:
    largest = Invalidation(name, 2**64 - 1, 2**63, PREFIX, text)
    assert len(encode(pack_told([largest]))) <= size_of(largest)


def test_what_was_made_here_is_told_alone_when_that_is_asked_for() -> None:
    log, made = new_log(), Made()
    heard(log, made.key("x"), at=1.0)
    mine = [log.make(KEY, "y", 2.0)]
    heard(log, made.key("z"), at=3.0)
    mine.append(log.make(ALL, "", 4.0))
    heard(log, made.key("w"), at=5.0)
    assert log.after(0, own=True) == (mine, 5)
    assert log.after(2, own=True) == (mine[1:], 5)
    assert log.after(4, own=True) == ([], 5)
    assert [log.before(at, own=True) for at in (0.0, 2.5, 9.0)] == [0, 2, 5]
    assert log.oldest == 0


def test_what_others_made_and_is_forgotten_is_no_matter_to_who_asks_what_was_made_here() -> None:
    log, made = new_log(most=2), Made()
    heard(log, made.key("x"), made.key("y"), at=1.0)
    mine = log.make(KEY, "z", 1.0)
    assert log.oldest == 1
    assert log.after(log.before(0.0, own=True), own=True) == ([mine], 3)
    heard(log, made.key("v"), made.key("w"), at=1.0)
    told, seq = log.after(log.before(0.0, own=True), own=True)
    assert [each.kind for each in told] == [ALL], "what was made here is forgotten by now"
    assert log.after(seq, own=True) == ([], 5)
    assert log.after(log.before(1.5, own=True), own=True) == ([], 5)


def test_who_begins_anew_is_among_others_who_need_not_hear_what_is_forgotten() -> None:
    log, made = new_log(most=1), Made()
    log.make(KEY, "mine", 1.0)
    _, last = heard(log, made.key("x"), made.key("y"), at=1.0)
    assert [each.kind for each in log.after(log.before(0.0))[0]] == [ALL]
    log.begin_anew()
    assert log.after(log.before(0.0)) == ([last], 4)
    assert log.after(log.before(0.0, own=True), own=True) == ([], 4)


def test_one_that_is_over_a_message_goes_alone() -> None:
    log, made = new_log(), Made()
    told = heard(log, made.prefix("x" * 70_000), made.prefix("y" * 70_000))
    assert log.after(0) == (told[:1], 1)
    assert log.after(1) == (told[1:], 2)


def test_about_a_key_are_those_that_cover_it_and_are_recent() -> None:
    log, made = new_log(), Made()
    assert log.about("x1", 0.0) == []
    old = heard(log, made.prefix("x1"), at=0.0)
    exact, wide, everything = heard(log, made.key("x1"), made.prefix("x"), made.all(), at=30.0)
    heard(log, made.key("x"), made.prefix("y"), at=30.0)
    assert set(log.about("x1", 30.0)) == {*old, exact, wide, everything}
    assert set(log.about("x1", RECENT)) == {exact, wide, everything}
    assert log.about("x1", 30.0 + RECENT) == []
    assert log.about("z", 30.0) == [everything]


def test_about_a_key_also_those_that_the_other_may_have_missed_however_old() -> None:
    log, made = new_log(), Made()
    first, second, _ = heard(log, made.key("x"), made.prefix("x"), made.key("y"))
    late = 2 * RECENT
    assert log.about("x", late) == []
    assert log.about("x", late, 0) == [first, second]
    assert log.about("x", late, 1) == [second]
    assert log.about("x", late, 2) == []


def test_about_a_key_that_all_is_invalid_to_one_that_may_have_missed_what_is_forgotten() -> None:
    log, made = new_log(most=1), Made()
    _, last = heard(log, made.key("x"), made.key("y"))
    everything = Invalidation("me", 5, 1, ALL, "")
    assert log.about("x", 0.0) == []
    assert log.about("x", 0.0, 0) == [everything]
    assert log.about("y", 0.0, 0) == [last, everything]
    assert log.after(0)[0] == [everything]
    assert log.about("x", 0.0, 1) == []


def test_new_are_those_of_the_last_minute_in_order() -> None:
    log, made = new_log(), Made()
    heard(log, made.key("old"), at=0.0)
    told = heard(log, made.key("x"), made.key("y"), at=10.0)
    assert log.recent(70.0) == told
    assert log.recent(70.5) == []


def test_before_a_moment_is_the_last_that_was_heard_earlier() -> None:
    log, made = new_log(), Made()
    assert log.before(5.0) == 0
    for at in (1.0, 2.0, 2.0, 3.0):
        heard(log, made.key(str(at) + str(log.seq)), at=at)
    assert [log.before(at) for at in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)] == [0, 1, 1, 3, 3, 4]


def test_before_a_moment_of_which_not_all_is_remembered_leads_to_all() -> None:
    log, made = new_log(most=1), Made()
    heard(log, made.key("x"), at=1.0)
    heard(log, made.key("y"), made.key("z"), at=2.0)
    assert [each.kind for each in log.after(log.before(2.0))[0]] == [ALL]
    assert log.after(log.before(2.5)) == ([], 3)


def test_lately_is_where_a_look_at_the_recent_ones_begins() -> None:
    log, a, b = new_log(), Made("a"), Made("b")
    assert (log.lately(0.0), log.lately_by("a", 0.0)) == (0, None)
    heard(log, a.key("old"), at=0.0)
    heard(log, b.key("x"), a.key("y"), b.key("z"), at=5.0)
    assert (log.lately(RECENT), log.lately_by("a", RECENT), log.lately_by("b", RECENT)) == (0, 0, 1)
    now = RECENT + 1.0
    assert (log.lately(now), log.lately_by("a", now), log.lately_by("b", now)) == (1, 2, 1)
    assert log.lately_by("c", now) is None
    assert log.lately_by("a", now + 5.0) is None
    assert log.lately(now + 5.0) == 4


def test_lately_leaves_out_what_is_forgotten() -> None:
    log, made = new_log(most=1), Made()
    _, last = heard(log, made.key("x"), made.key("y"))
    assert log.lately(0.0) == log.lately_by("a", 0.0) == 1
    assert log.after(1) == ([last], 2)


# -- on the wire


def test_a_list_of_them_comes_back() -> None:
    told = [Made().key("käse"), Made("b", 2**63).prefix(""), Made().all()]
    assert unpack_told(pack_told(told)) == told
    assert unpack_told(pack_told(iter(told))) == told
    assert unpack_told([]) == []


GOOD: list[Any] = ["a", 7, 1, KEY, "x"]


@pytest.mark.parametrize("told", [None, 7, "a", b"", {}, (), tuple(GOOD), GOOD[:4], [*GOOD, "b"], GOOD * (MOST + 1)])
def test_what_is_no_list_of_them(told: object) -> None:
    with pytest.raises(ValueError, match="no list of invalidations"):
        unpack_told(told)


@pytest.mark.parametrize(
    ("at", "part"),
    [(0, b"a"), (0, None), (1, "7"), (1, 7.0), (1, True), (2, None), (2, True), (4, b"x"), (4, None), (4, ["x"])],
)
def test_what_is_no_invalidation(at: int, part: object) -> None:
    with pytest.raises(ValueError, match="no invalidation"):
        unpack_told([*GOOD, *GOOD[:at], part, *GOOD[at + 1 :]])


@pytest.mark.parametrize("kind", [-1, 3, 2**64, True, 1.0, None, "0"])
def test_what_is_no_kind(kind: object) -> None:
    with pytest.raises(ValueError, match=r"no kind of invalidation: "):
        unpack_told([*GOOD[:3], kind, "x"])


def test_all_is_one_place_whatever_text_comes_with_it() -> None:
    assert unpack_told(["a", 7, 1, ALL, "text"]) == [Invalidation("a", 7, 1, ALL, "")]


def test_as_many_as_are_remembered_can_be_read() -> None:
    assert len(unpack_told(GOOD * MOST)) == MOST


def test_what_is_longer_than_any_name_or_key_is_refused() -> None:
    for name, text in (("n" * 1_025, "x"), ("a", "x" * 1_025)):
        with pytest.raises(ValueError, match="too long"):
            unpack_told([name, 7, 1, KEY, text])
