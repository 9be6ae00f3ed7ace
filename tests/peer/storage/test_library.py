"""Claims about the library: after any sequence of changes it answers and announces the same as a simple model."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from daemon.errors import NoSuchFile
from daemon.library.identity import Check
from daemon.library.library import HashedFile, Library, LocalFile
from daemon.library.manifest_cache import ManifestCache
from daemon.models import IndexEntry
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.manifest import Manifest
from daemon.storage.names import fold

NAMES = ["a", "A", "b", "caf\u00e9", "cafe\u0301", "d/e"]
IDS = [Manifest.of_bytes(b"%d" % number).id for number in range(3)]


FINGERPRINT = Fingerprint(1, 2, 10, 1, 1)


def local_file(name: str, id_: str, inode: int = 0) -> LocalFile:
    return LocalFile(name, id_, Fingerprint(1, inode, 10 + IDS.index(id_), 1, 1))


class LibraryMachine(RuleBasedStateMachine):
    """A library, a model of it in two dictionaries, and an announcer that follows its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.state = TemporaryDirectory()
        self.cache = ManifestCache(Path(self.state.name) / "cache.sqlite", 0)
        self.library = Library(self.cache)
        self.complete: dict[str, LocalFile] = {}
        self.partial: dict[tuple[str, str], int] = {}
        self.version = 0
        self.announced: dict[tuple[str, str], IndexEntry] = {}

    def teardown(self) -> None:
        self.cache.close()
        self.state.cleanup()

    @rule(name=st.sampled_from(NAMES), id_=st.sampled_from(IDS), inode=st.integers(0, 1))
    def add(self, name: str, id_: str, inode: int) -> None:
        self.library.add(local_file(name, id_, inode))
        self.complete[fold(name)] = local_file(name, id_, inode)

    @rule(name=st.sampled_from(NAMES), id_=st.sampled_from(IDS), inode=st.integers(0, 1))
    def remove(self, name: str, id_: str, inode: int) -> None:
        file = local_file(name, id_, inode)
        present = self.complete.get(fold(name)) == file
        assert self.library.remove([file]) == ([file] if present else [])
        if present:
            del self.complete[fold(name)]

    @rule(name=st.sampled_from(NAMES))
    def remove_existing(self, name: str) -> None:
        existing = self.complete.pop(fold(name), None)
        if existing is not None:
            assert self.library.remove([existing]) == [existing]

    @rule(name=st.sampled_from(NAMES), id_=st.sampled_from(IDS))
    def begin(self, name: str, id_: str) -> None:
        self.library.add_partial(name, id_, 10 + IDS.index(id_))
        self.partial[name, id_] = 10 + IDS.index(id_)

    @rule(id_=st.sampled_from(IDS))
    def end(self, id_: str) -> None:
        self.library.drop_partial(id_)
        self.partial = {key: size for key, size in self.partial.items() if key[1] != id_}

    @rule()
    def announce(self) -> None:
        changes = self.library.changes_since(self.version)
        assert changes is not None
        for key in changes.removed:
            self.announced.pop(key, None)
        for entry in changes.added:
            self.announced[entry.name, entry.id] = entry
        self.version = changes.revision
        assert self.announced == self.expected()
        assert self.library.snapshot() == (self.version, [self.announced[key] for key in sorted(self.announced)])

    @rule()
    def forget(self) -> None:
        self.library.discard_changes(self.version)

    def expected(self) -> dict[tuple[str, str], IndexEntry]:
        entries = {key: IndexEntry(*key, size, complete=False) for key, size in self.partial.items()}
        for file in self.complete.values():
            entries[file.name, file.id] = file.entry
        return entries

    @invariant()
    def answers_are_those_of_the_model(self) -> None:
        for name in NAMES:
            assert self.library.by_name(name) == self.complete.get(fold(name))
        for id_ in IDS:
            expected = {file for file in self.complete.values() if file.id == id_}
            found = self.library.by_id(id_)
            assert set(found) == expected and len(found) == len(expected)
            any_found = self.library.any_by_id(id_)
            assert any_found in expected if expected else any_found is None
        assert self.library.file_count == len(self.complete)
        assert self.library.total_bytes == sum(file.size for file in self.complete.values())
        assert sorted(self.library.names()) == sorted(file.name for file in self.complete.values())


