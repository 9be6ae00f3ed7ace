"""Zeros that need no disk space: which pieces of a file are only zeros, and writes that leave holes in their place.

A hole reads as zeros. A file system without holes stores the zeros, and nothing else changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from blake3 import blake3

from daemon.storage.bitmap import Bitmap
from daemon.storage.disk import Disk
from daemon.storage.manifest import PIECE_LENGTH_MIN, Manifest

# Bytes of a block: most file systems allocate no less.
_BLOCK = 4096
# Fewer zeros than this are written: many small holes would fragment the file.
MIN_HOLE_BYTES = 16 << 10
_ZERO_BLOCK = bytes(_BLOCK)
_ZERO_SAMPLES = re.compile(rb"\0{%d,}" % (MIN_HOLE_BYTES // _BLOCK))


# Zero pieces are known in files with pieces up to this length, that is up to 4 TiB: the digest of so many zeros must be
# computed, and another peer chooses the length.
MAX_PIECE_LENGTH = 64 << 20


@lru_cache(maxsize=16)
def zero_digest(length: int) -> bytes:
    """Return the digest of a piece of `length` zeros."""
    digest = blake3()
    zeros = bytes(min(length, PIECE_LENGTH_MIN))
    for offset in range(0, length, PIECE_LENGTH_MIN):
        digest.update(zeros[: length - offset])
    return digest.digest()


def zero_pieces(manifest: Manifest) -> Bitmap:
    """Return the pieces of a file that are only zeros, by their digests."""
    pieces = Bitmap(manifest.piece_count)
    if manifest.piece_count and manifest.piece_length <= MAX_PIECE_LENGTH:
        last = manifest.piece_count - 1
        if manifest.digest(last) == zero_digest(manifest.length(last)):
            pieces.add(last)
        zeros = zero_digest(manifest.piece_length)
        # Most files have none, and one search in all digests is fast.
        if zeros in manifest.digests:
            for piece in range(last):
                if manifest.digest(piece) == zeros:
                    pieces.add(piece)
    return pieces


def byte_count(manifest: Manifest, pieces: Bitmap) -> int:
    """Return the bytes of some pieces of a file together."""
    return sum(manifest.length(piece) for piece in pieces.present())


def data_bytes(manifest: Manifest) -> int:
    """Return the disk space that a file needs: the bytes of the pieces that are not only zeros.

    All bytes of a file of one piece count: thousands of them arrive at once, and they need little.
    """
    if manifest.piece_count <= 1:
        return manifest.size
    return manifest.size - byte_count(manifest, zero_pieces(manifest))


def data_ranges(disk: Disk, fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each range of the first `size` bytes of an open file that is not a hole.

    Raises:
        OSError: if the disk failed.
    """
    end = 0
    while end < size and (found := disk.find_data(fd, end)) is not None:
        begin, end = found
        if begin < size:
            yield begin, min(end, size)


def write_sparse(
    disk: Disk, fd: int, buffers: Sequence[bytes | memoryview], offset: int, *, overwrite: bool = False
) -> None:
    """Write buffers, one after the other, and leave out long runs of zeros. The file is not extended to a hole's end.

    Args:
        disk: the file operations to use.
        fd: the descriptor of the file.
        buffers: the bytes.
        offset: where the first buffer begins in the file.
        overwrite: whether the file may have other bytes, or reserved space, there. Otherwise it must be empty there.

    Raises:
        OSError: if the disk failed.
    """
    unwritten: list[memoryview] = []
    start = at = offset
    for buffer in buffers:
        view = memoryview(buffer)
        done = 0
        for begin, end in _zero_runs(view, at):
            disk.pwrite(fd, [*unwritten, view[done:begin]], start)
            if overwrite and not disk.punch_hole(fd, at + begin, end - begin):
                disk.pwrite(fd, [view[begin:end]], at + begin)
            unwritten.clear()
            start, done = at + end, end
        unwritten.append(view[done:])
        at += len(view)
    disk.pwrite(fd, unwritten, start)


def _zero_runs(view: memoryview, offset: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each run of zeros in a buffer that may become a hole.

    Args:
        view: the buffer.
        offset: where it begins in the file; holes are aligned there.
    """
    if len(view) < MIN_HOLE_BYTES:
        return
    first = -offset % _BLOCK
    whole = (len(view) - first) // _BLOCK
    # Every run is so long that it has one of these bytes: for other data than zeros this is all that is looked at.
    if 0 not in bytes(view[first : first + whole * _BLOCK : MIN_HOLE_BYTES]):
        return
    samples = bytes(view[first : first + whole * _BLOCK : _BLOCK])
    for found in _ZERO_SAMPLES.finditer(samples):
        begin = found.start()
        for block in range(found.start(), found.end() + 1):
            at = first + block * _BLOCK
            if block < found.end() and bytes(view[at : at + _BLOCK]) == _ZERO_BLOCK:
                continue
            if (block - begin) * _BLOCK >= MIN_HOLE_BYTES:
                yield first + begin * _BLOCK, at
            begin = block + 1
