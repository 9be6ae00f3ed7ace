"""Claims about unconfirmed files: they stay shared, nothing wrong is served of them, and reading them again decides."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from blake3 import blake3

from daemon.errors import FileChanged, Interrupted, NoSuchFile, StorageFault
from daemon.library.confirmer import Confirmer
from daemon.library.identity import Check
from daemon.library.library import Library, LocalFile
from daemon.library.manifest_cache import ManifestCache
from daemon.library.scanner import Scanner
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.transfer.served_files import CompleteFile, FileRequest, ServedFiles
from library_parts import make_confirmer, make_scanner
from manual_clock import ManualUnixClock

MIB = 1 << 20
OLD = 1_900_000_000
# Nine pieces.
CONTENT = b"".join(bytes([number]) * MIB for number in range(9))


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (OLD, OLD))


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Change content as some programs do that hide it: the modification time is set back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def manifest_of(data: bytes) -> Manifest:
    pieces = [data[offset : offset + MIB] for offset in range(0, len(data), MIB)]
    return Manifest(len(data), MIB, b"".join(blake3(piece).digest() for piece in pieces))


def id_of(data: bytes) -> str:
    return manifest_of(data).id


def shared(library: Library) -> dict[str, str]:
    return {entry.name: entry.id for entry in library.snapshot().entries}


@pytest.fixture
def hashed() -> list[int]:
    """The numbers of bytes that were hashed."""
    return []


@pytest.fixture
def confirmer(
    folder: SharedFolder, cache: ManifestCache, library: Library, clock: ManualUnixClock, hashed: list[int]
) -> Confirmer:
    return make_confirmer(folder, cache, library, clock=clock, on_hashed=hashed.append)


@pytest.fixture
def served(library: Library, folder: SharedFolder) -> ServedFiles:
    return ServedFiles(library, folder)


def test_changed_content_gets_a_new_id_though_the_mtime_was_kept(
    root: Path, scanner: Scanner, confirmer: Confirmer, library: Library
) -> None:
    put(root / "a", b"before")
    scanner.scan()
    overwrite(root / "a", 0, b"behind")
    scanner.scan()
    assert confirmer.confirm_some().changed == 1
    assert shared(library) == {"a": id_of(b"behind")}
    assert library.unconfirmed() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.chmod(0o600),
        lambda path: os.link(path, path.with_name(".link")),
        lambda path: os.utime(path, (1, OLD)),
    ],
    ids=["mode", "link", "atime"],
)
def test_a_change_of_the_inode_withdraws_nothing_and_is_confirmed_once(
    root: Path,
    scanner: Scanner,
    confirmer: Confirmer,
    library: Library,
    hashed: list[int],
    change: Callable[[Path], object],
) -> None:
    put(root / "a", CONTENT)
    scanner.scan()
    revision = library.revision
    change(root / "a")
    for _ in range(2):
        assert (scanner.scan().indexed, scanner.scan().removed) == (0, 0)
        assert len(library.unconfirmed()) == 1
    assert confirmer.confirm_some().unchanged == 1
    scanner.scan()
    assert confirmer.confirm_some().unchanged == 0
    assert library.unconfirmed() == []
    assert sum(hashed) == len(CONTENT)
    assert library.revision == revision


def test_a_confirmed_file_stays_confirmed_after_a_restart(
    root: Path,
    folder: SharedFolder,
    cache: ManifestCache,
    scanner: Scanner,
    confirmer: Confirmer,
    clock: ManualUnixClock,
) -> None:
    put(root / "a", b"1")
    scanner.scan()
    (root / "a").chmod(0o600)
    scanner.scan()
    confirmer.confirm_some()
    library = Library(cache)
    make_scanner(folder, cache, library, clock=clock).scan(hash_seconds=0)
    assert shared(library) == {"a": id_of(b"1")}
    assert library.unconfirmed() == []


def test_a_renamed_file_is_shared_at_once_and_confirmed_later(
    root: Path, scanner: Scanner, confirmer: Confirmer, library: Library
) -> None:
    put(root / "a", b"1")
    scanner.scan()
    (root / "a").rename(root / "b")
    scanner.scan(hash_seconds=0)
    assert shared(library) == {"b": id_of(b"1")}
    assert confirmer.confirm_some().unchanged == 1


def test_files_in_a_renamed_folder_stay_confirmed(
    root: Path, scanner: Scanner, confirmer: Confirmer, library: Library, hashed: list[int]
) -> None:
    put(root / "before/a", b"1")
    scanner.scan()
    (root / "before").rename(root / "after")
    scanner.scan(hash_seconds=0)
    assert shared(library) == {"after/a": id_of(b"1")}
    assert (library.unconfirmed(), hashed) == ([], [])


def test_a_command_hashes_an_unconfirmed_file_at_once(root: Path, scanner: Scanner, library: Library) -> None:
    put(root / "a", b"before")
    put(root / "b", b"same")
    scanner.scan()
    overwrite(root / "a", 0, b"behind")
    (root / "b").chmod(0o600)
    outcomes = scanner.index_files(["a", "b", "a"])
    assert [outcome.id for outcome in outcomes if isinstance(outcome, LocalFile)] == [
        id_of(data) for data in (b"behind", b"same", b"behind")
    ]
    assert library.unconfirmed() == []


@pytest.mark.parametrize("recorded", ["another device", "no ctime"])
def test_one_piece_confirms_a_file_of_another_device_or_an_earlier_release(
    root: Path,
    folder: SharedFolder,
    cache: ManifestCache,
    library: Library,
    scanner: Scanner,
    confirmer: Confirmer,
    hashed: list[int],
    tmp_path: Path,
    recorded: str,
) -> None:
    put(root / "a", CONTENT)
    fingerprint = folder.fingerprint("a")
    assert fingerprint is not None
    cache.put([(fingerprint._replace(dev=fingerprint.dev + 1), manifest_of(CONTENT))])
    if recorded == "no ctime":
        with closing(sqlite3.connect(tmp_path / "cache.sqlite", isolation_level=None)) as connection:
            connection.execute("UPDATE files SET ctime_ns = NULL")
    scanner.scan()
    assert shared(library) == {"a": id_of(CONTENT)}
    assert [file.check for file in library.unconfirmed()] == [Check.PIECE]
    assert confirmer.confirm_some().unchanged == 1
    assert hashed == [MIB]
    assert library.unconfirmed() == []


def test_another_file_with_the_same_inode_and_times_is_hashed_completely(
    root: Path,
    folder: SharedFolder,
    cache: ManifestCache,
    library: Library,
    scanner: Scanner,
    confirmer: Confirmer,
) -> None:
    put(root / "a", bytes(len(CONTENT)))
    fingerprint = folder.fingerprint("a")
    assert fingerprint is not None
    cache.put([(fingerprint._replace(dev=fingerprint.dev + 1), manifest_of(b"x" * len(CONTENT)))])
    scanner.scan()
    assert confirmer.confirm_some().changed == 1
    assert shared(library) == {"a": id_of(bytes(len(CONTENT)))}


def test_a_file_that_cannot_be_read_is_not_shared(
    root: Path, folder: SharedFolder, scanner: Scanner, confirmer: Confirmer, library: Library
) -> None:
    for name, data in (("bad", b"22"), ("good", b"1")):
        put(root / name, data)
    scanner.scan()
    for name in ("bad", "good"):
        (root / name).chmod(0o600)
    scanner.scan()
    read = folder.disk.pread_into

    def fail(fd: int, buffer: memoryview, offset: int) -> int:
        if len(buffer) == 2:
            raise OSError(5, "Input/output error")
        return read(fd, buffer, offset)

    folder.disk.pread_into = fail  # type: ignore[method-assign]
    outcomes = confirmer.confirm(sorted(library.unconfirmed(), key=lambda file: file.name))
    assert isinstance(outcomes[0], StorageFault)
    assert isinstance(outcomes[1], LocalFile)
    assert shared(library) == {"good": id_of(b"1")}
    for _ in range(2):
        scanner.scan()
    assert [item.name for item in scanner.not_shared] == ["bad"]


def test_confirming_stops_when_it_is_asked_to(
    root: Path, scanner: Scanner, confirmer: Confirmer, library: Library
) -> None:
    put(root / "a", CONTENT)
    scanner.scan()
    (root / "a").chmod(0o600)
    scanner.scan()
    with pytest.raises(Interrupted):
        confirmer.confirm_some(stop=lambda: True)
    assert len(library.unconfirmed()) == 1


def test_confirming_stops_when_its_time_is_over(
    root: Path, folder: SharedFolder, cache: ManifestCache, library: Library, scanner: Scanner
) -> None:
    ticks = iter(range(1000))
    confirmer = make_confirmer(folder, cache, library, clock=lambda: float(next(ticks)))
    for number in range(1100):
        put(root / f"{number}", b"%d" % number)
    scanner.scan()
    for path in root.iterdir():
        path.chmod(0o700)
    scanner.scan()
    rounds = [confirmer.confirm_some(seconds=1.5) for _ in range(3)]
    assert [(each.unchanged, each.more) for each in rounds] == [(500, True), (500, True), (100, False)]


# ------------------------------------------------------------------------------------------------------------ serving


def opened(served: ServedFiles, library: Library, name: str) -> CompleteFile:
    file = library.by_name(name)
    assert file is not None
    return served.open_complete(file.id)


def test_an_unconfirmed_file_serves_its_unchanged_pieces_and_no_other(
    root: Path, scanner: Scanner, library: Library, served: ServedFiles
) -> None:
    put(root / "a", CONTENT)
    scanner.scan()
    overwrite(root / "a", 3 * MIB, b"changed")
    scanner.scan()
    file = opened(served, library, "a")
    assert file.read(2, 5, 100) == CONTENT[2 * MIB + 5 :][:100]
    with pytest.raises(FileChanged):
        # Behind the change: the complete piece decides.
        file.read(3, 1000, 10)
    assert shared(library) == {}
    with pytest.raises(NoSuchFile):
        file.read(2, 5, 100)
    scanner.scan()
    scanner.scan()
    assert list(shared(library)) == ["a"] and shared(library) != {"a": id_of(CONTENT)}


def test_a_change_that_no_scan_has_seen_is_not_served(
    root: Path, scanner: Scanner, library: Library, served: ServedFiles
) -> None:
    put(root / "a", CONTENT)
    scanner.scan()
    before = opened(served, library, "a")
    overwrite(root / "a", 0, b"changed")
    after = opened(served, library, "a")
    for file in (before, after):
        assert file.read(8, 0, 10) == CONTENT[-10:]
    for file in (before, after):
        with pytest.raises((FileChanged, NoSuchFile)):
            file.read(0, 0, 10)


def test_a_new_mode_or_name_ends_no_stream(
    root: Path, scanner: Scanner, library: Library, served: ServedFiles, confirmer: Confirmer
) -> None:
    put(root / "a", CONTENT)
    scanner.scan()
    file = opened(served, library, "a")
    for number in range(3):
        (root / "a").chmod(0o600 + number)
        assert file.read(number, 0, 10) == bytes([number]) * 10
    scanner.scan()
    confirmer.confirm_some()
    (root / "a").rename(root / "b")
    assert file.read(8, 0, 10) == CONTENT[-10:]


def test_a_file_that_grows_while_it_is_served_is_not_served_further(
    root: Path, scanner: Scanner, library: Library, served: ServedFiles
) -> None:
    put(root / "a", CONTENT)
    scanner.scan()
    file = opened(served, library, "a")
    with (root / "a").open("ab") as writer:
        writer.write(b"more")
    with pytest.raises(FileChanged):
        file.read(0, 0, 10)


def test_a_small_unconfirmed_file_is_served_if_it_is_unchanged(
    root: Path, scanner: Scanner, library: Library, served: ServedFiles
) -> None:
    for name in ("same", "changed"):
        put(root / name, name.encode())
    scanner.scan()
    (root / "same").chmod(0o600)
    overwrite(root / "changed", 0, b"CHANGED")
    ids = [id_of(name.encode()) for name in ("same", "changed")]
    blocks, faults = served.read_small_files([FileRequest(number, id_) for number, id_ in enumerate(ids)])
    assert [(block.number, bytes(block.data)) for block in blocks] == [(0, b"same")]
    assert [fault.number for fault in faults] == [1]
    assert list(shared(library)) == ["same"]
