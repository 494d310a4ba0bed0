"""Large ring messages in pieces, a few at a time: a state of thousands of names fits no outbox at once.

A message of more than 32 KiB goes as pieces. Four are sent; each that comes is
acknowledged and lets the next one go. The next large message to the same peer waits
until this one is through; past four that wait it is not sent, and digests repair that.
Pieces come in order, or not at all when the link was lost, and then both ends begin anew.
"""

from collections import deque
from dataclasses import dataclass

_SIZE = 32 << 10
_AHEAD = 4
_MOST = 128  # pieces of one message: 4 MiB, the state of 40,000 names
_WAITING = 4  # messages


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of a packed message; ``index`` counts from 0."""

    index: int
    count: int
    body: bytes


@dataclass(frozen=True, slots=True)
class GotPiece:
    """A piece came."""

    index: int


class Pieces:
    """The large messages to and from one peer.

    >>> pieces, whole = Pieces(), bytes(150_000)
    >>> first = pieces.cut(whole)
    >>> len(first), first[0].count
    (4, 5)
    >>> other = Pieces()
    >>> [other.take(piece) for piece in first]
    [None, None, None, None]
    >>> [other.take(piece) == whole for piece in pieces.got(GotPiece(0))]
    [True]
    """

    def __init__(self) -> None:
        self._sending: deque[list[Piece]] = deque()
        self._came: list[bytes] = []
        self._count = 0

    @staticmethod
    def fits(packed: bytes) -> bool:
        """Whether a message goes as it is."""
        return len(packed) <= _SIZE

    def cut(self, packed: bytes) -> list[Piece]:
        """Cut a message, and return what to send now: nothing while another is on its way."""
        bodies = [packed[at : at + _SIZE] for at in range(0, len(packed), _SIZE)]
        if len(bodies) > _MOST or len(self._sending) > _WAITING:
            return []
        self._sending.append([Piece(index, len(bodies), body) for index, body in enumerate(bodies)])
        return self._sending[0][:_AHEAD] if len(self._sending) == 1 else []

    def got(self, got: GotPiece) -> list[Piece]:
        """Return what to send next, when a piece has come there."""
        if not self._sending:
            return []
        now = self._sending[0]
        if got.index < len(now) - 1:
            return now[got.index + _AHEAD :][:1]
        self._sending.popleft()
        return self._sending[0][:_AHEAD] if self._sending else []

    def take(self, piece: Piece) -> bytes | None:
        """Take a piece; return the message when it was the last one. What does not follow on the one before is dropped."""
        if piece.index == 0:
            self._came, self._count = [], piece.count
        follows = piece.index == len(self._came) and piece.count == self._count
        if not follows or not 1 <= piece.count <= _MOST or len(piece.body) > _SIZE:
            self._came, self._count = [], 0
            return None
        self._came.append(piece.body)
        if len(self._came) < self._count:
            return None
        whole, self._came, self._count = b"".join(self._came), [], 0
        return whole
