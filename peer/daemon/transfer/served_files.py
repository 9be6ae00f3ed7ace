"""The files that this peer can serve, by id: complete files of the library, and partial files of running downloads.

A served file also reports to its requesters which pieces it gained, and which are in flight to other requesters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from weakref import WeakValueDictionary

from blake3 import blake3

from daemon.errors import BadUsage, FileChanged, NoSuchFile, PeerError
from daemon.library.library import Library, LocalFile
from daemon.protocol.frames import Block
from daemon.protocol.transfer_messages import Have
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.manifest import PIECE_LENGTH_MIN, Manifest
from daemon.storage.open_file import OpenFile
from daemon.storage.part_file import Part
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.sparse import data_bytes

# Reads of one block until a file whose fingerprint changes at each of them is given up.
_MAX_READS = 5
_NOT_SHARED = "this peer no longer shares the file: ask another holder"

# Receives the events of one file. It identifies the requester.
Listener = Callable[[Have], None]


class FileRequest(NamedTuple):
    """A small file that a requester asks for."""

    # Chosen by the requester; the answer has it too.
    number: int
    id: str


class FileFault(NamedTuple):
    """A requested file that could not be read."""

    number: int
    error: PeerError


class PieceEvents:
    """The requesters of one file, and the pieces that are being sent to them."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        # Piece -> the requesters that it is being sent to.
        self._being_sent: dict[int, set[Listener]] = {}

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Send events to `listener`; return the function that ends this."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def publish(self, have: Have, exclude: Listener | None = None) -> None:
        """Send an event to all listeners except `exclude`."""
        for listener in self._listeners:
            if listener != exclude:
                listener(have)

    def begin_send(self, piece: int, listener: Listener) -> None:
        """Report to all other requesters that a piece is in flight to `listener`."""
        self._being_sent.setdefault(piece, set()).add(listener)
        self.publish(Have(in_flight=(piece,)), exclude=listener)

    def end_send(self, piece: int, listener: Listener) -> None:
        """Record that a piece was sent to `listener`, or will not be."""
        requesters = self._being_sent.get(piece, set())
        requesters.discard(listener)
        if not requesters:
            self._being_sent.pop(piece, None)

    def is_being_sent(self, piece: int, listener: Listener) -> bool:
        """Return whether a piece is being sent to a requester other than `listener`."""
        return bool(self._being_sent.get(piece, set()) - {listener})


