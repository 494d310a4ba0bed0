"""N nodes that join through any seeds, with messages in any order: all end with the same list."""

from collections import defaultdict, deque
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from clusterkit.core.identity import NodeId
from clusterkit.core.roster import Effect, Forget, Heard, Joined, LinkOpened, Meet, Message, Parted, Roster, Tell


class Network:
    """Rosters, one link for each pair that met, and messages that keep their order within a link."""

    def __init__(self, count: int, rng: Random) -> None:
        self.rng = rng
        self.nodes = [NodeId(f"n{number}", "h", 7000 + number, number + 1) for number in range(count)]
        self.rosters = {node.name: Roster(node) for node in self.nodes}
        self.joined = {self.nodes[0].name}
        self.gone: set[str] = set()
        self.links: set[frozenset[str]] = set()
        self.flight: dict[tuple[str, str], deque[Message]] = defaultdict(deque)

    def connect(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        if pair in self.links or one == other or {one, other} & self.gone:
            return
        self.links.add(pair)
        for here, there in ((one, other), (other, one)):
            self.carry_out(here, self.rosters[here].step(LinkOpened(there)))

    def carry_out(self, here: str, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Tell(name=name, message=message) if frozenset((here, name)) in self.links:
                    self.flight[here, name].append(message)
                case Meet(node=node):
                    self.connect(here, node.name)
                case Forget(name=name):
                    self.disconnect(here, name)
                case Joined():
                    self.joined.add(here)

    def disconnect(self, one: str, other: str) -> None:
        self.links.discard(frozenset((one, other)))
        self.flight.pop((one, other), None)
        self.flight.pop((other, one), None)

    def leave(self, name: str) -> None:
        """Say goodbye on every link; what is on its way to the others arrives before."""
        self.gone.add(name)
        for other in [other for other in self.rosters if frozenset((name, other)) in self.links]:
            while self.flight[name, other]:
                self.deliver(name, other)
            self.disconnect(name, other)
            self.carry_out(other, self.rosters[other].step(Parted(name, self.incarnation(name), left=True)))

    def deliver(self, sender: str, receiver: str) -> None:
        message = self.flight[sender, receiver].popleft()
        self.carry_out(receiver, self.rosters[receiver].step(Heard(sender, self.incarnation(sender), message)))

    def incarnation(self, name: str) -> int:
        return next(node.incarnation for node in self.nodes if node.name == name)

    def on_its_way(self) -> list[tuple[str, str]]:
        return sorted(pair for pair, messages in self.flight.items() if messages)

    def settle(self) -> None:
        while pairs := self.on_its_way():
            self.deliver(*self.rng.choice(pairs))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.randoms(use_true_random=False))
def test_all_end_with_the_same_list(count: int, rng: Random) -> None:
    network = Network(count, rng)
    waiting = [node.name for node in network.nodes[1:]]
    while waiting or network.on_its_way():
        pairs = network.on_its_way()
        if waiting and (not pairs or rng.random() < 0.3):
            seed = rng.choice(sorted(network.joined))
            network.connect(waiting.pop(rng.randrange(len(waiting))), seed)
        else:
            network.deliver(*rng.choice(pairs))
    for roster in network.rosters.values():
        assert roster.nodes == network.nodes


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 7), st.randoms(use_true_random=False))
def test_one_that_leaves_while_others_join_is_in_no_list_at_the_end(count: int, rng: Random) -> None:
    network = Network(count, rng)
    leaver, *others = [node.name for node in network.nodes[1:]]
    network.connect(leaver, "n0")
    network.settle()
    for name in others:
        network.connect(name, rng.choice(sorted(network.joined - network.gone)))
        for _ in range(rng.randrange(6)):
            if pairs := network.on_its_way():
                network.deliver(*rng.choice(pairs))
        if leaver not in network.gone and rng.random() < 0.5:
            network.leave(leaver)
    if leaver not in network.gone:
        network.leave(leaver)
    network.settle()
    for name in others:
        if name not in network.joined:  # the seed left before it answered: another is tried
            network.connect(name, "n0")
    network.settle()
    staying = [node for node in network.nodes if node.name != leaver]
    for node in staying:
        assert network.rosters[node.name].nodes == staying
