"""examples/client.mjs, a client for node.js: it gives the bytes of docs/wire.md, and does and refuses what the page says."""

import asyncio
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest

from clusterkit import From, GenServer, on
from clusterkit.core.proof import Party, expand, prepare_cookies, proof
from clusterkit.core.record import Kind, RecordWriter, part
from clusterkit.core.session import Resume
from clusterkit.runtime import in_thread
from clusterkit.testing.proxy import ChaosProxy, Plan
from tests.conftest import COOKIE, NodeFactory, eventually

NODE_JS = shutil.which("node") or ""
pytestmark = pytest.mark.skipif(not NODE_JS, reason="node.js is not installed")
ROOT = Path(__file__).parents[2]
CLIENT, PAGE = ROOT / "examples" / "client.mjs", (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")
SECRET = bytes(range(32))


async def node_js(*arguments: str, said: Any = None, cookie: str = COOKIE) -> tuple[int, str, str]:
    """Run node.js with ``said`` as JSON on its input: exit status, output, complaints."""
    command, env = [NODE_JS, *arguments], os.environ | {"CLUSTERKIT_COOKIE": cookie}
    work = partial(subprocess.run, input=json.dumps(said), capture_output=True, timeout=30, env=env, encoding="utf-8")
    done = await in_thread(lambda: work(command))
    return done.returncode, done.stdout, done.stderr


async def run(port: int, *arguments: str, cookie: str = COOKIE) -> tuple[int, Any, str]:
    """The client as a program; what it prints is JSON, or nothing."""
    status, out, err = await node_js(str(CLIENT), "127.0.0.1", str(port), *arguments, cookie=cookie)
    return status, json.loads(out or "null"), err


MODULE = f"""
import * as client from {json.dumps(CLIENT.as_uri())};
import {{ text }} from "node:stream/consumers";
const bytes = (hex) => Buffer.from(hex, "hex");
const jobs = Object.entries(JSON.parse(await text(process.stdin)));
const told = ({{ name, message }}) => `${{name}}: ${{message}}`;
const done = await Promise.all(jobs.map(async ([label, job]) => [label, await work(job).catch(told)]));
console.log(JSON.stringify(Object.fromEntries(done)));
"""
CALL = "const work = (port) => client.call('127.0.0.1', port, bytes('%s'), 'ping', [], 'elsewhere');"


async def each(work: str, jobs: dict[str, Any]) -> dict[str, Any]:
    """What ``work``, a function over the client as a module, makes of each job; all in one process."""
    status, out, err = await node_js("--input-type=module", "--eval", work + MODULE, said=jobs)
    assert (status, err) == (0, "")
    return dict(json.loads(out))


REPLAY = """
function end(rest, sent = [], at = 0) {
  const read = async (size) => rest.subarray(at, (at += size));
  return { sent, read, write: (data) => sent.push(data.toString("hex")) };
}
async function work({ cookie, me, nonce, comes, ours, theirs }) {
  const [one, other] = [end(bytes(comes + theirs.join(""))), end(bytes(ours.join("")))];
  const party = { ...me, boot: BigInt(`0x${me.boot}`) };
  const [, keys] = await client.handshake(one, bytes(cookie), party, null, bytes(nonce));
  const [link, mirror] = [client.records(one, keys), client.records(other, [keys[1], keys[0]])];
  for (const _ of theirs) mirror.send(...(await link.receive()));
  for (const _ of ours) link.send(...(await mirror.receive()));
  return { said: [...one.sent, ...other.sent], keys: keys.map((key) => key.toString("hex")) };
}
"""


def block(heading: str) -> dict[str, str]:
    """The first hex strings of the page under a heading, by label; a line without one goes on with the line before."""
    [section] = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    for line in re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)[0].splitlines():
        label, _, digits = line.strip().rpartition(" ")
        label = label.strip() or [*found][-1]
        found[label] = found.get(label, "") + digits
    return found


FIRST, OTHERS = block("10.1 Proofs and keys"), block("10.4 Other proofs")
PREFIXES = ("ring: ", "version: ", "client: ")
NODE_B = Party("node-b", 5, "elsewhere")
LINK = FIRST | block("10.2 Records of that link")
NODE_A = {"version": 1, "role": 1, "boot": "a1a2a3a4a5a6a7a8", "ring": "prod", "name": "node-a"}


def job(told: dict[str, str], nonces: str = "1122", cookie: bytes = SECRET, but: str = "", me: Any = ()) -> Any:
    """A link of the page: its initiator's end, and what comes to it. ``but`` is a record that is left out."""
    ours, theirs = ([told[each] for each in told if re.match(rf"{side}\d", each) and each != but] for side in "IR")
    hello, chal = (f"434b5431{kind}{nonces[at : at + 2] * 32}" for kind, at in (("01", 0), ("02", 2)))
    end = {"cookie": cookie.hex(), "me": NODE_A | dict(me), "nonce": hello[10:], "comes": chal + told["AUTH_R"]}
    return end | {"ours": ours, "theirs": theirs, "expected": [hello, told["AUTH_I"], *ours, *theirs]}


