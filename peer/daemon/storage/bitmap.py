"""Which pieces of a file are there. Pure, and not safe to change from two threads at once.

On the wire and on disk piece i is bit 7 - i % 8 of byte i // 8, as in BitTorrent. In memory it is bit i of one integer,
so that whole sets of pieces are joined, compared and counted at the speed of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_BITS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


class Bitmap:
    """A set of piece numbers below `pieces`."""

    __slots__ = ("mask", "piece_count")

    def __init__(self, piece_count: int, mask: int = 0) -> None:
        if piece_count < 0 or mask < 0 or mask >> piece_count:
            raise ValueError("bits beyond the last piece")
        self.piece_count = piece_count
        # Bit i is piece i.
        self.mask = mask

    @classmethod
    def full(cls, piece_count: int) -> Bitmap:
        """Return the bitmap of a whole file."""
        return cls(piece_count, (1 << piece_count) - 1)

    @classmethod
    def from_bytes(cls, piece_count: int, data: bytes) -> Bitmap:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: if the length is wrong or a bit beyond the last piece is set.
        """
        if len(data) != (piece_count + 7) // 8:
            raise ValueError("the bitmap's length does not fit the number of pieces")
        return cls(piece_count, int.from_bytes(data.translate(_MIRRORED), "little"))

    def to_bytes(self) -> bytes:
        """Return one bit for each piece, the first in the highest bit, padded with zero bits to whole bytes."""
        return self.mask.to_bytes((self.piece_count + 7) // 8, "little").translate(_MIRRORED)

    def byte_at(self, index: int) -> int:
        """Return one byte of `to_bytes`."""
        return _MIRRORED[self.mask >> 8 * index & 0xFF]

    def add(self, piece: int) -> None:
        """Note that a piece is there."""
        self.mask |= self._bit(piece)

    def discard(self, piece: int) -> None:
        """Note that a piece is not there."""
        self.mask &= ~self._bit(piece)

    def __contains__(self, piece: int) -> bool:
        return 0 <= piece < self.piece_count and bool(self.mask >> piece & 1)

    @property
    def count(self) -> int:
        """How many pieces are there."""
        return self.mask.bit_count()

    @property
    def complete(self) -> bool:
        """Whether all are."""
        return self.mask == (1 << self.piece_count) - 1

    def present(self) -> Iterator[int]:
        """Yield the pieces that are there now, in order."""
        return _numbers(self.mask)

    def missing(self) -> Iterator[int]:
        """Yield the pieces that are not there now, in order."""
        return _numbers(self.mask ^ (1 << self.piece_count) - 1)

    def copy(self) -> Bitmap:
        """Return another bitmap of the same pieces."""
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
    """Return the set of these pieces as one integer, bit i for piece i; numbers of `pieces` and more are left out.

    They may come from a stranger, in any order and repeated, but are not negative.
    """
    bits = bytearray((piece_count + 7) // 8)
    for piece in numbers:
        if piece < piece_count:
            bits[piece >> 3] |= 1 << (piece & 7)
    return int.from_bytes(bits, "little")


def _numbers(mask: int) -> Iterator[int]:
    # Byte by byte: taking the lowest bit off an integer of 65,536 bits would copy it once for each.
    for index, byte in enumerate(mask.to_bytes((mask.bit_length() + 7) // 8, "little")):
        if byte:
            for bit in _BITS[byte]:
                yield 8 * index + bit
