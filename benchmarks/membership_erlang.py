"""Erlang/OTP as a rival: a full mesh whose kernel tells who came and went.

Every node subscribes by ``net_kernel:monitor_nodes`` and prints what it is told, with
the time at which it was told. The port mapper is left out: each node listens on one
known port of its own address, which spares a join one round trip. A node's address is
a part of its name, so a name cannot come back elsewhere.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.membership_cluster import Member
from benchmarks.membership_views import Change, read_change

_PORT = "4370"
_PROGRAM = r"""
-module(member).
-export([start/0]).
start() ->
    Main = self(),
    spawn_link(fun() -> ok = net_kernel:monitor_nodes(true), Main ! subscribed, watch() end),
    receive subscribed -> say(ready, node()) end,
    commands().
watch() ->
    receive
        {nodeup, Node} -> say(alive, Node);
        {nodedown, Node} -> say(down, Node)
    end,
    watch().
say(State, Node) ->
    io:format("~.6f ~s ~s ~s~n", [os:perf_counter(nanosecond) / 1.0e9, State, Node, Node]).
commands() ->
    case io:get_line("") of
        "join " ++ Seed -> net_kernel:connect_node(list_to_atom(string:trim(Seed))), commands();
        "leave\n" -> init:stop(), receive never -> ok end;
        _ -> halt(0)
    end.
"""


class Erlang:
    """Two or more nodes with one cookie, connected to all others by ``global``."""

    name = "Erlang"
    left = ("down",)
    moves = False
    pulse = 120.0  # net_ticktime is 60 s, and a quarter more

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def missing(self) -> str | None:
        """Name the packages."""
        return None if shutil.which("erlc") else "no `erl` on this machine: apt-get install erlang-base"

    def calls(self, name: str, address: str) -> str:
        """A node's full name."""
        return f"{name}@{address}"

    def command(self, name: str, address: str) -> Sequence[str]:
        """Run the program, compiled when the first node starts."""
        interface = f"{{{address.replace('.', ',')}}}"
        ports = ("inet_dist_listen_min", _PORT, "inet_dist_listen_max", _PORT)
        return (
            *("erl", "-noshell", "-setcookie", "bench", "-pa", self._compiled(), "-name", f"{name}@{address}"),
            *("-start_epmd", "false", "-erl_epmd_port", _PORT),
            *("-kernel", "inet_dist_use_interface", interface, *ports, "-run", "member", "start"),
        )

    def _compiled(self) -> str:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="clusterkit-bench-")
            (Path(self._folder.name) / "member.erl").write_text(_PROGRAM)
            subprocess.run(["erlc", "member.erl"], cwd=self._folder.name, check=True, timeout=60)
        return self._folder.name

    def read(self, line: str, at: float) -> Change | None:  # noqa: ARG002
        """Its lines have their own time."""
        return read_change(line)

    async def found(self, member: Member) -> None:
        """A node is one from its start."""

    async def join(self, member: Member, seed: Member) -> float:
        """Connect to one node; ``global`` connects the rest."""
        return member.say(f"join {seed.name}")

    async def leave(self, member: Member) -> float:
        """Stop the node in order."""
        return member.say("leave")

    async def forget(self, member: Member, name: str) -> None:
        """Erlang keeps no list of nodes that are down."""