def turned(whole: str, bit: int) -> str:
    return f"{int(whole, 16) ^ 1 << bit:0{len(whole)}x}"


async def test_it_gives_and_takes_the_bytes_of_the_page() -> None:
    whole, guest = block("11. A whole session of a client"), {"role": 2, "ring": ""}
    ring, version, cli = ({key: OTHERS.get(each + key, FIRST[key]) for key in FIRST} for each in PREFIXES)
    links = {
        "10.2": job(LINK, but="R0 RESUME(7,3,0)"),
        "10.2, the other RESUME": job(LINK, but="R0 RESUME(7,0,0)"),
        "10.3": job(block("10.3 The same two meet again"), "3344", bytes(range(32, 64))),
        "10.4": job(cli, me=guest | {"name": "cli-1"}),
        "11": job(whole, "3344", me=guest | {"name": f"cli-{6 * '35'}", "boot": "0b061cf000323232"}),
    }
    refusals = {"ring": job(ring), "version": job(version, me={"version": 2})}
    link, last = links["10.2"], LINK["R1 PONG ACK(3) DATA[1]"]
    proofs = {f"proof {bit}": job(FIRST | {"AUTH_R": turned(FIRST["AUTH_R"], bit)}) for bit in range(8 * 55)}
    records = {f"record {bit}": link | {"theirs": [link["theirs"][0], turned(last, bit)]} for bit in range(8 * 49)}
    done = await each(REPLAY, links | refusals | proofs | records)
    assert {label: done[label]["said"] for label in links} == {label: links[label]["expected"] for label in links}
    assert done["10.4"]["keys"][0] == OTHERS["client: K_ir"]
    assert done["ring"] == "Refused: RING by node node-b, version 1, ring test"
    assert done["version"] == "Refused: VERSION by node node-b, version 1, ring prod"
    assert {done[label] for label in proofs} == {"AuthFailed: the node does not know the cookie"}
    assert {done[label] for label in records} == {"LinkLost: a record with a wrong tag"}


