"""Claims about scanning: a file is shared when it stops changing, and removed when it changes or is deleted."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from bit_rot import flip_byte
from daemon.errors import BadName, BadUsage, Interrupted, NoSuchFile, PeerError, StorageFault, TargetExists
from daemon.library.library import HashedFile, Library, LocalFile
from daemon.library.manifest_cache import ManifestCache
from daemon.library.scanner import Scanner
from daemon.storage.disk import Disk
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.manifest import Manifest
from daemon.storage.part_file import PartStore
from daemon.storage.shared_folder import SharedFolder
from library_parts import make_confirmer, make_scanner
from manual_clock import ManualUnixClock

MIB = 1 << 20
OLD = 1_900_000_000


def put(root: Path, name: str, data: bytes, at: int = OLD) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (at, at))


def id_of(data: bytes) -> str:
    return Manifest.of_bytes(data).id


def shared(library: Library) -> dict[str, str]:
    return {entry.name: entry.id for entry in library.snapshot()[1]}


class Reads:
    """Counts the files that are hashed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str, count: int) -> None:
        self.names.append(name)


def test_the_first_scan_shares_files_that_are_not_being_changed(root: Path, scanner: Scanner, library: Library) -> None:
    put(root, "a", b"1")
    put(root, "b/c", b"2")
    put(root, "empty", b"")
    scan = scanner.scan()
    assert (scan.indexed, scan.removed, scan.changing) == (3, 0, 0)
    assert shared(library) == {"a": id_of(b"1"), "b/c": id_of(b"2"), "empty": id_of(b"")}
    assert library.manifest(id_of(b"1")) == Manifest.of_bytes(b"1")


def test_a_file_that_still_changes_is_not_shared(
    root: Path, scanner: Scanner, library: Library, clock: ManualUnixClock
) -> None:
    put(root, "a", b"1", at=int(clock()) - 1)
    assert scanner.scan().changing == 1
    put(root, "a", b"12", at=int(clock()) - 1)
    put(root, "b", b"old, but new here")
    assert scanner.scan().changing == 2
    put(root, "a", b"123", at=int(clock()))
    assert scanner.scan().changing == 1
    assert shared(library) == {"b": id_of(b"old, but new here")}
    assert scanner.scan().indexed == 1
    assert shared(library)["a"] == id_of(b"123")


def test_a_restart_does_not_hash_unchanged_files_again(
    root: Path, scanner: Scanner, folder: SharedFolder, cache: ManifestCache
) -> None:
    for number in range(20):
        put(root, f"{number}", b"%d" % number)
    scanner.scan()
    put(root, "3", b"other")
    reads = Reads()
    library = Library(cache)
    again = make_scanner(folder, cache, library, clock=lambda: OLD + 100.0)
    assert again.scan(progress=reads).indexed == 20
    assert reads.names == ["3"]
    assert library.by_name("3") is not None and shared(library)["3"] == id_of(b"other")


def test_replicas_deleted_or_changed_while_stopped_free_their_quota(
    root: Path, scanner: Scanner, folder: SharedFolder, cache: ManifestCache, clock: ManualUnixClock
) -> None:
    names = ("there", "gone", "changed", "renamed", "replaced", "cased")
    for name in (*names, "another"):
        put(root, name, name.encode())
    scanner.scan()
    cache.record_replicas([(name, id_of(name.encode()), len(name)) for name in names])
    (root / "gone").unlink()
    put(root, "changed", b"other")
    (root / "renamed").rename(root / "elsewhere")
    # The cache knows this fingerprint. So the file is shared at once; the replica record of its name has another id.
    (root / "another").rename(root / "replaced")
    (root / "cased").rename(root / "Cased")
    make_scanner(folder, cache, Library(cache), clock=clock).scan(hash_seconds=0)
    assert cache.replica_usage() == (1, len("there"))


def test_replicas_in_a_folder_that_reappears_count_towards_the_quota(
    root: Path, scanner: Scanner, library: Library, cache: ManifestCache
) -> None:
    for name in ("stays", "goes"):
        put(root, name, name.encode())
        manifest = Manifest.of_bytes(name.encode())
        library.register([HashedFile(name, Fingerprint.from_stat((root / name).stat()), manifest)], replica=True)
    elsewhere = root.with_name("elsewhere")
    root.rename(elsewhere)
    for _ in range(2):
        scanner.scan()
        assert (shared(library), cache.replica_usage().entries) == ({}, 2)
    (elsewhere / "goes").unlink()
    elsewhere.rename(root)
    scanner.scan()
    assert list(shared(library)) == ["stays"]
    assert cache.replica_usage() == (1, len("stays"))


