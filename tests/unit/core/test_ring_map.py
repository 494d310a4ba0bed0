"""Entries, fences and claims of one replica, with the digests over them."""

from dataclasses import replace

from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry, Rank, Stamp
from clusterkit.core.ring_map import STRANGERS, RingMap

A = Actor("a", 7)
ENTRY = Entry(7, Stamp(5, *A), "10.0.0.1", 7022, b"", Stamp(5, *A), 1)
LATER = replace(ENTRY, boot=9, announced=Stamp(6, "a", 9))
DOT, DOT2 = Dot(A, 1), Dot(Actor("a", 9), 1)
ALIVE = Claim(7, 0, Rank.ALIVE, ready=True)


def test_a_name_is_visible_while_it_has_an_entry() -> None:
    its = RingMap()
    assert its.entry("a") is None
    its.settle("b", {DOT: ENTRY})
    its.settle("a", {DOT2: LATER, DOT: ENTRY})
    assert list(its.names()) == ["a", "b"]
    assert its.entry("a") == replace(LATER, weighed=ENTRY.weighed)
    assert its.siblings("a") == {DOT: ENTRY, DOT2: LATER}
    its.settle("a", {})
    assert "a" not in its
    assert len(its) == 1
    assert its.siblings("a") == {}


def test_a_fence_deletes_what_is_there_and_what_comes() -> None:
    its = RingMap()
    its.settle("a", {DOT: ENTRY, DOT2: LATER})
    its.raise_fence("a", 7)
    assert its.siblings("a") == {DOT2: LATER}
    its.raise_fence("a", 3)
    assert its.fences == {"a": 7}
    its.raise_fence("a", 9)
    its.settle("a", {DOT: ENTRY})
    assert "a" not in its


def test_without_fences_nothing_is_deleted() -> None:
    its = RingMap(fenced=False)
    its.raise_fence("a", 9)
    its.settle("a", {DOT: ENTRY})
    assert "a" in its


def test_a_claim_never_falls() -> None:
    its = RingMap()
    its.settle("a", {DOT: ENTRY})
    assert its.hear("a", ALIVE)
    assert its.hear("a", ALIVE._replace(rank=Rank.DOWN))
    assert not its.hear("a", ALIVE)
    assert its.claim("a").rank is Rank.DOWN


def test_a_claim_of_an_older_boot_counts_for_nothing() -> None:
    its = RingMap()
    assert its.claim("a") == Claim(0, 0, Rank.ALIVE, ready=False)
    its.hear("a", ALIVE)
    assert its.said("a") == its.claim("a") == ALIVE  # one that left says so for as long as it is remembered
    its.settle("a", {DOT: ENTRY})
    assert its.said("a") == its.claim("a") == ALIVE
    its.settle("a", {DOT2: LATER})
    assert its.claim("a") == Claim(9, 0, Rank.ALIVE, ready=False)
    assert its.said("a") is None


def test_the_highest_boot_of_a_name() -> None:
    its = RingMap()
    assert its.boot("a") == 0
    its.settle("a", {DOT: ENTRY})
    assert its.boot("a") == 7
    its.hear("a", ALIVE._replace(boot=8))
    assert its.boot("a") == 8
    its.raise_fence("a", 10)
    assert its.boot("a") == 10


def test_changes_are_listed_in_order_and_once() -> None:
    its = RingMap()
    its.settle("b", {DOT: ENTRY})
    its.settle("a", {DOT: ENTRY})
    its.settle("b", {DOT: ENTRY, DOT2: LATER})
    assert its.take_changed() == ["b", "a"]
    its.settle("a", {DOT: ENTRY})
    assert its.take_changed() == []
    its.hear("a", ALIVE)
    its.raise_fence("c", 1)
    its.note(["d", "a"])
    assert its.take_changed() == ["a", "c", "d"]


def test_equal_maps_have_equal_digests_whatever_their_history() -> None:
    one, two = RingMap(), RingMap()
    one.settle("a", {DOT: ENTRY})
    one.settle("a", {DOT: ENTRY, DOT2: LATER})
    one.hear("a", ALIVE)
    one.raise_fence("c", 3)
    one.raise_fence("c", 5)
    one.raise_fence("a", 7)
    two.raise_fence("a", 7)
    two.raise_fence("c", 5)
    two.settle("a", {DOT: ENTRY, DOT2: LATER})
    assert (one.digest, one.view, one.claims_digest) == (two.digest, two.view, two.claims_digest)
    two.hear("a", ALIVE._replace(boot=9))
    assert one.claims_digest != two.claims_digest
    assert (one.digest, one.view) == (two.digest, two.view)
    two.settle("a", {})
    assert two.claims_digest == 0
    assert one.view != two.view


def test_a_sibling_changes_the_digest_and_not_the_view() -> None:
    its = RingMap()
    its.settle("a", {DOT: ENTRY})
    digest, view = its.digest, its.view
    its.settle("a", {DOT: ENTRY, Dot(A, 2): replace(ENTRY, weight=2)})
    assert its.digest != digest
    assert its.view == view


def test_claims_about_strangers_are_bounded() -> None:
    its = RingMap()
    its.settle("member", {DOT: ENTRY})
    its.hear("member", ALIVE)
    for number in range(STRANGERS + 1):
        its.hear(f"n{number}", ALIVE)
    assert its.claim("n0").boot == 0
    assert its.claim("n1") == its.claim(f"n{STRANGERS}") == its.claim("member") == ALIVE
    its.settle("n1", {DOT: ENTRY})
    its.hear("another", ALIVE)
    assert its.claim("n1") == its.claim("n2") == ALIVE
