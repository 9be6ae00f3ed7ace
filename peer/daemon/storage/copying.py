"""The bytes of one open file into another, in the cheapest way that the system has. Knows no names."""

from __future__ import annotations

from daemon.errors import DiskFull, FileChanged, Interrupted
from daemon.storage.disk import Disk, storage_faults
from daemon.storage.hashing import ByteProgress, CancelCheck, not_cancelled

# Copied between two looks at whether to stop.
_STEP = 16 << 20


def copy_contents(
    disk: Disk,
    source: int,
    target: int,
    size: int,
    *,
    progress: ByteProgress | None = None,
    stop: CancelCheck = not_cancelled,
) -> None:
    """Make the empty file `target` hold the first `size` bytes of `source`: shared blocks, the kernel's copy, or ours.

    Raises:
        DiskFull: before the first byte, if the room is known to be lacking.
        FileChanged: if the source ends before.
        Interrupted: if `stop` answered true.
    """
    with storage_faults("copying a file"):
        if disk.clone(source, target):
            if disk.fstat(target).st_size != size:
                raise FileChanged("the file was changed while it was copied: try again when it is at rest")
            if progress is not None:
                progress(size)
            return
        free = disk.free_bytes(target)
        if size > free:
            raise DiskFull(f"the disk lacks {size - free} bytes for a copy: make room and try again")
        done = 0
        in_kernel = True
        while done < size:
            if stop():
                raise Interrupted("stopped while copying: run it again")
            step = min(_STEP, size - done)
            count = disk.copy_range(source, target, step, done) if in_kernel else -1
            if count < 0 or (count == 0 and done == 0):
                # Some file systems say that they copied nothing where they cannot.
                in_kernel = False
                data = disk.pread(source, min(step, 1 << 20), done)
                disk.pwrite(target, [data], done)
                count = len(data)
            if count == 0:
                raise FileChanged("the file was cut short while it was copied")
            done += count
            if progress is not None:
                progress(count)
