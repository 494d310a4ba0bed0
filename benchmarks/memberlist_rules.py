"""How one change spreads by the rules of hashicorp/memberlist, in a small model of its own.

What is modelled: every 200 ms a member that has a message to spread sends it to 3 others at
random, until it has sent it ``4 * ceil(log10(N + 1))`` times; every 30 s, more seldom above 32 members, it
exchanges all it knows with one other. What is not: loss of datagrams, the time to encode, and
probes that carry messages along. Sources: config.go (`DefaultLANConfig`), state.go (`gossip`,
`pushPull`), util.go (`retransmitLimit`, `pushPullScale`).
"""

import heapq
from dataclasses import dataclass, field
from itertools import count
from math import ceil, log2, log10
from random import Random

INTERVAL = 0.2  # seconds
NODES = 3
MULTIPLIER = 4
PUSH_PULL = 30.0  # seconds
LATENCY = (0.0002, 0.001)  # seconds: the least, and what chance adds


@dataclass(slots=True)
class Spread:
    """What became of one change."""

    at: dict[int, float] = field(default_factory=dict)
    rounds: dict[int, int] = field(default_factory=dict)
    messages: int = 0
    repaired: int = 0
    """How many had it by the exchange of everything."""


def limit_of(members: int) -> int:
    """How often each member sends one message."""
    return MULTIPLIER * ceil(log10(members + 1))


def push_pull_interval(members: int) -> float:
    """Seconds between two exchanges of everything of one member."""
    return PUSH_PULL if members <= 32 else PUSH_PULL * (ceil(log2(members) - log2(32)) + 1)


def spread(members: int, dead: int, seed: int, within: float = 300.0) -> Spread:
    """Let member 0 spread a change until nobody sends it any more; the last ``dead`` ones hang unnoticed."""
    chance, told = Random(f"{seed}:memberlist"), Spread({0: 0.0}, {0: 0})
    left, running = dict.fromkeys(range(members), limit_of(members)), members - dead
    numbers = count()
    queue = [(INTERVAL * chance.random(), next(numbers), "gossip", each, 0) for each in range(running)]
    every = push_pull_interval(members)
    queue += [(every * chance.random(), next(numbers), "exchange", each, 0) for each in range(running)]
    heapq.heapify(queue)

    def learn(member: int, now: float, hop: int) -> None:
        told.at[member], told.rounds[member] = now, hop

    unsent = limit_of(members) * running  # of all that run
    while (len(told.at) < running or unsent) and queue[0][0] < within:
        now, _, what, member, hop = heapq.heappop(queue)
        if what == "news":
            if member < running and member not in told.at:
                learn(member, now, hop)
            continue
        if what == "gossip":
            if left[member] > 0:
                heapq.heappush(queue, (now + INTERVAL, next(numbers), what, member, 0))
            others = _others(chance, members, member) if member in told.at else []
            for other in others:
                if left[member] > 0:
                    left[member] -= 1
                    unsent -= 1
                    told.messages += 1
                    due = now + LATENCY[0] + LATENCY[1] * chance.random()
                    heapq.heappush(queue, (due, next(numbers), "news", other, told.rounds[member] + 1))
            continue
        heapq.heappush(queue, (now + every, next(numbers), what, member, 0))
        other = _others(chance, members, member)[0]
        if other < running and (member in told.at) != (other in told.at):
            late = other if member in told.at else member
            told.repaired += 1
            learn(late, now, told.rounds[member if late == other else other] + 1)
    return told


def _others(chance: Random, members: int, member: int) -> list[int]:
    """Choose whom to send to; O(1)."""
    places = chance.sample(range(members - 1), min(NODES, members - 1))
    return [place + (place >= member) for place in places]
