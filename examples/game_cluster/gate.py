"""A gate server: players play here. There may be any number of them.

CLUSTERKIT_COOKIE=... python -m examples.game_cluster.gate gate1
"""

from contextlib import aclosing

from clusterkit import CallError, NoOffer, ServiceOnline, call
from examples.game_cluster.contact import DataContact
from examples.game_cluster.manager import GateManager
from examples.game_cluster.role import Role, main


class GateServer(Role):
    module, resource, requires = "gate", "gate_server", (GateManager.resource, DataContact.resource)

    def __init__(self) -> None:
        self.best: dict[str, int] = {}
        """The scores of those who play here."""

    async def init(self) -> None:
        await super().init()
        self.create_task(self.greet_managers())

    async def greet_managers(self) -> None:
        """Tell each manager that comes who plays here, the one that is there already first of all."""
        async with aclosing(self.node.services.watch(GateManager.resource)) as events:
            async for event in events:
                if isinstance(event, ServiceOnline):
                    manager = self.node.ref(GateManager, event.offer.module, on=event.offer.peer)
                    try:
                        await manager.call(GateManager.seated, self.node.id.name, list(self.best))
                    except CallError as error:
                        self.say(f"{event.offer.peer.name} is gone again: {error}")

    @call(concurrent=True)
    async def login(self, player: str) -> int:
        """Let a player in; the best score so far. While data is out of reach, those who play here play on."""
        try:
            self.best[player] = await self.one(DataContact).call(DataContact.load, player)
        except (CallError, NoOffer):
            if player not in self.best:
                raise
        return self.best[player]

    @call(concurrent=True)
    async def score(self, player: str, score: int) -> int:
        """Note a score; it counts when it is saved."""
        self.best[player] = await self.one(DataContact).call(DataContact.save, player, score)
        return self.best[player]


if __name__ == "__main__":
    main("gate1", lambda _: GateServer())
