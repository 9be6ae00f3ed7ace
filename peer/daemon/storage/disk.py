"""The operating system's file calls, all in one small object, and what their failures mean.

Shared files and unfinished files are touched through a Disk only, so that a test can hand in a twin whose n-th
operation fails. It decides nothing and knows no names but those it is given.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from daemon.errors import DiskFull, StorageFault

_FICLONE = 0x40049409
_SYNC_FILE_RANGE_WRITE = 2
# The kernel takes no more buffers than 1,024 in one call.
_BUFFERS_MAX = 512
_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
# The kernel or the file system cannot do it: do it in another way.
_UNSUPPORTED_ERRNOS = (
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EXDEV,
    errno.ENOTTY,
    errno.EBADF,
    errno.EPERM,
)


@contextmanager
def storage_faults(action: str) -> Iterator[None]:
    """Turn an OSError into the one line that a user can act on. `doing` says what failed, as in "writing a.txt"."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL_ERRNOS:
            raise DiskFull(f"the disk is full while {action}: make room and run it again to resume") from error
        why = os.strerror(error.errno) if error.errno else "the disk failed"
        raise StorageFault(f"{why} while {action}: look at the disk, its mount and its permissions") from error


class Disk:
    """File calls by descriptor. Short writes and reads are made whole here; what is unsupported falls back here."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        # glibc has them, musl not all; macOS none.
        self._fallocate = getattr(libc, "fallocate", None)
        self._syncfs = getattr(libc, "syncfs", None)
        self._sync_file_range = getattr(libc, "sync_file_range", None)

    # ---------------------------------------------------------------------------------------------------------- names

    def open(self, path: str, flags: int, *, mode: int = 0o644, dir_fd: int | None = None) -> int:
        """Open without following a link in the last component; programs started later do not inherit it."""
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=dir_fd)

    def list_entries(self, fd: int) -> list[os.DirEntry[str]]:
        """Return a folder's entries, sorted by name."""
        with os.scandir(fd) as entries:
            return sorted(entries, key=lambda entry: entry.name)

    def stat(self, path: str, *, dir_fd: int) -> os.stat_result:
        """Stat without following a link."""
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def fstat(self, fd: int) -> os.stat_result:
        """Stat what is open."""
        return os.fstat(fd)

    def mkdir(self, path: str, *, mode: int = 0o755, dir_fd: int) -> None:
        """Make a folder."""
        os.mkdir(path, mode, dir_fd=dir_fd)

    def rmdir(self, path: str, *, dir_fd: int) -> None:
        """Remove an empty folder."""
        os.rmdir(path, dir_fd=dir_fd)

    def link(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        """Give a file a second name; fails if that name is taken."""
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)

    def unlink(self, path: str, *, dir_fd: int) -> None:
        """Take a name away."""
        os.unlink(path, dir_fd=dir_fd)

    # ---------------------------------------------------------------------------------------------------------- bytes

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """Read `length` bytes; fewer only at the end of the file."""
        data = os.pread(fd, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        at = len(data)
        while at < length and (data := os.pread(fd, length - at, offset + at)):
            parts.append(data)
            at += len(data)
        return b"".join(parts)

    def pread_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        """Fill the buffer; return how many bytes there were, fewer only at the end of the file."""
        at = 0
        while at < len(buffer) and (count := os.preadv(fd, [buffer[at:]], offset + at)):
            at += count
        return at

    def pwrite(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Write all buffers one after the other."""
        views = [memoryview(buffer) for buffer in buffers if len(buffer)]
        while views:
            count = os.pwritev(fd, views[:_BUFFERS_MAX], offset)
            offset += count
            while views and count >= len(views[0]):
                count -= len(views.pop(0))
            if count:
                views[0] = views[0][count:]

    def truncate(self, fd: int, size: int) -> None:
        """Set a file's size."""
        os.ftruncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:
        """Set a file's size and reserve its blocks, where the file system can; never by writing zeros."""
        if size and self._fallocate is not None:
            try:
                return self._call(self._fallocate, fd, 0, ctypes.c_int64(0), ctypes.c_int64(size))
            except OSError as error:
                if error.errno not in _UNSUPPORTED_ERRNOS:
                    raise
        return os.ftruncate(fd, size)

    def clone(self, source: int, target: int) -> bool:
        """Make `target` share all blocks of `source`; False if the file system cannot."""
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno not in _UNSUPPORTED_ERRNOS:
                raise
            return False
        return True

    def copy_range(self, source: int, target: int, length: int, offset: int) -> int:
        """Copy inside the kernel; return how many bytes, -1 if it cannot."""
        try:
            return os.copy_file_range(source, target, length, offset, offset)
        except AttributeError:
            return -1
        except OSError as error:
            if error.errno not in _UNSUPPORTED_ERRNOS:
                raise
            return -1

    # ----------------------------------------------------------------------------------------------------- durability

    def fsync(self, fd: int) -> None:
        """Return when a file, or a folder's names, are on the disk."""
        os.fsync(fd)

    def start_writeback(self, fd: int) -> None:
        """Have the system begin to write what it keeps in memory, without waiting, so that a later fsync is short."""
        if self._sync_file_range is not None:
            self._call(self._sync_file_range, fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)

    def sync_filesystem(self, fd: int) -> bool:
        """Make the whole file system that `fd` lies on durable; False if only file by file is to be had."""
        if self._syncfs is None:
            return False
        self._call(self._syncfs, fd)
        return True

    def free_bytes(self, fd: int) -> int:
        """Return how many bytes an ordinary user may still write."""
        space = os.fstatvfs(fd)
        return space.f_bavail * space.f_frsize

    @staticmethod
    def _call(function: Callable[..., int], *arguments: object) -> None:
        while function(*arguments):
            error = ctypes.get_errno()
            if error != errno.EINTR:
                raise OSError(error, os.strerror(error))
