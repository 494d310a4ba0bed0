"""Discovery: how seeds are written, what each try finds, what fails of it and why, and the variables."""

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from clusterkit.errors import AddressError, ConfigError
from clusterkit.ring.discovery import (
    MOST_PLACES,
    Found,
    Place,
    Seed,
    Settings,
    check_seeds,
    parse_seed,
    places,
    read_environment,
)
from clusterkit.testing.environment import SimulatedEnvironment
from clusterkit.testing.loop import SimulationLoop, running_simulation

DNS = "dns+tcp://members.example:7022"


# -- how seeds are written


@pytest.mark.parametrize(
    ("text", "seed"),
    [
        ("127.0.0.1:7022", (None, "127.0.0.1", 7022, False)),
        ("a@web-1.example:7022", ("a", "web-1.example", 7022, False)),
        ("[::1]:7022", (None, "::1", 7022, False)),
        ("a@[fe80::1%eth0]:7022", ("a", "fe80::1%eth0", 7022, False)),
        (DNS, (None, "members.example", 7022, True)),
        ("dns+tcp://[::1]:1", (None, "::1", 1, True)),
    ],
)
def test_a_seed_is_read(text: str, seed: tuple[Any, ...]) -> None:
    assert parse_seed(text) == Seed(text, *seed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no port"),
        ("members.example", "no port; write host:port"),
        ("::1:7022", "goes in brackets"),
        ("a b@h:1", "' ' in it"),
        ("h:0", "nobody can be dialled at port 0"),
        ("a@h:0", "nobody can be dialled at port 0"),
        ("dns+tcp://members.example", "no port"),
        ("dns+tcp://members.example:0", "at port 0"),
        ("dns+tcp://members.example:7022/", "port '7022/' is not a number"),
        ("dns+tcp://a@members.example:7022", "host 'a@members.example' is neither"),
        ("dns+tcp://", "no port"),
        ("tcp://h:1", "no such scheme; write host:port, or dns\\+tcp://host:port"),
        ("dns+srv://h:1", "no such scheme"),
        ("a@tcp://h:1", "no such scheme"),
    ],
)
def test_a_bad_seed_is_refused_and_the_error_shows_it(text: str, says: str) -> None:
    with pytest.raises(AddressError, match=says) as caught:
        parse_seed(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", [None, 7022, b"127.0.0.1:7022", ("127.0.0.1", 7022)])
def test_a_seed_that_is_no_str_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=f"a seed is a str .*not {type(value).__name__}"):
        parse_seed(value)


def test_what_the_user_wrote_wrong_is_an_error_at_once() -> None:
    for seeds, says in (
        ("127.0.0.1:7022", r"not one str: \['127.0.0.1:7022'\]"),
        (b"127.0.0.1:7022", "not one bytes"),
        (7022, "or a callable that returns one, not 7022"),
        (None, "not None"),
        (["127.0.0.1:7022", "nonsense"], "'nonsense': no port"),
    ):
        with pytest.raises(ConfigError, match=says):
            check_seeds(seeds)  # type: ignore[arg-type]


def test_good_seeds_are_handed_on_and_a_callable_is_not_asked_yet() -> None:
    def ask() -> list[str]:
        raise AssertionError

    assert check_seeds(iter(["h:1", DNS])) == ("h:1", DNS)
    assert check_seeds(()) == ()
    assert check_seeds(ask) is ask


def test_a_place_is_shown_with_the_address_that_its_seed_does_not_say() -> None:
    assert Place("a@h:1", "a", "h", 1).shown == "a@h:1"
    assert Place(DNS, None, "fd00::1", 7022).shown == f"{DNS} ([fd00::1]:7022)"


# -- what a try finds


def where(found: Found) -> list[tuple[str | None, str, int]]:
    return [place[1:] for place in found.places]


async def test_a_list_needs_no_resolver() -> None:
    found = await places(["a@no.such.host:1", "[::1]:2"])
    assert found == Found((Place("a@no.such.host:1", "a", "no.such.host", 1), Place("[::1]:2", None, "::1", 2)))


async def test_nothing_is_found_where_nothing_is_given() -> None:
    assert await places(()) == await places(list) == Found()


@pytest.mark.simulation
async def test_a_name_is_all_its_addresses_of_both_families() -> None:
    running_simulation().environment.hosts["members.example"] = ["10.0.0.1", "fd00::1", "fe80::1%eth0"]
    found = await places([DNS])
    assert found.places == (
        Place(DNS, None, "10.0.0.1", 7022),
        Place(DNS, None, "fd00::1", 7022),
        Place(DNS, None, "fe80::1%eth0", 7022),
    )