def test_a_renamed_file_is_not_hashed_again(root: Path, scanner: Scanner, library: Library) -> None:
    put(root, "a", b"1")
    scanner.scan()
    (root / "a").rename(root / "b")
    reads = Reads()
    scan = scanner.scan(progress=reads)
    assert (scan.indexed, scan.removed, reads.names) == (1, 1, [])
    assert shared(library) == {"b": id_of(b"1")}


def test_changed_and_deleted_files_are_removed_by_the_next_scan(root: Path, scanner: Scanner, library: Library) -> None:
    for name in ("a", "b", "c/d"):
        put(root, name, name.encode())
    scanner.scan()
    version = library.revision
    put(root, "a", b"changed")
    (root / "c/d").unlink()
    assert scanner.scan().removed == 2
    changes = library.changes_since(version)
    assert changes is not None
    assert set(changes.removed) == {("a", id_of(b"a")), ("c/d", id_of(b"c/d"))} and not changes.added
    scanner.scan()
    assert shared(library) == {"a": id_of(b"changed"), "b": id_of(b"b")}


def test_no_file_is_removed_while_the_folder_cannot_be_read(
    root: Path, scanner: Scanner, library: Library, folder: SharedFolder
) -> None:
    put(root, "a", b"1")
    scanner.scan()

    def fail(fd: int) -> list[os.DirEntry[str]]:
        raise OSError(5, "Input/output error")

    folder.disk.list_entries = fail  # type: ignore[method-assign]
    with pytest.raises(PeerError):
        scanner.scan()
    assert shared(library) == {"a": id_of(b"1")}


class Closed(Disk):
    """A disk on which the folder "closed" cannot be opened, as after chmod 0."""

    def open(self, path: str, flags: int, *, mode: int = 0o644, dir_fd: int | None = None) -> int:
        if path == "closed":
            raise PermissionError(13, "Permission denied", path)
        return super().open(path, flags, mode=mode, dir_fd=dir_fd)


def test_an_unreadable_folder_does_not_stop_other_files_from_being_shared(
    root: Path, folder: SharedFolder, scanner: Scanner, library: Library
) -> None:
    put(root, "closed/a", b"1")
    scanner.scan()
    folder.disk = Closed()
    put(root, "b", b"2")
    scanner.scan()
    scanner.scan()
    assert shared(library) == {"b": id_of(b"2")}
    assert [item.name for item in scanner.not_shared] == ["closed"]


def test_an_unreadable_file_named_by_a_command_fails_alone(
    root: Path, folder: SharedFolder, scanner: Scanner, library: Library
) -> None:
    put(root, "closed/a", b"1")
    scanner.scan()
    folder.disk = Closed()
    put(root, "b", b"2")
    assert [type(outcome) for outcome in scanner.index_files(["closed/a", "b"])] == [StorageFault, LocalFile]
    assert shared(library) == {"b": id_of(b"2")}


def test_files_that_wait_for_hashing_are_pending(root: Path, scanner: Scanner, clock: ManualUnixClock) -> None:
    seen: list[dict[str, str]] = []
    put(root, "new", b"1", at=int(clock()) - 1)
    put(root, "old", b"2")
    scanner.scan(progress=lambda name, size: seen.append(scanner.pending.copy()))
    assert list(seen[0]) == ["new", "old"]
    assert "modified recently" in seen[0]["new"] and seen[0]["old"] == "hashing"
    assert list(scanner.pending) == ["new"]
    scanner.scan()
    assert scanner.pending == {}


def test_a_scan_gives_the_reason_for_each_file_that_is_not_shared(root: Path, scanner: Scanner, tmp_path: Path) -> None:
    (root / "link").symlink_to(tmp_path)
    put(root, "A", b"")
    put(root, "a", b"")
    put(root, "con", b"")
    scanner.scan()
    assert [item.name for item in scanner.not_shared] == ["a", "con", "link"]
    (root / "link").unlink()
    scanner.scan()
    assert [item.name for item in scanner.not_shared] == ["a", "con"]


