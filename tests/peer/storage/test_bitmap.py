"""Claims about bitmaps, against a set of numbers as the model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.storage.bitmap import Bitmap, mask_of


@st.composite
def sets(draw: st.DrawFn) -> tuple[int, set[int]]:
    pieces = draw(st.integers(0, 300))
    return pieces, draw(st.sets(st.integers(0, max(0, pieces - 1)), max_size=pieces)) if pieces else set()


def made(pieces: int, numbers: set[int]) -> Bitmap:
    bitmap = Bitmap(pieces)
    for number in numbers:
        bitmap.add(number)
    return bitmap


@given(sets())
def test_a_bitmap_holds_what_a_set_would(case: tuple[int, set[int]]) -> None:
    pieces, numbers = case
    bitmap = made(pieces, numbers)
    assert list(bitmap.present()) == sorted(numbers)
    assert list(bitmap.missing()) == sorted(set(range(pieces)) - numbers)
    assert bitmap.count == len(numbers)
    assert bitmap.complete == (len(numbers) == pieces)
    assert all((number in bitmap) == (number in numbers) for number in range(-2, pieces + 2))


@given(sets(), st.lists(st.integers(0, 2**33), max_size=20))
def test_numbers_become_a_set_whatever_else_is_named_and_however_often(
    case: tuple[int, set[int]], named: list[int]
) -> None:
    pieces, numbers = case
    beyond = [pieces + number for number in named]
    assert mask_of([*beyond, *numbers, *numbers], pieces) == made(pieces, numbers).mask


@given(sets(), st.data())
def test_a_discarded_piece_is_missing(case: tuple[int, set[int]], data: st.DataObject) -> None:
    pieces, numbers = case
    if numbers:
        bitmap = made(pieces, numbers)
        copy = bitmap.copy()
        gone = data.draw(st.sampled_from(sorted(numbers)))
        bitmap.discard(gone)
        assert set(bitmap.present()) == numbers - {gone}
        assert gone in copy


@given(sets())
def test_bytes_have_the_bit_order_of_the_protocol_and_come_back(case: tuple[int, set[int]]) -> None:
    pieces, numbers = case
    data = made(pieces, numbers).to_bytes()
    assert len(data) == (pieces + 7) // 8
    for number in range(pieces):
        assert bool(data[number // 8] >> (7 - number % 8) & 1) == (number in numbers)
    assert Bitmap.from_bytes(pieces, data) == made(pieces, numbers)
    assert [made(pieces, numbers).byte_at(index) for index in range(len(data))] == list(data)


@given(st.integers(0, 100), st.binary(max_size=20))
def test_bytes_of_another_length_or_with_bits_beyond_the_last_piece_are_refused(pieces: int, data: bytes) -> None:
    padding = -pieces % 8
    fits = len(data) == (pieces + 7) // 8 and not (data and data[-1] & (1 << padding) - 1)
    if fits:
        assert Bitmap.from_bytes(pieces, data).to_bytes() == data
    else:
        with pytest.raises(ValueError, match=r"bits|length"):
            Bitmap.from_bytes(pieces, data)


def test_pieces_that_are_not_are_refused() -> None:
    for piece in (-1, 3, 2**70):
        with pytest.raises(IndexError):
            Bitmap(3).add(piece)
        with pytest.raises(IndexError):
            Bitmap(3).discard(piece)
    with pytest.raises(ValueError, match="beyond"):
        Bitmap(3, 8)


def test_a_full_bitmap_is_whole_and_so_is_that_of_nothing() -> None:
    assert Bitmap.full(17).complete
    assert Bitmap(0).complete
    assert not Bitmap(1).complete
