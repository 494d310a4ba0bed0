"""Calls and casts between two processes on 127.0.0.1.

    python benchmarks/calls.py                 # the whole table, about two minutes
    python benchmarks/calls.py --quick         # 64 B only
    python benchmarks/calls.py --rival erlang  # the same against Erlang/OTP, if `erl` is installed

Each row is the median of ``--runs`` runs: calls a second, and the 50th and 99th
percentile of one call in microseconds. Needs the [uvloop] extra for its rows.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterkit import Config, GenServer, Mailbox, Node, Ref, call, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

COOKIE = "a benchmark's cookie, not a secret"
CONFIG = Config(message_limit=8 << 20)


class Echo(GenServer):
    """Answers with what it gets; counts casts."""

    mailbox = Mailbox(1_000_000)

    def __init__(self) -> None:
        self.count = 0

    @call
    async def echo(self, data: bytes) -> bytes:
        """Give it back."""
        return data

    @cast
    async def note(self, data: bytes) -> None:  # noqa: ARG002
        """Count."""
        self.count += 1

    @call
    async def counted(self) -> int:
        """How many casts came."""
        return self.count


async def serve() -> None:
    """Be the other process until stdin closes."""
    async with Node("server@127.0.0.1:0", cookie=COOKIE, config=CONFIG) as node:
        await node.ring.join("bench")
        await node.start(Echo(), name="echo")
        print(node.id.address, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@asynccontextmanager
async def cluster(loop_kind: str) -> AsyncIterator[Ref[Echo]]:
    """Start the server process and join it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", "--loop", loop_kind, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        address = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        async with Node("client@127.0.0.1:0", cookie=COOKIE, config=CONFIG) as node:
            await node.ring.join("bench", seeds=[address])
            yield node.ref(Echo, "echo", on="server").with_(timeout=60.0)
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)


