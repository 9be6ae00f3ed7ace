"""Small files are published in batches, and two transfers may publish the same files."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from daemon.errors import TargetExists
from daemon.library.library import Library
from daemon.library.manifest_cache import ManifestCache
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from daemon.transfer.batch_store import BatchStore, SmallFile


@pytest.fixture
def store(folder: SharedFolder, library: Library) -> BatchStore:
    return BatchStore(folder, TempFiles(folder), library)


def small(name: str, data: bytes) -> SmallFile:
    return SmallFile(name, Manifest.of_bytes(data), memoryview(data))


def test_files_that_two_transfers_publish_at_once_count_once(
    store: BatchStore, library: Library, cache: ManifestCache
) -> None:
    files = [small(f"folder/{number}", b"%d" % number) for number in range(10, 60)]
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: store.publish(files, replica=True), range(2))
    assert one == other == [None] * 50
    assert sorted(library.names()) == [file.name for file in files]
    # Each file counts with its folder.
    assert (cache.replica_usage().entries, cache.replica_usage().bytes) == (2 * 50, 100)


def test_an_existing_file_with_the_same_content_is_shared_and_is_no_replica(
    folder: SharedFolder, store: BatchStore, library: Library, cache: ManifestCache
) -> None:
    (folder.root / "mine").write_bytes(b"same")
    assert store.publish([small("mine", b"same")], replica=True) == [None]
    [local] = library.by_id(Manifest.of_bytes(b"same").id)
    assert local.fingerprint == folder.fingerprint("mine")
    assert cache.replica_usage().entries == 0


@pytest.mark.parametrize("existing", [b"", b"other", b"some"])
def test_a_file_with_other_content_is_not_replaced(
    folder: SharedFolder, store: BatchStore, library: Library, existing: bytes
) -> None:
    (folder.root / "taken").write_bytes(existing)
    [taken, free] = store.publish([small("taken", b"same"), small("free", b"same")])
    assert isinstance(taken, TargetExists)
    assert free is None
    assert library.names() == ["free"]
    assert (folder.root / "taken").read_bytes() == existing
