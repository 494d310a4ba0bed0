"""The actors of the processes in test_process_cluster.py."""

from clusterkit import GenServer, Node, call, cast
from clusterkit.testing.child import report


class Witness(GenServer):
    """Says which calls ran before it answers them, so that the log outlives a kill -9."""

    @call
    async def run(self, number: int) -> int:
        report(ran=number)
        return number

    @cast
    async def note(self, number: int) -> None:
        report(noted=number)


async def start(node: Node) -> None:
    """The app of each process."""
    await node.start(Witness(), name="witness")
