"""The operating system's file calls in one small object, and the errors of failed calls.

All access to shared and unfinished files goes through a Disk, so that a test can pass one whose n-th operation fails.
This module decides nothing and checks no names.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from common.control_messages import Hint
from daemon.errors import DiskFull, NotWritable, StorageFault

# linux/fs.h: the ioctl that makes one file share the blocks of another.
_FICLONE = 0x40049409
# linux/falloc.h: free the blocks of a range, and do not change the size of the file.
_PUNCH_HOLE, _KEEP_SIZE = 2, 1
# linux/fcntl.h: take or return a lease, and the signal that ends it.
_F_SETLEASE, _F_SETSIG = 1024, 10
# linux/fs.h: start writeback, do not wait for it.
_SYNC_FILE_RANGE_WRITE = 2
# linux/fs.h: fail with EEXIST instead of replacing the target.
_RENAME_NOREPLACE = 1
# fcntl.h and linux/stat.h: the status of an open file, with the number of its mount.
_AT_EMPTY_PATH = 0x1000
_STATX_MNT_ID = 0x1000
# Offsets of stx_mask and stx_mnt_id in struct statx, and its size.
_STATX_MASK, _STATX_MOUNT, _STATX_SIZE = 0, 144, 256
# The size of struct statfs, which begins with the type, is less.
_STATFS_SIZE = 512
# linux/magic.h: FUSE, FAT, exFAT.
_UNSTABLE_INODES = frozenset({0x65735546, 0x4D44, 0x2011BAB0})
# Buffers of one pwritev; the kernel accepts at most 1,024 (IOV_MAX).
_BUFFERS_MAX = 512
_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
# The kernel or the file system does not support the call; a slower one is used instead.
_UNSUPPORTED_ERRNOS = (
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EXDEV,
    errno.ENOTTY,
    errno.EBADF,
    errno.EPERM,
)
_NOT_WRITABLE_ERRNOS = (errno.EROFS, errno.EACCES, errno.EPERM)


class VolumeId(NamedTuple):
    """What two folders have in common, nearly always, if a file can be renamed from one to the other."""

    # The device; a btrfs subvolume has its own.
    dev: int
    # The number of the mount, which differs for each bind mount; 0 if the system does not report it.
    mount: int


def is_unsupported(error: OSError) -> bool:
    """Return whether a call failed because the system or the file system does not have it."""
    return error.errno in _UNSUPPORTED_ERRNOS


def is_not_writable(error: OSError) -> bool:
    """Return whether a call failed because the file system is read-only, or the user may not write there."""
    return error.errno in _NOT_WRITABLE_ERRNOS


@contextmanager
def storage_faults(action: str) -> Iterator[None]:
    """Turn an OSError of the block into a PeerError whose one line a user can act on.

    Args:
        action: what the block does, for the message, as in "writing a.txt".

    Raises:
        DiskFull: if the disk or the user's disk quota is full.
        NotWritable: if the file system is mounted read-only.
        StorageFault: for every other OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL_ERRNOS:
            raise DiskFull(f"disk full while {action}; make room", hint=Hint.RESUME) from error
        if error.errno == errno.EROFS:
            raise NotWritable(f"the file system is read-only while {action}; mount it writable") from error
        if error.errno == errno.EFBIG:
            raise StorageFault(f"too large for this file system while {action}; use another file system") from error
        reason = os.strerror(error.errno) if error.errno else "I/O error"
        raise StorageFault(f"{reason} while {action}; check the disk, its mount and its permissions") from error


