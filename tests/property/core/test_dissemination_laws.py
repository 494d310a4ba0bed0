"""Trees over any list of members: everybody is reached once in each, and who passes on differs between them."""

from hypothesis import given
from hypothesis import strategies as st

from clusterkit.core.dissemination import ARITY, Dissemination, children

member_lists = st.sets(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=200).map(sorted)
numbers = st.integers(0, (1 << 64) - 1)


def hops(names: list[str], origin: str, number: int, tree: int) -> dict[str, int]:
    """How many hops each is away; an assertion fails for one that is told twice."""
    reached, edge = {origin: 0}, [origin]
    while edge:
        told = [(child, name) for name in edge for child in children(names, origin, number, tree, name)]
        for child, name in told:
            assert child not in reached
            reached[child] = reached[name] + 1
        edge = [child for child, _ in told]
    return reached


@given(member_lists, numbers, st.integers(1, 2), st.data())
def test_every_member_is_reached_once_and_in_few_hops(
    names: list[str], number: int, tree: int, data: st.DataObject
) -> None:
    origin = data.draw(st.sampled_from([*names, "somebody"]))
    reached = hops(names, origin, number, tree)
    assert sorted({*reached} - {origin}) == [name for name in names if name != origin]
    assert max(reached.values()) <= (1 if len(names) <= ARITY else 2 if len(names) <= ARITY + ARITY**2 else 3)


@given(member_lists, numbers, st.data())
def test_who_passes_on_in_one_tree_is_a_leaf_of_the_other(names: list[str], number: int, data: st.DataObject) -> None:
    origin = data.draw(st.sampled_from(names))
    inner = [
        {name for name in names if name != origin and children(names, origin, number, tree, name)} for tree in (1, 2)
    ]
    assert not inner[0] & inner[1]


@given(member_lists, numbers, st.integers(0, 130), st.data())
def test_the_targets_are_the_first_of_the_trees_or_everybody(
    names: list[str], boot: int, direct: int, data: st.DataObject
) -> None:
    me = data.draw(st.sampled_from(names))
    spread = Dissemination(me, boot, direct)
    number = spread.next_number()
    targets = spread.targets(names, number)
    assert me not in dict(targets)
    if len(names) <= direct:
        assert [name for name, _ in targets] == [name for name in names if name != me]
    else:
        for tree in (1, 2):
            assert [name for name, each in targets if each == tree] == children(names, me, number, tree, me)