@pytest.mark.simulation
async def test_a_name_is_resolved_anew_at_each_try() -> None:
    hosts = running_simulation().environment.hosts
    seen = []
    for addresses in (["10.0.0.1"], ["10.0.0.2", "10.0.0.3"], ["10.0.0.1"]):
        hosts["members.example"] = addresses
        seen.append([place.host for place in (await places([DNS])).places])
    assert seen == [["10.0.0.1"], ["10.0.0.2", "10.0.0.3"], ["10.0.0.1"]]


@pytest.mark.simulation
async def test_duplicates_collapse_and_the_order_is_that_of_the_seeds() -> None:
    hosts = running_simulation().environment.hosts
    hosts["members.example"] = ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    hosts["others.example"] = ["10.0.0.2", "10.0.0.3"]
    found = await places(["10.0.0.9:1", DNS, "dns+tcp://others.example:7022", "10.0.0.1:7022", "10.0.0.9:1", DNS])
    assert where(found) == [
        (None, "10.0.0.9", 1),
        (None, "10.0.0.1", 7022),
        (None, "10.0.0.2", 7022),
        (None, "10.0.0.3", 7022),
    ]
    assert not found.failed


async def test_one_address_under_two_names_is_two_places() -> None:
    assert where(await places(["a@h:1", "b@h:1", "h:1"])) == [("a", "h", 1), ("b", "h", 1), (None, "h", 1)]


@pytest.mark.simulation
async def test_a_name_that_does_not_resolve_hides_nothing_else() -> None:
    hosts = running_simulation().environment.hosts
    hosts |= {"members.example": ["10.0.0.1"], "empty.example": []}
    gone, empty = "dns+tcp://gone.example:1", "dns+tcp://empty.example:1"
    found = await places([gone, "10.0.0.9:1", empty, DNS])
    assert where(found) == [(None, "10.0.0.9", 1), (None, "10.0.0.1", 7022)]
    assert found.failed == {
        gone: "'gone.example' does not resolve: the simulation has no host 'gone.example'",
        empty: "'empty.example' has no address",
    }


class SlowResolver(SimulatedEnvironment):
    """Each name answers after so many seconds."""

    def __init__(self, loop: SimulationLoop, delays: dict[str, float]) -> None:
        super().__init__(1, loop.time)
        self.delays = delays

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        await asyncio.sleep(self.delays[host])
        return [(f"10.0.0.{len(host)}", port)]


@pytest.mark.simulation
async def test_names_are_resolved_at_once_and_a_slow_one_is_given_up() -> None:
    loop = running_simulation()
    loop.environment = SlowResolver(loop, {"a": 4.0, "bb": 1e6, "ccc": 4.5})
    found = await places(["dns+tcp://a:1", "dns+tcp://bb:1", "dns+tcp://ccc:1"])
    assert loop.time() == pytest.approx(5.0)
    assert [place.host for place in found.places] == ["10.0.0.1", "10.0.0.3"]
    assert found.failed == {"dns+tcp://bb:1": "'bb' was not resolved in 5 s"}


@pytest.mark.simulation
async def test_what_is_too_much_is_said() -> None:
    addresses = [f"10.0.{n >> 8}.{n & 255}" for n in range(MOST_PLACES + 1)]
    running_simulation().environment.hosts["members.example"] = addresses
    found = await places([DNS, f"{addresses[0]}:7022", "10.9.9.9:1"])
    assert [place.host for place in found.places] == addresses[:MOST_PLACES]
    assert found.failed == dict.fromkeys((DNS, "10.9.9.9:1"), f"more than {MOST_PLACES} places: the rest is not tried")


async def test_a_name_of_this_machine_is_resolved_for_real() -> None:
    expected = {str(each[4][0]) for each in socket.getaddrinfo("localhost", 7022, type=socket.SOCK_STREAM)}
    found = await places(["dns+tcp://localhost:7022"])
    assert {place.host for place in found.places} == expected
    assert expected & {"127.0.0.1", "::1"}
    assert not found.failed


async def test_a_name_that_no_system_resolves_is_a_failed_try() -> None:
    seed = f"dns+tcp://{'x' * 80}.example:1"
    found = await places([seed])
    assert not found.places
    assert found.failed == {seed: f"'{'x' * 80}.example' does not resolve: '{'x' * 80}.example' is no host name"}


# -- the callable


async def _later(seeds: Iterable[str]) -> Iterable[str]:
    await asyncio.sleep(0)
    return seeds


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda: ["h:1", "a@h:2"], id="a list"),
        pytest.param(lambda: (each for each in ("h:1", "a@h:2")), id="a generator"),
        pytest.param(lambda: _later(("h:1", "a@h:2")), id="a coroutine"),
    ],
)
async def test_a_callable_is_asked(ask: Callable[[], Any]) -> None:
    assert where(await places(ask)) == [(None, "h", 1), ("a", "h", 2)]