def test_an_unreadable_file_is_reported_as_not_shared(root: Path, scanner: Scanner, folder: SharedFolder) -> None:
    put(root, "good", b"1")
    put(root, "bad", b"22")
    read = folder.disk.pread_into

    def fail(fd: int, buffer: memoryview, offset: int) -> int:
        if len(buffer) == 2:
            raise OSError(5, "Input/output error")
        return read(fd, buffer, offset)

    folder.disk.pread_into = fail  # type: ignore[method-assign]
    assert scanner.scan().indexed == 1
    assert [item.name for item in scanner.not_shared] == ["bad"]


@pytest.mark.parametrize("odd", [{"time": 1 << 70}, {"time": -(1 << 70)}, {"size": 200 << 40}], ids=str)
def test_a_file_too_large_or_with_an_odd_time_is_reported_as_not_shared(
    in_memory: Path, cache: ManifestCache, library: Library, clock: ManualUnixClock, odd: dict[str, int]
) -> None:
    put(in_memory, "odd", b"1")
    put(in_memory, "good", b"2")
    os.truncate(in_memory / "odd", odd.get("size", 1))
    os.utime(in_memory / "odd", ns=(0, odd.get("time", 0)))
    folder = SharedFolder(in_memory)
    scanner = make_scanner(folder, cache, library, clock=clock)
    assert scanner.scan().indexed == 1
    assert [item.name for item in scanner.not_shared] == ["odd"]
    assert [type(outcome) for outcome in scanner.index_files(["odd", "good"])] == [BadUsage, LocalFile]
    folder.close()


def test_a_file_named_by_a_command_is_shared_at_once(
    root: Path, scanner: Scanner, library: Library, clock: ManualUnixClock
) -> None:
    put(root, "a", b"1", at=int(clock()))
    put(root, "b", b"2", at=int(clock()))
    outcomes = scanner.index_files(["a", "missing", "../x", "b", "a"])
    assert [type(outcome) for outcome in outcomes] == [LocalFile, NoSuchFile, BadName, LocalFile, LocalFile]
    assert shared(library) == {"a": id_of(b"1"), "b": id_of(b"2")}
    reads = Reads()
    assert scanner.index_files(["a"], progress=reads) == [library.by_name("a")] and reads.names == []
    put(root, "a", b"changed", at=int(clock()))
    (again,) = scanner.index_files(["a"])
    assert isinstance(again, LocalFile) and again.id == id_of(b"changed")


@pytest.mark.parametrize("twin", ["photos/\u00c9t\u00e9", "photos/E\u0301te\u0301"])
def test_index_files_refuses_a_name_that_equals_a_shared_one(
    root: Path, scanner: Scanner, library: Library, twin: str
) -> None:
    put(root, "photos/\u00e9t\u00e9", b"1")
    put(root, twin, b"2")
    (kept,) = scanner.index_files(["photos/\u00e9t\u00e9"])
    (refused,) = scanner.index_files([twin])
    assert isinstance(refused, TargetExists) and "photos/\u00e9t\u00e9" in refused.message
    assert library.by_name(twin) == kept
    (root / "photos/\u00e9t\u00e9").unlink()
    (taken,) = scanner.index_files([twin])
    assert isinstance(taken, LocalFile) and shared(library) == {twin: id_of(b"2")}


def test_index_files_shares_the_first_of_two_equal_names(root: Path, scanner: Scanner, library: Library) -> None:
    put(root, "A", b"1")
    put(root, "a", b"2")
    assert [type(outcome) for outcome in scanner.index_files(["gone", "A", "a"])] == [
        NoSuchFile,
        LocalFile,
        TargetExists,
    ]
    assert shared(library) == {"A": id_of(b"1")}


def test_a_file_found_under_another_spelling_is_already_shared(root: Path, scanner: Scanner, library: Library) -> None:
    put(root, "A", b"1")
    # As on a file system that ignores case.
    os.link(root / "A", root / "a")
    assert scanner.index_files(["A"]) == scanner.index_files(["a"]) == [library.by_name("A")]


