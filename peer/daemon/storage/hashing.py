"""Digests of the pieces of a file that is open: reads, hashes, several threads at once where that helps. Never writes.

BLAKE3 lets go of Python's lock while it works, and so does the read before it; each thread uses one buffer throughout.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from blake3 import blake3

from daemon.errors import FileChanged, Interrupted
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.manifest import Manifest, piece_length_for

# Read at once. Larger gains nothing, and the processor's cache holds this.
_READ_BYTES = 1 << 20
# Below so many pieces a second thread costs more than it brings.
_MIN_PIECES_PER_THREAD = 4

ByteProgress = Callable[[int], object]
CancelCheck = Callable[[], bool]


def not_cancelled() -> bool:
    """Stop never."""
    return False


def hash_file(
    disk: Disk,
    fd: int,
    size: int,
    *,
    progress: ByteProgress | None = None,
    stop: CancelCheck = not_cancelled,
    threads: int = 1,
) -> Manifest:
    """Return the manifest of the first `size` bytes. `progress` is told of each piece's length, from any thread.

    Raises:
        FileChanged: if the file ends before.
        Interrupted: if `stop` answered true.
    """
    piece_length = piece_length_for(size)
    pieces = range(-(-size // piece_length))
    digests = hash_pieces(disk, fd, size, pieces, progress=progress, stop=stop, threads=threads)
    return Manifest(size, piece_length, b"".join(digests))


def hash_pieces(
    disk: Disk,
    fd: int,
    size: int,
    pieces: Sequence[int],
    *,
    progress: ByteProgress | None = None,
    stop: CancelCheck = not_cancelled,
    threads: int = 1,
) -> list[bytes]:
    """Return the digests of some pieces of a file of `size` bytes, in the order of `pieces`. As hash_file otherwise."""
    digests = [b""] * len(pieces)
    piece_length = piece_length_for(size)
    # Threads take the next piece from here; with Python's lock that needs no other.
    turns = itertools.count()
    failed = threading.Event()

    def work() -> None:
        buffer = memoryview(bytearray(min(_READ_BYTES, max(size, 1))))
        while (turn := next(turns)) < len(pieces) and not failed.is_set():
            if stop():
                raise Interrupted("stopped while reading files: run it again")
            begin = pieces[turn] * piece_length
            length = min(piece_length, size - begin)
            try:
                digests[turn] = _digest(disk, fd, begin, length, buffer)
            except BaseException:
                failed.set()
                raise
            if progress is not None:
                progress(length)

    threads = min(threads, len(pieces) // _MIN_PIECES_PER_THREAD)
    if threads < 2:
        work()
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="hash") as pool:
            for working in [pool.submit(work) for _ in range(threads)]:
                working.result()
    return digests


def _digest(disk: Disk, fd: int, begin: int, length: int, buffer: memoryview) -> bytes:
    digest = blake3()
    done = 0
    while done < length:
        view = buffer[: min(len(buffer), length - done)]
        with storage_faults("reading a file"):
            count = disk.pread_into(fd, view, begin + done)
        if count != len(view):
            raise FileChanged("the file was cut short while it was read")
        digest.update(view)
        done += count
    return digest.digest()
