"""The scenario of the rules for ends: processes that watch and are linked to others, on nodes that come and go.

Targets are started on every node under a few names, send news to those who watch them, and end: in good
order, with a reason, an error, or killed. Watchers monitor them by name, tell them to send news and to end. Pairs of
partners are linked, and one of each is ended. Meanwhile nodes crash, are closed, start again and stand still, and
connections break. `broken_promises` returns one sentence for each rule that was not kept:

- each monitor gets one Down: none more, none for a target that lives, none after it was undone;
- its reason is that of the target's end; "noproc" only when there was none, so never when the same sender ends it
  afterwards; "noconnection" only when a fault explains it;
- it comes after all news that the target sent to the watcher, and after the answer of a call that ended the target;
- of two who are linked each hears of the other's end (`tests.simulation.actor_links`);
- when all is over nobody watches anybody.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from clusterkit import ClusterError, Down, GenServer, Node, NoSuchServer, Stop, call, cast
from clusterkit.actors.signals import reason_text
from clusterkit.runtime import now, rng
from clusterkit.testing.sim_cluster import SimCluster
from tests.simulation import actor_faults
from tests.simulation.actor_faults import FOR_EVER, TRAVEL, a_network, all_of, befall, come_to_rest, node_of
from tests.simulation.actor_links import (
    PAIRS,
    SHORTLY,
    Links,
    Partner,
    end_with,
    link_again,
    pair_up,
    wrong_with_a_pair,
)

T = TypeVar("T")
NAMES = ("t0", "t1")
COMMON = ("normal", "shutdown", "killed", "noproc", "noconnection")
"""Reasons that many end with; all others name who gave them."""
LIVES = 5  # of each name, on each node
WATCHES = 14  # of each node
TURNS = 3
SOON = 0.5  # seconds: a Down and what was queued before it


@dataclass(slots=True)
class Watch:
    """One monitor, and what came of it.

    ``ends_it`` is the reason, and nobody else's, that its watcher ended the target with afterwards.
    """

    number: int
    by: str
    target: str
    to: str
    asked: float
    ends_it: str = ""
    dropped: float = FOR_EVER
    downs: list[tuple[float, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"monitor {self.number} of {self.target} on {self.to} by {self.by} at {self.asked:.3f} s: {self.downs}"


@dataclass(slots=True)
class Life:
    """One life of a target, or of a partner."""

    name: str
    on: str
    began: float
    reason: str = ""
    ended: float = FOR_EVER
    news: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By watcher, what was sent to it."""


