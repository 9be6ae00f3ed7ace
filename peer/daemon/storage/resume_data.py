"""Resume data: the file <id>.have beside a part file: manifest, bitmap of the pieces that were written, and the name.

It is only a claim: opening a part hashes every claimed piece.
"""

from __future__ import annotations

import os
import stat
import struct
from contextlib import suppress
from typing import NamedTuple

from daemon.errors import NotVerified
from daemon.storage.bitmap import Bitmap
from daemon.storage.dirfd import SharedFd, is_not_found, remove_entry
from daemon.storage.disk import Disk
from daemon.storage.manifest import Manifest
from daemon.storage.volume import Volume

RESUME_DATA_SUFFIX = ".have"

# The format of resume data: magic word, length of the manifest, manifest, bitmap, name in UTF-8. Releases before 0.2.0
# wrote no name.
_MAGIC = b"p2p-have-v1\n"
_LENGTH = struct.Struct(">I")
_HEAD_BYTES = len(_MAGIC) + _LENGTH.size
# Bytes read at most. The largest manifest has 2 MiB and its bitmap 8 KiB.
_MAX_RESUME_DATA_BYTES = 3 << 20


class ResumeState(NamedTuple):
    """The content of resume data: the manifest of a part, the pieces that it claims to have, and the name."""

    manifest: Manifest
    claimed: Bitmap
    # For display only; empty if it is unknown.
    name: str


class ResumeData:
    """The open resume data of a part. Made by `open`. A writer holds `handle` with `with`, which delays its closing."""

    def __init__(self, disk: Disk, handle: SharedFd, bitmap_offset: int) -> None:
        self._disk = disk
        self._bitmap_offset = bitmap_offset
        self.handle = handle

    @staticmethod
    def load(volume: Volume, id_: str) -> ResumeState | None:
        """Return the resume data of an id in a volume; None if there is none, or it is malformed in any way.

        Raises:
            OSError: if the disk failed.
        """
        with volume.dot as dot:
            return load(volume.disk, dot, id_)

    @classmethod
    def open(cls, volume: Volume, manifest: Manifest, claimed: Bitmap, verified: Bitmap, name: str) -> ResumeData:
        """Open the resume data of a part, and correct or create it.

        Args:
            volume: the volume of the part.
            manifest: the manifest of the part.
            claimed: the pieces in the resume data on the disk; empty to create new resume data.
            verified: the pieces of the part that match their digests.
            name: the name that the file will get.

        Raises:
            OSError: if the disk failed.
        """
        disk, file = volume.disk, manifest.id + RESUME_DATA_SUFFIX
        encoded = manifest.encode()
        # Valid resume data is changed in place: rewriting it would lose every piece if the process were killed here.
        create = not claimed.mask
        with volume.dot as dot:
            if create:
                with suppress(FileNotFoundError):
                    remove_entry(disk, dot, file)
            handle = SharedFd(disk.open(file, os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0), dir_fd=dot))
        bitmap, last = verified.to_bytes(), name.encode()
        with handle as fd:
            if create:
                disk.pwrite(fd, [_MAGIC, _LENGTH.pack(len(encoded)), encoded, bitmap, last], 0)
            else:
                disk.pwrite(fd, [bitmap, last], _HEAD_BYTES + len(encoded))
                disk.truncate(fd, _HEAD_BYTES + len(encoded) + len(bitmap) + len(last))
        return cls(disk, handle, _HEAD_BYTES + len(encoded))

    def write_piece(self, fd: int, verified: Bitmap, piece: int) -> None:
        """Write the byte of the bitmap that has one piece.

        Args:
            fd: the descriptor of `handle`.
            verified: the bitmap to write from.
            piece: the piece that `verified` has gained.

        Raises:
            OSError: if the disk failed.
        """
        self._disk.pwrite(fd, [bytes([verified.byte_at(piece // 8)])], self._bitmap_offset + piece // 8)


def load(disk: Disk, dot: int, id_: str) -> ResumeState | None:
    """Return the resume data of an id in the dot-folder with descriptor `dot`, as ResumeData.load does.

    Raises:
        OSError: if the disk failed.
    """
    try:
        with SharedFd(disk.open(id_ + RESUME_DATA_SUFFIX, os.O_RDONLY | os.O_NONBLOCK, dir_fd=dot)) as fd:
            status = disk.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return None
            data = disk.pread(fd, min(status.st_size, _MAX_RESUME_DATA_BYTES), 0)
    except OSError as error:
        if is_not_found(error):
            return None
        raise
    return _decode(data, id_)


def _decode(data: bytes, id_: str) -> ResumeState | None:
    if len(data) < _HEAD_BYTES or not data.startswith(_MAGIC):
        return None
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    try:
        manifest = Manifest.decode(data[_HEAD_BYTES : _HEAD_BYTES + length], id_)
        bitmap_start = _HEAD_BYTES + length
        bitmap_end = bitmap_start + (manifest.piece_count + 7) // 8
        claimed = Bitmap.from_bytes(manifest.piece_count, data[bitmap_start:bitmap_end])
        return ResumeState(manifest, claimed, data[bitmap_end:].decode(errors="replace"))
    except (NotVerified, ValueError):
        return None
