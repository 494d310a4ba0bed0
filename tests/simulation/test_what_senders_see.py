"""Every row of the tables of docs/guarantees.md that say what a sender sees is played, and the sender sees it.

A scenario makes the thing happen, and sends; what it raises is what the sender got.
"""

import asyncio
import re
from collections.abc import Callable
from functools import partial

import pytest

from clusterkit import DeadLetter, GenServer, Ref, Refused, ServerDown, call, deadline
from clusterkit.errors import ClusterError
from clusterkit.kernel.address import Address
from clusterkit.testing import SimCluster
from tests.simulation.guarantees import LARGE, LONG, Scenario, Scene, Server, app, table

CALLS: dict[str, Scenario] = {}
CASTS: dict[str, Scenario] = {}


def of_a_call(row: str) -> Callable[[Scenario], Scenario]:
    return lambda scenario: CALLS.setdefault(row, scenario)


def of_a_cast(row: str) -> Callable[[Scenario], Scenario]:
    return lambda scenario: CASTS.setdefault(row, scenario)


# -- calls


@of_a_call("no node of that name is known")
async def _(scene: Scene) -> None:
    await scene.ref("z").call(Server.hold)


@of_a_call("the node is down")
async def _(scene: Scene) -> None:
    scene.sim.crash("b", reset=True)
    await asyncio.sleep(10)
    await scene.ref().call(Server.hold)


@of_a_call("the node is closing")
async def _(scene: Scene) -> None:
    await scene.busy(scene.ref(), seconds=3)
    await scene.beside(scene.sim.stop("b"))
    await scene.ref().call(Server.hold)


@of_a_call("the node restarted, and the Ref is of one process")
async def _(scene: Scene) -> None:
    ref = await scene.process_there()
    await scene.sim.restart("b")
    await ref.call(Server.hold)


@of_a_call("nobody has that name there, or the process has ended")
async def _(scene: Scene) -> None:
    with pytest.raises(ClusterError, match="nobody"):
        await scene.ref(name="nobody").call(Server.hold)
    ref = await scene.process_there()
    await scene.sim["b"].stop(Ref(scene.sim["b"]._open_kernel(), Server, Address(None, ref.address.to)))
    await ref.call(Server.hold)


@of_a_call("no handler takes it")
async def _(scene: Scene) -> None:
    await scene.ref().call("unheard of")


@of_a_call("the arguments do not fit the handler")
async def _(scene: Scene) -> None:
    await scene.ref().proxy.hold(1, 2)  # type: ignore[call-arg]  # pyright: ignore


@of_a_call("an argument cannot cross")
async def _(scene: Scene) -> None:
    await scene.ref().call("hold", object())


@of_a_call("the message is over the limit")
async def _(scene: Scene) -> None:
    await scene.ref().call("hold", "x" * LARGE)


@of_a_call("the mailbox is full")
async def _(scene: Scene) -> None:
    await scene.busy(scene.ref(), waiting=2)
    await scene.ref().call(Server.hold)


@of_a_call("it was dropped from the mailbox for a newer one")
async def _(scene: Scene) -> None:
    ref = scene.ref(name="drops")
    await scene.busy(ref)
    dropped = await scene.beside(ref.call(Server.hold))
    for _ in range(2):
        await scene.beside(ref.call(Server.hold))
    raise await dropped


@of_a_call("no room in a mailbox of this node that blocks, until the deadline")
async def _(scene: Scene) -> None:
    ref = scene.ref("a", "blocks", timeout=LONG)
    await scene.busy(ref, waiting=2)
    await ref.with_(timeout=1).call(Server.hold)


@of_a_call("no room in the outbox until the deadline")
async def _(scene: Scene) -> None:
    await scene.no_connection()
    await scene.fill_outbox()
    await scene.ref(timeout=1).call(Server.hold, 1)


@of_a_call("the server waits for this very call")
async def _(scene: Scene) -> None:
    class Asks(GenServer):
        error: BaseException

        @call
        async def ask(self) -> str:
            try:
                await self.ref.call(Asks.ask)
            except ClusterError as error:
                self.error = error
            return "asked"

    actor = Asks()
    assert await (await scene.sim["a"].start(actor)).call(Asks.ask) == "asked"
    raise actor.error


