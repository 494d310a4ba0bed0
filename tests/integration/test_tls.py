"""Nodes over TLS: who is let in, who is told what, and what can be seen from outside."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from clusterkit import TLS, AuthFailed, Client, Config, ConfigError, GenServer, JoinError, Node, call, cast
from clusterkit.testing.proxy import ChaosProxy
from clusterkit.transport.tcp import TcpNetwork
from tests.certificates import Authority
from tests.conftest import COOKIE, QUICK, eventually

OURS, THEIRS = Authority(), Authority()
DEADLINE = 20.0

Starter = Callable[..., Awaitable[Node]]


class Echo(GenServer):
    def __init__(self) -> None:
        self.noted: list[int] = []

    @call
    async def echo(self, value: Any) -> Any:
        return value

    @cast
    async def note(self, number: int) -> None:
        self.noted.append(number)


@pytest.fixture
async def start() -> AsyncIterator[Starter]:
    """Start nodes with TLS (or without): ``await start("a", tls)``, then perhaps ``seeds=["host:port"]``."""
    async with AsyncExitStack() as stack:

        async def start_one(
            name: str, tls: TLS | None, *, seeds: tuple[str, ...] = (), config: Config = QUICK, timeout: float = 10.0
        ) -> Node:
            node = await stack.enter_async_context(Node(f"{name}@127.0.0.1:0", cookie=COOKIE, tls=tls, config=config))
            await node.start(Echo(), name="echo")
            await node.ring.join("test", seeds=seeds, timeout=timeout)
            return node

        yield start_one


def echo(node: Node, on: str) -> Any:
    return node.ref(Echo, "echo", on=on)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Above debug level nothing is logged; the test looks."""
    caplog.set_level(logging.INFO)
    return caplog


# -- those who belong together


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_two_nodes_call_each_other(start: Starter, version: ssl.TLSVersion) -> None:
    a = await start("a", OURS.tls("a", least=version, most=version))
    b = await start("b", OURS.tls("b", least=version, most=version), seeds=(a.id.address,))
    assert await echo(b, "a").call(Echo.echo, "to a") == "to a"
    assert await echo(a, "b").call(Echo.echo, b"x" * 500_000) == b"x" * 500_000


async def test_a_client_needs_a_certificate_and_no_name(start: Starter) -> None:
    a = await start("a", OURS.tls("a"))
    async with Client("127.0.0.1", a.id.port, cookie=COOKIE, tls=OURS.tls()) as client:
        assert (await client.call("ping"))["name"] == "a"


async def test_nothing_is_lost_when_connections_break() -> None:
    noting = Echo()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(DEADLINE))
        to_a, to_b = [await stack.enter_async_context(ChaosProxy("127.0.0.1", 0)) for _ in "ab"]
        a, b = [await stack.enter_async_context(behind(*each)) for each in (("a", to_a), ("b", to_b))]
        await a.start(noting, name="echo")
        await a.ring.join("test")
        await b.ring.join("test", seeds=[a.id.address])
        for number in range(3000):
            await echo(b, "a").cast(Echo.note, number)
            if number % 500 == 250:
                assert await echo(b, "a").call(Echo.echo, "open?") == "open?"
                to_a.reset()
                to_b.reset()
        await eventually(lambda: len(noting.noted) == 3000)
    assert noting.noted == list(range(3000))
    assert to_a.resets + to_b.resets >= 5


@contextlib.asynccontextmanager
async def behind(name: str, proxy: ChaosProxy) -> AsyncIterator[Node]:
    """A node with TLS that others reach through a proxy alone."""
    address = f"{name}@127.0.0.1:{proxy.port}"
    async with Node(address, listen="127.0.0.1:0", cookie=COOKIE, tls=OURS.tls(name), config=QUICK) as node:
        listener = node._open_kernel().links._listener
        assert listener is not None
        proxy.target = "127.0.0.1", listener.port
        yield node


# -- those who do not


async def refusal(joiner: Awaitable[Node]) -> str:
    """Why a node could not join."""
    with pytest.raises(JoinError) as caught:
        await joiner
    return str(caught.value)


async def test_a_node_of_another_authority_is_refused(start: Starter, quiet: pytest.LogCaptureFixture) -> None:
    a = await start("a", OURS.tls("a", trusts=OURS))
    said = await refusal(start("b", THEIRS.tls("b", trusts=OURS), seeds=(a.id.address,), timeout=0.5))
    assert "refused this side (unknown ca)" in said
    assert [node.name for node in a.ring.nodes] == ["a"]
    assert not quiet.records, quiet.text


async def test_a_node_does_not_join_through_one_of_another_authority(
    start: Starter, quiet: pytest.LogCaptureFixture
) -> None:
    a = await start("a", THEIRS.tls("a", trusts=OURS))
    said = await refusal(start("b", OURS.tls("b"), seeds=(a.id.address,), timeout=0.5))
    assert "its certificate is not accepted" in said
    assert [node.name for node in a.ring.nodes] == ["a"]
    assert not quiet.records, quiet.text


