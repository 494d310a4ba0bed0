"""examples/game_cluster: its processes start in any order, find each other, survive the loss of each, and find it again."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from clusterkit import Node, NoOffer, ServiceOffline, ServiceOnline
from clusterkit.core.offers import ServiceEvent
from examples.game_cluster.role import meet
from examples.game_cluster.run import NODES, Game, until
from tests.conftest import COOKIE, eventually
from tests.simulation.service_histories import Told, broken_turns

ROOT = Path(__file__).parents[2]
DEADLINE = 100.0
FOUND = {
    "gate1": {"gate_manager": ["manager"], "data_contact": ["contact"]},
    "gate2": {"gate_manager": ["manager"], "data_contact": ["contact"]},
    "manager": {"gate_server": ["gate1", "gate2"]},
    "contact": {"data_service": ["data"]},
    "data": {},
}
MISSED = {"manager": {"gate1", "gate2"}, "contact": {"gate1", "gate2"}, "data": {"contact"}}
"""Who misses what is offered by one node alone."""

TURNS = [ServiceOnline.__name__, ServiceOffline.__name__, ServiceOnline.__name__]


@asynccontextmanager
async def game_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Game]:
    """A game without processes yet; those that are started are ended."""
    monkeypatch.setenv("CLUSTERKIT_COOKIE", COOKIE)
    async with asyncio.timeout(DEADLINE), Node("player@127.0.0.1:0") as node:
        game = Game(node, folder)
        try:
            yield game
        finally:
            await game.end(signal.SIGKILL, *game.processes)


async def start_in_order(game: Game, *order: str) -> None:
    """Start one after the other, each when the one before it can be met."""
    for name in order:
        await game.start(name)
        await eventually((game.folder / f"{name}.address").exists, timeout=30)


async def all_found(game: Game) -> None:
    """Wait until everybody has found everybody, and check that it is so for each of them."""
    await until(game.is_complete)
    assert {name: await game.found(name) for name in NODES} == FOUND
    assert [each.unmet for each in game.node.services.nodes()] == [()] * len(NODES)


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(["data", "contact", "manager", "gate1", "gate2"], id="what is needed first"),
        pytest.param(["gate2", "gate1", "manager", "contact", "data"], id="what is needed last"),
    ],
)
async def test_they_start_in_any_order(order: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with game_of(tmp_path, monkeypatch) as game:
        await start_in_order(game, *order)
        await meet(game.node, tmp_path)
        await all_found(game)
        assert await game.play("ada", 5) == "at gate1: 0 before, 5 now"
        assert await game.play("bob", 7) == "at gate2: 0 before, 7 now"


async def test_they_start_at_once_and_each_is_killed_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with game_of(tmp_path, monkeypatch) as game:
        told: list[ServiceEvent] = []
        game.node.services.on(ServiceOnline, told.append)
        game.node.services.on(ServiceOffline, told.append)
        for name in NODES:
            await game.start(name)
        await meet(game.node, tmp_path)
        await all_found(game)
        await game.play("ada", 1)
        for score, name in enumerate(NODES, 2):
            await lose(game, name)
            assert f"{score - 1} before, {score} now" in await game.play("ada", score)
        history = [Told.of(event, 0.0) for event in told]
        assert broken_turns(history) == []
        lives = {name: [each.kind for each in history if each.key[0] == name] for name in NODES}
        assert lives == dict.fromkeys(NODES, TURNS)


async def lose(game: Game, name: str) -> None:
    """Kill a node; the others miss it and go on; start it, and all find it, which is another run."""
    (before,) = (offer for offer in game.node.services.offers() if offer.peer.name == name)
    await game.end(signal.SIGKILL, name)
    await until(lambda: game.is_gone(name))
    missing = {each.peer.name for each in game.node.services.nodes() if each.online and each.unmet}
    assert missing == MISSED.get(name, set())
    if name in ("contact", "data"):
        with pytest.raises(NoOffer):
            await game.play("ada", 1_000)
    else:
        assert "before" in await game.play("ada", 0), "at the other gate, or where she sat"
    await game.start(name)
    await all_found(game)
    (after,) = (offer for offer in game.node.services.offers() if offer.peer.name == name)
    assert after.peer.incarnation > before.peer.incarnation


STORY = [
    r"-- start manager, gate2, data, gate1, contact",
    r"  gate1 has found data_contact on contact",
    r"  manager has found gate_server on gate1 and gate2",
    r"  ada plays at gate1: 0 before, 1 now",
    r"-- kill -9 manager",
    r"  gate1 misses gate_manager",
    r"  bob plays at gate2: 1 before, 10 now",
    r"-- kill -9 gate2",
    r"  bob plays at gate1: .*",
    r"-- kill -9 data",
    r"  contact misses data_service",
    r"  bob cannot play: .*",
    r"-- kill -9 contact",
    r"  ada plays at gate\d: 41 before, 51 now",
    r"-- SIGTERM to all",
]


def test_the_whole_story_is_told_to_its_end() -> None:
    order = ["manager", "gate2", "data", "gate1", "contact"]
    done = subprocess.run(
        [sys.executable, "-m", "examples.game_cluster.run", *order],
        cwd=ROOT,
        env={**os.environ, "CLUSTERKIT_COOKIE": COOKIE, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = iter(done.stdout.splitlines())
    for expected in STORY:
        assert any(re.fullmatch(expected, line) for line in lines), f"no {expected!r} in its place:\n{done.stdout}"
