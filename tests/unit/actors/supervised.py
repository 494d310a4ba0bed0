"""A row of the supervisors' table, played to a real `Supervisor` of real actors."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from clusterkit import Child, GenServer, Node, Ref, Stop, Supervisor, cast
from clusterkit.actors.process import Process
from clusterkit.errors import ConfigError, NameInUse, NoSuchServer, UsageError
from clusterkit.testing import isolated
from tests.unit.core.supervision_table import Row, TableChild, child_of


class Actor(GenServer):
    """A child that writes down what happens to it."""

    def __init__(self, stage: "Stage", child: TableChild) -> None:
        self.stage = stage
        self.child = child
        self.ends_itself = False

    async def init(self) -> None:
        name, stage = self.child.name, self.stage
        if stage.fails[name]:
            stage.fails[name] -= 1
            stage.seen.append(f"!{name}")
            raise OSError("cannot")
        stage.seen.append(f"+{name}")
        await stage.hook(name, "starts")
        stage.alive[name] = self

    @cast
    async def end(self, reason: str) -> None:
        self.ends_itself = True
        raise Stop(reason)

    async def terminate(self, reason: object) -> None:
        name, stage = self.child.name, self.stage
        del stage.alive[name]
        if self.ends_itself:
            return
        assert reason == "shutdown"
        stage.seen.append(f"x{name}" if self.child.stubborn else f"-{name}")
        await stage.hook(name, "stops")
        if self.child.stubborn:
            await asyncio.get_running_loop().create_future()


class Scripted(Supervisor):
    """A supervisor as a row describes it."""

    def __init__(self, stage: "Stage") -> None:
        row: Any = stage.row
        self.strategy = row.strategy
        self.intensity = row.intensity
        self.period = row.period
        self.auto_shutdown = row.auto_shutdown
        self.stage = stage

    def children(self) -> Sequence[Child[Any]]:
        return [self.stage.child(child) for child in self.stage.row.specs]


class Stage:
    """What a row needs to be played on a node."""

    def __init__(self, row: Row, node: Node) -> None:
        self.row = row
        self.node = node
        self.app = Scripted(self)
        self.process: Process | None = None
        self.alive: dict[str, Actor] = {}
        self.fails: Counter[str] = Counter()
        self.hooks: dict[tuple[str, str], tuple[str, str]] = {}
        self.seen: list[str] = []

    def child(self, child: TableChild) -> Child[Actor]:
        restart: Any = child.restart
        shutdown = 0.1 if child.stubborn else None
        make = partial(Actor, self, child)
        return Child(make, name=child.name, restart=restart, shutdown=shutdown, significant=child.significant)

    async def play(self) -> list[str]:
        return [await self._play(step) for step in self.row.steps]

    async def _play(self, step: list[str]) -> str:
        self.seen.clear()
        answer = await self._act(step)
        last = await self._settled() if self.process is not None else ""
        return " ".join(mark for mark in [*self.seen, answer, last] if mark)

    async def _act(self, step: list[str]) -> str:
        match step:
            case ["begin"]:
                return await self._begin()
            case ["wait", seconds]:
                await asyncio.sleep(float(seconds))
            case [name, "fails", times]:
                self.fails[name] = int(times)
            case ["when", name, verb, other, "ends", reason]:
                self.hooks[name, verb] = (other, reason)
            case _ if self.process is None:
                pass
            case ["list"]:
                children = await self.app.which_children()
                self.seen += [f"({each.name})" if each.state == "stopped" else str(each.name) for each in children]
            case ["shutdown"]:
                self.process.stop("shutdown")
                await self.process.join(60)
            case [name, "ends", reason]:
                await self.end(name, reason)
            case _:
                return await self._request(step)
        return ""

    async def _begin(self) -> str:
        try:
            await self.node.start(self.app, name="app")
        except ConfigError:
            return "invalid"
        except OSError:
            return "refused"
        self.process = self.app._clusterkit_process
        return ""

    async def _request(self, step: list[str]) -> str:
        app = self.app
        try:
            match step:
                case ["start", *words]:
                    child = child_of(words)
                    assert isinstance(await app.start_child(self.child(child)), Ref)
                case ["stop", name]:
                    await app.stop_child(name)
                case ["restart", name]:
                    await app.restart_child(name)
                case ["delete", name]:
                    await app.delete_child(name)
        except ConfigError:
            return "=invalid"
        except NoSuchServer:
            return "=not_found"
        except NameInUse:
            states = {child.name: child.state for child in await app.which_children()}
            return "=already_present" if states[step[1]] == "stopped" else "=already_started"
        except UsageError:
            return "=running"
        except OSError:
            return "=failed"
        return "=ok"

    async def end(self, name: str, reason: str) -> bool:
        """Have a child end by itself; False if it does not run."""
        actor = self.alive.get(name)
        if actor is None:
            return False
        process = actor._clusterkit_process
        assert process is not None
        await self.node.ref(Actor, name).cast(Actor.end, reason)
        assert await process.join(10)
        return True

    async def hook(self, name: str, verb: str) -> None:
        other, reason = self.hooks.pop((name, verb), ("", ""))
        if other != name and await self.end(other, reason):
            self.seen.append(f"~{other}")

    async def _settled(self) -> str:
        """Wait until nothing is to be done any more; say whether the supervisor has ended."""
        process = self.process
        assert process is not None
        assert process.task is not None
        while not process.task.done() and await self._is_busy():
            await asyncio.sleep(0.01)
        if not process.task.done():
            return ""
        assert process._reason == "shutdown"
        assert not self.alive
        assert [each.name for each in self.node.inspect()] == ["clusterkit.command", "anchor"]
        self.process = None
        return "end"

    async def _is_busy(self) -> bool:
        shell = self.app._clusterkit_active()
        return shell._closed.done() or any(each.state not in ("running", "stopped") for each in shell.list())


async def perform(row: Row) -> list[str]:
    """What is seen at each step."""
    anchor = GenServer()
    async with isolated(anchor, name="anchor"):
        return await Stage(row, anchor.node).play()
