"""Values of the ring: their order, and siblings read as one."""

from dataclasses import replace

from clusterkit.core.ring_entry import Actor, Claim, Dot, Entry, Rank, Stamp, resolve

A, B = Actor("a", 7), Actor("b", 8)
ENTRY = Entry(7, Stamp(5, *A), "10.0.0.1", 7022, b"", Stamp(5, *A), 1)


def test_stamps_are_ordered_by_time_then_writer() -> None:
    assert Stamp(5, "b", 1) < Stamp(6, "a", 1)
    assert Stamp(5, "a", 2) < Stamp(5, "b", 1)
    assert Stamp(5, "a", 1) < Stamp(5, "a", 2)


def test_claims_are_ordered_by_boot_then_number_then_rank() -> None:
    accused = Claim(7, 1, Rank.DOWN, True)
    assert Claim(7, 1, Rank.SUSPECT, True) < accused < Claim(7, 2, Rank.ALIVE, True) < Claim(8, 0, Rank.ALIVE, False)
    assert Rank.ALIVE < Rank.SUSPECT < Rank.DOWN < Rank.LEFT


def test_one_entry_reads_as_it_is() -> None:
    assert resolve({Dot(A, 1): ENTRY}) is ENTRY


def test_each_part_is_the_newest_of_its_kind() -> None:
    moved = replace(ENTRY, announced=Stamp(9, *A), host="10.0.0.2")
    weighed = replace(ENTRY, weighed=Stamp(6, *B), weight=9)
    assert resolve({Dot(A, 2): moved, Dot(B, 1): weighed}) == replace(moved, weighed=Stamp(6, *B), weight=9)


def test_a_higher_boot_has_the_address_whatever_the_stamps_say() -> None:
    later = replace(ENTRY, boot=9, announced=Stamp(1, "a", 9), host="10.0.0.9")
    assert resolve({Dot(A, 1): ENTRY, Dot(Actor("a", 9), 1): later}).host == "10.0.0.9"
