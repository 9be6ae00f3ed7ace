"""Copies the content of an open file to another one: shared blocks where possible, holes stay holes.

The source may be written to meanwhile. Whether that changed what was copied is found out at the end.
"""

from __future__ import annotations

from common import formatting
from common.control_messages import Hint
from daemon.errors import BeingWritten, DiskFull, Interrupted
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.hashing import ByteProgress, CancelCheck, not_cancelled
from daemon.storage.sparse import data_ranges

# Bytes copied between two calls of `stop`, inside the kernel and by this process.
_KERNEL_COPY_STEP = 16 << 20
_COPY_STEP = 1 << 20


def copy_contents(
    disk: Disk,
    source: int,
    target: int,
    size: int,
    *,
    progress: ByteProgress | None = None,
    stop: CancelCheck = not_cancelled,
) -> bool:
    """Copy the first bytes of an open file in the cheapest way: shared blocks, copy in the kernel, or read and write.

    Args:
        disk: the file operations to use.
        source: the descriptor of the file to copy.
        target: the descriptor of an empty file.
        size: the number of bytes to copy.
        progress: called with the number of bytes of each step; together they are `size`.
        stop: asked before each step; the copy ends when it returns True.

    Returns:
        Whether the two files share their blocks, so that the copy needs no disk space.

    Raises:
        DiskFull: if the disk has too little free space; checked before the first byte.
        BeingWritten: if `source` has less than `size` bytes.
        Interrupted: if `stop` returned True.
        StorageFault: if the disk failed.
    """
    with storage_faults("copying a file"):
        if disk.clone(source, target):
            cloned = disk.fstat(target).st_size
            if cloned < size:
                raise being_written_outside()
            if cloned > size:
                disk.truncate(target, size)
            if progress is not None:
                progress(size)
            return True
        free = disk.free_bytes(target)
        if size > free:
            needed = sum(end - begin for begin, end in data_ranges(disk, source, size))
            if needed > free:
                raise DiskFull(
                    f"{formatting.size(needed - free)} more disk space is needed for a copy; make room",
                    hint=Hint.REPEAT,
                )
        _copy_data(disk, source, target, size, progress, stop)
    return False


def _copy_data(
    disk: Disk, source: int, target: int, size: int, progress: ByteProgress | None, stop: CancelCheck
) -> None:
    done = 0

    def advance(to: int) -> None:
        nonlocal done
        if progress is not None and to > done:
            progress(to - done)
        done = to

    in_kernel = True
    copied = 0
    for begin, end in data_ranges(disk, source, size):
        advance(begin)
        while done < end:
            if stop():
                raise Interrupted("stopped while copying", hint=Hint.REPEAT)
            step = min(_KERNEL_COPY_STEP, end - done)
            count = disk.copy_range(source, target, step, done) if in_kernel else -1
            if count < 0 or (count == 0 and not copied):
                # Some file systems return 0 instead of an error if they do not support the call.
                in_kernel = False
                data = disk.pread(source, min(step, _COPY_STEP), done)
                disk.pwrite(target, [data], done)
                count = len(data)
            if count == 0:
                raise being_written_outside()
            copied += count
            advance(done + count)
    # The last range may end before the file does, and a truncated source has fewer ranges.
    if disk.fstat(source).st_size < size:
        raise being_written_outside()
    disk.truncate(target, size)
    advance(size)


def ensure_same_content(
    disk: Disk, source: int, target: int, size: int, before: Fingerprint, *, stop: CancelCheck = not_cancelled
) -> None:
    """Check that a copy has the bytes that the source had at one moment: what was appended since does not matter.

    Args:
        disk: the file operations to use.
        source: the descriptor of the file that was copied.
        target: the descriptor of the copy.
        size: the bytes of the copy.
        before: the fingerprint of `source` before the copy. If it has it still, nothing is read.
        stop: asked before each step.

    Raises:
        BeingWritten: if one of the copied bytes changed.
        Interrupted: if `stop` returned True.
        StorageFault: if the disk failed.
    """
    with storage_faults("copying a file"):
        if Fingerprint.from_stat(disk.fstat(source)) == before:
            return
        for offset in range(0, size, _COPY_STEP):
            if stop():
                raise Interrupted("stopped while copying", hint=Hint.REPEAT)
            step = min(_COPY_STEP, size - offset)
            if disk.pread(source, step, offset) != disk.pread(target, step, offset):
                raise being_written_outside()


def being_written_outside() -> BeingWritten:
    """Return the error for a file from outside the shared folder that changed while it was read."""
    return BeingWritten("it is being written to, and its content changed while it was read", hint=Hint.REPEAT)
