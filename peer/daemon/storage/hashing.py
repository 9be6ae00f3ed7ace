"""BLAKE3 digests of the pieces of an open file, with several threads where that is faster. Never writes.

BLAKE3 and the read before it release Python's global lock, so threads run in parallel. Each thread reuses one buffer.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from blake3 import blake3

from common.control_messages import Hint
from daemon.errors import FileChanged, Interrupted
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.manifest import Manifest, piece_length_for
from daemon.storage.sparse import zero_digest

# Bytes of one read. More is not faster, and this fits the processor's cache.
_READ_BYTES = 1 << 20
# With fewer pieces for each thread, starting the thread costs more than it saves.
_MIN_PIECES_PER_THREAD = 4

# Called with a number of bytes that were just hashed or copied, from any thread.
ByteProgress = Callable[[int], object]
# Returns True once the work should be abandoned.
CancelCheck = Callable[[], bool]


def not_cancelled() -> bool:
    """Return False: a CancelCheck for work that is never cancelled."""
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
    """Return the manifest of the first `size` bytes of an open file.

    Args:
        disk: the file operations to use.
        fd: the descriptor of the file; its position does not matter.
        size: the number of bytes to hash.
        progress: called with the length of each piece that was hashed, from any thread.
        stop: asked before each piece; hashing ends when it returns True.
        threads: the most threads to use.

    Raises:
        FileChanged: if the file is shorter than `size`.
        Interrupted: if `stop` returned True.
        StorageFault: if the disk fails.
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
    """Return the digests of some pieces of an open file, in the order of `pieces`.

    Args:
        disk: the file operations to use.
        fd: the descriptor of the file; its position does not matter.
        size: the size of the complete file in bytes, from which the piece length follows.
        pieces: the numbers of the pieces to hash.
        progress: called with the length of each piece that was hashed, from any thread.
        stop: asked before each piece; hashing ends when it returns True.
        threads: the most threads to use.

    Raises:
        FileChanged: if the file is shorter than `size`.
        Interrupted: if `stop` returned True.
        StorageFault: if the disk fails.
    """
    digests = [b""] * len(pieces)
    piece_length = piece_length_for(size)
    with storage_faults("reading a file"):
        status = disk.fstat(fd)
    # st_blocks counts units of 512 bytes.
    has_holes = 512 * status.st_blocks < min(size, status.st_size)
    # The threads share this counter of positions in `pieces`; Python's global lock makes `next` atomic.
    positions = itertools.count()
    failed = threading.Event()

    def work() -> None:
        buffer = memoryview(bytearray(min(_READ_BYTES, max(size, 1))))
        while (position := next(positions)) < len(pieces) and not failed.is_set():
            if stop():
                raise Interrupted("stopped while reading files", hint=Hint.REPEAT)
            offset = pieces[position] * piece_length
            length = min(piece_length, size - offset)
            try:
                if has_holes and _is_hole(disk, fd, offset, length):
                    digests[position] = zero_digest(length)
                else:
                    digests[position] = _digest(disk, fd, offset, length, buffer)
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
            for future in [pool.submit(work) for _ in range(threads)]:
                future.result()
    return digests


def _is_hole(disk: Disk, fd: int, offset: int, length: int) -> bool:
    """Return whether the file has only zeros in a range, none of which need be read."""
    with storage_faults("reading a file"):
        if disk.fstat(fd).st_size < offset + length:
            return False
        found = disk.find_data(fd, offset)
    return found is None or found[0] >= offset + length


def _digest(disk: Disk, fd: int, offset: int, length: int, buffer: memoryview) -> bytes:
    digest = blake3()
    done = 0
    while done < length:
        view = buffer[: min(len(buffer), length - done)]
        with storage_faults("reading a file"):
            count = disk.pread_into(fd, view, offset + done)
        if count != len(view):
            raise FileChanged("the file was truncated while it was read")
        digest.update(view)
        done += count
    return digest.digest()
