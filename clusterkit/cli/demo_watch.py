"""What the nodes of the demo say: each is asked for its members, again and again.

All that the demo claims is read off here, from answers of other processes. A node
that does not answer has no view.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clusterkit.cli.demo_app import GREETER
from clusterkit.cli.demo_process import Broken, NodeProcess
from clusterkit.errors import ClusterError
from clusterkit.runtime import Tasks, now
from clusterkit.services.client import Client

_ANSWER = 2.0  # seconds that a node has to tell its members
_PACE = 0.005  # seconds between two questions to one node, for each node that there is


@dataclass(frozen=True, slots=True)
class Listed:
    """A member, as another node lists it."""

    port: int
    incarnation: int
    state: str

    @property
    def alive(self) -> bool:
        """Whether it is believed alive."""
        return self.state == "alive"

    @property
    def run(self) -> str:
        """The incarnation in short: its last six hex digits.

        >>> Listed(7022, 0x0C_A7_BA_AD_3F_9A_2C, "alive").run
        '3f9a2c'
        """
        return f"{self.incarnation & 0xFFFFFF:06x}"


View = Mapping[str, Listed]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call from one node to another went: a value, or the name of an error."""

    frm: str
    to: str
    seconds: float
    value: Any = None
    error: str = ""
    executed: str = ""


class Watch:
    """The latest answer of every node, and the way to ask them more."""

    def __init__(self, cookie: str, count: int) -> None:
        self.views: dict[str, View] = {}
        self.told_at: dict[str, float] = {}  # when a node first said what it says now
        self.changed: Callable[[], None] = lambda: None
        self._cookie = cookie
        self._pace = _PACE * count
        self._clients: dict[str, Client] = {}
        self._tasks = Tasks("watch")
        self._news = asyncio.Event()

    def follow(self, process: NodeProcess) -> None:
        """Ask this node for its members from now on, also after it was started again."""
        self._tasks.spawn(self._follow(process), process.name)

    async def aclose(self) -> None:
        """Ask no more."""
        await self._tasks.aclose()

    async def _follow(self, process: NodeProcess) -> None:
        while True:
            try:
                async with Client(process.host, process.port, cookie=self._cookie, expect=process.name) as client:
                    self._clients[process.name] = client
                    await self._listen(process.name, client)
            except (OSError, ClusterError):
                await asyncio.sleep(self._pace)
            finally:
                self._clients.pop(process.name, None)
                self._tell(process.name, None)

    async def _listen(self, name: str, client: Client) -> None:
        while True:
            listed = await client.call("members", timeout=_ANSWER)
            self._tell(
                name, {each["name"]: Listed(each["port"], each["incarnation"], each["state"]) for each in listed}
            )
            await asyncio.sleep(self._pace)

    def _tell(self, name: str, view: View | None) -> None:
        if self.views.get(name) == view:
            return
        if view is None:
            self.views.pop(name, None)
        else:
            self.views[name] = view
        self.told_at[name] = now()
        self._news.set()
        self.changed()

    async def until(self, missing: Callable[[], str], deadline: float) -> None:
        """Wait until nothing is ``missing``; raises `Broken` with what it says at ``deadline``."""
        while why := missing():
            self._news.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                raise Broken(why) from None

    async def call(self, frm: str, to: str, event: str, data: Any = None, timeout: float = 5.0) -> Answer:
        """Let one node call the greeter of another, and tell how it went."""
        client = self._clients.get(frm)
        if client is None:
            raise Broken(f"{frm} does not answer")
        start = now()
        try:
            said = await client.call("ask", to, GREETER, event, data, timeout, timeout=timeout + 1.0)
        except ClusterError as error:
            raise Broken(f"{frm}, asked to call {to}, does not answer: {type(error).__name__}: {error}") from error
        seconds = said.get("seconds", now() - start)
        return Answer(frm, to, seconds, said.get("value"), said.get("error", ""), said.get("executed", ""))
