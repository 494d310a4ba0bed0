"""Dotted version vector sets, by the published cases of dvvset and by what a store does with them."""

import json
from typing import Any

import pytest

from clusterkit.core.dotted_versions import DottedVersionVectorSet
from clusterkit.core.vector_clock import VectorClock
from clusterkit.errors import ConfigError, UsageError

Versions = DottedVersionVectorSet[Any]


def write(value: Any, node: str, context: VectorClock | None = None, stored: Versions | None = None) -> Versions:
    return DottedVersionVectorSet.new(value, context).update(node, stored)


def versions(*pending: Any, **entries: tuple[int, list[Any]]) -> Versions:
    return DottedVersionVectorSet.from_dict({"entries": entries, "pending": list(pending)})


class TestPublishedCases:
    """The cases of dvvset's own tests."""

    def test_join(self) -> None:
        one = write("v1", "a")
        two = write("v2", "b", one.join(), one)
        assert DottedVersionVectorSet.new("v1").join() == VectorClock()
        assert one.join().to_dict() == {"a": 1}
        assert two.join().to_dict() == {"a": 1, "b": 1}

    def test_update(self) -> None:
        a0 = write("v1", "a")
        a1 = write("v2", "a", a0.join(), a0)
        assert a0 == versions(a=(1, ["v1"]))
        assert a1 == versions(a=(2, ["v2"]))
        assert write("v3", "b", a1.join(), a1) == versions(a=(2, []), b=(1, ["v3"]))
        assert write("v4", "b", a0.join(), a1) == versions(a=(2, ["v2"]), b=(1, ["v4"]))
        assert write("v5", "a", a0.join(), a1) == versions(a=(3, ["v5", "v2"]))

    def test_sync(self) -> None:
        x, w, z = versions(x=(1, [])), versions(a=(1, [])), versions(a=(2, ["v2", "v1"]))
        a, y = write("v1", "a"), write("v2", "b")
        a1 = write("v2", "a", a.join())
        a3, a4 = write("v3", "b", a1.join()), write("v3", "c", a1.join())
        assert w.sync(z) == z.sync(w) == versions(a=(2, ["v2"]))
        assert a.sync(a1) == a1.sync(a)
        assert a4.sync(a3) == a3.sync(a4) == versions(a=(2, []), b=(1, ["v3"]), c=(1, ["v3"]))
        assert x.sync(a) == a.sync(x) == versions(a=(1, ["v1"]), x=(1, []))
        assert a.sync(y) == y.sync(a) == versions(a=(1, ["v1"]), b=(1, ["v2"]))

    def test_a_write_replaces_what_its_context_covers_and_nothing_else(self) -> None:
        a0 = write("v1", "a")
        a1 = write("v2", "a", stored=a0)
        assert a1 == versions(a=(2, ["v2", "v1"]))
        assert write("v3", "a", a0.join(), a1) == versions(a=(3, ["v3", "v2"]))

    def test_less(self) -> None:
        a = write("v1", "a")
        b, b2, b3 = (write("v2", node, a.join()) for node in "abz")
        c = write("v3", "c", b.join(), a)
        d = write("v4", "d", c.join(), b2)
        assert all(one.less(two) for one, two in [(a, b), (a, c), (b, c), (b, d), (b2, d), (a, d)])
        assert not any(one.less(two) for one, two in [(b2, c), (b, b2), (b2, b), (a, a), (c, c), (d, b2), (b3, d)])

    def test_values_and_size(self) -> None:
        one = versions("v1", a=(4, ["v0", "v5"]), b=(0, []), c=(1, ["v3"]))
        assert one.values() == ["v0", "v5", "v3", "v1"]
        assert len(one) == 4
        assert one.join().nodes == ["a", "c"]


