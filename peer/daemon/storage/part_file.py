"""Part files: the unfinished files in the shared folder's dot-folder, opened, filled, resumed, published or deleted.

A part file is <id>.part; every piece is at its final offset. Its resume data is <id>.have: the manifest, and the bitmap
of the pieces that were written. The resume data is only a claim: opening a part hashes every claimed piece.

The caller sees to it that one task at a time opens, fills, publishes or discards the part of an id. Readers of verified
pieces may continue meanwhile, since a verified piece never changes.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Self

from common import formatting
from common.control_messages import Hint
from daemon.errors import DiskFull, FileChanged, NoSuchFile, NotVerified
from daemon.storage.bitmap import Bitmap
from daemon.storage.dirfd import SharedFd, is_not_found, remove_entry
from daemon.storage.disk import Disk, Fingerprint, storage_faults
from daemon.storage.hashing import ByteProgress, CancelCheck, hash_pieces, not_cancelled
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TEMP_SUFFIX

# A part that was not written to for this many seconds is deleted.
UNUSED_PART_SECONDS = 7 * 24 * 3600.0

_PART = ".part"
_RESUME_DATA = ".have"

# The format of resume data: magic word, length of the manifest, manifest, bitmap.
_MAGIC = b"p2p-have-v1\n"
_LENGTH = struct.Struct(">I")
_HEAD_BYTES = len(_MAGIC) + _LENGTH.size
# Bytes read at most. The largest manifest has 2 MiB and its bitmap 8 KiB.
_MAX_RESUME_DATA_BYTES = 3 << 20


class ResumeState(NamedTuple):
    """The content of resume data: the manifest of a part, and the pieces that it claims to have."""

    manifest: Manifest
    claimed: Bitmap


class ResumeData:
    """The open resume data of a part. Made by `open`. A writer holds `handle` with `with`, which delays its closing."""

    def __init__(self, disk: Disk, handle: SharedFd, bitmap_offset: int) -> None:
        self._disk = disk
        self._bitmap_offset = bitmap_offset
        self.handle = handle

    @staticmethod
    def load(folder: SharedFolder, id_: str) -> ResumeState | None:
        """Return the resume data of an id; None if there is none, or it is malformed in any way.

        Raises:
            OSError: if the disk failed.
        """
        with folder.dot_folder as dot:
            try:
                with SharedFd(folder.disk.open(id_ + _RESUME_DATA, os.O_RDONLY | os.O_NONBLOCK, dir_fd=dot)) as fd:
                    status = folder.disk.fstat(fd)
                    if not stat.S_ISREG(status.st_mode):
                        return None
                    data = folder.disk.pread(fd, min(status.st_size, _MAX_RESUME_DATA_BYTES), 0)
            except OSError as error:
                if is_not_found(error):
                    return None
                raise
        return _decode(data, id_)

    @classmethod
    def open(cls, folder: SharedFolder, manifest: Manifest, claimed: Bitmap, verified: Bitmap) -> ResumeData:
        """Open the resume data of a part, and correct or create it.

        Args:
            folder: the shared folder of the part.
            manifest: the manifest of the part.
            claimed: the pieces in the resume data on the disk; empty to create new resume data.
            verified: the pieces of the part that match their digests.

        Raises:
            OSError: if the disk failed.
        """
        disk, name = folder.disk, manifest.id + _RESUME_DATA
        encoded = manifest.encode()
        # Valid resume data is changed in place: rewriting it would lose every piece if the process were killed here.
        create = not claimed.mask
        with folder.dot_folder as dot:
            if create:
                with suppress(FileNotFoundError):
                    remove_entry(disk, dot, name)
            handle = SharedFd(disk.open(name, os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0), dir_fd=dot))
        with handle as fd:
            if create:
                disk.pwrite(fd, [_MAGIC, _LENGTH.pack(len(encoded)), encoded, verified.to_bytes()], 0)
            elif verified != claimed:
                disk.pwrite(fd, [verified.to_bytes()], _HEAD_BYTES + len(encoded))
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


class Part:
    """An open part file. Made by PartStore.open. `store` and `read` may be called from many threads.

    Attributes:
        manifest: the manifest of the complete file.
        verified: the pieces that are written and match their digests. It is replaced, not changed, by `store`.
        resumed_bytes: the bytes of the pieces that were verified when the part was opened.
    """

    def __init__(
        self, store: PartStore, manifest: Manifest, handle: SharedFd, resume_data: ResumeData, verified: Bitmap
    ) -> None:
        self._store = store
        self._disk = store.disk
        self._handle = handle
        self._resume_data = resume_data
        self._lock = threading.Lock()
        self.manifest = manifest
        self.verified = verified
        self.resumed_bytes = sum(manifest.length(piece) for piece in verified.present())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def store(self, piece: int, data: Sequence[bytes | memoryview]) -> None:
        """Write a complete piece, which the caller has verified, and add it to `verified` and the resume data.

        Raises:
            DiskFull, StorageFault: if the disk failed; the piece is not added then.
            NoSuchFile: if the part is closed.
        """
        # One write at a time: the kernel serializes writers of one file, and they spin on a processor while they wait.
        resume_data = self._resume_data
        with self._handle as fd, resume_data.handle as resume_fd, self._lock, storage_faults("writing received data"):
            self._disk.pwrite(fd, data, self.manifest.offset(piece))
            verified = self.verified.copy()
            verified.add(piece)
            # After the bytes: a process that is killed in between loses this one piece.
            resume_data.write_piece(resume_fd, verified, piece)
            self.verified = verified

    def read(self, piece: int, offset: int, length: int) -> bytes:
        """Return bytes of a verified piece.

        Args:
            piece: the number of the piece.
            offset: the offset in the piece, in bytes.
            length: the number of bytes.

        Raises:
            NoSuchFile: if the piece is missing or shorter, or the part is closed. A published file is read from the
                shared folder.
            FileChanged: if another program truncated the part file.
            StorageFault: if the disk failed.
        """
        if piece not in self.verified:
            raise NoSuchFile(f"piece {piece} is not available yet")
        if not 0 <= offset <= offset + length <= self.manifest.length(piece):
            raise NoSuchFile(f"piece {piece} has no such bytes")
        with self._handle as fd, storage_faults("reading an unfinished file"):
            data = self._disk.pread(fd, length, self.manifest.offset(piece) + offset)
        if len(data) != length:
            raise FileChanged("the unfinished file was truncated")
        return data

    def start_writeback(self) -> None:
        """Start to write the part to the disk without waiting, so that `publish` waits for less."""
        with self._handle as fd, storage_faults("writing received data"):
            self._disk.start_writeback(fd)

    def publish(self, name: str) -> Fingerprint:
        """Make the file durable and give it its name; return its fingerprint. `read` works until `close`.

        Raises:
            NotVerified: if a piece is missing.
            TargetExists, DiskFull, StorageFault: see SharedFolder.publish; the part stays as it is.
        """
        if not self.verified.complete:
            raise NotVerified(f"{self.verified.piece_count - self.verified.count} pieces are missing")
        with self._handle as fd, storage_faults(f"making {name} durable"):
            self._disk.fsync(fd)
        fingerprint = self._store.folder.publish(self.manifest.id + _PART, name)
        self._store.folder.delete_unfinished(self.manifest.id + _RESUME_DATA)
        return fingerprint

    def close(self) -> None:
        """Close the files. The verified pieces stay on the disk, and the next `PartStore.open` resumes with them."""
        self._handle.close()
        self._resume_data.handle.close()


class PartStore:
    """The part files of one shared folder."""

    def __init__(self, folder: SharedFolder) -> None:
        self.folder = folder
        self.disk = folder.disk

    def open(
        self,
        manifest: Manifest,
        *,
        progress: ByteProgress | None = None,
        stop: CancelCheck = not_cancelled,
        threads: int = 1,
    ) -> Part:
        """Open the part of a manifest; create it, with its disk space reserved, if there is none.

        Args:
            manifest: the manifest of the complete file.
            progress: called with the length of each claimed piece that was hashed.
            stop: asked before each piece is hashed; opening ends when it returns True.
            threads: the most threads to hash with.

        Raises:
            DiskFull: if the disk has too little space for the missing bytes.
            Interrupted: if `stop` returned True.
            StorageFault: if the disk failed.
        """
        with storage_faults("opening an unfinished file"):
            handle, claimed = self._open_part(manifest)
        verified = self._verify(manifest, handle, claimed, progress, stop, threads)
        with storage_faults("opening an unfinished file"):
            resume_data = ResumeData.open(self.folder, manifest, claimed, verified)
        return Part(self, manifest, handle, resume_data, verified)

    def saved_manifest(self, id_: str) -> Manifest | None:
        """Return the manifest in the resume data of an id, which saves asking a peer for it; None if there is none.

        Raises:
            StorageFault: if the disk failed.
        """
        with storage_faults("reading an unfinished file"):
            saved = ResumeData.load(self.folder, id_)
        return None if saved is None else saved.manifest

    def part_ids(self) -> list[str]:
        """Return the ids of all part files.

        Raises:
            StorageFault: if the disk failed.
        """
        with self.folder.dot_folder as dot, storage_faults("reading unfinished files"):
            entries = self.disk.list_entries(dot)
        return [entry.name.removesuffix(_PART) for entry in entries if entry.name.endswith(_PART)]

    def clean_up(self, now: float) -> list[str]:
        """Delete what earlier processes left: temporary files, published parts, and parts unused for long.

        Args:
            now: the time in Unix seconds, to compare with modification times.

        Returns:
            The ids of the parts that stay.

        Raises:
            StorageFault: if the disk failed.
        """
        with self.folder.dot_folder as dot, storage_faults("cleaning up unfinished files"):
            remaining: set[str] = set()
            # In reverse order, so that a .part comes before its .have, which is useless without it.
            for entry in reversed(self.disk.list_entries(dot)):
                name = entry.name
                with suppress(FileNotFoundError):
                    status = self.disk.stat(name, dir_fd=dot)
                    # st_nlink > 1: published by a process that was killed before it removed this name.
                    published = name.endswith(_PART) and status.st_nlink > 1
                    unused = name.endswith((_PART, _RESUME_DATA)) and now - status.st_mtime > UNUSED_PART_SECONDS
                    orphaned = name.endswith(_RESUME_DATA) and name.removesuffix(_RESUME_DATA) + _PART not in remaining
                    if published or unused or orphaned or name.endswith(TEMP_SUFFIX):
                        self.disk.unlink(name, dir_fd=dot)
                    else:
                        remaining.add(name)
        return [name.removesuffix(_PART) for name in remaining if name.endswith(_PART)]

    def discard(self, id_: str) -> None:
        """Delete the part of an id; does nothing if there is none."""
        self.folder.delete_unfinished(id_ + _RESUME_DATA)
        self.folder.delete_unfinished(id_ + _PART)

    def _open_part(self, manifest: Manifest) -> tuple[SharedFd, Bitmap]:
        """Open the part file at its full size; return it and the pieces that it claims to have."""
        name = manifest.id + _PART
        with self.folder.dot_folder as dot:
            handle = self._open_existing(dot, name)
            if handle is not None:
                with handle as fd:
                    status = self.disk.fstat(fd)
                    saved = ResumeData.load(self.folder, manifest.id)
                    # st_nlink > 1: already linked as a published file, which must not be written to.
                    if status.st_size == manifest.size and status.st_nlink == 1 and saved is not None:
                        # st_blocks counts units of 512 bytes.
                        self._reserve_space(dot, fd, manifest.size - 512 * status.st_blocks, manifest.size)
                        return handle, saved.claimed
                handle.close()
                self.disk.unlink(name, dir_fd=dot)
            handle = SharedFd(self.disk.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=dot))
            with handle as fd:
                try:
                    self._reserve_space(dot, fd, manifest.size, manifest.size)
                except BaseException:
                    self.folder.delete_unfinished(name)
                    raise
            return handle, Bitmap(manifest.piece_count)

    def _open_existing(self, dot: int, name: str) -> SharedFd | None:
        try:
            return SharedFd(self.disk.open(name, os.O_RDWR, dir_fd=dot))
        except OSError as error:
            if not (is_not_found(error) or isinstance(error, IsADirectoryError)):
                raise
            if not isinstance(error, FileNotFoundError):
                # A link or a folder that another program put there.
                remove_entry(self.disk, dot, name)
            return None

    def _reserve_space(self, dot: int, fd: int, lacking: int, size: int) -> None:
        free = self.disk.free_bytes(dot)
        if lacking > free:
            raise DiskFull(f"{formatting.size(lacking - free)} more disk space is needed; make room", hint=Hint.RESUME)
        self.disk.allocate(fd, size)

    def _verify(
        self,
        manifest: Manifest,
        handle: SharedFd,
        claimed: Bitmap,
        progress: ByteProgress | None,
        stop: CancelCheck,
        threads: int,
    ) -> Bitmap:
        """Hash the claimed pieces; return those that match their digests."""
        pieces = list(claimed.present())
        verified = Bitmap(manifest.piece_count)
        with handle as fd:
            digests = hash_pieces(self.disk, fd, manifest.size, pieces, progress=progress, stop=stop, threads=threads)
        for piece, digest in zip(pieces, digests, strict=True):
            if digest == manifest.digest(piece):
                verified.add(piece)
        return verified


def _decode(data: bytes, id_: str) -> ResumeState | None:
    if len(data) < _HEAD_BYTES or not data.startswith(_MAGIC):
        return None
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    try:
        manifest = Manifest.decode(data[_HEAD_BYTES : _HEAD_BYTES + length], id_)
        return ResumeState(manifest, Bitmap.from_bytes(manifest.piece_count, data[_HEAD_BYTES + length :]))
    except (NotVerified, ValueError):
        return None