def test_a_recheck_removes_a_corrupt_file(
    in_memory: Path, cache: ManifestCache, library: Library, clock: ManualUnixClock
) -> None:
    folder = SharedFolder(in_memory)
    confirmer = make_confirmer(folder, cache, library, clock=clock)
    scanner = Scanner(folder, cache, library, hasher=confirmer.hasher, confirmer=confirmer, clock=clock)
    put(in_memory, "good", b"good")
    put(in_memory, "rotten", b"12345")
    put(in_memory, "gone", b"x")
    scanner.scan()
    flip_byte(in_memory / "rotten", 2)
    (in_memory / "gone").unlink()
    wrong = confirmer.recheck([id_of(b"good"), id_of(b"12345"), id_of(b"x"), "0" * 64])
    assert {file.name for file in wrong} == {"rotten", "gone"}
    assert shared(library) == {"good": id_of(b"good")}
    scanner.scan()
    scanner.scan()
    assert shared(library) == {"good": id_of(b"good")}
    assert ["rotten" in item.name for item in scanner.not_shared] == [True]
    changed = (in_memory / "rotten").read_bytes()
    put(in_memory, "rotten", changed, at=OLD + 1)
    scanner.scan()
    scanner.scan()
    assert shared(library)["rotten"] == id_of(changed)
    folder.close()


@pytest.mark.parametrize("harm", ["DELETE FROM manifests", "UPDATE manifests SET manifest = x'00'"])
def test_a_lost_manifest_is_computed_again(
    root: Path, scanner: Scanner, library: Library, tmp_path: Path, harm: str
) -> None:
    put(root, "a", b"1")
    put(root, "b", b"1")
    scanner.scan()
    with sqlite3.connect(tmp_path / "cache.sqlite") as cache:
        cache.execute(harm)
    with pytest.raises(NoSuchFile, match="hashed again"):
        library.manifest(id_of(b"1"))
    assert shared(library) == {}
    scanner.scan()
    scanner.scan()
    assert shared(library) == {"a": id_of(b"1"), "b": id_of(b"1")}
    assert library.manifest(id_of(b"1")) == Manifest.of_bytes(b"1")


def test_a_published_download_is_not_hashed_again(
    root: Path, folder: SharedFolder, scanner: Scanner, library: Library
) -> None:
    manifest = Manifest.of_bytes(b"x")
    scanner.scan()
    with PartStore(folder).open(manifest, "a") as part:
        part.store(0, [b"x"])
        library.register([HashedFile("a", part.publish("a"), manifest)])
    reads = Reads()
    scan = scanner.scan(progress=reads)
    assert (scan.indexed, scan.removed, reads.names) == (0, 0, [])
    assert shared(library) == {"a": manifest.id}


def test_a_cancelled_scan_keeps_the_files_it_added(root: Path, scanner: Scanner, library: Library) -> None:
    put(root, "small", b"1")
    put(root, "large", bytes(300 * MIB))
    reads = Reads()
    with pytest.raises(Interrupted):
        scanner.scan(progress=reads, stop=lambda: len(reads.names) > 3)
    assert shared(library) == {"small": id_of(b"1")}


def test_a_scan_leaves_files_that_it_has_no_time_for_to_the_next(
    root: Path, folder: SharedFolder, cache: ManifestCache, library: Library
) -> None:
    ticks = iter(range(OLD + 100, OLD + 100_000, 10))
    scanner = make_scanner(folder, cache, library, clock=lambda: float(next(ticks)))
    for number in range(1100):
        put(root, f"{number:04}", b"%d" % number)
    taken: list[int] = []
    while sum(taken) < 1100:
        taken.append(scanner.scan(hash_seconds=5).indexed if not taken else scanner.scan(hash_seconds=15).indexed)
    assert taken[0] == 0
    assert max(taken) == 500


def test_concurrent_scans_and_transfers_lose_no_file(
    root: Path, folder: SharedFolder, scanner: Scanner, library: Library
) -> None:
    store = PartStore(folder)
    over = threading.Event()
    faults: list[BaseException] = []

    def scan() -> None:
        while not over.is_set():
            try:
                scanner.scan()
            except BaseException as error:
                faults.append(error)
                return

    thread = threading.Thread(target=scan)
    thread.start()
    try:
        for number in range(300):
            manifest = Manifest.of_bytes(b"%d" % number)
            with store.open(manifest, "name") as part:
                part.store(0, [b"%d" % number])
                library.register(
                    [HashedFile(f"d{number % 7}/{number}", part.publish(f"d{number % 7}/{number}"), manifest)]
                )
    finally:
        over.set()
        thread.join()
    assert faults == []
    assert shared(library) == {f"d{number % 7}/{number}": id_of(b"%d" % number) for number in range(300)}
