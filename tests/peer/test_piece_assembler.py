"""Pieces from blocks: whole when all of it is here, and nothing is taken that was not asked for."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import BadUsage
from daemon.protocol.frames import Block
from daemon.swarm.pieces import PieceAssembler

LENGTH = 40_000
PIECE = bytes(range(250)) * (LENGTH // 250)


@pytest.fixture
def gathering() -> PieceAssembler:
    return PieceAssembler(lambda piece: LENGTH)


def blocks(piece: int, cuts: Iterable[int]) -> list[Block]:
    """A piece, cut at these places."""
    edges = [0, *sorted(set(cuts) - {0, LENGTH}), LENGTH]
    return [Block(piece, a, PIECE[a:b]) for a, b in itertools.pairwise(edges)]


@given(st.lists(st.integers(1, LENGTH - 1), max_size=12), st.lists(st.integers(1, LENGTH - 1), max_size=12))
def test_a_piece_is_whole_with_its_last_block_however_it_was_cut(cuts: list[int], others: list[int]) -> None:
    gathering = PieceAssembler(lambda piece: LENGTH)
    gathering.expect(3)
    gathering.expect(4)
    for piece, cut in ((4, cuts), (3, others)):
        *first, last = blocks(piece, cut)
        assert all(gathering.add_block(block) is None for block in first)
        data = gathering.add_block(last)
        assert data is not None
        assert b"".join(data) == PIECE


def test_a_piece_that_begins_before_another_is_whole_is_refused(gathering: PieceAssembler) -> None:
    gathering.expect(3)
    gathering.expect(4)
    begun, end = blocks(3, [20_000])
    gathering.add_block(begun)
    with pytest.raises(BadUsage, match="before the previous one was complete"):
        gathering.add_block(Block(4, 0, PIECE))
    assert b"".join(gathering.add_block(end) or ()) == PIECE
    assert gathering.add_block(Block(4, 0, PIECE)) == [PIECE]


@pytest.mark.parametrize(
    ("offset", "size"),
    [(1, 10), (LENGTH, 1), (0, LENGTH + 1), (0, 0)],
    ids=["gap", "beyond", "too long", "empty"],
)
def test_a_block_that_does_not_fit_is_refused(gathering: PieceAssembler, offset: int, size: int) -> None:
    gathering.expect(0)
    with pytest.raises(BadUsage, match="does not fit"):
        gathering.add_block(Block(0, offset, bytes(size)))


def test_a_block_that_comes_twice_is_refused(gathering: PieceAssembler) -> None:
    gathering.expect(0)
    gathering.add_block(Block(0, 0, bytes(10)))
    with pytest.raises(BadUsage, match="does not fit"):
        gathering.add_block(Block(0, 0, bytes(10)))


def test_what_nobody_asked_for_is_refused(gathering: PieceAssembler) -> None:
    gathering.expect(0)
    with pytest.raises(BadUsage, match="not requested"):
        gathering.add_block(Block(1, 0, PIECE))
    assert gathering.add_block(Block(0, 0, PIECE)) == [PIECE]
    with pytest.raises(BadUsage, match="not requested"):
        gathering.add_block(Block(0, 0, PIECE))


def test_a_piece_asked_for_again_after_a_cancellation_may_begin_anew(gathering: PieceAssembler) -> None:
    gathering.expect(0)
    gathering.add_block(Block(0, 0, bytes(10)))
    gathering.expect(0)
    for block in blocks(0, [20_000]):
        data = gathering.add_block(block)
    assert data is not None
    assert b"".join(data) == PIECE
    with pytest.raises(BadUsage):
        gathering.add_block(Block(0, 0, PIECE))


def test_a_piece_that_was_sent_before_the_cancellation_came_may_be_sent_again(gathering: PieceAssembler) -> None:
    gathering.expect(0)
    gathering.expect(0)
    for _ in range(2):
        taken = [gathering.add_block(block) for block in blocks(0, [20_000])]
        assert taken[0] is None and b"".join(taken[1] or ()) == PIECE
    with pytest.raises(BadUsage, match="not requested"):
        gathering.add_block(Block(0, 0, PIECE))


@pytest.mark.parametrize("length", [1, 1024, 16_384])
def test_a_small_piece_may_come_in_a_few_blocks(length: int) -> None:
    gathering = PieceAssembler(lambda piece: length)
    gathering.expect(0)
    cut = min(16, length)
    for at in range(cut - 1):
        assert gathering.add_block(Block(0, at, b"x")) is None
    assert gathering.add_block(Block(0, cut - 1, bytes(length - cut + 1))) is not None


def test_crumbs_are_refused_before_they_cost_much(gathering: PieceAssembler) -> None:
    gathering.expect(0)
    crumbs = (Block(0, offset, PIECE[offset : offset + 1]) for offset in range(LENGTH))
    with pytest.raises(BadUsage, match="too many small blocks"):
        all(gathering.add_block(crumb) is None for crumb in crumbs)
    assert next(crumbs).offset < 100
