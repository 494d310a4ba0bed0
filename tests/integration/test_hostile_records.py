"""A hundred thousand records spoiled on their way over links that were proven: none is taken, and none after it.

Most of them between two core machines, where a socket adds nothing; the others in links to a
node that works. The suite runs a hundredth, all of it ``-m long``.
"""

from pathlib import Path
from random import Random

import pytest

from clusterkit.core.messages import pack_cast
from clusterkit.core.payload import encode
from clusterkit.core.proof import Party, prepare_cookies
from clusterkit.errors import ProtocolError
from tests.integration.hostile import AT_ONCE, besieged, swarm
from tests.integration.hostile_visits import CASTS, a_true_one, spoil
from tests.integration.hostile_wire import MUTATIONS, End, mutated, split

BETWEEN_MACHINES, ON_SOCKETS = 90_000, 10_000
SCALES = [
    pytest.param(100, id="a hundredth"),
    pytest.param(1, id="all", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
]
[COOKIE] = prepare_cookies(bytes(32))
A, B = Party("node-a", 10, "prod"), Party("node-b", 20, "prod")
MESSAGES = 4


def note(number: int, size: int = 0) -> bytes:
    return pack_cast("witness", "note", encode([number]), encode({"fill": "x" * size}) if size else None)


class Link:
    """A link that took place between A and B, with all that went over it; either end can be made anew."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        a, b = self._ends()
        hello = a.begin()
        chal = b.hear(hello)
        auth_i = a.hear(chal)
        auth_r = b.hear(auth_i)
        resume_i = a.hear(auth_r)
        resume_r = b.hear(resume_i)
        a.hear(resume_r)
        self._to_b, self._to_a = (hello, auth_i), (chal, auth_r)
        self.out = [resume_i, *self._say(a, b)]
        self.back = [resume_r, *self._say(b, a)]

    def _ends(self) -> tuple[End, End]:
        rng = Random(self._seed)
        return End.dialling(A, COOKIE, rng, expected="node-b"), End.listening(B, COOKIE, rng)

    def _say(self, end: End, other: End) -> list[bytes]:
        rng, said = Random(f"{self._seed} {end.me.name}"), list[bytes]()
        for number in range(MESSAGES):
            for _ in range(rng.choice((1, 1, 3))):
                end.queue(note(number, rng.choice((0, 0, 40, 3000))))
            said += split(end.records())
        other.hear(b"".join(said))
        assert len(other.delivered) >= MESSAGES
        return said

    def anew(self, *, listening: bool) -> End:
        """One of the ends, proven again with the same nonces, before any record."""
        a, b = self._ends()
        end, heard = (b, self._to_b) if listening else (a, self._to_a)
        if not listening:
            end.begin()
        for data in heard:
            end.hear(data)
        return end

    def taken(self, records: list[bytes], *, listening: bool) -> list[object]:
        """What an end delivers of records as they were sent."""
        end = self.anew(listening=listening)
        end.hear(b"".join(records))
        return end.delivered


@pytest.mark.parametrize("scale", SCALES)
def test_spoiled_records_and_what_follows_them_are_not_taken(scale: int) -> None:
    done = dict.fromkeys(MUTATIONS, 0)
    before = Link("the one before")
    refused = 0
    for number in range(BETWEEN_MACHINES // scale // 6):
        link = Link(f"link {number}")
        rng = Random(number)
        for listening in (True, False) * 3:
            true, back = (link.out, link.back) if listening else (link.back, link.out)
            others = before.out if listening else before.back
            name, data, good = mutated(rng, true, back, others)
            end = link.anew(listening=listening)
            end.hear(data)
            assert end.delivered == link.taken(true[:good], listening=listening), (number, name)
            assert end.error is None or isinstance(end.error, ProtocolError), (number, name)
            refused += end.error is not None
            done[name] += 1
        before = link
    assert min(done.values()) > sum(done.values()) / 50
    assert refused > 0.8 * sum(done.values())  # the others wait for the end of a record that is said to be longer


@pytest.mark.parametrize("scale", SCALES)
async def test_a_node_that_works_takes_none_of_them(scale: int, tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        others, back = await a_true_one(siege)
        names = [f"caller-{number}" for number in range(AT_ONCE)]
        free, sent = list(names), [CASTS]

        async def one(number: int) -> None:
            name = free.pop()  # another incarnation of a name would have to wait for the link of the one before
            sent.append(await spoil(siege, name, others, back))
            free.append(name)

        await swarm(range(ON_SOCKETS // scale), one)
        await siege.held(notes=sum(sent), callers=("before", *names))