async def measure_calls(echo: Ref[Echo], callers: int, size: int, seconds: float) -> dict[str, float]:
    """Let callers call as fast as they are answered."""
    payload = os.urandom(size)
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def caller() -> None:
        while (start := time.perf_counter()) < end:
            await echo.call(Echo.echo, payload)
            took.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    rate = len(took) / (time.perf_counter() - start)
    took.sort()
    return {"rate": rate, "p50": took[len(took) // 2] * 1e6, "p99": took[len(took) * 99 // 100] * 1e6}


async def measure_casts(echo: Ref[Echo], size: int, seconds: float) -> dict[str, float]:
    """Cast for a while, then wait until all have been handled."""
    payload = os.urandom(size)
    before = await echo.call(Echo.counted)
    sent = 0
    start = time.perf_counter()
    end = start + seconds
    while time.perf_counter() < end:
        for _ in range(200):
            await echo.cast(Echo.note, payload)
        sent += 200
        await asyncio.sleep(0)
    while await echo.call(Echo.counted) < before + sent:
        await asyncio.sleep(0.001)
    return {"rate": sent / (time.perf_counter() - start), "p50": 0.0, "p99": 0.0}


async def one_run(loop_kind: str, sizes: list[int], seconds: float) -> dict[str, dict[str, float]]:
    """One pass over all rows."""
    rows: dict[str, dict[str, float]] = {}
    async with cluster(loop_kind) as echo:
        await measure_calls(echo, 64, 64, 0.3)
        for size in sizes:
            for callers in (1, 64, 256):
                rows[f"{size} B, {callers} callers"] = await measure_calls(echo, callers, size, seconds)
            rows[f"{size} B, casts"] = await measure_casts(echo, size, seconds)
    return rows


def run(loop_kind: str, main: Any) -> Any:
    """Run a coroutine on the loop of that kind."""
    if loop_kind == "uvloop":
        import uvloop  # noqa: PLC0415 - optional

        return uvloop.run(main)
    return asyncio.run(main)


def ours(loop_kind: str, sizes: list[int], seconds: float, runs: int) -> dict[str, dict[str, float]]:
    """Median of several runs, row by row."""
    results = [run(loop_kind, one_run(loop_kind, sizes, seconds)) for _ in range(runs)]
    return {
        row: {key: statistics.median(result[row][key] for result in results) for key in ("rate", "p50", "p99")}
        for row in results[0]
    }


# -- Erlang/OTP, the rival: a gen_server on one node, callers on another

ERLANG = r"""
-module(rival).
-behaviour(gen_server).
-export([init/1, handle_call/3, handle_cast/2, server/0, client/4]).
init(_) -> {ok, 0}.
handle_call(counted, _, N) -> {reply, N, N};
handle_call(Data, _, N) -> {reply, Data, N}.
handle_cast(_, N) -> {noreply, N + 1}.
server() -> {ok, _} = gen_server:start({local, echo}, ?MODULE, [], []), receive stop -> ok end.
now_us() -> erlang:monotonic_time(microsecond).
client(Server, Callers, Size, Ms) ->
    pong = net_adm:ping(Server), Data = crypto:strong_rand_bytes(Size), Me = self(),
    T0 = now_us(), End = T0 + Ms * 1000,
    case Callers of
        0 -> {ok, N} = casts(Server, Data, End, 0), wait(Server, N),
             io:format("~p 0 0~n", [N * 1000000 / (now_us() - T0)]);
        _ -> [spawn_link(fun() -> Me ! {done, loop(Server, Data, End, [])} end) || _ <- lists:seq(1, Callers)],
             Took = lists:sort(lists:append([receive {done, L} -> L end || _ <- lists:seq(1, Callers)])),
             N = length(Took), Rate = N * 1000000 / (now_us() - T0),
             io:format("~p ~p ~p~n", [Rate, lists:nth(N div 2 + 1, Took), lists:nth(N * 99 div 100 + 1, Took)])
    end, halt(0).
loop(Server, Data, End, Took) ->
    T = now_us(),
    if T >= End -> Took;
       true -> Data = gen_server:call({echo, Server}, Data, 60000), loop(Server, Data, End, [now_us() - T | Took]) end.
casts(Server, Data, End, N) ->
    case now_us() >= End of
        true -> {ok, N};
        false -> [gen_server:cast({echo, Server}, Data) || _ <- lists:seq(1, 200)], casts(Server, Data, End, N + 200) end.
wait(Server, N) -> case gen_server:call({echo, Server}, counted, 60000) of N -> ok; _ -> timer:sleep(1), wait(Server, N) end.
"""


def erlang(sizes: list[int], seconds: float, runs: int) -> dict[str, dict[str, float]]:
    """The same rows, with two Erlang nodes."""
    if shutil.which("erl") is None:
        sys.exit("no `erl` on this machine: apt-get install erlang-base erlang-crypto")
    rows: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rival.erl").write_text(ERLANG)
        subprocess.run(["erlc", "rival.erl"], cwd=folder, check=True)
        common = [
            "erl",
            "-noshell",
            "-setcookie",
            "bench",
            "-pa",
            folder,
            "-kernel",
            "inet_dist_use_interface",
            "{127,0,0,1}",
        ]
        server = subprocess.Popen(
            [*common, "-name", "server@127.0.0.1", "-run", "rival", "server"], stdin=subprocess.DEVNULL, cwd=folder
        )
        time.sleep(1.5)
        try:
            for _ in range(runs):
                for size in sizes:
                    for callers in (1, 64, 256, 0):
                        row = f"{size} B, {callers} callers" if callers else f"{size} B, casts"
                        expression = f"rival:client('server@127.0.0.1', {callers}, {size}, {int(seconds * 1000)})."
                        said = subprocess.run(
                            [*common, "-name", "client@127.0.0.1", "-eval", expression],
                            cwd=folder,
                            check=True,
                            capture_output=True,
                            text=True,
                            timeout=120,
                        )
                        rows.setdefault(row, []).append([float(word) for word in said.stdout.split()])
        finally:
            server.kill()
            server.wait()
    keys = ("rate", "p50", "p99")
    return {
        row: {key: statistics.median(each[at] for each in found) for at, key in enumerate(keys)}
        for row, found in rows.items()
    }


def table(results: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print all rows side by side."""
    kinds = list(results)
    print(f"{'':22}" + "".join(f"{kind:>34}" for kind in kinds) + ("       ratio" if len(kinds) > 1 else ""))
    print(f"{'':22}" + f"{'per second':>14}{'p50 us':>10}{'p99 us':>10}" * len(kinds))
    for row in results[kinds[0]]:
        line = f"{row:22}"
        for kind in kinds:
            each = results[kind][row]
            line += f"{each['rate']:14,.0f}{each['p50']:10,.0f}{each['p99']:10,.0f}"
        if len(kinds) > 1:
            line += f"{results[kinds[0]][row]['rate'] / results[kinds[-1]][row]['rate']:11.2f}x"
        print(line)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), action="append")
    parser.add_argument("--rival", choices=("erlang",))
    parser.add_argument("--quick", action="store_true", help="64 B only, one run")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each row")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    if options.serve:
        run(options.loop[0], serve())
        return
    sizes = [64] if options.quick else [64, 1024, 65536]
    runs = 1 if options.quick else options.runs
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    kinds = options.loop or (["asyncio", "uvloop"] if has_uvloop else ["asyncio"])
    results = {kind: ours(kind, sizes, options.seconds, runs) for kind in kinds}
    if options.rival == "erlang":
        results["erlang"] = erlang(sizes, options.seconds, runs)
    if options.json:
        print(json.dumps(results))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, median of {runs}")
    table(results)


if __name__ == "__main__":
    main()
