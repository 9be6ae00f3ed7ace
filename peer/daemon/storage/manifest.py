"""Manifests and the arithmetic of pieces. Pure: never reads a file, never asks a clock.

A piece is an aligned part of a file and the unit of verification. A manifest is size, piece length and the BLAKE3
digest of each piece; the BLAKE3 digest of its canonical bytes is the file's id, so whoever knows the id can check a
manifest from anybody.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from blake3 import blake3

from daemon.errors import NotVerified

PIECE_LENGTH_MIN = 1 << 20
PIECES_MAX = 1 << 16
DIGEST_LENGTH = 32
# The piece length is a power of two and travels in 32 bits.
SIZE_MAX = PIECES_MAX << 31

_MAGIC = b"p2p-manifest-v1\n"
_HEAD = struct.Struct(">QI")


def piece_length_for(size: int) -> int:
    """Return the piece length of a file: 1 MiB, doubled until at most PIECES_MAX pieces are enough.

    Raises:
        ValueError: if `size` is negative or above SIZE_MAX.
    """
    if not 0 <= size <= SIZE_MAX:
        raise ValueError(f"a file cannot have {size} bytes")
    pieces = -(-size // PIECE_LENGTH_MIN)
    return PIECE_LENGTH_MIN << max(0, (pieces - 1) // PIECES_MAX).bit_length()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file's bytes are. Made from digests of our own; what comes from others goes through `checked` or `decode`.

    `digests` holds DIGEST_LENGTH bytes for each piece, in order. `id` is 64 lower-case hex digits.
    """

    size: int
    piece_length: int
    digests: bytes = field(repr=False)
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", blake3(self.encode()).hexdigest())

    @classmethod
    def checked(cls, size: int, piece_length: int, digests: bytes, expected_id: str) -> Manifest:
        """Return the manifest, if it is the one that `expected_id` stands for.

        Raises:
            NotVerified: if a bound, the piece length, the number of digests or the id does not fit.
        """
        if not 0 <= size <= SIZE_MAX:
            raise NotVerified("the manifest's size is out of bounds")
        if piece_length != piece_length_for(size):
            raise NotVerified("the manifest's piece length does not fit its size")
        if len(digests) != DIGEST_LENGTH * -(-size // piece_length):
            raise NotVerified("the manifest's digests do not fit its size")
        manifest = cls(size, piece_length, bytes(digests))
        if manifest.id != expected_id:
            raise NotVerified("the manifest does not match its id")
        return manifest

    @classmethod
    def decode(cls, data: bytes, expected_id: str) -> Manifest:
        """Return the manifest whose canonical bytes are `data`.

        Raises:
            NotVerified: if they are not, or not those of `expected_id`.
        """
        head = len(_MAGIC) + _HEAD.size
        if not data.startswith(_MAGIC) or len(data) < head:
            raise NotVerified("these are no manifest's bytes")
        size, piece_length = _HEAD.unpack_from(data, len(_MAGIC))
        return cls.checked(size, piece_length, data[head:], expected_id)

    @classmethod
    def of_bytes(cls, data: bytes | memoryview) -> Manifest:
        """Return the manifest of a file of at most one piece."""
        if len(data) > PIECE_LENGTH_MIN:
            raise ValueError("more than one piece")
        return cls(len(data), PIECE_LENGTH_MIN, blake3(data).digest() if len(data) else b"")

    def encode(self) -> bytes:
        """Return the canonical bytes, which the id is the digest of."""
        return _MAGIC + _HEAD.pack(self.size, self.piece_length) + self.digests

    @property
    def piece_count(self) -> int:
        """How many pieces there are; none in an empty file."""
        return len(self.digests) // DIGEST_LENGTH

    def offset(self, piece: int) -> int:
        """Return where in the file a piece begins."""
        return piece * self.piece_length

    def length(self, piece: int) -> int:
        """Return how many bytes a piece has: the piece length, but for the last."""
        if not 0 <= piece < self.piece_count:
            raise IndexError(f"there is no piece {piece}")
        return min(self.piece_length, self.size - piece * self.piece_length)

    def digest(self, piece: int) -> bytes:
        """Return the digest that a piece must have."""
        if not 0 <= piece < self.piece_count:
            raise IndexError(f"there is no piece {piece}")
        return self.digests[piece * DIGEST_LENGTH : (piece + 1) * DIGEST_LENGTH]
