"""Large messages in pieces: a few on the way at a time, in order, and bounded at both ends."""

import pytest

from clusterkit.core.pieces import GotPiece, Piece, Pieces

SIZE = 32 << 10


def message(pieces: int, filler: int = 7) -> bytes:
    """A message of so many pieces."""
    return bytes([filler]) * (SIZE * pieces - 1)


def carried(sender: Pieces, receiver: Pieces, first: list[Piece]) -> list[bytes]:
    """All messages that come through when every piece does; at most four are on the way."""
    on_the_way, whole = list(first), []
    while on_the_way:
        assert len(on_the_way) <= 4
        piece = on_the_way.pop(0)
        if (message := receiver.take(piece)) is not None:
            whole.append(message)
        on_the_way += sender.got(GotPiece(piece.index))
    return whole


def test_small_messages_go_as_they_are() -> None:
    assert Pieces.fits(bytes(SIZE))
    assert not Pieces.fits(bytes(SIZE + 1))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9])
def test_a_large_one_comes_through_whole(count: int) -> None:
    sender, receiver = Pieces(), Pieces()
    assert carried(sender, receiver, sender.cut(message(count))) == [message(count)]
    assert carried(sender, receiver, sender.cut(message(2))) == [message(2)]


def test_the_next_one_waits_and_past_four_that_wait_none_is_taken() -> None:
    sender, receiver = Pieces(), Pieces()
    first = sender.cut(message(6, 0))
    for filler in range(1, 9):
        assert sender.cut(message(2, filler)) == []
    assert carried(sender, receiver, first) == [message(6, 0), *(message(2, filler) for filler in range(1, 5))]


def test_one_that_is_too_large_is_not_sent() -> None:
    assert Pieces().cut(message(129)) == []


def test_an_answer_to_nothing_sends_nothing() -> None:
    assert Pieces().got(GotPiece(0)) == []


@pytest.mark.parametrize(
    "pieces",
    [
        [Piece(1, 2, b"b")],
        [Piece(0, 2, b"a"), Piece(2, 2, b"c")],
        [Piece(0, 2, b"a"), Piece(1, 3, b"b")],
        [Piece(0, 0, b"a")],
        [Piece(0, 129, b"a")],
        [Piece(0, 1, bytes(SIZE + 1))],
    ],
)
def test_what_does_not_follow_or_is_over_the_bounds_is_dropped(pieces: list[Piece]) -> None:
    receiver = Pieces()
    assert [receiver.take(piece) for piece in pieces] == [None] * len(pieces)
    assert receiver.take(Piece(1, 2, b"b")) is None
    assert receiver.take(Piece(0, 2, b"a")) is None
    assert receiver.take(Piece(1, 2, b"b")) == b"ab"


def test_a_new_beginning_replaces_what_was_not_finished() -> None:
    receiver = Pieces()
    receiver.take(Piece(0, 3, b"x"))
    receiver.take(Piece(0, 2, b"a"))
    assert receiver.take(Piece(1, 2, b"b")) == b"ab"
