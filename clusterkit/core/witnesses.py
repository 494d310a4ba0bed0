"""The members that can be asked, and the order in which observers speak.

All observers of one fact come to it at the same moment, and N * N messages would say it. So
they speak in an order that all of them can compute: by a hash of who it is about and who
speaks, another order for each target, so that no member speaks more than others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from clusterkit.core.ring_entry import Claim, Rank

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - only the name of the argument's type


class Beliefs(Protocol):
    """Who holds the claims."""

    def claim(self, name: str) -> Claim:
        """Read what is believed of a member, this one included."""
        ...


class Witnesses:
    """The other members, as far as they are believed alive. Everything here is O(n).

    >>> from random import Random
    >>> class Believing(dict[str, Claim]):
    ...     def claim(self, name: str) -> Claim:
    ...         return self[name]
    >>> claims = Believing(b=Claim(7, 0, Rank.ALIVE, True), c=Claim(7, 0, Rank.DOWN, True))
    >>> list(Witnesses(["b", "c"], claims, Random(1)).alive(but="x"))
    ['b']
    """

    def __init__(self, members: Iterable[str], beliefs: Beliefs, rng: Random) -> None:
        self._members = members
        self._beliefs = beliefs
        self._rng = rng

    def alive(self, but: str) -> Iterator[str]:
        """All of them but one, in the order that they were added."""
        return (name for name in self._members if name != but and self._beliefs.claim(name).rank is Rank.ALIVE)

    def some(self, most: int, but: str) -> list[str]:
        """Draw at most so many of them."""
        alive = list(self.alive(but))
        return self._rng.sample(alive, min(most, len(alive)))

    def turn(self, speaker: str, target: str) -> tuple[int, int]:
        """How many speak about ``target`` before ``speaker``, and of how many it is one."""
        own = _place(target, speaker)
        places = [_place(target, other) for other in self.alive(target)]
        return sum(place < own for place in places), len(places) + 1


def _place(target: str, speaker: str) -> bytes:
    return blake2b(f"{target}\n{speaker}".encode(), digest_size=8).digest()
