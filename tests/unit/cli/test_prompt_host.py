"""The node behind the prompt: its address when none was given, and the loop that it lives on."""

import asyncio
import os
import threading

import pytest

from clusterkit.cli.failure import Failure
from clusterkit.cli.prompt_host import Backstage, Host, addresses, default_name

COOKIE = b"the cookie of the host's tests"


@pytest.mark.parametrize(
    ("machine", "name"),
    [("laptop", "laptop"), ("laptop.example.org", "laptop"), ("Ada's Mac", "Ada-s-Mac"), ("", "node"), ("...", "node")],
)
def test_a_node_without_a_name_has_that_of_the_machine(machine: str, name: str) -> None:
    assert default_name(machine) == name


def test_an_address_is_taken_as_given_or_made_on_loopback() -> None:
    assert addresses("a@10.0.0.1:7", "m") == ["a@10.0.0.1:7"]
    assert addresses("a", "m") == ["a@127.0.0.1:7022", "a@127.0.0.1:0"]
    assert addresses(None, "m.local") == ["m@127.0.0.1:7022", f"m-{os.getpid()}@127.0.0.1:0"]


def test_work_runs_on_a_loop_of_its_own_thread_and_ends_with_it() -> None:
    backstage = Backstage()
    ended = threading.Event()

    async def thread() -> str:
        return threading.current_thread().name

    async def for_ever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    try:
        assert backstage.do(thread()) == "prompt"
        backstage.begin(for_ever(), "work")
        with pytest.raises(TimeoutError):
            backstage.do(asyncio.sleep(3600), 0.01)
        with pytest.raises(ZeroDivisionError):
            backstage.do(fails())
    finally:
        backstage.close()
    assert ended.is_set()


async def fails() -> None:
    raise ZeroDivisionError


async def test_a_hosted_node_is_a_ring_of_one_until_it_joins_another() -> None:
    one, other = Host([COOKIE], None, 5.0), Host([COOKIE], None, 5.0)
    try:
        first = await one.start("one@127.0.0.1:0", "ring-of-one")
        assert (first.ring.id, len(first.ring)) == ("ring-of-one", 1)
        with pytest.raises(Failure, match="hosts one@"):
            await one.start(None, "cluster")
        second = await other.start("two@127.0.0.1:0", "elsewhere")
        assert await other.join("127.0.0.1", first.id.port) is second
        assert (second.ring.id, [node.name for node in second.ring.nodes]) == ("ring-of-one", ["one", "two"])
        third = Host([COOKIE], None, 5.0)
        try:
            lone = await third.start("three@127.0.0.1:0", "third")
            with pytest.raises(Failure, match="with others") as refused:
                await other.join("127.0.0.1", lone.id.port)
            assert "`leave` first" in refused.value.hint
        finally:
            await third.aclose()
    finally:
        await other.aclose()
        await one.aclose()


async def test_rings_of_one_id_are_merged() -> None:
    one, other = Host([COOKIE], None, 5.0), Host([COOKIE], None, 5.0)
    try:
        first, second = await one.start("one@127.0.0.1:0", "cluster"), await other.start("two@127.0.0.1:0", "cluster")
        await other.join("127.0.0.1", first.id.port)
        assert [node.name for node in second.ring.nodes] == ["one", "two"]
    finally:
        await other.aclose()
        await one.aclose()


async def test_a_join_that_fails_leaves_no_node_behind() -> None:
    one, other = Host([COOKIE], None, 5.0), Host([b"quite another cookie of them"], None, 5.0)
    try:
        first = await one.start("one@127.0.0.1:0", "cluster")
        with pytest.raises(Failure) as refused:
            await other.join("127.0.0.1", first.id.port)
        assert refused.value.exit_code == 5
        assert other.node is None
        await first.ring.leave()
        with pytest.raises(Failure, match="in no ring"):
            await Host([COOKIE], None, 5.0).join("127.0.0.1", first.id.port)
    finally:
        await one.aclose()
