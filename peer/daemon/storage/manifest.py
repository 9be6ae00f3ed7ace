"""Manifests and the arithmetic of pieces. Pure: never reads a file, never asks a clock.

A piece is an aligned part of a file and the unit of verification. A manifest has the size, the piece length and the
BLAKE3 digest of each piece. The BLAKE3 digest of its canonical bytes is the file's id. So a peer that knows the id can
check a manifest from any source.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from blake3 import blake3

from daemon.errors import NotVerified

# Bytes.
PIECE_LENGTH_MIN = 1 << 20
PIECES_MAX = 1 << 16
# Bytes of one BLAKE3 digest.
DIGEST_LENGTH = 32
# Bytes. The piece length is a power of two and is sent as 32 bits.
SIZE_MAX = PIECES_MAX << 31

_MAGIC = b"p2p-manifest-v1\n"
# Size and piece length.
_HEAD = struct.Struct(">QI")


def piece_length_for(size: int) -> int:
    """Return the piece length in bytes of a file of `size` bytes: 1 MiB, doubled until PIECES_MAX pieces are enough.

    Raises:
        ValueError: if `size` is negative or above SIZE_MAX.
    """
    if not 0 <= size <= SIZE_MAX:
        raise ValueError(f"a file cannot have {size} bytes")
    pieces = -(-size // PIECE_LENGTH_MIN)
    return PIECE_LENGTH_MIN << max(0, (pieces - 1) // PIECES_MAX).bit_length()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The size, piece length and piece digests of a file, and the id that they have.

    The constructor trusts its arguments: it is for digests that this process computed. A manifest from a peer or from
    the disk is built by `checked` or `decode`.
    """

    # Bytes.
    size: int
    piece_length: int
    # DIGEST_LENGTH bytes for each piece, in order.
    digests: bytes = field(repr=False)
    # 64 lower-case hex digits.
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", blake3(self.encode()).hexdigest())

    @classmethod
    def checked(cls, size: int, piece_length: int, digests: bytes, expected_id: str) -> Manifest:
        """Return the manifest with these values, after a check that its id is `expected_id`.

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
        """Return the manifest whose canonical bytes, see `encode`, are `data`.

        Raises:
            NotVerified: if `data` is no manifest, or its id is not `expected_id`.
        """
        head = len(_MAGIC) + _HEAD.size
        if not data.startswith(_MAGIC) or len(data) < head:
            raise NotVerified("the data is not a manifest")
        size, piece_length = _HEAD.unpack_from(data, len(_MAGIC))
        return cls.checked(size, piece_length, data[head:], expected_id)

    @classmethod
    def of_bytes(cls, data: bytes | memoryview) -> Manifest:
        """Compute the manifest of a small file with this content.

        Raises:
            ValueError: if `data` is longer than PIECE_LENGTH_MIN.
        """
        if len(data) > PIECE_LENGTH_MIN:
            raise ValueError("more than one piece")
        return cls(len(data), PIECE_LENGTH_MIN, blake3(data).digest() if len(data) else b"")

    def encode(self) -> bytes:
        """Return the canonical bytes: a magic word, size and piece length in network byte order, and the digests.

        The id is their BLAKE3 digest.
        """
        return _MAGIC + _HEAD.pack(self.size, self.piece_length) + self.digests

    @property
    def piece_count(self) -> int:
        """The number of pieces; 0 for an empty file."""
        return len(self.digests) // DIGEST_LENGTH

    def offset(self, piece: int) -> int:
        """Return the offset of a piece in the file, in bytes."""
        return piece * self.piece_length

    def length(self, piece: int) -> int:
        """Return the length of a piece in bytes: the piece length, except for the last piece.

        Raises:
            IndexError: if the file has no such piece.
        """
        if not 0 <= piece < self.piece_count:
            raise IndexError(f"there is no piece {piece}")
        return min(self.piece_length, self.size - piece * self.piece_length)

    def digest(self, piece: int) -> bytes:
        """Return the expected digest of a piece.

        Raises:
            IndexError: if the file has no such piece.
        """
        if not 0 <= piece < self.piece_count:
            raise IndexError(f"there is no piece {piece}")
        return self.digests[piece * DIGEST_LENGTH : (piece + 1) * DIGEST_LENGTH]
