"""serf as a rival: agents of the Debian package, with the LAN profile, which is the default.

An agent logs ``EventMemberJoin`` and the like at once when it changes its list, and that
line is what is timed, when it arrives. The stream of events of its RPC is not: agents
gather events for one to three seconds before they send them there.

Commands go over the RPC, from a socket that is made inside the agent's network namespace.
"""

import asyncio
import ctypes
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack

from benchmarks.membership_cluster import Member
from benchmarks.membership_views import ALIVE, READY, Change

_PORT = 7946
_RPC_PORT = 7373
_DEADLINE = 30.0  # seconds for an answer of the RPC; a leave answers when it is over
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET

_EVENT = re.compile(r"serf: EventMember(Join|Failed|Leave|Reap)(?: \(forced\))?: (\S+)(?: (\S+))?$")
_STATES = {"Join": ALIVE, "Failed": "down", "Leave": "left", "Reap": "removed"}
_RUNS = re.compile(r"^\s*Bind addr: '([^']+):\d+'$")


def read_log(line: str, at: float) -> Change | None:
    """Read a line of an agent that arrived at ``at``.

    >>> read_log("    2026/11/21 14:23:14 [INFO] serf: EventMemberJoin: b 127.0.1.2", 2.5)
    Change(at=2.5, state='alive', name='b', place='127.0.1.2')
    >>> read_log("    2026/11/21 14:23:15 [INFO] agent: Received event: member-join", 3.5)
    """
    if (found := _EVENT.search(line)) is not None:
        kind, name, place = found.groups()
        return Change(at, _STATES[kind], name, place or "")
    if (found := _RUNS.match(line)) is not None:
        return Change(at, READY, "", found[1])
    return None


class Serf:
    """Agents that gossip by UDP."""

    name = "serf"
    left = ("left",)
    moves = True
    pulse = 40.0

    def missing(self) -> str | None:
        """Name the package."""
        return None if shutil.which("serf") else "no `serf` on this machine: apt-get install serf"

    def calls(self, name: str, address: str) -> str:  # noqa: ARG002
        """Its name."""
        return name

    def command(self, name: str, address: str) -> Sequence[str]:
        """An agent ends by no sign of a dead parent but its signal."""
        mortal = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
        bind, rpc = f"-bind={address}:{_PORT}", f"-rpc-addr={address}:{_RPC_PORT}"
        return *mortal, "serf", "agent", f"-node={name}", bind, rpc

    def read(self, line: str, at: float) -> Change | None:
        """Its log has whole seconds: what counts is the arrival."""
        return read_log(line, at)

    async def found(self, member: Member) -> None:
        """An agent is one from its start."""

    async def join(self, member: Member, seed: Member) -> float:
        """Join over the RPC."""
        return await self._ask(member, "join", {"Existing": [f"{seed.address}:{_PORT}"], "Replay": False})

    async def leave(self, member: Member) -> float:
        """Leave over the RPC: what ``serf leave`` does."""
        return await self._ask(member, "leave", None)

    async def forget(self, member: Member, name: str) -> None:
        """Turn a failed member into one that left."""
        await self._ask(member, "force-leave", {"Node": name})

    async def _ask(self, member: Member, command: str, body: dict[str, Any] | None) -> float:
        async with asyncio.timeout(_DEADLINE):
            agent = await asyncio.get_running_loop().run_in_executor(None, _connect_within, member.pid, member.address)
            reader, writer = await asyncio.open_connection(sock=agent)
            try:
                writer.write(_request(0, "handshake", {"Version": 1}))
                await reader.read(1 << 16)
                at = time.monotonic()
                writer.write(_request(1, command, body))
                answer = await reader.read(1 << 16)
            finally:
                writer.close()
        _check(command, answer)
        return at


def _request(number: int, command: str, body: dict[str, Any] | None) -> bytes:
    header: bytes = msgpack.packb({"Command": command, "Seq": number})
    return header + (msgpack.packb(body) if body is not None else b"")


def _check(command: str, answer: bytes) -> None:
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(answer)
    header: dict[bytes, Any] = next(iter(unpacker), {})  # empty: the agent has ended, as it was told
    if error := header.get(b"Error"):
        raise RuntimeError(f"serf refused `{command}`: {error.decode(errors='replace')}")


def _connect_within(pid: int, address: str) -> socket.socket:
    """Connect from the network namespace of a process, in a thread that has no other use: it stays there."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def connect() -> None:
        try:
            _enter_network(pid)
            made.append(socket.create_connection((address, _RPC_PORT), timeout=5))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    made[0].setblocking(False)
    return made[0]


def _enter_network(pid: int) -> None:
    theirs = Path(f"/proc/{pid}/ns/net")
    if theirs.readlink() == Path("/proc/self/ns/net").readlink():
        return
    descriptor = os.open(theirs, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "cannot enter the network namespace of a member")
    finally:
        os.close(descriptor)
