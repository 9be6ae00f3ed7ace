"""The set of pieces of a file that are present. Pure, and not safe to change from two threads at once.

On the wire and on disk piece i is bit 7 - i % 8 of byte i // 8, as in BitTorrent (BEP 3). In memory it is bit i of one
integer, so union, comparison and count of sets run at machine speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# Bytes with their bits in reverse order.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# The numbers of the bits that are set in each byte.
_BITS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


class Bitmap:
    """A set of piece numbers from 0 up to, not including, `piece_count`.

    Args:
        piece_count: the number of pieces of the file.
        mask: the pieces that are present; bit i is piece i.

    Raises:
        ValueError: if a bit beyond the last piece is set.
    """

    __slots__ = ("mask", "piece_count")

    def __init__(self, piece_count: int, mask: int = 0) -> None:
        if piece_count < 0 or mask < 0 or mask >> piece_count:
            raise ValueError("bits beyond the last piece")
        self.piece_count = piece_count
        self.mask = mask

    @classmethod
    def full(cls, piece_count: int) -> Bitmap:
        """Return the bitmap of a complete file."""
        return cls(piece_count, (1 << piece_count) - 1)

    @classmethod
    def from_bytes(cls, piece_count: int, data: bytes) -> Bitmap:
        """Decode the result of `to_bytes`.

        Raises:
            ValueError: if the length is wrong or a bit beyond the last piece is set.
        """
        if len(data) != (piece_count + 7) // 8:
            raise ValueError("the bitmap's length does not fit the number of pieces")
        return cls(piece_count, int.from_bytes(data.translate(_MIRRORED), "little"))

    def to_bytes(self) -> bytes:
        """Return one bit for each piece, the first in the highest bit, padded with zero bits to a full byte."""
        return self.mask.to_bytes((self.piece_count + 7) // 8, "little").translate(_MIRRORED)

    def byte_at(self, index: int) -> int:
        """Return byte number `index` of `to_bytes`, without encoding the other bytes."""
        return _MIRRORED[self.mask >> 8 * index & 0xFF]

    def add(self, piece: int) -> None:
        """Record a piece as present.

        Raises:
            IndexError: if the file has no such piece.
        """
        self.mask |= self._bit(piece)

    def discard(self, piece: int) -> None:
        """Record a piece as missing.

        Raises:
            IndexError: if the file has no such piece.
        """
        self.mask &= ~self._bit(piece)

    def __contains__(self, piece: int) -> bool:
        return 0 <= piece < self.piece_count and bool(self.mask >> piece & 1)

    @property
    def count(self) -> int:
        """The number of pieces that are present."""
        return self.mask.bit_count()

    @property
    def complete(self) -> bool:
        """Whether every piece is present."""
        return self.mask == (1 << self.piece_count) - 1

    def present(self) -> Iterator[int]:
        """Yield the present pieces in ascending order, as they are at the time of the call."""
        return _bit_numbers(self.mask)

    def missing(self) -> Iterator[int]:
        """Yield the missing pieces in ascending order, as they are at the time of the call."""
        return _bit_numbers(self.mask ^ (1 << self.piece_count) - 1)

    def copy(self) -> Bitmap:
        """Return an independent bitmap with the same pieces."""
        return Bitmap(self.piece_count, self.mask)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bitmap) and (self.piece_count, self.mask) == (other.piece_count, other.mask)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Bitmap({self.count} of {self.piece_count})"

    def _bit(self, piece: int) -> int:
        if not 0 <= piece < self.piece_count:
            raise IndexError(f"there is no piece {piece}")
        return 1 << piece


def mask_of(numbers: Iterable[int], piece_count: int) -> int:
    """Return a set of pieces as one integer: bit i is piece i.

    Args:
        numbers: piece numbers from another peer, in any order, also repeated; none is negative. Numbers from
            `piece_count` upwards are ignored.
        piece_count: the number of pieces of the file.
    """
    bits = bytearray((piece_count + 7) // 8)
    for piece in numbers:
        if piece < piece_count:
            bits[piece >> 3] |= 1 << (piece & 7)
    return int.from_bytes(bits, "little")


def _bit_numbers(mask: int) -> Iterator[int]:
    # Byte by byte: clearing the lowest bit of an integer of 65,536 bits would copy the integer for each bit.
    for index, byte in enumerate(mask.to_bytes((mask.bit_length() + 7) // 8, "little")):
        if byte:
            for bit in _BITS[byte]:
                yield 8 * index + bit
