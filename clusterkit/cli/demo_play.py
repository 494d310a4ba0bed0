"""The steps of the demo, as a play: each says what it will do, does it, shows what came of it.

Rules: what it says comes from the answers of other processes and from exit codes,
never from what it did itself; times are measured; every wait has a deadline.
"""

import asyncio
import signal
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from clusterkit.cli.demo_process import Broken, NodeProcess
from clusterkit.cli.demo_show import Show, differing, listing
from clusterkit.cli.demo_watch import Answer, Listed, Watch
from clusterkit.runtime import Tasks, now

_LOOK = 0.01  # seconds between two questions whether something has begun


class Play:
    """The steps. Each shows what it is about to do, does it, and shows what came of it."""

    def __init__(self, nodes: Sequence[NodeProcess], watch: Watch, show: Show, patience: float) -> None:
        self.show = show
        self.rounds = 0
        self._nodes = nodes
        self._seed = nodes[0]
        self._watch = watch
        self._patience = patience

    async def once(self) -> None:
        """Play all steps, to the end of the cluster."""
        start = now()
        await self._start_all()
        await self._round(self._nodes[-1], self._nodes[1], pause=0.0)
        await self._leave_all()
        self.show.say(f"\nEvery step held: {self.show.facts} facts in {now() - start:.1f} s.", "bold green")

    async def for_ever(self, pause: float) -> None:
        """Play rounds, with another victim each time, until somebody has seen enough."""
        await self._start_all()
        others = self._nodes[1:]
        while True:
            self.show.begin_round()
            victim = others[-1 - self.rounds % len(others)]
            leaver = others[-2 - self.rounds % len(others)] if len(others) > 1 else victim
            await self._round(victim, leaver, pause=pause)
            await self._come_back(leaver)
            self.rounds += 1
            self.show.say(f"\nRound {self.rounds} held. The next begins; Ctrl-C ends it.", "bold green")
            await asyncio.sleep(pause)

    async def _round(self, victim: NodeProcess, leaver: NodeProcess, *, pause: float) -> None:
        await self._call_all()
        await asyncio.sleep(pause)
        before = await self._kill(victim)
        await asyncio.sleep(pause)
        await self._restart(victim, before)
        await asyncio.sleep(pause)
        await self._leave(leaver)
        await asyncio.sleep(pause)

    def _deadline(self) -> float:
        return now() + self._patience

    def _others(self, than: NodeProcess) -> list[NodeProcess]:
        return [node for node in self._nodes if node is not than and node.running]

    def tell_broken(self, why: Broken) -> None:
        """Show what did not hold, and what the processes printed."""
        self.show.broken(str(why))
        for node in self._nodes:
            self.show.log(node.name, node.last_words())

    # -- the steps

    async def _start_all(self) -> None:
        count, seed = len(self._nodes), self._seed
        self.show.say(f"clusterkit demo: {count} processes, one cluster, no server in the middle.", "bold")
        self.show.say("Every line with a mark is what those processes answered; times are measured.", "dim")
        others = f"{count - 1} know" if count > 2 else "one knows"
        self.show.step(f"Start {count} nodes", f"each a process of its own; {others} only {seed.name}'s address")
        start, deadline = now(), self._deadline()
        await self._start(seed, None, deadline)
        async with _together() as group:
            for node in self._nodes[1:]:
                group.create_task(self._start(node, seed.address, deadline))
        names = [node.name for node in self._nodes]
        await self._watch.until(lambda: differing(self._watch.views, names), deadline)
        self.show.fact(now() - start, f"all {count} list the same {count} members, all alive")

    async def _start(self, node: NodeProcess, seed: str | None, deadline: float) -> None:
        start = now()
        await node.start(seed, deadline)
        self._watch.follow(node)
        await self._watch.until(lambda: self._unborn(node), deadline)
        self.show.fact(now() - start, f"{node.name} answers on {node.address}, process {node.pid}")

    def _unborn(self, node: NodeProcess) -> str:
        if not node.running:
            return f"the process of {node.name} ended with exit code {node.exit_code}"
        return "" if node.name in self._watch.views else f"{node.name} does not answer on {node.address}"

    async def _call_all(self) -> None:
        nodes = [node for node in self._nodes if node.running]
        self.show.step("Call a GenServer on every node, from every node")
        start, answers = now(), []
        for frm in nodes:
            answers += await asyncio.gather(*(self._greeted(frm, to) for to in nodes))
        took = [answer.seconds * 1000 for answer in answers]
        self.show.fact(
            now() - start, f"{len(answers)} of {len(nodes) ** 2} calls answered, by the process that was called"
        )
        self.show.detail(f"one takes {statistics.median(took):.1f} ms, the slowest took {max(took):.1f} ms")
        self.show.detail(f"{nodes[-1].name} told {nodes[0].name}: {answers[len(nodes) - 1].value['text']!r}")

    async def _greeted(self, frm: NodeProcess, to: NodeProcess) -> Answer:
        """Call until the greeter runs: it starts a moment after its node joined."""
        deadline = self._deadline()
        answer = await self._watch.call(frm.name, to.name, "hello", frm.name)
        while answer.error == "NoSuchServer" and now() < deadline:
            await asyncio.sleep(_LOOK)
            answer = await self._watch.call(frm.name, to.name, "hello", frm.name)
        said = answer.value
        if answer.error or (said["name"], said["pid"]) != (to.name, to.pid):
            raise Broken(f"{frm.name} called {to.name} (process {to.pid}): {answer.error or said}")
        return answer

    async def _kill(self, victim: NodeProcess) -> Listed:
        others, caller = self._others(victim), self._seed
        before = self._watch.views[caller.name][victim.name]
        self.show.step(f"Kill {victim.name}", f"kill -9 {victim.pid}, while it works on a call from {caller.name}")
        holding = Tasks("hold")
        try:
            held = holding.spawn(self._watch.call(caller.name, victim.name, "hold", None, self._patience), "hold")
            await self._holds(caller, victim)
            start = now()
            victim.send(signal.SIGKILL)
            await asyncio.wait({held}, timeout=self._patience)
            self._tell_refused([held.result()] if held.done() else [], 1, "maybe", "it may have run", now() - start)
        finally:
            await holding.aclose()
        await self._all_list(others, victim, start, f"{victim.name} as down", self._down)
        start = now()
        answers = await asyncio.gather(*(self._watch.call(each.name, victim.name, "hello") for each in others))
        self._tell_refused(answers, len(others), "no", "none ever left", now() - start)
        return before

    async def _holds(self, caller: NodeProcess, victim: NodeProcess) -> None:
        deadline = self._deadline()
        while not (await self._watch.call(caller.name, victim.name, "held")).value:
            if now() >= deadline:
                raise Broken(f"{victim.name} did not take the call of {caller.name}")
            await asyncio.sleep(_LOOK)

    @staticmethod
    def _down(listed: Listed | None) -> bool:
        return listed is not None and not listed.alive

    def _tell_refused(self, answers: Sequence[Answer], count: int, executed: str, meaning: str, seconds: float) -> None:
        wrong = [each for each in answers if (each.error, each.executed) != ("NodeDown", executed)]
        if wrong or len(answers) != count:
            raise Broken(
                f"calls to a dead node should end in NodeDown with executed={executed!r}: {wrong or 'no answer'}"
            )
        what = "the call it worked on" if executed == "maybe" else f"{count} new call{'s' * (count > 1)} to it"
        self.show.fact(seconds, f'{what}: NodeDown, executed="{executed}", {meaning}')

    async def _all_list(
        self,
        others: Sequence[NodeProcess],
        node: NodeProcess,
        start: float,
        what: str,
        holds: Callable[[Listed | None], bool],
    ) -> None:
        """Wait until all others list a node as they should, and show when they did."""
        noticed: dict[str, float] = {}

        def missing() -> str:
            for each in others:
                view = self._watch.views.get(each.name)
                if view is not None and holds(view.get(node.name)):
                    noticed.setdefault(each.name, self._watch.told_at[each.name] - start)
                else:
                    noticed.pop(each.name, None)
            late = [each.name for each in others if each.name not in noticed]
            return f"it does not hold that {listing(late)} list {what}" if late else ""

        await self._watch.until(missing, self._deadline())
        self.show.fact(max(noticed.values()), f"{_who(others)} {what}")
        if len(others) > 1:
            first = min(noticed, key=lambda name: noticed[name])
            self.show.detail(f"the first to say so was {first}, after {noticed[first]:.2f} s")

    async def _restart(self, victim: NodeProcess, before: Listed) -> None:
        others = self._others(victim)
        self.show.step(f"Start {victim.name} again", "same name, same address, another process")
        start = now()
        await self._start(victim, self._seed.address, self._deadline())

        def back(listed: Listed | None) -> bool:
            return (
                listed is not None
                and listed.alive
                and listed.port == before.port
                and listed.incarnation > before.incarnation
            )

        await self._all_list(others, victim, start, f"{victim.name} as alive, in a new run", back)
        names = sorted(each.name for each in self._nodes if each.running)
        await self._watch.until(lambda: differing(self._watch.views, names), self._deadline())
        after = self._watch.views[self._seed.name][victim.name]
        self.show.detail(f"run {before.run} is now run {after.run}, still on port {after.port}")
        start = now()
        answers = await asyncio.gather(*(self._greeted(each, victim) for each in others))
        self.show.fact(now() - start, f"{len(answers)} of {len(others)} calls to it answered, by process {victim.pid}")

    async def _leave(self, leaver: NodeProcess) -> None:
        others = self._others(leaver)
        self.show.step(f"Stop {leaver.name}", "at SIGTERM it leaves, so nobody has to find out")
        start = now()
        leaver.send(signal.SIGTERM)
        await self._all_list(others, leaver, start, f"{leaver.name} no more", lambda listed: listed is None)
        await self._ended_well([leaver], start)

    async def _ended_well(self, nodes: Sequence[NodeProcess], start: float) -> None:
        deadline = self._deadline()
        for node in nodes:
            if (code := await node.ended(deadline)) != 0:
                raise Broken(
                    f"{node.name} should leave with exit code 0: {code if code is not None else 'it still runs'}"
                )
        whose = f"{nodes[0].name}'s process" if len(nodes) == 1 else f"{len(nodes)} processes"
        self.show.fact(now() - start, f"{whose} ended with exit code 0")

    async def _come_back(self, leaver: NodeProcess) -> None:
        self.show.step(f"Start {leaver.name} again", "so that the next round is complete")
        start = now()
        await self._start(leaver, self._seed.address, self._deadline())
        names = [node.name for node in self._nodes]
        await self._watch.until(lambda: differing(self._watch.views, names), self._deadline())
        self.show.fact(now() - start, f"all {len(names)} list the same {len(names)} members, all alive")

    async def _leave_all(self) -> None:
        others = self._others(self._seed)
        self.show.step("Stop the others, then the last")
        start = now()
        for node in others:
            node.send(signal.SIGTERM)
        await self._watch.until(lambda: differing(self._watch.views, [self._seed.name]), self._deadline())
        self.show.fact(now() - start, f"{self._seed.name}, the last, lists itself alone")
        self._seed.send(signal.SIGTERM)
        await self._ended_well([*others, self._seed], start)


def _who(nodes: Sequence[NodeProcess]) -> str:
    if len(nodes) == 1:
        return f"{nodes[0].name}, the other one, lists"
    return f"all {len(nodes)} others list"


@asynccontextmanager
async def _together() -> AsyncIterator[asyncio.TaskGroup]:
    """Run tasks side by side; the first that fails ends the others, and its error goes on alone."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
