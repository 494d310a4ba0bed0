"""Where the first members are: seeds as users write them, and the environment's variables.

==========================  ====================================================
``host:port``               one place
``name@host:port``          one place, and who must answer there
``dns+tcp://host:port``     all places whose addresses (A and AAAA) the name has
==========================  ====================================================

Seeds are a sequence of these, or a callable, sync or async, that returns one and is
asked anew at each try; so is the resolver. A sync callable runs on the loop and must
not block.

Rules. What the user wrote wrong is an error at once (`check_seeds`). What goes wrong
while looking (a callable that raises, a name that does not resolve) fails that try
alone, says why, and hides nothing that was found elsewhere (`places`).
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from clusterkit import runtime
from clusterkit.core.identity import NodeId, check_name, format_host_port, parse_host_port
from clusterkit.errors import AddressError, ConfigError

Which: TypeAlias = NodeId | str
Seeds: TypeAlias = Iterable[str] | Callable[[], Iterable[str] | Awaitable[Iterable[str]]]

MOST_PLACES = 256  # a full mesh has no more members, and one that answers is enough
_SCHEME = "dns+tcp://"
_CALLABLE = "seeds()"  # what its failures are filed under


def name_of(node: Which) -> str:
    """The name of the member that is meant: a `NodeId`, ``name``, or ``name@host:port``.

    >>> name_of("foo@127.0.0.1:7022")
    'foo'
    """
    if isinstance(node, NodeId):
        return node.name
    if not isinstance(node, str):
        raise ConfigError(f"a member is named by a str or a NodeId, not {node!r}")
    return node.partition("@")[0]


def parse_node(node: Which) -> NodeId:
    """The node that is meant, at an address that can be dialled."""
    parsed = node if isinstance(node, NodeId) else NodeId.parse(node)
    if not parsed.port:
        raise ConfigError(f"{node}: nobody can be dialled at port 0")
    return parsed


@dataclass(frozen=True, slots=True)
class Seed:
    """One seed as it was written, read.

    >>> parse_seed("dns+tcp://members.example:7022")
    Seed(text='dns+tcp://members.example:7022', name=None, host='members.example', port=7022, many=True)
    """

    text: str
    name: str | None
    """The node that must answer there; None when any may."""
    host: str
    port: int
    many: bool = False
    """Whether all addresses of the host are tried, each for itself."""


class Place(NamedTuple):
    """One place to dial, and the seed that led to it."""

    text: str
    name: str | None
    host: str
    port: int

    @property
    def shown(self) -> str:
        """The seed, and the address when the seed does not say it.

        >>> Place("dns+tcp://members.example:7022", None, "10.0.0.1", 7022).shown
        'dns+tcp://members.example:7022 (10.0.0.1:7022)'
        """
        where = format_host_port(self.host, self.port)
        return f"{self.text} ({where})" if self.text.startswith(_SCHEME) else self.text


@dataclass(frozen=True, slots=True)
class Found:
    """What one try found, and what failed of it: seed (or ``seeds()``, the callable) -> why."""

    places: tuple[Place, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


def parse_seed(text: str) -> Seed:
    """Read one seed; raises `AddressError` (or `ConfigError`, when it is no str) that says what is wrong.

    >>> parse_seed("foo@[fe80::1%eth0]:7022").host
    'fe80::1%eth0'
    """
    if not isinstance(text, str):
        raise ConfigError(f"a seed is a str like '127.0.0.1:7022', not {type(text).__name__}: {text!r}")
    many = text.startswith(_SCHEME)
    if not many and "://" in text:
        raise AddressError(f"seed {text!r}: no such scheme; write host:port, or {_SCHEME}host:port")
    if "@" in text and not many:
        node = NodeId.parse(text)
        seed = Seed(text, node.name, node.host, node.port)
    else:
        seed = Seed(text, None, *parse_host_port(text.removeprefix(_SCHEME), whole=text), many)
    if not seed.port:
        raise AddressError(f"seed {text!r}: nobody can be dialled at port 0")
    return seed


def check_seeds(seeds: Seeds) -> Seeds:
    """Return the seeds, a sequence as a tuple of which each is readable; raises as `parse_seed` does."""
    if callable(seeds):
        return seeds
    return tuple(parse_seed(seed).text for seed in _listed(seeds))


def _listed(seeds: object) -> list[str]:
    if isinstance(seeds, str | bytes):
        raise ConfigError(f"seeds is a sequence of addresses, not one {type(seeds).__name__}: [{seeds!r}]")
    if not isinstance(seeds, Iterable):
        raise ConfigError(f"seeds is a sequence of addresses, or a callable that returns one, not {seeds!r}")
    return list(seeds)


# -- looking


async def places(seeds: Seeds, timeout: float = 5.0) -> Found:
    """Find out where to dial now, each place once, in the order of the seeds; raises nothing.

    The callable, and then the resolver, get up to ``timeout`` seconds each. At most
    `MOST_PLACES` places are handed out; what is left over is told as failed.
    """
    failed: dict[str, str] = {}
    parsed = _parsed(await _asked(seeds, timeout, failed), failed)
    found: dict[tuple[str | None, str, int], Place] = {}
    for place in await _resolved(parsed, timeout, failed):
        if len(found) < MOST_PLACES or place[1:] in found:
            found.setdefault(place[1:], place)
        else:
            failed.setdefault(place.text, f"more than {MOST_PLACES} places: the rest is not tried")
    return Found(tuple(found.values()), failed)


async def _asked(seeds: Seeds, timeout: float, failed: dict[str, str]) -> list[str]:
    try:
        async with asyncio.timeout(timeout) as limit:
            return _listed(await _returned(seeds) if callable(seeds) else seeds)
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        failed[_CALLABLE] = "what it waited for was cancelled"
    except Exception as error:  # noqa: BLE001 - the user's own code, and a try that failed is no end
        late = isinstance(error, TimeoutError) and limit.expired()
        failed[_CALLABLE] = f"no answer in {timeout:g} s" if late else _said(error)
    return []


def _is_cancelled() -> bool:
    """Whether it is our own task that was told to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _returned(ask: Callable[[], Iterable[str] | Awaitable[Iterable[str]]]) -> Iterable[str]:
    answer = ask()
    return await answer if inspect.isawaitable(answer) else answer


