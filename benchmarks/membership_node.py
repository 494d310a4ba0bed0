"""One member of clusterkit for `benchmarks.membership`: it says what its list becomes, and does what it is told.

    python -m benchmarks.membership_node NAME HOST

On stdin: ``join``, which begins a ring, or ``join HOST:PORT``; ``remove NAME``; ``leave``,
which ends the program as the end of stdin does. On stdout: the lines of
`benchmarks.membership_views`, each written at once by the callback that hears of a change.
"""

import asyncio
import os
import sys
import time

from clusterkit import (
    Member,
    MemberDown,
    MemberLeft,
    MemberRemoved,
    MemberSuspect,
    MemberUp,
    MemberUpdated,
    Node,
)

COOKIE = "a benchmark's cookie, not a secret"
_PATIENCE = 60.0  # seconds to join in: what is late is measured, not given up


def say(state: str, name: str, place: str) -> None:
    """Write a line, with the time of now."""
    os.write(sys.stdout.fileno(), f"{time.monotonic():.6f} {state} {name} {place}\n".encode())


def say_member(member: Member, state: str) -> None:
    """Write what is believed of a member now."""
    say(state, member.name, f"{member.node.host}:{member.node.port}")


def say_state(event: MemberUp | MemberSuspect | MemberDown | MemberUpdated) -> None:
    """Write a change of one that is in the ring."""
    say_member(event.member, event.member.state.value)


def watch(node: Node) -> None:
    """Say every change of the ring. One that joined is listed when it is believed alive: `MemberUp`."""
    node.ring.on(MemberUp, say_state)
    node.ring.on(MemberSuspect, say_state)
    node.ring.on(MemberDown, say_state)
    node.ring.on(MemberUpdated, say_state)
    node.ring.on(MemberLeft, lambda event: say_member(event.member, "left"))
    node.ring.on(MemberRemoved, lambda event: say_member(event.member, "removed"))


async def commands() -> asyncio.StreamReader:
    """Open stdin."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main(name: str, host: str) -> None:
    """Live until told to leave."""
    async with Node(f"{name}@{host}:0", cookie=COOKIE) as node:
        watch(node)
        reader = await commands()
        say("ready", name, f"{node.id.host}:{node.id.port}")
        while line := (await reader.readline()).decode().split():
            match line:
                case ["join", *seeds]:
                    await node.ring.join("bench", seeds, timeout=_PATIENCE)
                case ["remove", gone]:
                    await node.ring.remove(gone)
                case ["leave"]:
                    return


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
