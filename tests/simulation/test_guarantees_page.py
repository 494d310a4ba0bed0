"""What docs/guarantees.md says of cancelling, of ends and of monitors is so, and its numbers are those of the code."""

import asyncio

import pytest

from clusterkit import Config, GenServer, Mailbox, Stop, Supervisor, call, cast
from clusterkit.actors import supervising, ties
from clusterkit.kernel import calls, faults, mailbox, monitors, pushback, turns
from clusterkit.testing import SimCluster
from tests.simulation.guarantees import LONG, PAGE, Scenario, Scene, table


class Witness(GenServer):
    """Writes down what it began, what it ended, and how."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @call
    async def plain(self, name: str) -> None:
        await self.work(name)

    @call(cancellable=True)
    async def careful(self, name: str) -> None:
        await self.work(name)

    @call
    async def later(self, name: str) -> None:
        return self.defer(self.caller, self.work(name))

    @cast
    async def stumble(self) -> None:
        await self.work("stumble")
        raise ValueError("no such account")

    @cast
    async def stop(self) -> None:
        await self.work("stop")
        raise Stop("why")

    async def work(self, name: str) -> None:
        self.seen.append(f"{name} began")
        try:
            await asyncio.sleep(2)
        except asyncio.CancelledError:
            self.seen.append(f"{name} was cancelled")
            raise
        self.seen.append(f"{name} ended")

    async def terminate(self, reason: object) -> None:
        self.seen.append(f"terminate: {reason!r}")


async def give_up(on: str, running: str, waiting: str | None = None) -> list[str]:
    """Let a call run, and one wait behind it; cancel the latter, or the former if there is none. What the actor saw."""
    async with SimCluster(2) as sim:
        actor = Witness()
        await sim["b"].start(actor, name="witness")
        ref = sim[on].ref(Witness, "witness", on="b")
        calls = [asyncio.ensure_future(ref.call(name, name)) for name in (running, waiting) if name]
        await asyncio.sleep(1)
        calls[-1].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(5)
        return list(actor.seen)


@pytest.mark.simulation(seed=7)
@pytest.mark.parametrize("on", ["a", "b"])
async def test_what_becomes_of_a_request_whose_caller_gives_up(on: str) -> None:
    told = {request: becomes for request, [becomes] in table("the request | becomes").items()}
    taken_out, cancelled, goes_on = told.values()
    assert taken_out == "is taken out"
    assert await give_up(on, "plain", "careful") == ["plain began", "plain ended"]
    assert cancelled.startswith("cancelled")
    for name in ("careful", "later"):
        assert await give_up(on, name) == [f"{name} began", f"{name} was cancelled"]
    assert goes_on.startswith("goes on to its end")
    assert await give_up(on, "plain") == ["plain began", "plain ended"]


ENDS: dict[str, tuple[Scenario, str]] = {
    "`node.stop(ref)`, close of the node, a supervisor": (lambda scene: scene.sim["b"].stop("witness"), ""),
    "`node.stop(ref, drain=False)`, a link, `Stop`": (lambda scene: scene.sim["b"].stop("witness", drain=False), ""),
    "an error of a cast, info or timer": (lambda scene: asyncio.sleep(6), "stumble"),
    "past the timeout of `node.stop` (5 s), past `shutdown`": (lambda s: s.sim["b"].stop("witness", timeout=1), ""),
}


@pytest.mark.simulation(seed=7)
@pytest.mark.parametrize("how", ENDS)
async def test_how_an_actor_ends(how: str) -> None:
    runs, waits, terminates = table("| what runs")[how]
    end, cast_first = ENDS[how]
    async with SimCluster(2) as sim, asyncio.TaskGroup() as group:
        actor, scene = Witness(), Scene(sim, group)
        await sim["b"].start(actor, name="witness")
        ref = sim["a"].ref(Witness, "witness", on="b").with_(timeout=LONG)
        if cast_first:
            await ref.cast(cast_first)
        else:
            await scene.beside(ref.call(Witness.plain, "first"))
        waiting = await scene.beside(ref.call(Witness.plain, "second"))
        await end(scene)
        outcome = await waiting
    first = cast_first or "first"
    assert (f"{first} ended" in actor.seen) == (runs != "is cancelled")
    assert (f"{first} was cancelled" in actor.seen) == (runs == "is cancelled")
    assert ("second ended" in actor.seen) == (waits == "is handled first")
    assert (outcome is None) == (waits == "is handled first")
    if outcome is not None:
        assert (type(outcome).__name__, outcome.executed) == ("ServerDown", "no")
    assert any("terminate" in each for each in actor.seen) == terminates.startswith("runs")
    assert ("terminate: ValueError('no such account')" in actor.seen) == terminates.endswith("with the error")


def test_every_end_of_the_page_is_played() -> None:
    assert set(ENDS) == set(table("| what runs"))


REASONS: dict[str, Scenario] = {
    '"normal", "shutdown"': lambda scene: scene.sim["b"].stop("witness"),
    "what was given": lambda scene: scene.sim["b"].stop("witness", "why"),
    '"ValueError: text"': lambda scene: scene.ref(name="witness").cast("stumble"),
    '"killed"': lambda scene: scene.sim["b"].stop("witness", timeout=0.1),
    '"noproc"': lambda scene: asyncio.sleep(0),
    '"noconnection"': lambda scene: scene.sim.restart("b"),
}
TOLD = ("normal", "why", "ValueError: no such account", "killed", "noproc", "noconnection")


@pytest.mark.simulation(seed=7)
@pytest.mark.parametrize(("reason", "told"), list(zip(REASONS, TOLD, strict=True)))
async def test_what_a_monitor_is_told(reason: str, told: str) -> None:
    assert list(REASONS) == list(table("reason | the process"))
    async with SimCluster(2) as sim, asyncio.TaskGroup() as group:
        scene = Scene(sim, group)
        await sim["b"].start(Witness(), name="witness")
        ref = scene.ref(name="nobody" if told == "noproc" else "witness")
        if told == "killed":
            await scene.beside(scene.ref(name="witness").call("plain", "first"))
        async with sim["a"].monitor(ref) as down:
            await asyncio.sleep(0.1)
            await REASONS[reason](scene)
            assert (await down).reason == told
        scene.end()


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    config, most = Config(), Mailbox()
    numbers = {happened: default for happened, (default, _) in table("| default | changed by").items()}
    assert numbers == {
        "timeout of a call, or of a send that waits": f"{config.call_timeout:g} s",
        "messages in a mailbox": f"{config.mailbox:,}",
        "bytes in a mailbox": f"{most.bytes >> 20} MiB",
        "one message": f"{config.message_limit >> 20} MiB",
        "an outbox": f"{config.outbox_messages:,} messages, {config.outbox_size >> 20} MiB",
        "restarts of a supervisor": f"{Supervisor.intensity} in {Supervisor.period:g} s",
        "a child's time to stop, and to start": f"{supervising._PATIENCE:g} s, {Supervisor.start_timeout:g} s",
        "closing a node": f"{config.drain_timeout:g} s",
    }
    text = " ".join(PAGE.split())
    for said in (
        f"behind each {pushback.WINDOW >> 10} KiB of casts to that server (each counts {pushback.MESSAGE_COST} bytes more",
        "for its first MiB" if pushback._UNSURE == 1 << 20 else "another number",
        f"up to {mailbox._AHEAD:,} messages or {mailbox._AHEAD_SIZE >> 20} MiB over its limit",
        f"A chain names {turns._MOST_CHAIN} turns",
        f"at most {monitors._MOST:,} monitors and links",
        f"up to {calls._TICK * 1000:g} ms late",
        f"at most {ties._MOST_NEWS:,} wait",
        f"{faults._TEXT_LIMIT >> 10} KiB each",
        f"up to {faults._MOST_GROUPED} errors",
    ):
        assert said in text, said
