"""The notes beside an unfinished file, <id>.have: what it will be, and which of its pieces it has.

They are a hint only. What is odd in any way is no note at all: the caller starts afresh.
"""

from __future__ import annotations

import os
import stat
import struct
from contextlib import suppress

from daemon.errors import NotVerified
from daemon.storage.bitmap import Bitmap
from daemon.storage.dirfd import is_not_found, remove_entry
from daemon.storage.disk import Disk
from daemon.storage.handles import SharedFd
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder

SUFFIX = ".have"

# The format: this word, the manifest's length, the manifest, the bitmap.
_MAGIC = b"p2p-have-v1\n"
_LENGTH = struct.Struct(">I")
_HEAD = len(_MAGIC) + _LENGTH.size
# The largest manifest has 2 MiB and its bitmap 8 KiB.
_MOST = 3 << 20


class Notes:
    """The notes of a part that is open. Made by `begin`.

    Its `handle` is held by whoever writes, so that they are not closed meanwhile.
    """

    def __init__(self, disk: Disk, handle: SharedFd, bitmap_at: int) -> None:
        self._disk = disk
        self._bitmap_at = bitmap_at
        self.handle = handle

    def write(self, fd: int, have: Bitmap, piece: int) -> None:
        """Note a piece that `have` has gained. `fd` is the handle's. Raises OSError."""
        self._disk.pwrite(fd, [bytes([have.byte_at(piece // 8)])], self._bitmap_at + piece // 8)


def read(folder: SharedFolder, id_: str) -> tuple[Manifest, Bitmap] | None:
    """Return what lies beside a part: its manifest, and the pieces that it claims; None if that is not there, or odd.

    Raises:
        OSError: if the disk fails.
    """
    with folder.dot_folder as dot:
        try:
            with SharedFd(folder.disk.open(id_ + SUFFIX, os.O_RDONLY | os.O_NONBLOCK, dir_fd=dot)) as fd:
                status = folder.disk.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    return None
                data = folder.disk.pread(fd, min(status.st_size, _MOST), 0)
        except OSError as error:
            if is_not_found(error):
                return None
            raise
    return _decode(data, id_)


def begin(folder: SharedFolder, manifest: Manifest, claimed: Bitmap, have: Bitmap) -> Notes:
    """Open the notes of a part that has verified `have`, as what is written beside it already `claimed`, or new ones.

    Raises:
        OSError: if the disk fails.
    """
    disk, name = folder.disk, manifest.id + SUFFIX
    encoded = manifest.encode()
    # What is right is never written anew: a process that is killed here would lose every piece.
    fresh = not claimed.mask
    with folder.dot_folder as dot:
        if fresh:
            with suppress(FileNotFoundError):
                remove_entry(disk, dot, name)
        handle = SharedFd(disk.open(name, os.O_RDWR | (os.O_CREAT | os.O_EXCL if fresh else 0), dir_fd=dot))
    notes = Notes(disk, handle, _HEAD + len(encoded))
    with handle as fd:
        if fresh:
            disk.pwrite(fd, [_MAGIC, _LENGTH.pack(len(encoded)), encoded, have.to_bytes()], 0)
        elif have != claimed:
            disk.pwrite(fd, [have.to_bytes()], _HEAD + len(encoded))
    return notes


def _decode(data: bytes, id_: str) -> tuple[Manifest, Bitmap] | None:
    if len(data) < _HEAD or not data.startswith(_MAGIC):
        return None
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    try:
        manifest = Manifest.decode(data[_HEAD : _HEAD + length], id_)
        return manifest, Bitmap.from_bytes(manifest.piece_count, data[_HEAD + length :])
    except (NotVerified, ValueError):
        return None