async def test_a_callable_is_asked_anew_at_each_try() -> None:
    answers = iter([["h:1"], [], ["h:2"]])
    assert [where(await places(lambda: next(answers))) for _ in range(3)] == [
        [(None, "h", 1)],
        [],
        [(None, "h", 2)],
    ]


def _raising(error: BaseException) -> Callable[[], Any]:
    def ask() -> list[str]:
        raise error

    return ask


async def _cancelled() -> list[str]:
    raise asyncio.CancelledError


def _broken() -> Iterator[str]:
    yield "h:1"
    raise KeyError("page 2")


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (_raising(ValueError("no token")), "raised ValueError: no token"),
        (_raising(KeyError()), "raised KeyError"),
        (_raising(TimeoutError("too slow")), "raised TimeoutError: too slow"),
        (_raising(StopIteration()), "raised RuntimeError: coroutine raised StopIteration"),
        (_broken, "raised KeyError: 'page 2'"),
        (_cancelled, "what it waited for was cancelled"),
        (lambda: "h:1", "seeds is a sequence of addresses, not one str: ['h:1']"),
        (lambda: None, "seeds is a sequence of addresses, or a callable that returns one, not None"),
    ],
)
async def test_a_callable_that_fails_is_a_failed_try(ask: Callable[[], Any], why: str) -> None:
    assert await places(ask) == Found(failed={"seeds()": why})


@pytest.mark.simulation
async def test_a_callable_that_hangs_is_a_failed_try() -> None:
    assert await places(asyncio.Event().wait, timeout=2.5) == Found(  # type: ignore[arg-type]
        failed={"seeds()": "no answer in 2.5 s"}
    )
    assert running_simulation().time() == pytest.approx(2.5)


async def test_a_bad_seed_among_the_answers_hides_no_good_one() -> None:
    found = await places(lambda: ["h:1", "nonsense", 7, "h:2"])  # type: ignore[list-item]
    assert where(found) == [(None, "h", 1), (None, "h", 2)]
    assert found.failed == {
        "nonsense": "address 'nonsense': no port; write host:port, as 127.0.0.1:7022",
        "7": "a seed is a str like '127.0.0.1:7022', not int: 7",
    }


@pytest.mark.simulation
@pytest.mark.parametrize("seeds", [asyncio.Event().wait, ["dns+tcp://a:1"]])
async def test_a_try_that_is_cancelled_ends(seeds: Any) -> None:
    loop = running_simulation()
    loop.environment = SlowResolver(loop, {"a": 1e6})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await places(seeds)
    assert loop.time() == pytest.approx(1.0)


# -- the environment's variables

ALL = {
    "CLUSTERKIT_ADDRESS": "a@web-1.example:7022",
    "CLUSTERKIT_LISTEN": "0.0.0.0:7022",
    "CLUSTERKIT_RING": "demo",
    "CLUSTERKIT_SEEDS": f" h:1 ,b@[fd00::1]:2,, {DNS},",
    "CLUSTERKIT_STATE_DIR": "/var/lib/demo",
}


def test_the_variables_are_read() -> None:
    seeds = ("h:1", "b@[fd00::1]:2", DNS)
    expected = Settings("a@web-1.example:7022", "0.0.0.0:7022", "demo", seeds, "/var/lib/demo")
    assert read_environment(ALL | {"CLUSTERKIT_COOKIE": "x", "HOME": "/"}) == expected


def test_what_is_not_set_or_empty_says_nothing() -> None:
    assert read_environment({}) == read_environment(dict.fromkeys(ALL, "")) == Settings()
    assert read_environment({"CLUSTERKIT_SEEDS": " , ", "CLUSTERKIT_RING": " "}) == Settings()


def test_a_node_may_ask_for_a_free_port() -> None:
    assert read_environment({"CLUSTERKIT_ADDRESS": "a@h:0"}).address == "a@h:0"


@pytest.mark.parametrize(
    ("name", "value", "kind", "says"),
    [
        ("CLUSTERKIT_ADDRESS", "h:1", AddressError, "no '@'"),
        ("CLUSTERKIT_LISTEN", "h", AddressError, "no port"),
        ("CLUSTERKIT_RING", "a ring", ConfigError, "ring id 'a ring' has ' ' in it"),
        ("CLUSTERKIT_SEEDS", "h:1,h:0", AddressError, "'h:0': nobody can be dialled"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    name: str, value: str, kind: type[ConfigError], says: str
) -> None:
    with pytest.raises(kind, match=f"^{name}: .*{says}") as caught:
        read_environment(ALL | {name: value})
    assert type(caught.value) is kind