TestLibrary = LibraryMachine.TestCase
TestLibrary.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_too_many_missed_changes_require_a_snapshot(library: Library) -> None:
    for number in range(25_000):
        library.add(LocalFile(f"{number}", IDS[0], Fingerprint(1, number, 10, 1, 1)))
    assert library.revision == 25_000
    changes = library.changes_since(24_000)
    assert changes is not None and len(changes.added) == 1000
    assert library.changes_since(1_000) is None
    assert library.changes_since(25_001) is None


def test_a_large_snapshot_is_in_order(library: Library) -> None:
    library.add_many(LocalFile(f"{number * 7919 % 25_013}", IDS[0], FINGERPRINT) for number in range(25_000))
    library.add_partial("1.part", IDS[1], 5)
    entries = library.snapshot().entries
    assert len(entries) == 25_001
    assert entries == sorted(entries)


def calls_to_remove(library: Library, files: int) -> int:
    """Return how many calls it takes to remove files that all have one id, the last one first."""
    added = [LocalFile(f"{number}", IDS[0], FINGERPRINT) for number in range(files)]
    library.add_many(added)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        library.remove(reversed(added), release_replicas=False)
    finally:
        sys.setprofile(None)
    return calls


def test_removing_files_of_one_content_takes_the_same_work_for_each(library: Library) -> None:
    few, many = calls_to_remove(library, 200), calls_to_remove(library, 800)
    assert many < 4.5 * few


def test_discarded_changes_are_not_returned_again(library: Library) -> None:
    for number in range(3):
        library.add(LocalFile(f"{number}", IDS[0], Fingerprint(1, number, 10, 1, 1)))
    library.discard_changes(2)
    assert library.changes_since(1) is None
    changes = library.changes_since(2)
    assert changes is not None and [entry.name for entry in changes.added] == ["2"]
    library.discard_changes(9)
    assert library.changes_since(2) is None
    changes = library.changes_since(3)
    assert changes is not None and not changes.added


def test_a_manifest_is_read_from_the_cache_and_its_loss_is_detected(library: Library, cache: ManifestCache) -> None:
    manifest = Manifest.of_bytes(b"x")
    library.register([HashedFile("a", Fingerprint(1, 2, 1, 4, 4), manifest)], replica=True)
    assert library.manifest(manifest.id) == manifest
    assert cache.find_ids([Fingerprint(1, 2, 1, 4, 4)]) == [(manifest.id, Check.NONE)]
    assert cache.replica_usage() == (1, 1)
    library.remove(library.by_id(manifest.id))
    assert cache.replica_usage() == (0, 0)
    with pytest.raises(NoSuchFile):
        library.manifest(IDS[2])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
@settings(max_examples=20, deadline=None)
def test_the_memory_cache_of_manifests_is_bounded(lengths: list[int]) -> None:
    with TemporaryDirectory() as state:
        cache = ManifestCache(Path(state) / "cache.sqlite", 0)
        library = Library(cache)
        mib = 1 << 20
        manifests = [
            Manifest(pieces * 1000 * mib, mib, number.to_bytes(32) * pieces * 1000)
            for number, pieces in enumerate(lengths)
        ]
        library.register([HashedFile(f"{n}", Fingerprint(1, n, m.size, 1, 1), m) for n, m in enumerate(manifests)])
        for manifest in manifests:
            assert library.manifest(manifest.id) == manifest
        assert library.cached_digest_bytes <= 8 << 20
        cache.close()
