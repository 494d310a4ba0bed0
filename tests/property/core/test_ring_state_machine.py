"""The ring's state as a stateful machine: hypothesis chooses who does what, and what the network does.

The world and the record of its events are those of `tests.simulation.ring_model`, which checks the
invariants after every step; here every choice is hypothesis' own, so that a failure shrinks.
"""

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.simulation.ring_model import World
from tests.simulation.ring_rest import check_rest, come_to_rest


class RingMachine(RuleBasedStateMachine):
    """A few processes, their network, and at the end rest."""

    world: World

    @initialize(chance=st.randoms(use_true_random=False))
    def begin(self, chance: Random) -> None:
        self.world = World(chance)

    @rule()
    def act(self) -> None:
        self.world.act()

    @rule(frames=st.integers(1, 4))
    def deliver(self, frames: int) -> None:
        for _ in range(frames):
            self.world.deliver()

    @rule(seed=st.integers(0, 1 << 16))
    def a_stretch(self, seed: int) -> None:
        """A stretch that chance fills: shrinking goes on around it."""
        chosen, self.world.chance = self.world.chance, Random(seed)
        for _ in range(6):
            self.world.act()
            self.world.deliver()
        self.world.chance = chosen

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.chance = Random(7)
            come_to_rest(self.world)
            check_rest(self.world)


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