class TestInAStore:
    def test_two_clients_without_context_make_siblings_and_one_with_it_resolves_them(self) -> None:
        stored = write("one", "a", stored=write("two", "a"))
        assert stored.values() == ["one", "two"]
        assert write("both", "b", stored.join(), stored).values() == ["both"]

    def test_interleaved_clients_of_one_node_leave_a_sibling_each_and_no_more(self) -> None:
        stored = write(0, "a")
        ada = bob = stored.join()
        for number in range(1, 50):
            stored = write(("ada", number), "a", ada, stored)
            ada = stored.join()
            stored = write(("bob", number), "a", bob, stored)
            bob = stored.join()
        assert stored.values() == [("bob", 49), ("ada", 49)]

    def test_a_delete_reaches_the_copies(self) -> None:
        stored = write("v", "a")
        copy = stored
        deleted = stored.discard(stored.join())
        assert deleted.values() == []
        assert deleted.join() == stored.join()
        assert copy.sync(deleted).values() == []

    def test_a_delete_spares_what_its_context_does_not_cover(self) -> None:
        first = write("v1", "a")
        second = write("v2", "a", stored=first)
        assert second.discard(first.join()).values() == ["v2"]
        assert second.discard(VectorClock()).values() == ["v2", "v1"]
        assert second.discard(VectorClock({"a": 99})).values() == []

    def test_a_write_on_its_way_is_not_lost_in_a_sync(self) -> None:
        stored = write("v1", "a")
        later = write("v2", "a", stored.join(), stored)
        on_its_way: Versions = DottedVersionVectorSet.new("new", stored.join())
        assert on_its_way.less(later)
        both = on_its_way.sync(later)
        assert both == later.sync(on_its_way)
        assert both.values() == ["v2", "new"]

    def test_unnamed_values_are_compared_unordered(self) -> None:
        assert versions(1, 2) == versions(2, 1)
        assert versions(1, 2) != versions(1, 3)
        assert versions(1) != versions(1, 1)
        assert versions(1).sync(versions(1)) == versions(1)

    def test_values_need_not_be_hashable(self) -> None:
        assert write([1], "a").sync(write({"x": 1}, "b")).values() == [[1], {"x": 1}]
        with pytest.raises(TypeError, match="unhashable"):
            hash(write(1, "a"))

    def test_sync_of_several_and_of_none(self) -> None:
        one, two, three = write(1, "a"), write(2, "b"), write(3, "c")
        assert one.sync(two, three) == three.sync(two).sync(one)
        assert one.sync() == one != two
        assert DottedVersionVectorSet[Any]() == versions()
        assert one != "something else"

    def test_plain_data_survives_json(self) -> None:
        stored = write({"x": [1]}, "b", stored=write("v", "a"))
        assert DottedVersionVectorSet.from_dict(json.loads(json.dumps(stored.to_dict()))) == stored

    def test_repr(self) -> None:
        assert repr(write("v", "a")) == "<DottedVersionVectorSet ['v'] at VectorClock({'a': 1})>"


class TestBadInput:
    def test_update_takes_one_new_value(self) -> None:
        for wrong in (versions(), write("v", "a"), versions(1, 2)):
            with pytest.raises(UsageError, match="one new value"):
                wrong.update("a")

    def test_a_node_is_a_str(self) -> None:
        with pytest.raises(TypeError, match="a node is a str"):
            DottedVersionVectorSet.new("v").update(5)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "data",
        [None, [], {}, {"entries": {}}, {"entries": [], "pending": []}, {"entries": {}, "pending": 5}]
        + [
            {"entries": {"a": entry}, "pending": []}
            for entry in (5, [1], [1, 5], [True, []], [0, ["v"]], ["1", []], [1, [], 2])
        ]
        + [{"entries": {5: [1, []]}, "pending": []}],
    )
    def test_what_describes_no_set(self, data: Any) -> None:
        with pytest.raises(ConfigError, match="describes no dotted version vector set"):
            DottedVersionVectorSet.from_dict(data)
