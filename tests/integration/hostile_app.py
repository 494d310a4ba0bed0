"""The processes of a siege: the node that is attacked, an honest member that goes on calling it, a late comer.

Each writes all that it logs, from debug upwards, to a file of its own. See `tests.integration.hostile`.
"""

import asyncio
import hmac
import logging
from typing import Any

from clusterkit import Config, GenServer, LinkUp, Mailbox, Node, call, cast
from clusterkit import node as node_module
from clusterkit.core import handshake
from clusterkit.errors import ClusterError
from clusterkit.runtime import Tasks, now
from clusterkit.testing.child import report

PAUSE = 0.004  # seconds between two calls of the honest member
RING = "siege"
leak = logging.getLogger("clusterkit.transport")


class Witness(GenServer):
    """What came through to the node under attack."""

    mailbox = Mailbox(100_000)

    async def init(self) -> None:
        self.notes = 0
        self.ups: list[str] = []
        self.node.on(LinkUp, lambda event: self.ups.append(event.peer.name))

    @cast
    async def note(self, number: int) -> None:
        self.notes += 1

    @call
    async def echo(self, number: int) -> int:
        return number

    @call
    async def facts(self) -> dict[str, Any]:
        """All that an attack could have moved."""
        kernel = self.node._open_kernel()
        return {
            "boot": self.node.id.incarnation,
            "notes": self.notes,
            "ups": sorted(set(self.ups)),
            "members": [member.name for member in self.node.ring.nodes],
            "counters": self.node.stats(),
            "unproven": len(kernel.links._unproven),
            "tasks": len(asyncio.all_tasks()),
        }

    @call
    async def take_cookies(self, cookies: list[str]) -> None:
        """Go over to other cookies."""
        self.node.set_cookies(cookies)

    @call
    async def fail(self, text: str) -> None:
        """Raise."""
        raise ValueError(text)


class Dialler(GenServer):
    """Dials whom it is told to, for the node under attack; beside the witness, whose calls must not wait for it."""

    @call
    async def dial(self, port: int, expected: str | None) -> str:
        """Dial an address; say whom it proved to be, or the error."""
        try:
            stream, proven = await self.node._open_kernel().links.dial("127.0.0.1", port, expected)
        except (ClusterError, OSError) as error:
            return type(error).__name__
        stream.abort()
        return f"proven {proven.peer.name}"


class Honest(GenServer):
    """Calls the witness all the time, and knows how long it took."""

    def __init__(self, victim: str) -> None:
        self.victim = victim
        self.took: list[float] = []
        self.failed: list[str] = []
        self.tasks = Tasks("honest")

    async def init(self) -> None:
        self.tasks.spawn(self._call_for_ever(), "calls")

    async def terminate(self, reason: object) -> None:
        await self.tasks.aclose()

    async def _call_for_ever(self) -> None:
        witness, number = self.node.ref(Witness, "witness", on=self.victim), 0
        while True:
            number, began = number + 1, now()
            try:
                if await witness.call(Witness.echo, number) != number:
                    self.failed.append("a wrong answer")
            except Exception as error:
                self.failed.append(repr(error))
            self.took.append(now() - began)
            await asyncio.sleep(PAUSE)

    @call
    async def take_cookies(self, cookies: list[str]) -> None:
        """Go over to other cookies."""
        self.node.set_cookies(cookies)

    @call
    async def since(self) -> dict[str, Any]:
        """How the calls since the last question went."""
        took, self.took = self.took, []
        failed, self.failed = self.failed, []
        return {"took": took, "failed": failed}


def log_to(path: str) -> None:
    """Write everything that is logged to a file."""
    logging.basicConfig(filename=path, level=logging.DEBUG, format="%(levelname)s %(name)s %(message)s")


async def stand(argument: dict[str, Any]) -> None:
    """Run the node that is attacked."""
    log_to(argument["log"])
    asyncio.get_running_loop().set_debug(argument["debug"])
    if argument["leak"] is not None:
        LEAKS[argument["leak"]]()
    async with node_of("victim", argument, Config(**argument["config"])) as node:
        await node.start(Witness(), name="witness")
        await node.start(Dialler(), name="dialler")
        await node.ring.join(RING)
        report(port=listening(node))
        await node.run_until_signal()


async def go_on(argument: dict[str, Any]) -> None:
    """Run the honest member."""
    log_to(argument["log"])
    async with node_of("honest", argument) as node:
        await node.start(Honest("victim"), name="honest")
        report(port=listening(node))
        await node.ring.join(RING, argument["seeds"])
        report(joined=True)
        await node.run_until_signal()


def node_of(name: str, argument: dict[str, Any], config: Config | None = None) -> Node:
    """A node on a free port; with a ``port`` others are to dial that instead."""
    return Node(f"{name}@127.0.0.1:{argument['port']}", listen="127.0.0.1:0", config=config)


def listening(node: Node) -> int:
    """The port that a node is bound to, whatever it tells others."""
    listener = node._open_kernel().links._listener
    assert listener is not None
    return listener.port


async def come_late(argument: dict[str, Any]) -> None:
    """Join in the middle of it, report how long that and a first call took, and leave."""
    log_to(argument["log"])
    async with Node("late@127.0.0.1:0") as node:
        began = now()
        await node.ring.join(RING, argument["seeds"])
        assert await node.ref(Witness, "witness", on="victim").call(Witness.echo, 1) == 1
        report(took=now() - began)


# -- leaks, planted so that the search for them is known to find them ---------------------


def _leak_keys() -> None:
    """Log the keys of each handshake, as bytes."""
    expand = handshake.expand  # type: ignore[attr-defined]

    def loud(key: bytes, label: bytes, transcript: bytes) -> tuple[bytes, bytes]:
        keys = expand(key, label, transcript)
        leak.debug("keys of %r: %r", label, keys)
        return keys

    handshake.expand = loud  # type: ignore[attr-defined]


def _leak_cookie() -> None:
    """Log what a node was started with."""
    prepare = node_module.prepare_cookies  # type: ignore[attr-defined]

    def loud(cookies: Any) -> tuple[bytes, ...]:
        leak.debug("starting with %s", {"cookies": cookies})
        return prepare(cookies)

    node_module.prepare_cookies = loud  # type: ignore[attr-defined]


def _leak_expected_macs() -> None:
    """Say in the line that tells of a wrong MAC which one would have been right."""
    compare = hmac.compare_digest

    def loud(expected: Any, found: Any) -> bool:
        if not compare(expected, found):
            leak.debug("wrong checksum: %s, expected %s", found[:4].hex(), expected.hex()[:16])
        return compare(expected, found)

    hmac.compare_digest = loud


LEAKS = {"keys": _leak_keys, "cookie": _leak_cookie, "expected macs": _leak_expected_macs}
