"""Three members over links that lose, break and come back: in the end they agree, and nothing was lost or came back."""

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clusterkit.core.members import State
from clusterkit.core.membership_events import Insert, Ready, Remove, Renew, Reweigh, Stopped
from clusterkit.core.ring_messages import RingMessage
from tests.unit.core.memberships import Mesh, node_of

NAMES = "abc"
running = st.sampled_from(NAMES)
others = st.sampled_from("xyz")  # inserted by hand; they never run
pairs = st.sampled_from(["ab", "ac", "bc"])


class Members(RuleBasedStateMachine):
    """What may happen between members; ``standing`` and ``removed`` are what users were promised."""

    @initialize(seed=st.integers(0, 99))
    def begin(self, seed: int) -> None:
        self.mesh = Mesh(*NAMES, seed=seed)
        self.boots = dict.fromkeys(NAMES, 10)
        self.claims: dict[tuple[str, str], tuple[int, int, int]] = {}
        self.lossy: dict[frozenset[str], None] = {}
        self.touched: dict[str, list[str]] = {name: [] for name in "xyz"}
        self.count = 0
        self.mesh.passes = self.passes

    def passes(self, src: str, dst: str, message: RingMessage) -> bool:
        self.count += 1
        return frozenset((src, dst)) not in self.lossy or self.count % 3 != 0

    @rule(by=running, name=others)
    def insert(self, by: str, name: str) -> None:
        if name not in self.mesh[by].members:
            self.mesh.step(by, Insert(node_of(name, 0)))
            self.touched[name].append("insert")

    @rule(by=running, name=others)
    def remove(self, by: str, name: str) -> None:
        if name in self.mesh[by].members:
            self.mesh.step(by, Remove(name))
            self.touched[name].append("remove")

    @rule(by=running, name=running, weight=st.integers(1, 9))
    def reweigh(self, by: str, name: str, weight: int) -> None:
        if name in self.mesh[by].members:
            self.mesh.step(by, Reweigh(name, weight))

    @rule(name=running, ready=st.booleans())
    def get_ready(self, name: str, ready: bool) -> None:
        self.mesh.step(name, Ready(ready))

    @rule(count=st.integers(1, 20))
    def deliver_some(self, count: int) -> None:
        for _ in range(min(count, len(self.mesh.on_the_way))):
            sender, name, message = self.mesh.on_the_way.popleft()
            if self.passes(sender.name, name, message):
                self.mesh.hear(name, sender, message)

    @rule(seconds=st.sampled_from([0.1, 0.7, 4.0, 15.0]))
    def wait(self, seconds: float) -> None:
        self.mesh.wait(seconds)

    @rule(pair=pairs)
    def lose_some(self, pair: str) -> None:
        self.lossy[frozenset(pair)] = None

    @rule(pair=pairs)
    @precondition(lambda self: len(self.mesh.links) > 0)
    def break_link(self, pair: str) -> None:
        if frozenset(pair) in self.mesh.links:
            self.mesh.unlink(*pair)

    @rule(pair=pairs)
    def open_link(self, pair: str) -> None:
        if frozenset(pair) not in self.mesh.links:
            self.mesh.link(*pair)

    @rule(name=running)
    def restart(self, name: str) -> None:
        for other, acts in self.touched.items():
            if not any(other in self.mesh[each].members for each in NAMES if each != name):
                acts.append("remove")  # what nobody else has heard of is lost with its process
        self.mesh.kill(name)
        self.boots[name] += 1
        self.mesh.start(name, self.boots[name], seeds=True)

    @invariant()
    def claims_only_rise(self) -> None:
        for name, machine in self.mesh.machines.items():
            for other in machine.members:
                claim = machine.ring.claim(other)
                key = (f"{name}{self.boots[name]}", other)
                assert self.claims.get(key, (0, 0, 0)) <= claim[:3]
                self.claims[key] = claim[:3]

    @invariant()
    def nobody_is_out_who_was_not_removed(self) -> None:
        for name in NAMES:
            assert not self.mesh.of(name, Stopped)
            assert name in self.mesh[name].members

    def teardown(self) -> None:
        if not hasattr(self, "mesh"):
            return
        self.lossy.clear()
        for pair in ("ab", "ac", "bc"):
            if frozenset(pair) not in self.mesh.links:
                self.mesh.link(*pair)
        self.mesh.wait(30)
        assert self.mesh.agree()
        for name in NAMES:
            members = self.mesh[name].members
            assert {each: members[each].state for each in NAMES} == dict.fromkeys(NAMES, State.ALIVE)
            assert {each: members[each].node.incarnation for each in NAMES} == self.boots
            assert not self.mesh.of(name, Renew)
            for other, acts in self.touched.items():
                if "remove" not in acts:
                    assert (other in members) == bool(acts)
        digests = self.mesh["a"].digests
        self.mesh.wait(10)
        assert self.mesh["a"].digests == digests  # and rest is rest


TestMembers = Members.TestCase
TestMembers.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
