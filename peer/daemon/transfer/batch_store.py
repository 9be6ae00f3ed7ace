"""Files of one piece, made durable and published in batches: a sync for each of ten thousand would take minutes.
Blocking.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from daemon.errors import NotVerified, PeerError, TargetExists
from daemon.library.library import Library
from daemon.storage.manifest import PIECE_LENGTH_MIN, Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFile, TempFiles
from daemon.storage.walk import Fingerprint

# What one batch holds, at most.
BATCH_MAX_FILES = 1024
BATCH_MAX_BYTES = 16 << 20
# A file of at most one piece goes this way.
SMALL_FILE_MAX = PIECE_LENGTH_MIN

_Published = tuple[str, Fingerprint, Manifest]


class SmallFile(NamedTuple):
    """A small file in memory, verified."""

    name: str
    manifest: Manifest
    data: bytes | memoryview


def verify(id_: str, data: bytes | memoryview) -> Manifest:
    """Return the manifest of a small file. Raises NotVerified if it is not the file of this id."""
    if len(data) > SMALL_FILE_MAX:
        raise NotVerified("the file is longer than one piece")
    manifest = Manifest.of_bytes(data)
    if manifest.id != id_:
        raise NotVerified("the file does not match its id")
    return manifest


class BatchStore:
    """Publishes small files."""

    def __init__(self, folder: SharedFolder, temporaries: TempFiles, library: Library) -> None:
        self._folder = folder
        self._temporaries = temporaries
        self._library = library

    def publish(self, files: Sequence[SmallFile], *, replica: bool = False) -> list[PeerError | None]:
        """Publish verified files under their names; one outcome for each, in order. `kept`: at others' request.

        One that lies there already, because another transfer was quicker, is published, and not at this request.

        Raises:
            DiskFull, StorageFault: if the disk failed under all of them; nothing is published then.
        """
        unpublished: list[TempFile] = []
        try:
            unpublished.extend(self._temporaries.write(file.data) for file in files)
            self._temporaries.sync_all(unpublished)
            named = [(temporary.name, file.name) for temporary, file in zip(unpublished, files, strict=True)]
            stamps = self._folder.publish_many(named)
            unpublished = [one for one, stamp in zip(unpublished, stamps, strict=True) if isinstance(stamp, PeerError)]
        finally:
            for temporary in unpublished:
                temporary.discard()
        outcomes: list[PeerError | None] = []
        published: list[_Published] = []
        present: list[_Published] = []
        for file, stamp in zip(files, stamps, strict=True):
            there = self._existing(file) if isinstance(stamp, TargetExists) else None
            if isinstance(stamp, Fingerprint):
                published.append((file.name, stamp, file.manifest))
            elif there is not None:
                present.append((file.name, there, file.manifest))
            outcomes.append(stamp if isinstance(stamp, PeerError) and there is None else None)
        self._library.register(published, replica=replica)
        if present:
            self._library.register(present)
        return outcomes

    def _existing(self, file: SmallFile) -> Fingerprint | None:
        """Return the stamp of what lies under a file's name, if it has the same contents.

        The library may not know yet: whoever published it holds it only then.
        """
        with suppress(PeerError), self._folder.open(file.name) as there:
            if there.fingerprint.size == file.manifest.size and there.read(0, there.fingerprint.size) == file.data:
                there.ensure_unchanged()
                return there.fingerprint
        return None
