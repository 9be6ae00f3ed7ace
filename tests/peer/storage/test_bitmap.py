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
def test_a_bitmap_behaves_like_a_set(case: tuple[int, set[int]]) -> None:
    pieces, numbers = case
    bitmap = made(pieces, numbers)
    assert list(bitmap.present()) == sorted(numbers)
    assert list(bitmap.missing()) == sorted(set(range(pieces)) - numbers)
    assert bitmap.count == len(numbers)
    assert bitmap.complete == (len(numbers) == pieces)
    assert all((number in bitmap) == (number in numbers) for number in range(-2, pieces + 2))


@given(sets(), st.lists(st.integers(0, 2**33), max_size=20))
def test_mask_of_ignores_repeated_and_unknown_pieces(case: tuple[int, set[int]], named: list[int]) -> None:
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
def test_bytes_have_the_protocols_bit_order_and_decode_to_the_same_bitmap(case: tuple[int, set[int]]) -> None:
    pieces, numbers = case
    data = made(pieces, numbers).to_bytes()
    assert len(data) == (pieces + 7) // 8
    for number in range(pieces):
        assert bool(data[number // 8] >> (7 - number % 8) & 1) == (number in numbers)
    assert Bitmap.from_bytes(pieces, data) == made(pieces, numbers)
    assert [made(pieces, numbers).byte_at(index) for index in range(len(data))] == list(data)


@given(st.integers(0, 100), st.binary(max_size=20))
def test_bytes_with_a_wrong_length_or_bits_beyond_the_last_piece_are_refused(pieces: int, data: bytes) -> None:
    padding = -pieces % 8
    fits = len(data) == (pieces + 7) // 8 and not (data and data[-1] & (1 << padding) - 1)
    if fits:
        assert Bitmap.from_bytes(pieces, data).to_bytes() == data
    else:
        with pytest.raises(ValueError, match=r"bits|length"):
            Bitmap.from_bytes(pieces, data)


def test_pieces_that_do_not_exist_are_refused() -> None:
    for piece in (-1, 3, 2**70):
        with pytest.raises(IndexError):
            Bitmap(3).add(piece)
        with pytest.raises(IndexError):
            Bitmap(3).discard(piece)
    with pytest.raises(ValueError, match="beyond"):
        Bitmap(3, 8)


def test_a_full_bitmap_and_an_empty_file_are_complete() -> None:
    assert Bitmap.full(17).complete
    assert Bitmap(0).complete
    assert not Bitmap(1).complete