async def test_a_node_whose_certificate_is_for_another_name_is_refused(start: Starter) -> None:
    a = await start("a", OURS.tls("a"))
    await refusal(start("b", OURS.tls("c"), seeds=(a.id.address,), timeout=0.5))
    assert [node.name for node in a.ring.nodes] == ["a"]


async def test_a_node_does_not_join_through_one_whose_certificate_is_for_another_name(start: Starter) -> None:
    a = await start("a", OURS.tls("c"))
    said = await refusal(start("b", OURS.tls("b"), seeds=(a.id.address,), timeout=0.5))
    assert "the certificate of 'a' is for c, not for that name" in said
    await eventually(lambda: [node.name for node in a.ring.nodes] == ["a"])


async def test_a_client_does_not_ask_a_node_whose_certificate_is_for_another_name(start: Starter) -> None:
    a = await start("a", OURS.tls("c"))
    with pytest.raises(AuthFailed, match="the certificate of 'a' is for c"):
        await Client("127.0.0.1", a.id.port, cookie=COOKIE, tls=OURS.tls("b")).__aenter__()


async def test_without_the_check_of_names_any_certificate_of_the_authority_will_do(start: Starter) -> None:
    a = await start("a", OURS.tls("x", verify_names=False))
    b = await start("b", OURS.tls("y", verify_names=False), seeds=(a.id.address,))
    assert await echo(b, "a").call(Echo.echo, 1) == 1


async def test_another_cookie_is_refused_over_tls_too(start: Starter) -> None:
    a = await start("a", OURS.tls("a"))
    with pytest.raises(AuthFailed):
        await Client("127.0.0.1", a.id.port, cookie="quite another cookie", tls=OURS.tls("b")).__aenter__()


async def test_a_plain_node_and_one_with_tls_do_not_meet(start: Starter, quiet: pytest.LogCaptureFixture) -> None:
    secure, plain = await start("secure", OURS.tls("secure")), await start("plain", None)
    said = await refusal(start("b", OURS.tls("b"), seeds=(plain.id.address,), timeout=0.5))
    assert "does it use TLS?" in said
    said = await refusal(start("c", None, seeds=(secure.id.address,), timeout=0.5))
    assert "closed during the handshake" in said
    for node in (secure, plain):
        assert [each.name for each in node.ring.nodes] == [node.id.name]
    assert not quiet.records, quiet.text


async def test_a_stranger_that_says_nothing_is_closed_at_the_deadline(
    start: Starter, quiet: pytest.LogCaptureFixture
) -> None:
    a = await start("a", OURS.tls("a"), config=Config(proof_timeout=0.3))
    links = a._open_kernel().links
    async with asyncio.timeout(DEADLINE):
        silent = [await asyncio.open_connection("127.0.0.1", a.id.port) for _ in range(10)]
        await eventually(lambda: len(links._unproven) == 10)
        for reader, writer in silent:
            assert await reader.read(1) == b""
            writer.close()
    assert not links._unproven
    assert not quiet.records, quiet.text


async def test_connections_in_their_tls_handshake_count_as_unproven(start: Starter) -> None:
    a = await start("a", OURS.tls("a"), config=Config(unproven_limit=8))
    links = a._open_kernel().links
    async with asyncio.timeout(DEADLINE):
        silent = [await asyncio.open_connection("127.0.0.1", a.id.port) for _ in range(20)]
        await eventually(lambda: links.counters["evicted"] == 12)
        assert len(links._unproven) == 8
        async with asyncio.timeout(2.5), Client("127.0.0.1", a.id.port, cookie=COOKIE, tls=OURS.tls()) as client:
            assert await client.call("ping")
        for _, writer in silent:
            writer.transport.abort()


def test_a_network_brings_its_own_tls() -> None:
    with pytest.raises(ConfigError, match="tls and network are both given"):
        Client("127.0.0.1", 1, cookie=COOKIE, tls=OURS.tls(), network=TcpNetwork())


# -- what is seen from outside


async def seen_between(tls: Callable[[str], TLS | None]) -> bytes:
    """All that passes between a client and a node of the ring ``secret-ring``, both ways."""
    seen = bytearray()
    async with Node("secret-node@127.0.0.1:0", cookie=COOKIE, tls=tls("secret-node"), config=QUICK) as node:
        await node.ring.join("secret-ring")

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    seen.extend(data)
                    writer.write(data)
            writer.close()

        async def sniff(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, onward = await asyncio.open_connection("127.0.0.1", node.id.port)
            await asyncio.gather(carry(reader, onward), carry(there, writer))

        sniffer = await asyncio.start_server(sniff, "127.0.0.1", 0)
        async with asyncio.timeout(DEADLINE):
            port = sniffer.sockets[0].getsockname()[1]
            async with Client("127.0.0.1", port, cookie=COOKIE, tls=tls("some-client")) as client:
                assert (await client.call("ping"))["name"] == "secret-node"
            sniffer.close()
    return bytes(seen)


async def test_nothing_of_the_cookies_handshake_can_be_seen() -> None:
    plain = await seen_between(lambda _: None)
    secured = await seen_between(OURS.tls)
    for telling in (b"CKT1", b"secret-node", b"secret-ring", b"ping"):
        assert telling in plain, "the sniffer sees what there is to see"
        assert telling not in secured
    assert len(secured) > len(plain)
