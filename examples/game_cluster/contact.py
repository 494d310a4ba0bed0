"""The data service's contact: others reach data through it, and need not know where data is.

CLUSTERKIT_COOKIE=... python -m examples.game_cluster.contact
"""

from clusterkit import call
from examples.game_cluster.data import DataService
from examples.game_cluster.role import Role, main


class DataContact(Role):
    module, resource, requires = "contact", "data_contact", (DataService.resource,)

    @call(concurrent=True)  # a slow answer holds up nobody else
    async def load(self, player: str) -> int:
        return await self.one(DataService).call(DataService.load, player)

    @call(concurrent=True)
    async def save(self, player: str, score: int) -> int:
        return await self.one(DataService).call(DataService.save, player, score)


if __name__ == "__main__":
    main("contact", lambda _: DataContact())