@of_a_call("the handler raised")
async def _(scene: Scene) -> None:
    await scene.ref().call(Server.fail)


@of_a_call("the handler raised a `CallError` of a call that it made")
async def _(scene: Scene) -> None:
    await scene.ref().call(Server.call_on, "z")


@of_a_call("the handler returned what cannot cross")
async def _(scene: Scene) -> None:
    await scene.ref().call(Server.give)


@of_a_call("the actor is being stopped, or ended before it took the call")
async def _(scene: Scene) -> None:
    await scene.busy(scene.ref(name="blocks"), seconds=2)
    await scene.beside(scene.sim["b"].stop("blocks"))
    with pytest.raises(ServerDown, match="stopping"):
        await scene.ref(name="blocks").call(Server.hold)
    await scene.busy(scene.ref(), seconds=2)
    waiting = await scene.beside(scene.ref().call(Server.hold))
    await scene.sim["b"].stop("server", drain=False)
    raise await waiting


@of_a_call("the actor ended, and the handler had begun")
async def _(scene: Scene) -> None:
    open_call = await scene.beside(scene.ref().call(Server.never))
    await scene.ref().call(Server.stop)
    await open_call


@of_a_call("the deadline had passed before it was sent")
async def _(scene: Scene) -> None:
    with deadline(0):
        await scene.ref().call(Server.hold)


@of_a_call("the deadline passed, and it was still in the outbox")
async def _(scene: Scene) -> None:
    await scene.no_connection()
    await scene.ref(timeout=1).call(Server.hold)


@of_a_call("the deadline passed, and it was in a mailbox of this node")
async def _(scene: Scene) -> None:
    await scene.busy(scene.ref("a"))
    await scene.ref("a", timeout=1).call(Server.hold)


@of_a_call("the deadline passed, and it was written to another node")
async def _(scene: Scene) -> None:
    await scene.busy(scene.ref())
    await scene.ref(timeout=1).call(Server.hold)


@of_a_call("the deadline passed, and the handler ran")
async def _(scene: Scene) -> None:
    await scene.ref("a", timeout=1).call(Server.hold)


@of_a_call("the node died, or restarted, after it was written")
async def _(scene: Scene) -> None:
    waiting = await scene.beside(scene.ref(timeout=LONG).call(Server.hold))
    await scene.sim.restart("b")
    raise await waiting


@of_a_call("the connection broke, and another opened before the deadline")
async def _(scene: Scene) -> None:
    waiting = await scene.beside(scene.ref().call(Server.hold, 2))
    scene.sim.world.reset("a", "b")
    assert await waiting == "held"


@of_a_call("this node was closed")
async def _(scene: Scene) -> None:
    ref = scene.ref()
    await scene.sim.stop("a")
    await ref.call(Server.hold)


# -- casts


@of_a_cast("no node of that name is known")
async def _(scene: Scene) -> None:
    await scene.ref("z").cast(Server.note)


@of_a_cast("nobody has that name, on this node")
async def _(scene: Scene) -> None:
    await scene.ref("a", "nobody").cast(Server.note)


@of_a_cast("nobody has that name, on another node")
async def _(scene: Scene) -> None:
    await scene.ref(name="nobody").cast(Server.note)


@of_a_cast("the actor is being stopped, on this node")
async def _(scene: Scene) -> None:
    await scene.busy(scene.ref("a"), seconds=2)
    await scene.beside(scene.sim["a"].stop("server"))
    await scene.ref("a").cast(Server.note)


@of_a_cast("the actor is being stopped, on another node")
async def _(scene: Scene) -> None:
    await scene.busy(scene.ref(), seconds=2)
    await scene.beside(scene.sim["b"].stop("server"))
    await scene.ref().cast(Server.note)


@of_a_cast("the mailbox is full, on this node")
async def _(scene: Scene) -> None:
    await scene.busy(scene.ref("a"), waiting=2)
    await scene.ref("a").cast(Server.note)


@of_a_cast("the mailbox is full, on another node")
async def _(scene: Scene) -> None:
    await scene.busy(scene.ref(), waiting=2)
    await scene.ref().cast(Server.note)
    await asyncio.sleep(1)
    await scene.ref().cast(Server.note)


