"""A holder of the cookie that says anything: nobody falls over it, and what others say afterwards can be read."""

from hypothesis import given
from hypothesis import strategies as st

from clusterkit.core.identity import NodeId
from clusterkit.core.membership_events import (
    Compare,
    Event,
    Insert,
    LinkLost,
    LinkOpened,
    Parted,
    Ready,
    Remove,
    Reweigh,
    Tick,
    Unreached,
)
from clusterkit.core.ring_messages import RingMessage
from clusterkit.errors import UsageError
from tests.property.core.ring_things import boots, from_one, messages, names
from tests.unit.core.memberships import Mesh, node_of

acts: st.SearchStrategy[Event] = st.one_of(
    st.builds(lambda name: Insert(node_of(name, 0), 7), names),
    st.builds(Remove, names),
    st.builds(Reweigh, names, st.integers(1, 1_000)),
    st.builds(Ready, st.booleans()),
    st.builds(Parted, names, from_one, st.booleans()),
    st.builds(lambda name: Unreached(node_of(name), "refused", True), names),
    st.just(Compare()),
    st.builds(LinkOpened, st.just("x"), from_one),
    st.just(LinkLost("x")),
    st.just(Tick()),
)


@given(st.lists(st.one_of(st.tuples(boots, messages), acts, st.sampled_from([0.05, 0.6, 6.0])), max_size=12))
def test_nothing_that_a_member_says_makes_another_fall(script: list[tuple[int, RingMessage] | Event | float]) -> None:
    mesh = Mesh("a", "b", "x")
    for step in script:
        try:
            if isinstance(step, tuple):
                boot, message = step
                mesh.hear("a", NodeId("x", "10.0.0.24", 7022, boot), message)
            elif isinstance(step, float):
                mesh.wait(step)
            else:
                mesh.step("a", step)
        except UsageError:
            assert not isinstance(step, tuple | float)  # only what a user asks for is refused
    mesh.wait(0.3)
    assert mesh["a"].me.name in mesh["a"].members
