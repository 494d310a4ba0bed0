"""The laws of dotted version vector sets, on sets that real histories of a store produce.

Beside each set runs the plain meaning of it: every write is an event with a set of
events it replaced, and the siblings are the events known and not replaced.
"""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from clusterkit.core.dotted_versions import DottedVersionVectorSet

Versions = DottedVersionVectorSet[int]
REPLICAS = ("a", "b", "c")
steps = st.lists(
    st.tuples(st.sampled_from(["write", "write", "read", "sync", "delete"]), st.integers(0, 2), st.integers(0, 2)),
    max_size=30,
)


@dataclass
class Replica:
    """A copy of the key, and the events it knows with those it knows to be replaced."""

    name: str
    stored: Versions = field(default_factory=DottedVersionVectorSet)
    known: frozenset[int] = frozenset()
    replaced: frozenset[int] = frozenset()


def run(history: list[tuple[str, int, int]]) -> list[Replica]:
    """Play a history of three replicas and three clients, who write with what they last read."""
    replicas = [Replica(name) for name in REPLICAS]
    reads = [(DottedVersionVectorSet[int]().join(), frozenset[int]()) for _ in REPLICAS]
    for event, (step, at, other) in enumerate(history):
        replica = replicas[at]
        context, seen = reads[other]
        if step == "write":
            replica.stored = DottedVersionVectorSet.new(event, context).update(replica.name, replica.stored)
            replica.known |= seen | {event}
            replica.replaced |= seen
        elif step == "read":
            reads[other] = (replica.stored.join(), replica.known)
        elif step == "sync":
            replica.stored = replica.stored.sync(replicas[other].stored)
            replica.known |= replicas[other].known
            replica.replaced |= replicas[other].replaced
        else:
            replica.stored = replica.stored.discard(context)
            replica.replaced |= seen & replica.known
    return replicas


@given(steps)
def test_the_siblings_are_the_writes_that_nobody_replaced(history: list[tuple[str, int, int]]) -> None:
    for replica in run(history):
        assert sorted(replica.stored.values()) == sorted(replica.known - replica.replaced)


@given(steps)
def test_sync_is_commutative_associative_idempotent(history: list[tuple[str, int, int]]) -> None:
    one, two, three = (replica.stored for replica in run(history))
    assert one.sync(two) == two.sync(one)
    assert one.sync(two).sync(three) == one.sync(two.sync(three)) == one.sync(two, three)
    assert one.sync(one) == one
    assert one.sync(two).join() == one.join().merge(two.join())


@given(steps)
def test_less_is_a_strict_order_that_sync_respects(history: list[tuple[str, int, int]]) -> None:
    one, two, three = (replica.stored for replica in run(history))
    assert not one.less(one)
    assert not (one.less(two) and two.less(one))
    if one.less(two) and two.less(three):
        assert one.less(three)
    both = one.sync(two)
    assert one.less(both) or one.join() == both.join()


@given(steps, st.sampled_from(REPLICAS))
def test_an_informed_write_replaces_all_and_is_newer_than_all(history: list[tuple[str, int, int]], at: str) -> None:
    stored = run(history)[0].stored
    after = DottedVersionVectorSet.new(-1, stored.join()).update(at, stored)
    assert after.values() == [-1]
    assert stored.less(after)
    assert after.sync(stored) == after


@given(steps, st.sampled_from(REPLICAS))
def test_a_blind_write_replaces_nothing(history: list[tuple[str, int, int]], at: str) -> None:
    stored = run(history)[0].stored
    after = DottedVersionVectorSet.new(-1).update(at, stored)
    assert sorted(after.values()) == sorted([-1, *stored.values()])


@given(steps)
def test_discard_of_all_that_is_known_leaves_the_history_alone(history: list[tuple[str, int, int]]) -> None:
    stored = run(history)[0].stored
    emptied = stored.discard(stored.join())
    assert emptied.values() == []
    assert emptied.join() == stored.join()
    assert emptied.sync(stored) == emptied


@given(steps)
def test_plain_data_gives_the_set_back(history: list[tuple[str, int, int]]) -> None:
    for replica in run(history):
        assert DottedVersionVectorSet.from_dict(replica.stored.to_dict()) == replica.stored
