"""Publishes small files in batches: one sync for each of ten thousand files would take minutes. Blocking."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from daemon.errors import NotVerified, PeerError, TargetExists
from daemon.library.library import HashedFile, Library
from daemon.models import NO_ATTRIBUTES, Attributes
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.manifest import PIECE_LENGTH_MIN, Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFile, TempFiles

# The most that one batch contains.
BATCH_MAX_FILES = 1024
BATCH_MAX_BYTES = 16 << 20
# The most bytes of a small file: one piece.
SMALL_FILE_MAX = PIECE_LENGTH_MIN


class SmallFile(NamedTuple):
    """A verified small file in memory."""

    name: str
    manifest: Manifest
    data: bytes | memoryview
    attributes: Attributes = NO_ATTRIBUTES


def verify(id_: str, data: bytes | memoryview) -> Manifest:
    """Return the manifest of a small file.

    Raises:
        NotVerified: if the data is not that of the id.
    """
    if len(data) > SMALL_FILE_MAX:
        raise NotVerified("the file is longer than one piece")
    manifest = Manifest.of_bytes(data)
    if manifest.id != id_:
        raise NotVerified("the file does not match its id")
    return manifest


class BatchStore:
    """Publishes small files."""

    def __init__(self, folder: SharedFolder, temp_files: TempFiles, library: Library) -> None:
        self._folder = folder
        self._temp_files = temp_files
        self._library = library

    def publish(self, files: Sequence[SmallFile], *, replica: bool = False) -> list[PeerError | None]:
        """Publish verified files under their names and add them to the library.

        A file that exists with the same content counts as published, but never as a replica: another transfer was
        faster.

        Args:
            files: At most BATCH_MAX_FILES files.
            replica: The files are stored at another peer's request.

        Returns:
            For each file, in order, the error if it is not published, or None.

        Raises:
            DiskFull, StorageFault: if the disk failed for all of them. Then nothing is published.
        """
        outcomes = self._publish_files(files)
        errors: list[PeerError | None] = []
        published: list[HashedFile] = []
        existing: list[HashedFile] = []
        for file, outcome in zip(files, outcomes, strict=True):
            found = self._existing(file) if isinstance(outcome, TargetExists) else None
            if isinstance(outcome, Fingerprint):
                published.append(HashedFile(file.name, outcome, file.manifest))
            elif found is not None:
                existing.append(HashedFile(file.name, found, file.manifest))
            errors.append(outcome if isinstance(outcome, PeerError) and found is None else None)
        self._library.register(published, replica=replica)
        if existing:
            self._library.register(existing)
        return errors

    def _publish_files(self, files: Sequence[SmallFile]) -> list[Fingerprint | PeerError]:
        """Publish verified files; return the fingerprint or the error of each, in order."""
        errors: dict[int, PeerError] = {}
        unpublished: dict[int, TempFile] = {}
        try:
            for position, volume in enumerate(self._folder.volumes.locate(file.name for file in files)):
                if isinstance(volume, PeerError):
                    errors[position] = volume
                else:
                    file = files[position]
                    unpublished[position] = self._temp_files.write(file.data, volume, file.attributes)
            self._temp_files.sync_all(list(unpublished.values()))
            named = [temporary.named(files[position].name) for position, temporary in unpublished.items()]
            outcomes = dict(zip(list(unpublished), self._folder.publish_many(named), strict=True))
            for position, outcome in outcomes.items():
                if isinstance(outcome, Fingerprint):
                    del unpublished[position]
        finally:
            for temporary in unpublished.values():
                temporary.discard()
        return [errors[position] if position in errors else outcomes[position] for position in range(len(files))]

    def _existing(self, file: SmallFile) -> Fingerprint | None:
        """Return the fingerprint of the file of this name if it has the same content.

        The library cannot answer this: the other transfer registers the file after publishing it.
        """
        with suppress(PeerError), self._folder.open(file.name) as existing:
            size = existing.fingerprint.size
            if size == file.manifest.size and existing.read(0, size) == file.data:
                existing.ensure_unchanged()
                return existing.fingerprint
        return None