@dataclass(slots=True)
class Ends(Links):
    """And who watched whom, and how each ended."""

    watches: list[Watch] = field(default_factory=list)
    targets: list[Life] = field(default_factory=list)
    heard: dict[str, list[tuple[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """By life of a watcher's node what it took, in order: ("news", (target's life, number)) and ("down", Watch)."""
    out_of_turn: list[str] = field(default_factory=list)

    async def begin(self, node: Node) -> None:
        """Start what a life of a node needs."""
        await node.start(Watcher(self, self.new_life(node)), name="watcher")


# -- targets --------------------------------------------------------------------------------


class Target(GenServer):
    """Sends news, and ends as it is told."""

    def __init__(self, evidence: Ends, life: Life) -> None:
        self.evidence = evidence
        self.life = life

    async def init(self) -> None:
        self.number = len(self.evidence.targets)
        self.evidence.targets.append(self.life)

    @cast
    async def tell(self, watcher: str, count: int) -> None:
        ref = self.node.ref(Watcher, "watcher", on=watcher)
        for number in range(count):
            with suppress(ClusterError):
                await ref.cast(Watcher.news, self.number, number)
                self.life.news[watcher].append(number)

    @cast
    async def end(self, reason: str) -> None:
        end_with(reason)

    @call
    async def end_and_answer(self, reason: str) -> str:
        raise Stop(reason, reply=reason)

    async def terminate(self, reason: object) -> None:
        if not self.evidence.over:
            self.life.ended, self.life.reason = now(), reason_text(reason)


async def keep_targets(evidence: Ends, node: Node, name: str) -> None:
    """Start a target again and again, some time after the last one ended; end it some day."""
    chance = rng(f"{evidence.life(node.id.name)} {name}")
    for number in range(LIVES):
        await asyncio.sleep(chance.random() ** 2)
        life = Life(name, evidence.life(node.id.name), now())
        ref = await node.start(Target(evidence, life), name=name)
        async with node.monitor(ref) as down:
            patience = 0.2 if number == LIVES - 1 else 5 * chance.random()
            if await within(patience, down) is None:
                reason = chance.choice(["normal", "shutdown", f"stopped {name} {now()}", "killed"])
                await end_target(node, ref, life, reason)


async def end_target(node: Node, ref: Any, life: Life, reason: str) -> None:
    process = node._processes.get(int(ref.address.to))
    if process is None:
        return  # it has ended by itself
    if reason != "killed":
        await node.stop(ref, reason)
        return
    if life.ended == FOR_EVER:
        life.ended, life.reason = now(), reason
        process.kill()
    await process.join(5.0)


async def within(seconds: float, work: Awaitable[T]) -> T | None:
    """Wait so long for something; None when it does not come."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await work
    return None


# -- watchers -------------------------------------------------------------------------------


class Watcher(GenServer):
    """Monitors targets."""

    def __init__(self, evidence: Ends, life: str) -> None:
        self.evidence = evidence
        self.life = life
        self.open: dict[Any, Watch] = {}

    @cast
    async def watch(self, target: str, to: str, then: str) -> None:
        """Monitor a target, and have it send news or end afterwards."""
        evidence = self.evidence
        ref = self.node.ref(Target, target, on=to)
        watch = Watch(len(evidence.watches), self.life, target, to, now())
        token = self.monitor(ref)
        evidence.watches.append(watch)
        self.open[token] = watch
        with suppress(ClusterError):
            if then != "nothing":
                await ref.cast(Target.tell, self.node.id.name, len(then))
            if then not in ("nothing", "news"):
                watch.ends_it = "" if then in COMMON else then
                await ref.cast(Target.end, then)

    @cast
    async def forget(self, which: int) -> None:
        """Undo a monitor."""
        for token, watch in list(self.open.items())[which:]:
            if not watch.downs:
                watch.dropped = now()
                self.demonitor(token)
                return

    @cast
    async def news(self, target: int, number: int) -> None:
        self.hear("news", (target, number))

    async def handle_info(self, info: Any) -> None:
        assert isinstance(info, Down)
        watch = self.open[info.monitor]
        if not self.evidence.over:
            watch.downs.append((now(), info.reason))
        self.hear("down", watch)

    def hear(self, kind: str, what: Any) -> None:
        if not self.evidence.over:
            self.evidence.heard[self.life].append((kind, what))


async def watch_some(evidence: Ends, node: Node) -> None:
    """Let the watcher of a node watch one after the other; beside, end some by calls."""
    chance, watcher = rng(f"watch {evidence.life(node.id.name)}"), node.ref(Watcher, "watcher")
    for number in range(WATCHES):
        await asyncio.sleep(0.9 * chance.random())
        target, to = chance.choice(NAMES), chance.choice("abc")
        then = f"{evidence.life(node.id.name)} {number}"
        match chance.choice(["watch"] * 3 + ["end"] * 2 + ["fail", "forget", "answer"]):
            case "watch":
                await watcher.cast(Watcher.watch, target, to, chance.choice(["nothing", "news"]))
            case "end":
                await watcher.cast(Watcher.watch, target, to, chance.choice(["normal", "shutdown", then]))
            case "fail":
                await watcher.cast(Watcher.watch, target, to, f"ValueError: {then}")
            case "forget":
                await watcher.cast(Watcher.forget, chance.randint(0, 2))
            case _:
                await answered_before_it_is_down(evidence, node, target, to, then)


async def answered_before_it_is_down(evidence: Ends, node: Node, target: str, to: str, reason: str) -> None:
    """Monitor a target and end it by a call: the answer comes first, then Down, with that reason."""
    ref, asked, told, down = node.ref(Target, target, on=to), now(), list[str](), asyncio.Event()
    monitors, loop = node._open_kernel().monitors, asyncio.get_running_loop()

    def note(reason: str) -> None:
        told.append(f"Down {reason}")
        down.set()

    def hear(reason: str) -> None:
        loop.call_soon(note, reason)  # as soon as who waits for an answer goes on

    monitor = monitors.watch(ref.address, hear)
    with suppress(ClusterError):
        told.append(await ref.call(Target.end_and_answer, reason))
    await within(10.0, down.wait())
    monitors.unwatch(monitor)
    broken = evidence.is_broken(asked, now(), node.id.name, to)
    if reason in told and told != [reason, f"Down {reason}"] and not broken and not evidence.over:
        evidence.out_of_turn.append(f"monitored at {asked:.3f} s on {node.id.name}, {target} of {to} said {told}")


# -- the scenario ---------------------------------------------------------------------------


async def actor_ends() -> Ends:
    """Run the scenario in the running simulation."""
    evidence, chance = Ends(), rng("scenario")
    async with SimCluster(3, app=evidence.begin, conditions=a_network(chance)) as sim:
        in_lives = [
            actor_faults.in_each_life(sim, evidence, node, work)
            for node in sim.names
            for work in [
                lambda node: watch_some(evidence, node),
                *(lambda node, name=name: keep_targets(evidence, node, name) for name in NAMES),
            ]
        ]
        pairs = [
            pair_up(sim, evidence, one, other, number)
            for (one, other), number in itertools.product(itertools.product(sim.names, repeat=2), range(PAIRS))
        ]
        await all_of(befall(sim, evidence, TURNS), *in_lives, *pairs)
        evidence.sending = False
        await asyncio.sleep(2 * SHORTLY)
        await link_again(sim, evidence)
        await asyncio.sleep(2 * SHORTLY)
        for node in sim.running:
            await sim.run(node.id.name, end_partners(node))
        await come_to_rest(sim, evidence, watchers_left)
    return evidence


async def end_partners(node: Node) -> None:
    """End in good order all who still live."""
    for process in list(node._processes.values()):
        if isinstance(process.actor, Partner | Target):
            with suppress(NoSuchServer):  # one linked to it was stopped just now
                await node.stop(process.ref, "normal")


def watchers_left(node: Node) -> Iterator[str]:
    """Who watches, though all who were watched have ended."""
    for link, peer in node._open_kernel().monitors._peers.items():
        if peer.ours or peer.theirs or peer.linked:
            counts = f"{len(peer.ours)} monitors, watched by {len(peer.theirs)}, linked by {len(peer.linked)}"
            yield f"{counts} of {link.peer.name}"
    for process in node._processes.values():
        ties, watchers = process.ties, process.mailbox.watchers
        if watchers or ties._links or ties._monitors:
            counts = f"{len(watchers)}, {len(ties._links)}, {len(ties._monitors)}"
            yield f"{process.mailbox.shown} has watchers, links, monitors: {counts}"


# -- the verdict ------------------------------------------------------------------------------


def broken_promises(evidence: Ends) -> list[str]:
    """Hold what the watchers were told against how each ended."""
    wrong = [*evidence.out_of_turn]
    for watch in evidence.watches:
        wrong += [f"{watch}: {why}" for why in wrong_with_a_watch(watch, evidence)]
    for life, heard in evidence.heard.items():
        wrong += wrong_with_the_news(life, heard, evidence)
    for pair in evidence.pairs:
        wrong += [f"{pair}: {why}" for why in wrong_with_a_pair(pair, evidence)]
    return [*wrong, *(f"{what} when all was over" for what in evidence.left)]


def wrong_with_a_watch(watch: Watch, evidence: Ends) -> Iterator[str]:
    if len(watch.downs) > 1:
        yield "more than one Down"
    if not watch.downs:
        if watch.dropped == FOR_EVER and watch.by not in evidence.ends:
            yield "no Down"
        return
    at, reason = watch.downs[0]
    home = node_of(watch.by)
    if at > watch.dropped:
        yield "Down after it was undone"
    if reason == "noconnection":
        if not evidence.is_broken(watch.asked, at, home, watch.to):
            yield "no fault explains it"
        return
    if reason == "noproc":
        if there_was_one(watch, at, evidence):
            yield "there was one"
        return
    ends = [life for life in ended_between(watch, watch.asked - SOON, at, evidence) if life.reason == reason]
    if not ends:
        yield f"none ended so: {[life.reason for life in ended_between(watch, watch.asked - SOON, at, evidence)]}"
    elif evidence.is_calm(watch.asked, at, home, watch.to) and at > max(watch.asked, ends[-1].ended) + SOON:
        yield "Down came late"


def ended_between(watch: Watch, since: float, until: float, evidence: Ends) -> list[Life]:
    lives = (life for life in evidence.targets if life.name == watch.target and node_of(life.on) == watch.to)
    return [life for life in lives if since <= life.ended <= until]


def there_was_one(watch: Watch, told: float, evidence: Ends) -> bool:
    """Whether a target lived when the request for it came, which is before what the same sender sent later."""
    home, until = node_of(watch.by), told
    if home == watch.to:
        until = watch.asked
    elif evidence.is_calm(watch.asked, watch.asked + TRAVEL, home, watch.to):
        until = min(told, watch.asked + TRAVEL)
    for life in evidence.targets:
        if life.name == watch.target and node_of(life.on) == watch.to:
            end = min(life.ended, evidence.ends.get(life.on, FOR_EVER))
            if (life.began < watch.asked and end > until) or (watch.ends_it and life.reason == watch.ends_it):
                return True
    return False


def wrong_with_the_news(by: str, heard: list[tuple[str, Any]], evidence: Ends) -> Iterator[str]:
    """All news of a target come before its Down, in their order."""
    news, last = defaultdict[int, list[int]](list), dict[int, Watch]()
    for kind, what in heard:
        if kind == "news":
            target, number = what
            if target in last:
                yield f"{last[target]}: news {number} of it came after its Down"
            news[target].append(number)
        else:
            at, reason = what.downs[0]
            for target in of_down(what, at, reason, evidence):
                sent = evidence.targets[target].news.get(node_of(by), [])
                if news[target] != sent and by == evidence.life(node_of(by)) and by not in evidence.ends:
                    missing = len(sent) - len(news[target])
                    if evidence.live_on(node_of(by)):
                        yield f"{what}: {missing} news of it had not come"
                last[target] = what


def of_down(watch: Watch, at: float, reason: str, evidence: Ends) -> list[int]:
    """The target that a Down tells of, when its reason is nobody else's."""
    if reason in COMMON:
        return []
    ends = ended_between(watch, 0.0, at, evidence)
    return [number for number, life in enumerate(evidence.targets) if life in ends and life.reason == reason]
