"""Part files: the unfinished files in the dot-folders, opened, filled, resumed, published or deleted.

A part file is <id>.part; every piece is at its final offset. It is in the volume of the name that it will get.

The caller sees to it that one task at a time opens, fills, publishes or discards the part of an id. Readers of verified
pieces may continue meanwhile, since a verified piece never changes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from blake3 import blake3

from common import formatting
from common.control_messages import Hint
from daemon.errors import DiskFull, FileChanged, Interrupted, NoSuchFile, NotVerified
from daemon.models import NO_ATTRIBUTES, Attributes
from daemon.runtime.settings import DEFAULT_PART_KEEP
from daemon.storage.attributes import set_attributes
from daemon.storage.bitmap import Bitmap
from daemon.storage.clean_up import PART_SUFFIX, clean_up
from daemon.storage.dirfd import SharedFd, is_not_found, remove_entry
from daemon.storage.disk import storage_faults
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.hashing import ByteProgress, CancelCheck, hash_pieces, not_cancelled
from daemon.storage.manifest import Manifest
from daemon.storage.publication import NewFile
from daemon.storage.resume_data import RESUME_DATA_SUFFIX, ResumeData
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.sparse import byte_count, write_sparse, zero_pieces
from daemon.storage.volume import Volume


class Part:
    """An open part file. Made by PartStore.open. `store` and `read` may be called from many threads.

    Attributes:
        manifest: the manifest of the complete file.
        verified: the pieces that are written and match their digests, and those that are only zeros, which are holes.
            It is replaced, not changed, by `store`.
        resumed_bytes: the bytes of the written pieces that were verified when the part was opened.
        zero_bytes: the bytes of the pieces that are only zeros, and so need neither be received nor stored.
    """

    def __init__(
        self,
        folder: SharedFolder,
        volume: Volume,
        manifest: Manifest,
        handle: SharedFd,
        resume_data: ResumeData,
        verified: Bitmap,
        zeros: Bitmap,
    ) -> None:
        self._folder = folder
        self._volume = volume
        self._disk = folder.disk
        self._handle = handle
        self._resume_data = resume_data
        self._lock = threading.Lock()
        self.manifest = manifest
        self.verified = verified
        self.zero_bytes = byte_count(manifest, Bitmap(manifest.piece_count, zeros.mask & verified.mask))
        self.resumed_bytes = byte_count(manifest, verified) - self.zero_bytes

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
            # A piece that arrives again may replace other bytes.
            write_sparse(self._disk, fd, data, self.manifest.offset(piece), overwrite=True)
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

    def publish(self, name: str, attributes: Attributes = NO_ATTRIBUTES) -> Fingerprint:
        """Make the file durable and give it its name; return its fingerprint. `read` works until `close`.

        Args:
            name: the name.
            attributes: what belongs to the name.

        Raises:
            NotVerified: if a piece is missing.
            TargetExists, DiskFull, StorageFault: see SharedFolder.publish; the part stays as it is.
        """
        if not self.verified.complete:
            raise NotVerified(f"{self.verified.piece_count - self.verified.count} pieces are missing")
        with self._handle as fd, storage_faults(f"making {name} durable"):
            set_attributes(self._disk, fd, attributes)
            self._disk.fsync(fd)
        fingerprint = self._folder.publish(NewFile(self._volume, self.manifest.id + PART_SUFFIX, name))
        self._volume.delete(self.manifest.id + RESUME_DATA_SUFFIX)
        return fingerprint

    def close(self) -> None:
        """Close the files. The verified pieces stay on the disk, and the next `PartStore.open` resumes with them."""
        self._handle.close()
        self._resume_data.handle.close()


class PartStore:
    """The part files of one shared folder.

    Args:
        folder: the shared folder.
        clock: returns the time in Unix seconds.
        keep_seconds: the time since its last write after which a part is deleted by `clean_up`.
    """

    def __init__(
        self,
        folder: SharedFolder,
        clock: Callable[[], float] = time.time,
        keep_seconds: float = DEFAULT_PART_KEEP,
    ) -> None:
        self.folder = folder
        self.disk = folder.disk
        self._keep_seconds = keep_seconds
        folder.volumes.on_first_use = lambda volume: self._clean_up(volume, clock())

    def open(
        self,
        manifest: Manifest,
        name: str,
        *,
        progress: ByteProgress | None = None,
        stop: CancelCheck = not_cancelled,
        threads: int = 1,
    ) -> Part:
        """Open the part of a manifest; create it, with its disk space reserved, if there is none.

        A part in another volume than that of `name` was begun for another name: its pieces are copied, and it is
        deleted.

        Args:
            manifest: the manifest of the complete file.
            name: the name that the file will get.
            progress: called with the length of each claimed piece that was hashed.
            stop: asked before each piece is hashed; opening ends when it returns True.
            threads: the most threads to hash with.

        Raises:
            BadName, TargetExists, NotWritable: if a file of that name cannot be stored; see SharedFolder.volume_for.
            DiskFull: if the disk has too little space for the missing bytes.
            Interrupted: if `stop` returned True.
            StorageFault: if the disk failed.
        """
        volume = self.folder.volume_for(name)
        zeros = zero_pieces(manifest)
        with storage_faults("opening an unfinished file"):
            handle, claimed = self._open_part(volume, manifest, zeros)
        written_or_zeros = Bitmap(manifest.piece_count, claimed.mask | zeros.mask)
        verified = self._verify(manifest, handle, written_or_zeros, progress, stop, threads)
        with storage_faults("opening an unfinished file"):
            resume_data = ResumeData.open(volume, manifest, claimed, verified, name)
        part = Part(self.folder, volume, manifest, handle, resume_data, verified, zeros)
        for other in self.folder.volumes.existing():
            if other is not volume:
                self._move_pieces(other, part, progress, stop)
        return part

    def saved_manifest(self, id_: str) -> Manifest | None:
        """Return the manifest in the resume data of an id, which saves asking a peer for it; None if there is none.

        Raises:
            StorageFault: if the disk failed.
        """
        for volume in self.folder.volumes.existing():
            with storage_faults("reading an unfinished file"):
                saved = ResumeData.load(volume, id_)
            if saved is not None:
                return saved.manifest
        return None

    def part_ids(self) -> list[str]:
        """Return the ids of all part files, in any volume that is mounted.

        Raises:
            StorageFault: if the disk failed.
        """
        names: list[str] = []
        for volume in self.folder.volumes.existing():
            with volume.dot as dot, storage_faults("reading unfinished files"):
                names += [entry.name for entry in self.disk.list_entries(dot)]
        return [name.removesuffix(PART_SUFFIX) for name in names if name.endswith(PART_SUFFIX)]

    def clean_up(self, now: float) -> None:
        """Delete what earlier processes left in the dot-folder of the shared folder itself.

        Those of other volumes are cleaned up when they are found, by a scan or a download.

        Args:
            now: the time in Unix seconds, to compare with modification times.

        Raises:
            StorageFault: if the disk failed.
        """
        if self.folder.volumes.main.has_dot():
            self._clean_up(self.folder.volumes.main, now)

    def discard(self, id_: str) -> None:
        """Delete the part of an id; does nothing if there is none."""
        for volume in self.folder.volumes.existing():
            _delete(volume, id_)

    def _clean_up(self, volume: Volume, now: float) -> None:
        with self.folder.opened() as root, volume.dot as dot, storage_faults("cleaning up unfinished files"):
            clean_up(self.disk, root, dot, now - self._keep_seconds)

    def _open_part(self, volume: Volume, manifest: Manifest, zeros: Bitmap) -> tuple[SharedFd, Bitmap]:
        """Open the part file at its full size; return it and the pieces that it claims to have."""
        name = manifest.id + PART_SUFFIX
        with volume.dot as dot:
            handle = self._open_existing(dot, name)
            if handle is not None:
                with handle as fd:
                    status = self.disk.fstat(fd)
                    saved = ResumeData.load(volume, manifest.id)
                    # st_nlink > 1: already linked as a published file, which must not be written to.
                    if status.st_size == manifest.size and status.st_nlink <= 1 and saved is not None:
                        self._reserve_space(dot, fd, manifest, zeros, saved.claimed)
                        return handle, saved.claimed
                handle.close()
                self.disk.unlink(name, dir_fd=dot)
            claimed = Bitmap(manifest.piece_count)
            handle = SharedFd(self.disk.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=dot))
            with handle as fd:
                try:
                    self.disk.truncate(fd, manifest.size)
                    self._reserve_space(dot, fd, manifest, zeros, claimed)
                except BaseException:
                    volume.delete(name)
                    raise
            return handle, claimed

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

    def _reserve_space(self, dot: int, fd: int, manifest: Manifest, zeros: Bitmap, claimed: Bitmap) -> None:
        """Reserve disk space for the missing pieces of a part file that has its full size. Zeros need none."""
        runs = list(_missing_runs(manifest, Bitmap(manifest.piece_count, zeros.mask | claimed.mask)))
        data = manifest.size - byte_count(manifest, zeros)
        # st_blocks counts units of 512 bytes. Written pieces may have holes, so both are limits.
        lacking = min(sum(length for _, length in runs), data - 512 * self.disk.fstat(fd).st_blocks)
        free = self.disk.free_bytes(dot)
        if lacking > free:
            raise DiskFull(f"{formatting.size(lacking - free)} more disk space is needed; make room", hint=Hint.RESUME)
        for offset, length in runs:
            self.disk.allocate(fd, offset, length)

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

    def _move_pieces(self, volume: Volume, part: Part, progress: ByteProgress | None, stop: CancelCheck) -> None:
        """Copy the pieces of the same content that are in a part of another volume, and delete that part."""
        manifest = part.manifest
        try:
            with storage_faults("reading an unfinished file"):
                saved = ResumeData.load(volume, manifest.id)
                with volume.dot as dot:
                    handle = self._open_existing(dot, manifest.id + PART_SUFFIX)
            if handle is None or saved is None:
                return
            with handle as fd:
                for piece in saved.claimed.present():
                    if stop():
                        raise Interrupted("stopped while reading an unfinished file", hint=Hint.RESUME)
                    with storage_faults("reading an unfinished file"):
                        data = self.disk.pread(fd, manifest.length(piece), manifest.offset(piece))
                    if piece not in part.verified and blake3(data).digest() == manifest.digest(piece):
                        part.store(piece, [data])
                        part.resumed_bytes += len(data)
                    if progress is not None:
                        progress(len(data))
            handle.close()
            _delete(volume, manifest.id)
        except BaseException:
            part.close()
            raise


def _missing_runs(manifest: Manifest, present: Bitmap) -> Iterator[tuple[int, int]]:
    """Yield offset and length of each run of pieces that are not present."""
    offset = length = 0
    for piece in range(manifest.piece_count):
        if piece not in present:
            if not length:
                offset = manifest.offset(piece)
            length += manifest.length(piece)
        elif length:
            yield offset, length
            length = 0
    if length:
        yield offset, length


def _delete(volume: Volume, id_: str) -> None:
    volume.delete(id_ + RESUME_DATA_SUFFIX)
    volume.delete(id_ + PART_SUFFIX)
