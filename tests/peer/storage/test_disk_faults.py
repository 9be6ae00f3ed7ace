"""Claims about disk failures: any operation may fail; no wrong file appears, and no verified piece is lost."""

from __future__ import annotations

import errno
import gc
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.errors import DiskFull, NotWritable, PeerError, StorageFault
from daemon.storage.disk import storage_faults
from daemon.storage.hashing import hash_file
from daemon.storage.manifest import Manifest
from daemon.storage.part_file import PartStore
from daemon.storage.removal import UnwantedFile
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from daemon.storage.walk import ShareableFile
from failing_disk import LACKS, FailingDisk

MIB = 1 << 20
PIECES = [random.Random(n).randbytes(MIB if n < 2 else 5) for n in range(3)]
DATA = b"".join(PIECES)
MANIFEST = Manifest(len(DATA), MIB, b"".join(Manifest.of_bytes(data).digests for data in PIECES))
KINDS = [(errno.EIO, StorageFault), (errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EROFS, StorageFault)]

# Each error with the usual way to give names, and one error with each other way.
CASES = [(*kind, "rename") for kind in KINDS] + [(*KINDS[0], "link"), (*KINDS[0], "reserve")]
CASE_NAMES = [f"{errno.errorcode[error]}-{naming}" for error, _, naming in CASES]

Job = Callable[[SharedFolder, set[int]], None]


def fetch(folder: SharedFolder, stored: set[int]) -> None:
    with PartStore(folder).open(MANIFEST, "folder/file") as part:
        assert set(part.verified.present()) >= stored, "a verified piece was lost"
        for number in part.verified.missing():
            part.store(number, [PIECES[number]])
            stored.add(number)
        part.start_writeback()
        part.publish("folder/file")


def fetch_small(folder: SharedFolder, stored: set[int]) -> None:
    temporaries = TempFiles(folder)
    with temporaries.write(DATA, folder.volume_for("folder/file")) as small:
        temporaries.sync_all([small])
        (outcome,) = folder.publish_many([small.named("folder/file")])
        if isinstance(outcome, PeerError):
            raise outcome


def copy_in(folder: SharedFolder, stored: set[int]) -> None:
    source = folder.root / ".source"
    source.write_bytes(DATA)
    fd = os.open(source, os.O_RDONLY)
    try:
        with TempFiles(folder).copy_in(fd, folder.volume_for("folder/file")) as copy:
            with copy.handle as copied:
                assert hash_file(folder.disk, copied, copy.size) == MANIFEST
            copy.publish("folder/file")
    finally:
        os.close(fd)


def outcome(job: Job, folder: SharedFolder, stored: set[int]) -> PeerError | None:
    try:
        job(folder, stored)
    except PeerError as error:
        return error
    return None


@pytest.fixture
def cheap_collections() -> Iterator[None]:
    """Make `gc.collect` skip the objects that exist before the test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("cheap_collections")
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize(("error", "kind", "naming"), CASES, ids=CASE_NAMES)
@pytest.mark.parametrize("job", [fetch, fetch_small, copy_in])
def test_any_failing_operation_ends_in_a_clear_error_and_loses_nothing_verified(
    tmp_path: Path, job: Job, error: int, kind: type[PeerError], naming: str, forever: bool
) -> None:
    number = 0
    failed = True
    faults = 0
    while failed:
        number += 1
        root = tmp_path / str(number)
        disk = FailingDisk(number, error, forever=forever, lacks=LACKS[naming])
        folder = SharedFolder(root, disk)
        descriptors = len(os.listdir("/proc/self/fd"))
        file = root / "folder" / "file"
        stored: set[int] = set()
        disk.arm()
        fault = outcome(job, folder, stored)
        if fault is not None:
            faults += 1
            assert isinstance(fault, kind), f"operation {number}: {fault!r}"
            assert "\n" not in fault.message and fault.message
            # A disk that fails for good also refuses to remove the name; the file under it is complete, or reserved.
            assert forever or not file.exists(), f"operation {number}"
        # The traceback of the error references the open files.
        del fault
        gc.collect()
        failed = disk.count >= number
        disk.armed = False
        PartStore(folder).clean_up(0)
        if file.exists():
            assert file.read_bytes() == DATA, f"operation {number}"
        else:
            # The disk works again: the same job succeeds, and fetches no verified piece again.
            job(folder, stored)
            assert file.read_bytes() == DATA
        PartStore(folder).clean_up(0)
        assert [name for name in os.listdir(root / ".p2p") if not name.endswith(".have")] == [], f"operation {number}"
        # Fewer if threads of earlier tests end meanwhile.
        assert len(os.listdir("/proc/self/fd")) <= descriptors, f"operation {number} leaks a descriptor"
        folder.close()
    assert faults >= 5


@pytest.mark.parametrize("forever", [False, True], ids=["once", "for good"])
def test_a_read_returns_the_right_bytes_or_a_clear_error(tmp_path: Path, forever: bool) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"contents")
    number = 0
    failed = True
    while failed:
        number += 1
        disk = FailingDisk(number, forever=forever)
        folder = SharedFolder(tmp_path, disk)
        disk.arm()
        try:
            names = [item.name for item in folder.walk() if isinstance(item, ShareableFile)]
            # A folder that cannot be opened is reported, not treated as empty.
            assert names == ["folder/file"] or disk.count >= number
            with folder.open("folder/file") as file:
                assert file.read(0, 8) == b"contents"
                file.ensure_unchanged()
            fingerprint = folder.fingerprint("folder/file")
            assert fingerprint == file.fingerprint
        except StorageFault:
            pass
        failed = disk.count >= number
        folder.close()


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (errno.EFBIG, StorageFault, "too large for this file system"),
        (errno.EROFS, NotWritable, "read-only"),
        (errno.EIO, StorageFault, "check the disk"),
    ],
)
def test_a_failed_call_says_what_to_do(error: int, kind: type[PeerError], said: str) -> None:
    with pytest.raises(kind, match=said), storage_faults("writing a file"):
        raise OSError(error, os.strerror(error))


def test_a_short_write_is_continued(folder: SharedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, views, offset: pwritev(fd, [views[0][:1000]], offset))
    with TempFiles(folder).write(DATA, folder.volumes.main) as small:
        small.publish("file")
    assert (folder.root / "file").read_bytes() == DATA


def test_a_failing_removal_is_a_clear_error(tmp_path: Path) -> None:
    number = 0
    failed = True
    while failed:
        number += 1
        disk = FailingDisk(number)
        folder = SharedFolder(tmp_path, disk)
        (tmp_path / "a").write_bytes(b"x")
        fingerprint = folder.fingerprint("a")
        assert fingerprint is not None
        disk.arm()
        (error,) = folder.remove([UnwantedFile("a", fingerprint)])
        assert error is None or isinstance(error, StorageFault)
        failed = disk.count >= number
        folder.close()