def _said(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return str(error)
    return f"raised {type(error).__name__}: {error}" if str(error) else f"raised {type(error).__name__}"


def _parsed(texts: list[str], failed: dict[str, str]) -> list[Seed]:
    seeds: dict[str, Seed] = {}
    for text in texts:
        try:
            seed = parse_seed(text)
            seeds.setdefault(seed.text, seed)
        except ConfigError as error:
            failed[str(text)] = str(error)
    return list(seeds.values())


async def _resolved(seeds: list[Seed], timeout: float, failed: dict[str, str]) -> list[Place]:
    answers: dict[str, list[tuple[str, int]]] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
            for seed in seeds:
                if seed.many:
                    group.create_task(_look_up(seed, answers, failed))
    late = [seed for seed in seeds if seed.many and seed.text not in answers | failed]
    failed |= {seed.text: f"{seed.host!r} was not resolved in {timeout:g} s" for seed in late}
    return [
        Place(seed.text, seed.name, host, port)
        for seed in seeds
        for host, port in (answers.get(seed.text, []) if seed.many else [(seed.host, seed.port)])
    ]


async def _look_up(seed: Seed, answers: dict[str, list[tuple[str, int]]], failed: dict[str, str]) -> None:
    try:
        if found := await runtime.resolve(seed.host, seed.port):
            answers[seed.text] = found
        else:
            failed[seed.text] = f"{seed.host!r} has no address"
    except OSError as error:
        failed[seed.text] = f"{seed.host!r} does not resolve: {error.strerror or error}"


# -- the environment


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment's variables say of a node; None or empty where they say nothing."""

    address: str | None = None
    """CLUSTERKIT_ADDRESS, ``name@host:port``: what others dial."""
    listen: str | None = None
    """CLUSTERKIT_LISTEN, ``host:port``: where the socket is bound, if elsewhere."""
    ring: str | None = None
    """CLUSTERKIT_RING: the id of the ring to join."""
    seeds: tuple[str, ...] = ()
    """CLUSTERKIT_SEEDS, separated by commas."""
    state_dir: str | None = None
    """CLUSTERKIT_STATE_DIR."""


def read_environment(environ: Mapping[str, str]) -> Settings:
    """Read the variables; an empty one says nothing.

    Raises `ConfigError` (`AddressError` for an address) that names the variable.

    >>> read_environment({"CLUSTERKIT_RING": "demo", "CLUSTERKIT_SEEDS": "10.0.0.1:7022, b@10.0.0.2:7022"}).seeds
    ('10.0.0.1:7022', 'b@10.0.0.2:7022')
    """
    listed = environ.get("CLUSTERKIT_SEEDS", "").split(",")
    return Settings(
        address=_variable(environ, "CLUSTERKIT_ADDRESS", NodeId.parse),
        listen=_variable(environ, "CLUSTERKIT_LISTEN", parse_host_port),
        ring=_variable(environ, "CLUSTERKIT_RING", lambda text: check_name(text, "ring id")),
        seeds=tuple(_checked("CLUSTERKIT_SEEDS", seed.strip(), parse_seed) for seed in listed if seed.strip()),
        state_dir=environ.get("CLUSTERKIT_STATE_DIR") or None,
    )


def _variable(environ: Mapping[str, str], name: str, read: Callable[[str], object]) -> str | None:
    text = environ.get(name, "").strip()
    return _checked(name, text, read) if text else None


def _checked(name: str, text: str, read: Callable[[str], object]) -> str:
    try:
        read(text)
    except ConfigError as error:
        raise type(error)(f"{name}: {error}") from None
    return text
