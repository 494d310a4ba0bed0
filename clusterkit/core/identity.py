"""Who and where a node is: names, addresses, incarnations.

A name is what users and peers call a node; it is unique in its ring. The address
is what others dial. The incarnation (the *boot* of docs/wire.md) tells one run of
a process from the next: a restarted node is another node with the same name.
"""

import re
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import Self

from clusterkit.errors import AddressError, ConfigError

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EPOCH_MS = 1_577_836_800_000  # 2020-01-01 UTC: 42 bits of milliseconds last until 2159
_CHANCE_BITS = 22


def check_name(name: str, what: str = "node name") -> str:
    """Return ``name``, or raise `ConfigError` that says what is wrong with it."""
    if not isinstance(name, str):
        raise ConfigError(f"{what} must be a str, not {type(name).__name__}: {name!r}")
    if NAME.fullmatch(name):
        return name
    if not name:
        raise ConfigError(f"{what} is empty: it needs 1 to 64 of A-Z a-z 0-9 . _ -")
    if len(name) > 64:
        raise ConfigError(f"{what} has {len(name)} characters, 64 are the most: {name!r}")
    bad = next(char for char in name if not NAME.fullmatch(char))
    raise ConfigError(f"{what} {name!r} has {bad!r} in it: allowed are A-Z a-z 0-9 . _ -")


def draw_incarnation(wall_ms: int, chance: int, after: int = 0) -> int:
    """Draw the incarnation of a new run: time in the high 42 bits, chance in the low 22.

    ``wall_ms`` is Unix time in milliseconds; ``chance`` gives the low bits;
    ``after`` is a known earlier incarnation that the new one must exceed
    whatever the clock says.

    >>> draw_incarnation(1_577_836_800_005, 7) == (5 << 22) | 7
    True
    >>> draw_incarnation(0, 7, after=(9 << 22) | 1) == (10 << 22) | 7
    True
    """
    high = max(wall_ms - _EPOCH_MS, (after >> _CHANCE_BITS) + 1, 1)
    if high >> 42:
        raise ConfigError("no incarnation is greater than the one known: its name cannot be used any more")
    return (high << _CHANCE_BITS) | (chance & ((1 << _CHANCE_BITS) - 1))


def is_same_start(one: int, other: int) -> bool:
    """Whether two incarnations differ in chance alone; those of two runs of one name differ in time.

    >>> is_same_start((5 << 22) | 7, (5 << 22) | 8), is_same_start(5 << 22, 6 << 22)
    (True, False)
    """
    return one >> _CHANCE_BITS == other >> _CHANCE_BITS


def parse_host_port(text: str, *, whole: str | None = None) -> tuple[str, int]:
    """Read ``host:port``, with an IPv6 host in brackets.

    >>> parse_host_port("127.0.0.1:7022")
    ('127.0.0.1', 7022)
    >>> parse_host_port("[::1]:7022")
    ('::1', 7022)
    """
    shown = text if whole is None else whole
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise AddressError(f"address {shown!r}: the '[' of the IPv6 host is never closed")
        if not rest.startswith(":"):
            raise AddressError(f"address {shown!r}: no ':port' after ']'")
        port_text = rest[1:]
        try:
            IPv6Address(host)
        except ValueError:
            raise AddressError(f"address {shown!r}: {host!r} is no IPv6 address") from None
    else:
        host, colon, port_text = text.rpartition(":")
        if not colon:
            raise AddressError(f"address {shown!r}: no port; write host:port, as 127.0.0.1:7022")
        if ":" in host:
            raise AddressError(f"address {shown!r}: an IPv6 host goes in brackets, as [::1]:7022")
        _check_host(host, shown)
    if not re.fullmatch("[0-9]{1,5}", port_text) or int(port_text) > 65535:
        raise AddressError(f"address {shown!r}: port {port_text!r} is not a number from 0 to 65535")
    return host, int(port_text)


def _check_host(host: str, shown: str) -> None:
    if not host:
        raise AddressError(f"address {shown!r}: no host before ':'")
    if len(host) > 253 or not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        raise AddressError(f"address {shown!r}: host {host!r} is neither a name nor an IP address")


def format_host_port(host: str, port: int) -> str:
    """Write ``host:port``, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True, order=True)
class NodeId:
    """One run of one node: its name, its address, its incarnation (0 = not known).

    Equal when all four are equal; a hash ring and a ring of members know it by
    ``name`` alone.

    >>> node = NodeId.parse("foo@127.0.0.1:7022")
    >>> node.name, node.host, node.port, node.incarnation
    ('foo', '127.0.0.1', 7022, 0)
    >>> str(NodeId("bar", "::1", 7023))
    'bar@[::1]:7023'
    """

    name: str
    host: str
    port: int
    incarnation: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``name@host:port``; raise `AddressError` that says what is wrong."""
        if not isinstance(text, str):
            raise AddressError(f"an address is a str like 'name@host:port', not {type(text).__name__}: {text!r}")
        name, at, rest = text.partition("@")
        if not at:
            raise AddressError(f"address {text!r}: no '@'; write name@host:port, as foo@127.0.0.1:7022")
        try:
            check_name(name)
        except ConfigError as error:
            raise AddressError(f"address {text!r}: {error}") from None
        return cls(name, *parse_host_port(rest, whole=text))

    @property
    def address(self) -> str:
        """What others dial: ``host:port``."""
        return format_host_port(self.host, self.port)

    def with_incarnation(self, incarnation: int) -> Self:
        """The same node in another run."""
        return replace(self, incarnation=incarnation)

    def __str__(self) -> str:
        return f"{self.name}@{self.address}"