@of_a_cast("a mailbox that blocks is full, until the deadline")
async def _(scene: Scene) -> None:
    ref = scene.ref(name="blocks", timeout=1)
    await scene.busy(scene.ref(name="blocks", timeout=LONG))
    for _ in range(5_000):
        await ref.cast(Server.note)


@of_a_cast("no room in the outbox until the deadline")
async def _(scene: Scene) -> None:
    await scene.no_connection()
    await scene.fill_outbox()
    await scene.ref(timeout=1).cast(Server.note)


@of_a_cast("no handler takes it")
async def _(scene: Scene) -> None:
    await scene.ref().cast("unheard of")


@of_a_cast("the handler raised")
async def _(scene: Scene) -> None:
    async with scene.sim["a"].monitor(scene.ref()) as down:
        await scene.ref().cast(Server.stumble)
        assert (await down).reason == "ValueError: no"


@of_a_cast("the mailbox dropped it, as it was told to")
async def _(scene: Scene) -> None:
    await scene.busy(scene.ref(name="drops"))
    for _ in range(3):
        await scene.ref(name="drops").cast(Server.note)


@of_a_cast("it was written, and the node restarted before it was acknowledged")
async def _(scene: Scene) -> None:
    scene.sim.partition("a", "b")
    await scene.ref().cast(Server.note)
    await asyncio.sleep(0.1)
    scene.sim.crash("b")
    scene.sim.heal()
    await scene.sim.start("b")


# -- the page


OF_CALLS = table("what happened | the caller gets")
OF_CASTS = table("what happened | its sender gets")


def test_each_row_has_a_scenario_and_each_scenario_a_row() -> None:
    assert set(CALLS) == set(OF_CALLS)
    assert set(CASTS) == set(OF_CASTS)


async def play(scenario: Scenario) -> tuple[Exception | None, set[str]]:
    """What the sender got, and which events there were: here, and on the other node."""
    events: set[str] = set()
    got: Exception | None = None
    async with SimCluster(2, app=app) as sim:
        for name, where in (("a", "here"), ("b", "there")):
            sim[name].on(DeadLetter, partial(_note_letter, events, where))
            sim[name].on(Refused, partial(_note_refusal, events, where))
        async with asyncio.TaskGroup() as group:
            scene = Scene(sim, group)
            try:
                await scenario(scene)
            except Exception as error:
                got = error
            await asyncio.sleep(1)
            told = set(events)  # what follows is the end of the scene
            scene.end()
    return got, told


def _note_letter(events: set[str], where: str, event: DeadLetter) -> None:
    if event.target != "reply":  # whoever waits beside is given up at the end
        events.add(f"a dead letter {where}{', maybe' if event.executed == 'maybe' else ''}")


def _note_refusal(events: set[str], where: str, event: Refused) -> None:
    events.add(f"`Refused` {where}")


@pytest.mark.simulation(seed=7)
@pytest.mark.parametrize("happened", OF_CALLS)
async def test_what_the_caller_sees(happened: str) -> None:
    gets, executed = OF_CALLS[happened]
    got, _ = await play(CALLS[happened])
    if gets.startswith("nothing"):
        assert got is None
        return
    expected = "ValueError" if gets == "what it raised" else "NodeDown" if gets == "that `CallError`" else _named(gets)
    assert type(got).__name__ == expected
    assert getattr(got, "executed", "") == executed
    if reason := re.search(r'reason "(\w+)"', gets):
        assert getattr(got, "reason", "") == reason[1]


@pytest.mark.simulation(seed=7)
@pytest.mark.parametrize("happened", OF_CASTS)
async def test_what_the_sender_of_a_cast_sees(happened: str) -> None:
    gets, besides = OF_CASTS[happened]
    got, events = await play(CASTS[happened])
    assert (type(got).__name__ if got else "nothing") == ("nothing" if gets == "nothing" else _named(gets))
    assert events == set(re.findall(r"`Refused` here|a dead letter (?:here, maybe|here|there)", besides))


def _named(cell: str) -> str:
    return str(re.findall(r"`(\w+)`", cell)[0])
