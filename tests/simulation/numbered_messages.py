"""Numbered casts and calls between nodes, and what became of each: the evidence of the sessions' scenarios.

A *stream* is what one sender of one life of a node sends to one peer, in order. Each message
carries its stream and its number in the name of its event, so that dead letters tell which
message they are about. What was sent is in `Evidence.history`, what ran in `Evidence.ran`.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from clusterkit import DeadLetter, GenServer, LinkDown, LinkUp, Mailbox, Node, NodeId
from clusterkit.actors.ref import Ref
from clusterkit.core.session import Lane
from clusterkit.kernel.address import Address
from clusterkit.runtime import now, rng
from clusterkit.testing.history import History, Operation
from clusterkit.testing.sim_cluster import NotSettled, SimCluster

SMALLEST, LARGEST = 10, 20_000  # bytes of a filler, drawn so that each order of magnitude is as likely
REST = 90.0
"""Seconds in which all that waits must be through, when the faults are over: a half-open link is found in 15."""
LATE = 0.1  # seconds: a timeout is found in ticks
HASTY, PATIENT = 2.0, 40.0  # timeouts of calls, in seconds
FOR_EVER = 600.0
BEAT = 2.0**-7
"""Seconds, and a power of two: what is moved by whole beats from one instant meets in one instant."""


@dataclass(frozen=True, slots=True)
class Run:
    """One message that a handler took."""

    stream: str
    number: int
    by: str
    incarnation: int
    at: float


@dataclass(frozen=True, slots=True)
class Told:
    """A `DeadLetter`, `LinkDown` or `LinkUp` that a life of a node told."""

    life: str
    at: float
    event: Any


@dataclass(slots=True)
class Evidence:
    """What was sent, what ran, and what the nodes told, in the order in which it happened."""

    history: History = field(default_factory=History)
    ran: list[Run] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    lives: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    trace: str = ""
    slowness: float = 0.0
    """The most that a tenth of the messages take, in seconds."""
    over: bool = False
    """What happens from now on, when the cluster is taken down, is no evidence."""

    async def begin(self, node: Node) -> None:
        """Start what a life of a node needs."""
        name = node.id.name
        self.lives[name] = self.lives.get(name, 0) + 1
        life = self.life(name)

        def hear(event: DeadLetter | LinkDown | LinkUp) -> None:
            if not self.over:
                self.told.append(Told(life, now(), event))

        node.on(DeadLetter, hear)
        node.on(LinkDown, hear)
        node.on(LinkUp, hear)
        await node.start(Inbox(self, life), name="inbox")

    def life(self, name: str) -> str:
        """The life that a node has now: its name and how many it has had."""
        return f"{name}{self.lives[name]}"

    def of(self, kind: type[Any]) -> Iterator[Told]:
        """What was told, of one kind."""
        return (each for each in self.told if isinstance(each.event, kind))


class Inbox(GenServer):
    """Notes what it takes, by the name of the event; answers calls with it, and with half of what came."""

    mailbox = Mailbox(100_000)

    def __init__(self, evidence: Evidence, life: str) -> None:
        self.evidence = evidence
        self.life = life
        self.chance = rng(f"inbox of {life}")

    async def handle_cast(self, request: Any) -> None:
        await self.take(request[0])

    async def handle_call(self, request: Any, frm: object) -> list[Any]:
        event, filler = request
        await self.take(event)
        return [event, filler[: len(filler) // 2]]

    async def take(self, event: str) -> None:
        if self.evidence.over:
            return
        stream, number = event.split("#")
        self.evidence.ran.append(Run(stream, int(number), self.life, self.node.id.incarnation, now()))
        if self.chance.random() < 0.1 and self.evidence.slowness:
            await asyncio.sleep(self.evidence.slowness * self.chance.random())


# -- sending ------------------------------------------------------------------------


async def send(
    evidence: Evidence, node: Node, stream: str, to: str, numbers: Iterator[int], *, pace: float, pinned: bool = False
) -> None:
    """Send messages of one stream, a sixth of them calls; half of them without a pause after the one before."""
    chance = rng(stream)
    where = node.ring.get(to) if pinned else None
    if where is not None:
        stream = f"{stream}!{where.incarnation}"
    for number in numbers:
        if chance.random() < 0.5:
            await asyncio.sleep(beats(2 * pace * chance.random()))
        event, filler = f"{stream}#{number}", bytes(SMALLEST + int(LARGEST ** chance.random()))
        kind = chance.choice(["cast"] * 10 + ["call", "hasty call"])
        ref = reference(node, to, where).with_(timeout={"cast": FOR_EVER, "call": PATIENT}.get(kind, HASTY))
        work = ref.cast(event, filler) if kind == "cast" else ref.call(event, filler)
        await evidence.history.record(stream, kind, number, work)
        if node._kernel is None or node._kernel.closed:
            return


def beats(seconds: float) -> float:
    """So long, in whole beats."""
    return BEAT * round(seconds / BEAT)


async def next_beat() -> None:
    """Wait until the time is a number of whole beats."""
    await asyncio.sleep(beats(now() + BEAT) - now())


def reference(node: Node, to: str, where: NodeId | None) -> Ref[Any]:
    """The inbox of a node, or of that incarnation of it and no other."""
    if where is None:
        return node.ref(Inbox, "inbox", on=to)
    return Ref(node._open_kernel(), Inbox, Address(where, "inbox", pinned=True))


def ends_of(stream: str) -> tuple[str, str, str]:
    """The life that sent a stream, its node, and the node it was for."""
    life, _, rest = stream.partition(">")
    return life, life.rstrip("0123456789"), rest.partition("/")[0]


# -- rest -----------------------------------------------------------------------------


async def come_to_rest(sim: SimCluster, evidence: Evidence) -> None:
    """Wait until nothing waits any more; note what does all the same."""
    deadline, left = now() + REST, [""]
    while left and now() < deadline:
        await asyncio.sleep(0.5)
        try:
            await sim.settle()
            left = [f"{node.id.name}: {what}" for node in sim.running for what in still_waiting(node)]
        except NotSettled as error:
            left = [str(error)]
    evidence.left = left
    evidence.trace = sim.trace.digest()
    evidence.over = True


def still_waiting(node: Node) -> Iterator[str]:
    """What is queued, unacknowledged, or waiting for an answer, for room or for a deadline."""
    kernel = node._open_kernel()
    for link in kernel.links:
        session, peer = link.session, link.peer.name
        kept = [*session._unacked, *session._again, *(message for lane in session._lanes for message in lane)]
        probing = sum(len(message.body) for message in kept if message.lane == Lane.CONTROL)  # which never rests
        if others := [message for message in kept if message.lane != Lane.CONTROL]:
            yield f"{len(session)} messages for {peer}, {len(others)} held"
        if session.size or session._control_size != probing:
            yield f"{session.size} and {session._control_size} bytes counted for {peer}, {probing} for the ring"
        if len(link._senders):
            yield f"{len(link._senders)} senders wait for room to {peer}"
        if link.waiting:
            yield f"{len(link.waiting)} calls wait for {peer}"
    if held := sum(len(slot) for slot in kernel._waiting._deadlines._slots.values()):
        yield f"{held} deadlines"


# -- what both verdicts ask -------------------------------------------------------------


def doubled(evidence: Evidence) -> list[str]:
    times = Counter((run.stream, run.number) for run in evidence.ran)
    return [f"{stream}#{number} ran {count} times" for (stream, number), count in times.items() if count > 1]


def out_of_order(evidence: Evidence) -> list[str]:
    """Within a stream the numbers grow, whichever incarnation took them."""
    last: defaultdict[str, int] = defaultdict(lambda: -1)
    wrong = []
    for run in evidence.ran:
        if run.number < last[run.stream]:
            wrong.append(f"{run.stream}#{run.number} ran after #{last[run.stream]}, at {run.at:.3f} s")
        last[run.stream] = max(last[run.stream], run.number)
    return wrong


def shown(each: Operation) -> str:
    ended = f"{each.error or 'ok'} at {each.returned:.3f} s"
    return f"{each.name} {each.client}#{each.argument} at {each.called:.3f} s, {ended}"


def run_late(evidence: Evidence) -> list[str]:
    """Calls that ran after they had ended, on a connection that opened after that."""
    ended = {(each.client, each.argument): each for each in evidence.history if "call" in each.name and not each.ok}
    wrong = []
    for run in evidence.ran:
        each = ended.get((run.stream, run.number))
        if each is not None and each.returned < run.at and reopened(evidence, each, run):
            wrong.append(f"{shown(each)}: ran at {run.at:.3f} s, on a later connection")
    return wrong


def reopened(evidence: Evidence, each: Operation, run: Run) -> bool:
    """Whether both ends opened another connection between the end of a call and its run, the caller first."""
    life, home, to = ends_of(run.stream)
    ups = [told for told in evidence.of(LinkUp) if each.returned < told.at < run.at]
    at_home = min((up.at for up in ups if up.life == life and up.event.peer.name == to), default=run.at)
    return any(up.life == run.by and up.event.peer.name == home and up.at > at_home for up in ups)


def wrong_with_a_call(each: Operation, runs: int) -> list[str]:
    """What a call promises, whatever happens."""
    wrong = []
    event = f"{each.client}#{each.argument}"
    if each.ok and (each.result[0] != event or runs != 1):
        wrong.append(f"returned {each.result[0]}, and ran {runs} times")
    if each.returned - each.called > (HASTY if each.name == "hasty call" else PATIENT) + LATE:
        wrong.append("ended late")
    return wrong


ENDS = (
    "[Errno",
    "another connection opens",
    "asked for another connection",
    "closed by the other end",
    "closed here",
    "gone",
    "left",
    "no progress of a write",
    "nothing heard",
    "restarted",
    "stopped",
    "the peer ended the session",
    "has this node in its ring no more",
    "the ring called it down",
    "too many sessions",
)
"""How the words begin in which links of honest nodes are told to end: none has broken a rule of the protocol."""


def strange_ends(evidence: Evidence) -> list[str]:
    """Links that ended in a way in which none may, or that lost their session over it."""
    ends = (told for told in evidence.of(LinkDown) if not told.event.why.startswith(ENDS))
    return [f"{told.life} at {told.at:.3f} s: {told.event}" for told in ends]
