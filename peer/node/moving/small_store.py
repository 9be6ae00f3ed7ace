"""Files of one piece, made durable and published in batches: a sync for each of ten thousand would take minutes.
Blocking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from node.errors import NotVerified, PeerError
from node.files.pieces import PIECE_LENGTH_MIN, Manifest
from node.files.shared_folder import SharedFolder
from node.files.temporaries import Temporaries, Temporary
from node.holdings.library import Library

# What one batch holds, at most.
BATCH_FILES = 1024
BATCH_BYTES = 16 << 20
# A file of at most one piece goes this way.
SMALL = PIECE_LENGTH_MIN


class Small(NamedTuple):
    """A small file in memory, verified."""

    name: str
    manifest: Manifest
    data: bytes | memoryview


def verify(id_: str, data: bytes | memoryview) -> Manifest:
    """Return the manifest of a small file. Raises NotVerified if it is not the file of this id."""
    if len(data) > SMALL:
        raise NotVerified("the file is longer than one piece")
    manifest = Manifest.of_bytes(data)
    if manifest.id != id_:
        raise NotVerified("the file does not match its id")
    return manifest


class SmallStore:
    """Publishes small files."""

    def __init__(self, folder: SharedFolder, temporaries: Temporaries, library: Library) -> None:
        self._folder = folder
        self._temporaries = temporaries
        self._library = library

    def publish(self, files: Sequence[Small], *, kept: bool = False) -> list[PeerError | None]:
        """Publish verified files under their names; one outcome for each, in order. `kept`: at others' request.

        Raises:
            DiskFull, StorageFault: if the disk failed under all of them; nothing is published then.
        """
        unpublished: list[Temporary] = []
        try:
            unpublished.extend(self._temporaries.small(file.data) for file in files)
            self._temporaries.durable(unpublished)
            named = [(temporary.name, file.name) for temporary, file in zip(unpublished, files, strict=True)]
            stamps = self._folder.publish_many(named)
            unpublished = [one for one, stamp in zip(unpublished, stamps, strict=True) if isinstance(stamp, PeerError)]
        finally:
            for temporary in unpublished:
                temporary.discard()
        published = [
            (file.name, stamp, file.manifest)
            for file, stamp in zip(files, stamps, strict=True)
            if not isinstance(stamp, PeerError)
        ]
        self._library.adopt(published, kept=kept)
        return [stamp if isinstance(stamp, PeerError) else None for stamp in stamps]