class Disk:
    """File calls by descriptor. Every method raises OSError if the disk fails.

    Short reads and writes are continued here. A call that the system does not support is replaced by a slower one.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        # glibc has all of them, musl some, macOS none.
        self._fallocate = getattr(libc, "fallocate", None)
        self._syncfs = getattr(libc, "syncfs", None)
        self._sync_file_range = getattr(libc, "sync_file_range", None)
        self._renameat2 = getattr(libc, "renameat2", None)
        self._statx = getattr(libc, "statx", None)
        self._fstatfs = getattr(libc, "fstatfs", None)

    # ---------------------------------------------------------------------------------------------------------- names

    def open(self, path: str, flags: int, *, mode: int = 0o644, dir_fd: int | None = None) -> int:
        """Open a file or folder and return its descriptor, which child processes do not inherit.

        A link in the last component of `path` is not followed, but raises OSError with ELOOP.
        """
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=dir_fd)

    def list_entries(self, fd: int) -> list[os.DirEntry[str]]:
        """Return the entries of an open folder, sorted by name."""
        with os.scandir(fd) as entries:
            return sorted(entries, key=lambda entry: entry.name)

    def stat(self, path: str, *, dir_fd: int) -> os.stat_result:
        """Return the status of `path`, or of the link itself if it is one."""
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def fstat(self, fd: int) -> os.stat_result:
        """Return the status of an open file or folder."""
        return os.fstat(fd)

    def mkdir(self, path: str, *, mode: int = 0o755, dir_fd: int) -> None:
        """Create a folder; raises FileExistsError if the name is taken."""
        os.mkdir(path, mode, dir_fd=dir_fd)

    def rmdir(self, path: str, *, dir_fd: int) -> None:
        """Remove an empty folder."""
        os.rmdir(path, dir_fd=dir_fd)

    def link(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        """Hard-link `source` as `target`; raises FileExistsError if that name is taken, and never follows a link."""
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)

    def rename(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        """Rename `source` to `target` in one step; a file or link of that name is replaced."""
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)

    def rename_new(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        """Rename `source` to `target` in one step; raises FileExistsError if that name is taken.

        Raises ENOSYS or EINVAL where the system or the file system cannot.
        """
        if self._renameat2 is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._call(self._renameat2, source_fd, os.fsencode(source), target_fd, os.fsencode(target), _RENAME_NOREPLACE)

    def unlink(self, path: str, *, dir_fd: int) -> None:
        """Remove a name of a file or link."""
        os.unlink(path, dir_fd=dir_fd)

    # ---------------------------------------------------------------------------------------------------------- bytes

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset`; fewer only at the end of the file."""
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
        """Fill `buffer` from `offset`; return the bytes read, fewer than its length only at the end of the file."""
        at = 0
        while at < len(buffer) and (count := os.preadv(fd, [buffer[at:]], offset + at)):
            at += count
        return at

    def pwrite(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Write all buffers, one after the other, from `offset`."""
        views = [memoryview(buffer) for buffer in buffers if len(buffer)]
        while views:
            count = os.pwritev(fd, views[:_BUFFERS_MAX], offset)
            offset += count
            while views and count >= len(views[0]):
                count -= len(views.pop(0))
            if count:
                views[0] = views[0][count:]

    def truncate(self, fd: int, size: int) -> None:
        """Set the size of a file in bytes."""
        os.ftruncate(fd, size)

    def allocate(self, fd: int, offset: int, length: int) -> None:
        """Reserve the blocks of a range where the file system can; never write zeros, and never change the bytes."""
        self._try_fallocate(fd, 0, offset, length)

    def punch_hole(self, fd: int, offset: int, length: int) -> bool:
        """Make a range of a file a hole, which reads as zeros; return False if the file system cannot."""
        return self._try_fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length)

    def find_data(self, fd: int, offset: int) -> tuple[int, int] | None:
        """Return begin and end of the first range at or after `offset` that is not a hole; None if there is none.

        On a file system that does not report holes, a file is one such range.
        """
        try:
            begin = os.lseek(fd, offset, os.SEEK_DATA)
            return begin, os.lseek(fd, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            if not is_unsupported(error):
                raise
            return offset, os.fstat(fd).st_size

    def clone(self, source: int, target: int) -> bool:
        """Make `target` share all blocks of `source` (reflink); return False if the file system cannot."""
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if not is_unsupported(error):
                raise
            return False
        return True

    def copy_range(self, source: int, target: int, length: int, offset: int) -> int:
        """Copy up to `length` bytes at `offset` inside the kernel; return the number copied, -1 if it cannot."""
        try:
            return os.copy_file_range(source, target, length, offset, offset)
        except AttributeError:
            return -1
        except OSError as error:
            if not is_unsupported(error):
                raise
            return -1

    def has_writer(self, fd: int) -> bool:
        """Return whether another descriptor, of any process, can write to the file that `fd` has open for reading.

        False if that cannot be found out: on other systems than Linux, and for files of other users.
        """
        try:
            # The lease is refused while the file is open for writing. A program that opens it during the microseconds
            # of the lease waits, and we get SIGURG, which is ignored, instead of SIGIO, which would end this process.
            fcntl.fcntl(fd, _F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, _F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        fcntl.fcntl(fd, _F_SETLEASE, fcntl.F_UNLCK)
        return False

    # ----------------------------------------------------------------------------------------------------- durability

    def fsync(self, fd: int) -> None:
        """Wait until a file's bytes, or a folder's names, are durable."""
        os.fsync(fd)

    def start_writeback(self, fd: int) -> None:
        """Start to write a file's dirty pages to the disk without waiting, so that a later fsync is short."""
        if self._sync_file_range is not None:
            self._call(self._sync_file_range, fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)

    def sync_filesystem(self, fd: int) -> bool:
        """Make the whole file system of `fd` durable; return False if the system can only sync single files."""
        if self._syncfs is None:
            return False
        self._call(self._syncfs, fd)
        return True

    # ---------------------------------------------------------------------------------------------------- file systems

    def volume_id(self, fd: int) -> VolumeId:
        """Return the volume of an open folder."""
        return VolumeId(os.fstat(fd).st_dev, self._mount_id(fd))

    def _mount_id(self, fd: int) -> int:
        if self._statx is None:
            return 0
        buffer = ctypes.create_string_buffer(_STATX_SIZE)
        try:
            self._call(self._statx, fd, b"", _AT_EMPTY_PATH, _STATX_MNT_ID, buffer)
        except OSError as error:
            # Some containers forbid the call.
            if not is_unsupported(error):
                raise
            return 0
        (mask,) = struct.unpack_from("=I", buffer, _STATX_MASK)
        return int(struct.unpack_from("=Q", buffer, _STATX_MOUNT)[0]) if mask & _STATX_MNT_ID else 0

    def has_stable_inodes(self, fd: int) -> bool:
        """Return whether inode numbers on the file system of `fd` outlive the kernel's cache and a new mount.

        FAT and exFAT have none on the disk. FUSE numbers the files that it met, unless the file system wants others.
        """
        if self._fstatfs is None:
            return True
        buffer = ctypes.create_string_buffer(_STATFS_SIZE)
        self._call(self._fstatfs, fd, buffer)
        return ctypes.c_long.from_buffer(buffer).value not in _UNSTABLE_INODES

    def is_writable(self, fd: int) -> bool:
        """Return whether this process may create files in an open folder."""
        return os.access(".", os.W_OK | os.X_OK, dir_fd=fd)

    def is_read_only(self, fd: int) -> bool:
        """Return whether the file system of `fd` is mounted read-only."""
        return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)

    def name_bytes_max(self, fd: int) -> int:
        """Return the most bytes of one path component on the file system of `fd`."""
        return os.fstatvfs(fd).f_namemax

    def chmod(self, fd: int, mode: int) -> None:
        """Set the permissions of an open file or folder."""
        os.fchmod(fd, mode)

    def set_mtime(self, fd: int, mtime_ns: int) -> None:
        """Set the time of the last modification of an open file, in nanoseconds since 1970, and that of access."""
        os.utime(fd, ns=(mtime_ns, mtime_ns))

    def lock(self, fd: int) -> None:
        """Lock an open folder until it is closed; raises BlockingIOError if another process has locked it."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def free_bytes(self, fd: int) -> int:
        """Return the free bytes that an unprivileged user may write on the file system of `fd`."""
        space = os.fstatvfs(fd)
        return space.f_bavail * space.f_frsize

    def _try_fallocate(self, fd: int, mode: int, offset: int, length: int) -> bool:
        """Call fallocate for a range that is not empty; return False if it is not supported."""
        if self._fallocate is None:
            return False
        try:
            self._call(self._fallocate, fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))
        except OSError as error:
            if not is_unsupported(error):
                raise
            return False
        return True

    @staticmethod
    def _call(function: Callable[..., int], *arguments: object) -> None:
        """Call a function of libc until it is not interrupted by a signal; raise OSError if it fails."""
        while function(*arguments):
            error = ctypes.get_errno()
            if error != errno.EINTR:
                raise OSError(error, os.strerror(error))
