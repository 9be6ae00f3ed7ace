"""Files of this peer's own user brought into the shared folder, hashed and held: what an upload shares. Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.control_messages import Notice
from common.state_files import is_state_dir
from daemon.errors import BadName, BadUsage, Interrupted, NoSuchFile, NotAllowed, PeerError, StorageFault, TargetExists
from daemon.library.library import Library, LocalFile
from daemon.library.scanner import Scanner
from daemon.storage.disk import storage_faults
from daemon.storage.hashing import CancelCheck, hash_file
from daemon.storage.manifest import Manifest
from daemon.storage.names import check_name
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempCopy, TempFiles

# Files copied in, made durable and published together.
_BATCH_FILES = 500
_BATCH_BYTES = 64 << 20
_HASH_THREADS = 2

_ANOTHER = "a tracker or another pserver"
_DOT_FOLDER = "begins with a dot: its files are not shared"


class ImportItem(NamedTuple):
    """A file to share: where it lies, and the name it gets."""

    path: Path
    name: str
    size: int
    # It lies in the shared folder already.
    inside: bool


# Of what an upload names: a file, the name of one and why it cannot be shared, or a line that is no fault.
Collected = ImportItem | tuple[str, PeerError] | Notice
Outcome = tuple[str, LocalFile | PeerError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """Shares files of the user's."""

    folder: SharedFolder
    temporaries: TempFiles
    library: Library
    scanner: Scanner
    # Session and cookie lie here: never shared, however it is asked for.
    state_dir: Path

    def collect(self, path: str) -> list[Collected]:
        """Return the files that a path means: itself, or every regular file in it, named beginning with the folder's
        own name; why, where one cannot be shared; and what is no fault and yet worth a line.

        The user's own links are followed to what they lead to; links inside a folder are not, and counted in a line.
        """
        return list(self._collect(path))

    def _collect(self, path: str) -> Iterator[Collected]:
        try:
            with storage_faults(f"opening {path}"):
                status = os.stat(path)
        except ValueError:
            yield path, NoSuchFile("no path holds a NUL", name=path)
            return
        except PeerError as error:
            missing = not os.path.exists(path)
            yield path, NoSuchFile(f"there is no file {path}", name=path) if missing else error
            return
        real = Path(path).resolve()
        if real.is_relative_to(self.state_dir.resolve()):
            yield path, NotAllowed(f"{path} belongs to this peer's own state, which is never shared", name=path)
        elif any(map(is_state_dir, (real, *real.parents))):
            yield path, NotAllowed(f"{path} belongs to the state of {_ANOTHER}, which is never shared", name=path)
        elif stat.S_ISREG(status.st_mode):
            yield self._item(Path(path), Path(path).name, path)
        elif stat.S_ISDIR(status.st_mode) and not real.name:
            yield path, BadUsage(f"{path} has no name of its own to share it under: name folders in it", name=path)
        elif stat.S_ISDIR(status.st_mode) and real.name.startswith(".") and real != self.folder.root.resolve():
            yield path, BadName(_DOT_FOLDER, name=path)
        elif stat.S_ISDIR(status.st_mode):
            yield from list(self._walk(real)) or [Notice(f"{real.name}: no regular file in it to share")]
        else:
            yield path, NoSuchFile(f"{path} is neither a file nor a folder", name=path)

    def _walk(self, base: Path) -> Iterator[Collected]:
        private = self.state_dir.resolve()
        root = self.folder.root.resolve()
        unread: list[OSError] = []
        left_out = 0

        def name_of(path: Path) -> str:
            return f"{base.name}/{path.relative_to(base).as_posix()}"

        for folder, folders, files in os.walk(base, onerror=unread.append):
            if Path(folder) == private:
                folders.clear()
                continue
            if is_state_dir(folder):
                folders.clear()
                yield name_of(Path(folder)), NotAllowed(f"it is the state of {_ANOTHER}, which is never shared")
                continue
            dotted = sorted(name for name in folders if name.startswith("."))
            folders[:] = sorted(set(folders).difference(dotted))
            # Of those in the shared folder one is ours, and none is news.
            if Path(folder) != root:
                yield from ((name_of(Path(folder) / name), BadName(_DOT_FOLDER)) for name in dotted)
            left_out += sum(os.path.islink(os.path.join(folder, name)) for name in folders)
            for leaf in sorted(files):
                path = Path(folder) / leaf
                try:
                    regular = stat.S_ISREG(path.lstat().st_mode)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    unread.append(error)
                    continue
                if regular:
                    yield self._item(path, name_of(path), str(path))
                else:
                    left_out += 1
        if left_out:
            yield Notice(f"{base.name}: {_left_out(left_out)}")
        for fault in unread:
            path = Path(fault.filename)
            yield name_of(path), StorageFault(f"{fault.strerror} while reading {path}: the rest is shared")

    def _item(self, path: Path, name: str, shown: str) -> ImportItem | tuple[str, PeerError]:
        try:
            inside = self.folder.name_of(path)
            size = path.stat().st_size
            if inside is not None:
                return ImportItem(path, inside, size, inside=True)
            return ImportItem(path, check_name(name), size, inside=False)
        except BadName as error:
            return shown, BadName(f"{error.message}: rename it", name=error.name)
        except PeerError as error:
            return shown, error
        except OSError as error:
            return shown, NoSuchFile(f"{shown}: {error.strerror}", name=shown)

    def share(
        self,
        items: Sequence[ImportItem],
        *,
        stop: CancelCheck,
        on_copied: Callable[[str, int], None],
        on_hashed: Callable[[str, int], None],
    ) -> Iterator[Outcome]:
        """Share files, in batches; yields what became of each. `copied` and `hashed` are told of names and bytes.

        Raises:
            Interrupted: if `stop` answered true; what was shared until then stays.
        """
        for batch in _batches(items):
            if stop():
                raise Interrupted("stopped while sharing files: run it again")
            inside = [item.name for item in batch if item.inside]
            yield from zip(inside, self.scanner.index_files(inside, stop=stop, progress=on_hashed), strict=True)
            yield from self._copy_batch([item for item in batch if not item.inside], stop, on_copied, on_hashed)

    def _copy_batch(
        self,
        items: Sequence[ImportItem],
        stop: CancelCheck,
        on_copied: Callable[[str, int], None],
        on_hashed: Callable[[str, int], None],
    ) -> Iterator[Outcome]:
        """Copy files in and publish them together."""
        with ExitStack() as unpublished:
            ready: list[tuple[ImportItem, TempCopy, Manifest]] = []
            for item in items:
                try:
                    there = self._existing_copy(item, stop, on_hashed)
                    if there is not None:
                        yield item.name, there
                        continue
                    ready.append((item, *self._copy(item, unpublished, stop, on_copied, on_hashed)))
                except Interrupted:
                    raise
                except PeerError as error:
                    yield item.name, error
            if not ready:
                return
            self.temporaries.sync_all([temporary for _, temporary, _ in ready])
            stamps = self.folder.publish_many([(temporary.name, item.name) for item, temporary, _ in ready])
        published = [
            (item.name, stamp, manifest)
            for (item, _, manifest), stamp in zip(ready, stamps, strict=True)
            if not isinstance(stamp, PeerError)
        ]
        for held in self.library.register(published):
            yield held.name, held
        for (item, _, _), stamp in zip(ready, stamps, strict=True):
            if isinstance(stamp, PeerError):
                yield item.name, stamp

    def _existing_copy(
        self, item: ImportItem, stop: CancelCheck, on_hashed: Callable[[str, int], None]
    ) -> LocalFile | None:
        """Return what is shared under the name, if it has the same contents.

        Raises:
            TargetExists: if it has others.
        """
        # It may have been changed or removed since the last scan.
        self.scanner.remove_stale([item.name])
        held = self.library.by_name(item.name)
        if held is None and self.folder.fingerprint(item.name) is not None:
            (taken,) = self.scanner.index_files([item.name], stop=stop, progress=on_hashed)
            if isinstance(taken, PeerError):
                raise taken
            held = taken
        if held is None:
            return None
        if held.size != item.size or self._hash(item, stop, on_hashed).id != held.id:
            raise TargetExists(
                f"{held.name} is shared already with other contents: rename one of the two", name=item.name
            )
        return held

    def _hash(self, item: ImportItem, stop: CancelCheck, on_hashed: Callable[[str, int], None]) -> Manifest:
        with storage_faults(f"reading {item.path}"), item.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return hash_file(
                self.folder.disk,
                file.fileno(),
                size,
                stop=stop,
                progress=lambda count: on_hashed(item.name, count),
                threads=_HASH_THREADS,
            )

    def _copy(
        self,
        item: ImportItem,
        unpublished: ExitStack,
        stop: CancelCheck,
        on_copied: Callable[[str, int], None],
        on_hashed: Callable[[str, int], None],
    ) -> tuple[TempCopy, Manifest]:
        with storage_faults(f"reading {item.path}"), item.path.open("rb", buffering=0) as source:
            temporary = unpublished.enter_context(
                self.temporaries.copy_in(source.fileno(), stop=stop, progress=lambda count: on_copied(item.name, count))
            )
        with temporary.handle as fd:
            manifest = hash_file(
                self.folder.disk,
                fd,
                temporary.size,
                stop=stop,
                progress=lambda count: on_hashed(item.name, count),
                threads=_HASH_THREADS,
            )
        # Hundreds may wait for their batch: without a descriptor each.
        temporary.handle.close()
        return temporary, manifest


def _left_out(count: int) -> str:
    if count == 1:
        return "a link, or another thing that is no regular file, was left out"
    return f"{count:,} links or other things that are no regular files were left out"


def _batches(items: Sequence[ImportItem]) -> Iterator[list[ImportItem]]:
    batch: list[ImportItem] = []
    size = 0
    for item in items:
        if batch and (len(batch) == _BATCH_FILES or size + item.size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
    if batch:
        yield batch
