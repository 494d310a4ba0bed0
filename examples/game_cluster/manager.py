"""The gate manager: seats each player at the gate that has the fewest.

CLUSTERKIT_COOKIE=... python -m examples.game_cluster.manager
"""

from collections import Counter

from clusterkit import NoOffer, call
from examples.game_cluster.role import Role, main


class GateManager(Role):
    module, resource, requires = "manager", "gate_manager", ("gate_server",)

    def __init__(self) -> None:
        self.seats: dict[str, str] = {}
        """By player the gate's node."""

    @call
    async def enter(self, player: str) -> str:
        """The node whose gate a player is to use; one that is seated keeps the seat."""
        gates = [offer.peer.name for offer in self.node.services.get_requirements()]
        if not gates:
            raise NoOffer("no gate is open", self.requires)
        if self.seats.get(player) not in gates:
            taken = Counter(self.seats.values())
            self.seats[player] = min(gates, key=lambda gate: (taken[gate], gate))
        return self.seats[player]

    @call
    async def seated(self, gate: str, players: list[str]) -> None:
        """Hear from a gate who plays there: a manager that was started anew knows nobody."""
        self.seats.update(dict.fromkeys(players, gate))

    def lost(self, node: str) -> None:
        self.seats = {player: gate for player, gate in self.seats.items() if gate != node}


if __name__ == "__main__":
    main("manager", lambda _: GateManager())
