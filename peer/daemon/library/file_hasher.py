"""Hashes files of the shared folder, each alone or many in parallel, and counts the bytes. Changes nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

from daemon.errors import FileChanged, PeerError
from daemon.runtime.batches import batched
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.hashing import ByteProgress, CancelCheck, hash_file, not_cancelled
from daemon.storage.manifest import Manifest
from daemon.storage.open_file import OpenFile
from daemon.storage.shared_folder import SharedFolder

# Files that are hashed together.
_MAX_BATCH_FILES = 500
_MAX_BATCH_BYTES = 256 << 20


class HashableFile(Protocol):
    """A file of the shared folder, with its expected fingerprint."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Its fingerprint when it was found."""


F = TypeVar("F", bound=HashableFile)

# Called with the name of a file and a number of its bytes that were just hashed, from any thread.
FileProgress = Callable[[str, int], object]


class FileHasher:
    """Hashes files of one shared folder. Safe to use from many threads.

    Args:
        folder: the shared folder.
        on_hashed: called with the number of bytes of each piece that was hashed, from any thread.
        threads: the most threads to hash with.
    """

    def __init__(
        self, folder: SharedFolder, *, on_hashed: Callable[[int], object] = lambda _: None, threads: int = 2
    ) -> None:
        self._folder = folder
        self._on_hashed = on_hashed
        self._threads = threads

    def manifest(
        self,
        file: HashableFile,
        *,
        stop: CancelCheck = not_cancelled,
        progress: FileProgress | None = None,
        threads: int | None = None,
    ) -> Manifest:
        """Hash one file, and check that it did not change meanwhile.

        Args:
            file: the name of the file, and its expected fingerprint.
            stop: asked before each piece; hashing ends when it returns True.
            progress: called while the file is hashed.
            threads: the most threads to use; None for those of this object.

        Raises:
            FileChanged: if the file has another fingerprint before, or another one but for ctime after.
            NoSuchFile: if the file does not exist.
            Interrupted: if `stop` returned True.
            StorageFault: if the disk failed.
        """
        with self._open(file) as opened, opened.handle as fd:
            manifest = hash_file(
                self._folder.disk,
                fd,
                opened.fingerprint.size,
                progress=self._progress(file.name, progress),
                stop=stop,
                threads=threads or self._threads,
            )
            # If only ctime changed, as by a rename, the file has its old fingerprint no more, and is unconfirmed.
            opened.ensure_unchanged(ignore_ctime=True)
        return manifest

    def manifests(
        self,
        files: Sequence[HashableFile],
        *,
        stop: CancelCheck = not_cancelled,
        progress: FileProgress | None = None,
    ) -> list[Manifest | PeerError]:
        """Hash one of `batches`; return what `manifest` returns or raises for each file, in order."""
        # A large file is a batch of its own, and is hashed by all threads.
        threads = self._threads if len(files) == 1 else 1
        outcomes: list[Manifest | PeerError] = []
        with ThreadPoolExecutor(min(self._threads, len(files)), thread_name_prefix="hash-files") as pool:
            futures = [
                pool.submit(self.manifest, file, stop=stop, progress=progress, threads=threads) for file in files
            ]
            for future in futures:
                try:
                    outcomes.append(future.result())
                except PeerError as error:
                    outcomes.append(error)
        return outcomes

    def one_piece_matches(self, file: HashableFile, manifest: Manifest) -> bool:
        """Return whether one piece of a file, chosen at random, matches its manifest. An empty file matches.

        Raises:
            FileChanged, NoSuchFile, StorageFault: as `manifest` does.
        """
        if not manifest.piece_count:
            return True
        piece = secrets.randbelow(manifest.piece_count)
        with self._open(file) as opened:
            matches = opened.digest(manifest, piece) == manifest.digest(piece)
            opened.ensure_unchanged(ignore_ctime=True)
        self._on_hashed(manifest.length(piece))
        return matches

    @contextmanager
    def _open(self, file: HashableFile) -> Iterator[OpenFile]:
        with self._folder.open(file.name) as opened:
            if opened.fingerprint != file.fingerprint:
                raise FileChanged("modified just now; will be checked again by the next scan", name=file.name)
            yield opened

    def _progress(self, name: str, progress: FileProgress | None) -> ByteProgress:
        def on_bytes(count: int) -> None:
            self._on_hashed(count)
            if progress is not None:
                progress(name, count)

        return on_bytes


def batches(files: Iterable[F]) -> Iterator[list[F]]:
    """Split files into batches that are hashed, then shared, together. Small files are first: they are done sooner."""
    by_size = sorted(files, key=lambda file: file.fingerprint.size)
    return batched(by_size, _MAX_BATCH_FILES, _MAX_BATCH_BYTES, lambda file: file.fingerprint.size)
