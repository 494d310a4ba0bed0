"""clusterkit as one of the systems: each member is a process of `benchmarks.membership_node`."""

import sys
from collections.abc import Sequence

from benchmarks.membership_cluster import Member
from benchmarks.membership_views import Change, read_change


class Clusterkit:
    """Nodes that do nothing but be members, on asyncio's own loop."""

    name = "clusterkit"
    left = ("left", "removed")
    moves = True
    pulse = 20.0

    def missing(self) -> str | None:
        """It is here."""
        return None

    def calls(self, name: str, address: str) -> str:  # noqa: ARG002
        """Its name."""
        return name

    def command(self, name: str, address: str) -> Sequence[str]:
        """The worker, with a port of the system's choice."""
        return sys.executable, "-m", "benchmarks.membership_node", name, address

    def read(self, line: str, at: float) -> Change | None:  # noqa: ARG002
        """Its lines have their own time."""
        return read_change(line)

    async def found(self, member: Member) -> None:
        """Enter a ring of one."""
        member.say("join")

    async def join(self, member: Member, seed: Member) -> float:
        """Join through one seed."""
        return member.say(f"join {seed.place}")

    async def leave(self, member: Member) -> float:
        """Leave the ring, close the node, end."""
        return member.say("leave")

    async def forget(self, member: Member, name: str) -> None:
        """Remove a member that is down."""
        member.say(f"remove {name}")
