"""What this peer can serve, by id: whole files of the library, and files that are still being fetched.

Also tells askers of one file what is gained, and what is on its way to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakValueDictionary

from daemon.errors import BadUsage, NoSuchFile, PeerError
from daemon.library.library import Library
from daemon.protocol.frames import Block
from daemon.protocol.piece_streams import Have
from daemon.storage.manifest import PIECE_LENGTH_MIN, Manifest
from daemon.storage.part_file import Part
from daemon.storage.shared_folder import OpenFile, SharedFolder

Listener = Callable[[Have], None]


class PieceEvents:
    """The askers of one file."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        # Who is being sent a piece.
        self.being_sent: dict[int, set[Listener]] = {}

    def publish(self, have: Have, but: Listener | None = None) -> None:
        """Tell everybody but one."""
        for listener in self.listeners:
            if listener != but:
                listener(have)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have a listener told, until the returned function is called."""
        self.listeners.add(listener)
        return lambda: self.listeners.discard(listener)


class CompleteFile:
    """A file of the library, as piece_server.Source.

    Never serves bytes of a file that changed since it was hashed, or that was removed since it was opened.
    """

    def __init__(self, manifest: Manifest, file: OpenFile, audience: PieceEvents, held: Callable[[], bool]) -> None:
        """`held` tells whether the library has the contents still."""
        self.manifest = manifest
        self.name = file.name
        self._file = file
        self._audience = audience
        self._held = held
        self.subscribe = audience.subscribe

    def have(self) -> Have:
        """All of it."""
        return Have(complete=True)

    def read(self, piece: int, offset: int, length: int) -> bytes:
        """Return bytes of a piece.

        Raises:
            FileChanged: if they may not be the ones that were hashed.
            NoSuchFile: if the file was removed.
        """
        if not self._held():
            raise NoSuchFile("the file was removed or changed meanwhile", name=self.name)
        data = self._file.read(self.manifest.offset(piece) + offset, length)
        self._file.ensure_unchanged()
        return data

    def begin_send(self, piece: int, listener: Listener) -> None:
        """Tell the others that the piece will soon be elsewhere."""
        self._audience.being_sent.setdefault(piece, set()).add(listener)
        self._audience.publish(Have(in_flight=(piece,)), but=listener)

    def end_send(self, piece: int, listener: Listener) -> None:
        """The piece was sent to this asker, or will not be."""
        askers = self._audience.being_sent.get(piece, set())
        askers.discard(listener)
        if not askers:
            self._audience.being_sent.pop(piece, None)

    def is_being_sent(self, piece: int, listener: Listener) -> bool:
        """Tell whether another asker is being sent the piece."""
        return bool(self._audience.being_sent.get(piece, set()) - {listener})

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class PartialFile:
    """A file that is being fetched, as piece_server.Source: serves the pieces that verified.

    Those who ask it go on undisturbed when the file is published, or its transfer is broken off and begun anew: what is
    verified does not change, and the part is let go of by the last of them.
    """

    def __init__(self, part: Part, name: str) -> None:
        self.manifest = part.manifest
        self.name = name
        self._part = part
        self._audience = PieceEvents()
        self._users = 1
        self.subscribe = self._audience.subscribe

    def have(self) -> Have:
        """The pieces so far."""
        return Have(pieces=self._part.verified.mask)

    def read(self, piece: int, offset: int, length: int) -> bytes:
        """Return bytes of a piece that is here."""
        return self._part.read(piece, offset, length)

    def begin_send(self, piece: int, listener: Listener) -> None:
        """Nothing: whoever asks a growing file hears of its pieces from those who gain them."""

    def end_send(self, piece: int, listener: Listener) -> None:
        """Nothing either."""

    def is_being_sent(self, piece: int, listener: Listener) -> bool:
        """Never: others have what is here, too."""
        return False

    def add_piece(self, piece: int) -> None:
        """A piece has verified: tell the askers."""
        self._audience.publish(Have(gained=(piece,)))

    def acquire(self) -> PartialFile:
        """Note one more who will `close` it."""
        self._users += 1
        return self

    def close(self) -> None:
        """One less needs it."""
        self._users -= 1
        if not self._users:
            self._part.close()


class ServedFiles:
    """Finds the source of an id."""

    def __init__(self, library: Library, folder: SharedFolder) -> None:
        self._library = library
        self._folder = folder
        self._events: WeakValueDictionary[str, PieceEvents] = WeakValueDictionary()
        self._partial: dict[str, PartialFile] = {}

    @contextmanager
    def serve_partial(self, part: Part, name: str) -> Iterator[PartialFile]:
        """Serve the pieces of a file that is being fetched, for as long as that takes; then let go of the part."""
        file = self._partial[part.manifest.id] = PartialFile(part, name)
        try:
            yield file
        finally:
            del self._partial[part.manifest.id]
            file.close()

    def open_partial(self, id_: str) -> PartialFile | None:
        """Return the file of an id that is being fetched; the caller closes it.

        None if it is not. On the event loop only.
        """
        growing = self._partial.get(id_)
        return growing.acquire() if growing is not None else None

    def open_complete(self, id_: str) -> CompleteFile:
        """Open a whole file that is still what was hashed; the caller closes it. Blocking, as all that follow.

        Raises:
            NoSuchFile: if there is none.
        """
        file = self.open_file(id_)
        try:
            manifest = self._library.manifest(id_)
        except NoSuchFile:
            file.close()
            raise
        return CompleteFile(manifest, file, self._events_of(id_), lambda: self.has(id_))

    def has(self, id_: str) -> bool:
        """Tell whether the library has these contents whole."""
        return bool(self._library.by_id(id_))

    def open_file(self, id_: str) -> OpenFile:
        """Like open_whole, without manifest and audience: for small files."""
        for held in self._library.by_id(id_):
            try:
                file = self._folder.open(held.name)
            except NoSuchFile:
                continue
            if file.fingerprint == held.fingerprint:
                return file
            file.close()
        raise NoSuchFile("this peer does not have it any more")

    def read_small_files(self, files: Sequence[tuple[int, str]]) -> tuple[list[Block], list[tuple[int, PeerError]]]:
        """Read whole files of one piece, given as (number, id): those that could be read, and why the others could
        not.
        """
        blocks: list[Block] = []
        faults: list[tuple[int, PeerError]] = []
        for number, id_ in files:
            try:
                with self.open_file(id_) as file:
                    if file.fingerprint.size > PIECE_LENGTH_MIN:
                        raise BadUsage("the file has more than one piece: ask for its pieces")
                    data = file.read(0, file.fingerprint.size)
                    file.ensure_unchanged()
                blocks.append(Block(number, 0, data))
            except PeerError as error:
                faults.append((number, error))
        return blocks, faults

    def manifest(self, id_: str) -> Manifest:
        """Return the manifest of an id. Raises NoSuchFile if there is nothing of it here."""
        growing = self._partial.get(id_)
        if growing is not None:
            return growing.manifest
        if not self.has(id_):
            raise NoSuchFile("this peer does not have it any more")
        return self._library.manifest(id_)

    def _events_of(self, id_: str) -> PieceEvents:
        audience = self._events.get(id_)
        if audience is None:
            # Held by those who are in it; gone with the last.
            audience = self._events[id_] = PieceEvents()
        return audience