def act(*records: list[bytes], me: Party = NODE_B, spoil: int = 0) -> Any:
    """One connection of a node that proves itself and says records, lists of parts; ``spoil`` turns the last bits."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            opening = await reader.readexactly(37) + b"CKT1\2" + bytes(32)
            writer.write(opening[37:])
            size = await reader.readexactly(2)
            auth_i = size + await reader.readexactly(int.from_bytes(size, "big"))
            [prk], t1 = prepare_cookies(SECRET), hashlib.sha256(opening).digest()
            key = expand(prk, b"clusterkit/1 auth", t1)[1]
            auth_r = proof(4, me, 0, lambda body: hmac.digest(key, auth_i + body, "sha256"))
            keys = expand(prk, b"clusterkit/1 records", hashlib.sha256(t1 + auth_i + auth_r).digest())
            said = auth_r + b"".join(map(RecordWriter(keys[1]).seal, records))
            writer.write(said[:-1] + bytes((said[-1] ^ spoil,)))
            writer.write_eof()
            await reader.read(-1)
        writer.close()

    return play


BEGIN, ANEW = ([part(Kind.RESUME, Resume(own, 1, 0, 1 << 20).pack())] for own in (1, 2))
TRUE, EVIL = (part(Kind.DATA, msgpack.packb([[4, 1, msgpack.packb(value)]])) for value in ("good", "evil"))
STOP, AGAIN, LOST, GOOD = part(Kind.GOODBYE, b"\1"), part(Kind.GOODBYE, b"\3"), act(BEGIN), act(BEGIN, [TRUE])
PLAYS = {  # by what the call ends in: an act for each connection
    "good, after two losses, and GOODBYE AGAIN with it": (LOST, LOST, act(BEGIN, [TRUE, AGAIN])),
    "good, and nothing with a wrong tag": (act(BEGIN, [EVIL], spoil=1), GOOD),
    "good, and nothing over 1 MiB": (act(BEGIN, [EVIL, part(7, bytes(1 << 20))]), GOOD),
    "good, after GOODBYE AGAIN": (act(BEGIN, [AGAIN]), GOOD),
    "NodeDown: the node ended the session": (LOST, act(ANEW, [EVIL])),
    "NodeDown: the node was started anew": (LOST, act(BEGIN, [EVIL], me=replace(NODE_B, boot=6))),
    "NodeDown: the node said goodbye": (act(BEGIN, [STOP]),),
    "OldIncarnation": (LOST, act(BEGIN, [EVIL], me=replace(NODE_B, boot=4))),
    "WrongNode": (LOST, act(BEGIN, [EVIL], me=replace(NODE_B, name="node-c"))),
    "WrongRing": (act(BEGIN, [EVIL], me=replace(NODE_B, ring="prod")),),
    "VersionMismatch": (act(BEGIN, [EVIL], me=replace(NODE_B, version=2)),),
    "ProtocolError: a proof with malformed fields": (act(BEGIN, [EVIL], me=replace(NODE_B, name="node b")),),
    "ProtocolError: parts 62": (act(BEGIN, [STOP, EVIL]),),
    "ProtocolError: ACK 2": (act(BEGIN, [part(Kind.ACK, (2).to_bytes(8, "big")), EVIL]),),
}


async def test_an_impostor_gets_nowhere() -> None:
    ports: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        for end, acts in PLAYS.items():
            serve = partial(lambda left, *connection: next(left)(*connection), iter(acts))
            server = await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
            ports[end] = server.sockets[0].getsockname()[1]
        done = await each(CALL % SECRET.hex(), ports)
    assert {end: done[end] for end in PLAYS if not done[end].startswith(end.partition(",")[0])} == {}


class Desk(GenServer):
    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.gate = asyncio.Event()

    @on("hold")
    async def hold(self, data: Any, frm: From) -> Any:
        self.heard.append(data)
        await self.gate.wait()
        if data == "tea":
            raise ValueError("no tea at this desk")
        return data


async def test_ping_members_and_ask_of_a_ring_of_two(start_node: NodeFactory) -> None:
    a = await start_node("a")
    b, desk = await start_node("b", seeds=(a,)), Desk()
    await eventually(lambda: len(a.ring.nodes) == 2)
    await b.start(desk, name="desk")
    desk.gate.set()
    data: list[Any] = [0.5, None, True, "ü", {"": []}, *(1 << bits for bits in range(0, 53, 4)), -33, -(1 << 40)]
    ask = partial(run, a.id.port, "ask", "b", "desk")
    ping, members, value, nothing, refused, unknown = await asyncio.gather(
        *(run(a.id.port, "ping"), run(a.id.port, "members")),
        *(ask("hold", json.dumps(data)), ask("hold"), ask("hold", '"tea"'), ask("x")),
    )
    assert (ping[1]["name"], ping[1]["incarnation"]) == ("a", str(a.id.incarnation))
    assert [(each["name"], each["state"]) for each in members[1]] == [("a", "alive"), ("b", "alive")]
    assert (value, nothing) == ((0, data, ""), (0, None, ""))
    assert refused == (1, None, "ValueError: no tea at this desk (executed: maybe)\n")
    assert (unknown[0], unknown[2].split(" ")[0]) == (1, "NoSuchMethod:")
    await eventually(lambda: not a._open_kernel().links._clients)  # they said goodbye
    assert a.stats()["dead_letters"] == 0  # and had acknowledged


async def test_it_says_why_it_cannot(start_node: NodeFactory) -> None:
    port = (await start_node("a")).id.port
    with socket.socket() as bound:  # and not listening: nobody else can take the port meanwhile
        bound.bind(("127.0.0.1", 0))
        told = await asyncio.gather(
            run(bound.getsockname()[1], "ping"),
            run(port, "ping", cookie="the cookie of another cluster"),
            run(port, "ping", cookie="too short"),
            run(port, "ask", "a"),
        )
    assert [err.split(":")[0] for *_, err in told] == ["LinkLost", "AuthFailed", "ConfigError", "usage"]
    done = await each(CALL % COOKIE.encode().hex(), {"a": port})
    assert done["a"] == "Refused: RING by node a, version 1, ring test"


async def test_a_call_outlives_its_connections_and_answers_ping(start_node: NodeFactory) -> None:
    a, desk = await start_node("a"), Desk()
    await a.start(desk, name="desk")
    in_the_call = Plan(reset_after=(170, 170))
    async with ChaosProxy("127.0.0.1", a.id.port, plan=in_the_call) as proxy, asyncio.TaskGroup() as group:
        asked = group.create_task(run(proxy.port, "ask", "a", "desk", "hold", "1"))
        await eventually(lambda: proxy.resets)
        proxy.plan = Plan()
        await eventually(lambda: desk.heard)
        [link] = a._open_kernel().links._clients.values()
        for _ in range(20):
            assert await link.alive(5.0)
        proxy.stall()
        desk.gate.set()
        await eventually(lambda: link.session.unacked)  # the answer is on its way, and is lost there
        proxy.reset()
        proxy.go_on()
    assert (asked.result(), desk.heard) == ((0, 1, ""), [1])