class CompleteFile:
    """A file of the library, as `piece_sender.ServedFile`.

    It never serves data of a file that was removed since it was opened, or that changed since it was hashed. If only
    the file's ctime differs, as after a rename or a new mode, a piece is hashed before its first block is sent.
    """

    def __init__(self, manifest: Manifest, file: OpenFile, events: PieceEvents, library: Library) -> None:
        """Serve an open file.

        Args:
            manifest: The manifest of the file.
            file: The open file; closed by `close`.
            events: The requesters of this content.
            library: The library that has the file.
        """
        self.manifest = manifest
        self.name = file.name
        self._file = file
        self._library = library
        # The fingerprint that was trusted last, and the pieces that were hashed since the file has it; None for all.
        self._trusted = file.fingerprint
        self._verified: set[int] | None = None if self._is_confirmed(file.fingerprint) else set()
        self.subscribe = events.subscribe
        self.begin_send = events.begin_send
        self.end_send = events.end_send
        self.is_being_sent = events.is_being_sent

    def have(self) -> Have:
        """Return that all pieces are present."""
        return Have(complete=True)

    def read(self, piece: int, offset: int, length: int) -> bytes:
        """Return `length` bytes of a piece, from `offset` bytes after its start. Blocking.

        Raises:
            FileChanged: if the bytes may differ from those that were hashed.
            NoSuchFile: if the file was removed.
        """
        for _ in range(_MAX_READS):
            if self._library.any_by_id(self.manifest.id) is None:
                raise NoSuchFile("the file was removed or changed meanwhile", name=self.name)
            data = self._file.read(self.manifest.offset(piece) + offset, length)
            now = self._file.current_fingerprint()
            if now != self._trusted:
                self._trust(now)
            elif self._verified is None or piece in self._verified:
                return data
            elif length == self.manifest.length(piece):
                self._verify(piece, blake3(data).digest())
                return data
            else:
                self._verify(piece, self._file.digest(self.manifest, piece))
                self._verified.add(piece)
            # Read again: the data may be older than what is trusted.
        raise FileChanged("the file changes all the time", name=self.name)

    def _trust(self, now: Fingerprint) -> None:
        """Begin to verify the pieces of a file whose fingerprint changed to `now`.

        Raises:
            FileChanged: if more than ctime differs.
        """
        if not now.equals_but_ctime(self._trusted):
            raise FileChanged("the file changed while it was read", name=self.name)
        self._trusted = now
        self._verified = None if self._is_confirmed(now) else set()

    def _verify(self, piece: int, digest: bytes) -> None:
        """Check the digest of a piece; withdraw the file if it is wrong.

        Raises:
            FileChanged: if it is wrong.
        """
        if digest != self.manifest.digest(piece):
            self._library.discard([file for file in self._library.by_id(self.manifest.id) if file.name == self.name])
            raise FileChanged("the file changed; its present content gets another id", name=self.name)

    def _is_confirmed(self, fingerprint: Fingerprint) -> bool:
        return any(
            file.confirmed and (file.name, file.fingerprint) == (self.name, fingerprint)
            for file in self._library.by_id(self.manifest.id)
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class PartialFile:
    """A file that is being downloaded, as `piece_sender.ServedFile`: serves its verified pieces.

    Readers survive publication and restarts of the download: verified pieces never change, and the reference-counted
    part file is closed by the last reader.
    """

    def __init__(self, part: Part, name: str) -> None:
        self.manifest = part.manifest
        self.name = name
        self._part = part
        self._events = PieceEvents()
        self._users = 1
        self.subscribe = self._events.subscribe

    def have(self) -> Have:
        """Return the verified pieces."""
        return Have(pieces=self._part.verified.mask)

    def read(self, piece: int, offset: int, length: int) -> bytes:
        """Return `length` bytes of a verified piece, from `offset` bytes after its start. Blocking.

        Raises:
            PeerError: if the piece is missing, or the disk failed.
        """
        return self._part.read(piece, offset, length)

    def begin_send(self, piece: int, listener: Listener) -> None:
        """Report nothing: the requester itself announces the piece when it has it."""

    def end_send(self, piece: int, listener: Listener) -> None:
        """Do nothing, as `begin_send`."""

    def is_being_sent(self, piece: int, listener: Listener) -> bool:
        """Return False: other peers have the pieces too, so no request for one is deferred."""
        return False

    def add_piece(self, piece: int) -> None:
        """Report a newly verified piece to the requesters."""
        self._events.publish(Have(gained=(piece,)))

    def acquire(self) -> PartialFile:
        """Count one more user, which will call `close`."""
        self._users += 1
        return self

    def close(self) -> None:
        """Count one user less; the last one closes the part file."""
        self._users -= 1
        if not self._users:
            self._part.close()


class ServedFiles:
    """Opens the files that this peer serves."""

    def __init__(self, library: Library, folder: SharedFolder) -> None:
        self._library = library
        self._folder = folder
        # Complete files only; each entry is removed with its last requester.
        self._events: WeakValueDictionary[str, PieceEvents] = WeakValueDictionary()
        self._partial: dict[str, PartialFile] = {}

    @property
    def partial_files(self) -> list[PartialFile]:
        """The files that are being downloaded now."""
        return list(self._partial.values())

    @contextmanager
    def serve_partial(self, part: Part, name: str) -> Iterator[PartialFile]:
        """Serve the verified pieces of a download inside the `with` block; then close the part."""
        file = self._partial[part.manifest.id] = PartialFile(part, name)
        try:
            yield file
        finally:
            del self._partial[part.manifest.id]
            file.close()

    def open_partial(self, id_: str) -> PartialFile | None:
        """Return the file of an id if it is being downloaded; the caller closes it. On the event loop only."""
        partial = self._partial.get(id_)
        return partial.acquire() if partial is not None else None

    def open_complete(self, id_: str) -> CompleteFile:
        """Open a complete file that has not changed since it was hashed; the caller closes it. Blocking.

        Raises:
            NoSuchFile: if this peer has none.
        """
        file = self.open_file(id_)
        try:
            manifest = self._library.manifest(id_)
        except NoSuchFile:
            file.close()
            raise
        return CompleteFile(manifest, file, self._events_of(id_), self._library)

    def data_bytes(self, id_: str) -> int:
        """Return the disk space that a copy of a complete file needs; zeros need none. Blocking.

        Raises:
            NoSuchFile: if this peer does not have the file.
            StorageFault: if the manifest cache cannot be read.
        """
        return data_bytes(self._library.manifest(id_))

    def has(self, id_: str) -> bool:
        """Return whether the library has this content completely."""
        return self._library.any_by_id(id_) is not None

    def open_file(self, id_: str) -> OpenFile:
        """Open a complete file without its manifest and events; the caller closes it. Blocking.

        The caller verifies what it reads: only ctime may differ from that of the file that was hashed.

        Raises:
            NoSuchFile: if this peer has none.
        """
        return self._open(id_)[0]

    def _open(self, id_: str) -> tuple[OpenFile, LocalFile]:
        """Open a file with an id, a confirmed one if there is one; return the library's file, too.

        Raises:
            NoSuchFile: if this peer has none.
        """
        # Ten thousand files may have the content, so one is tried before all of them.
        first = self._library.any_by_id(id_)
        file = None if first is None else self._open_unchanged(first)
        if first is not None and file is not None:
            return file, first
        for local in sorted(self._library.by_id(id_), key=lambda local: local.check):
            file = self._open_unchanged(local)
            if file is not None:
                return file, local
        raise NoSuchFile(_NOT_SHARED)

    def _open_unchanged(self, local: LocalFile) -> OpenFile | None:
        """Open a file of the library; None if it is not the one that was hashed, but for its ctime."""
        try:
            file = self._folder.open(local.name)
        except NoSuchFile:
            return None
        if file.fingerprint.equals_but_ctime(local.fingerprint):
            return file
        file.close()
        return None

    def read_small_files(self, requests: Sequence[FileRequest]) -> tuple[list[Block], list[FileFault]]:
        """Read complete files of one piece each. Blocking.

        Returns:
            A block for each file that could be read, and a fault for each that could not.
        """
        blocks: list[Block] = []
        faults: list[FileFault] = []
        for number, id_ in requests:
            try:
                blocks.append(Block(number, 0, self._read_small(id_)))
            except PeerError as error:
                faults.append(FileFault(number, error))
        return blocks, faults

    def _read_small(self, id_: str) -> bytes:
        file, local = self._open(id_)
        with file:
            if file.fingerprint.size > PIECE_LENGTH_MIN:
                raise BadUsage("the file has more than one piece: request its pieces")
            data = file.read(0, file.fingerprint.size)
            if local.confirmed and file.current_fingerprint() == local.fingerprint:
                return data
        if Manifest.of_bytes(data).id != id_:
            self._library.discard([local])
            raise FileChanged("the file changed; its present content gets another id", name=local.name)
        return data

    def manifest(self, id_: str) -> Manifest:
        """Return the manifest of a complete or partial file. Blocking.

        Raises:
            NoSuchFile: if this peer has no piece of it.
        """
        partial = self._partial.get(id_)
        if partial is not None:
            return partial.manifest
        if not self.has(id_):
            raise NoSuchFile(_NOT_SHARED)
        return self._library.manifest(id_)

    def _events_of(self, id_: str) -> PieceEvents:
        events = self._events.get(id_)
        if events is None:
            events = self._events[id_] = PieceEvents()
        return events
