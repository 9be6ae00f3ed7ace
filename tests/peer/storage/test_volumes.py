"""Claims about real file systems in a shared folder: each file is prepared where it can get its name."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import file_systems
from daemon.errors import DiskFull, NotWritable, StorageFault, TargetExists
from daemon.runtime.settings import DEFAULT_PART_KEEP
from daemon.storage.manifest import Manifest
from daemon.storage.outside_copy import OutsideCopies
from daemon.storage.part_file import Part, PartStore
from daemon.storage.removal import UnwantedFile
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from daemon.storage.walk import ShareableFile

pytestmark = pytest.mark.filesystems

MIB = 1 << 20
PIECES = [random.Random(n).randbytes(MIB if n < 3 else 5) for n in range(4)]
DATA = b"".join(PIECES)
MANIFEST = Manifest(len(DATA), MIB, b"".join(Manifest.of_bytes(data).digests for data in PIECES))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    path = tmp_path / "shared"
    path.mkdir()
    return path


def bind_of_a_folder_beside(work: Path, folder: Path) -> AbstractContextManager[object]:
    """Mount a folder of the shared folder's own device, which has the same device number."""
    source = work / "beside"
    source.mkdir()
    return file_systems.bind(source, folder)


def tmpfs(_work: Path, folder: Path) -> AbstractContextManager[object]:
    return file_systems.tmpfs(folder)


def btrfs(work: Path, folder: Path) -> AbstractContextManager[object]:
    return file_systems.btrfs(work / "btrfs.img", folder)


def exfat(work: Path, folder: Path) -> AbstractContextManager[object]:
    return file_systems.exfat(work / "exfat.img", folder)


def overlay(work: Path, folder: Path) -> AbstractContextManager[object]:
    return file_systems.overlay(work / "layers", folder)


MOUNTS = [tmpfs, btrfs, exfat, overlay, bind_of_a_folder_beside]


@pytest.fixture(params=MOUNTS, ids=lambda mount: mount.__name__)
def mount(request: pytest.FixtureRequest, tmp_path: Path, shared: Path) -> Iterator[Path]:
    """A volume mounted at "disk" in the shared folder."""
    with request.param(tmp_path, shared / "disk"):
        yield shared / "disk"


@pytest.fixture
def folder(shared: Path, mount: Path) -> Iterator[SharedFolder]:
    folder = SharedFolder(shared)
    yield folder
    folder.close()


def fill(part: Part, *numbers: int) -> None:
    for number in numbers:
        part.store(number, [PIECES[number]])


def names(folder: SharedFolder) -> list[str]:
    return [item.name for item in folder.walk() if isinstance(item, ShareableFile)]


def can_unmount(mount: Path) -> bool:
    return subprocess.run(["umount", str(mount)], capture_output=True, check=False).returncode == 0


# ------------------------------------------------------------------------------------------------------------- storing


def test_a_large_file_is_prepared_on_the_volume_of_its_name(folder: SharedFolder, mount: Path) -> None:
    with PartStore(folder).open(MANIFEST, "disk/new/file") as part:
        assert os.listdir(mount / ".p2p")
        assert os.listdir(folder.root / ".p2p") == []
        fill(part, 0, 1, 2, 3)
        fingerprint = part.publish("disk/new/file")
        assert part.read(3, 0, 5) == PIECES[3]
    assert (mount / "new/file").read_bytes() == DATA
    assert fingerprint == folder.fingerprint("disk/new/file")
    assert os.listdir(mount / ".p2p") == []


def test_the_files_of_one_batch_may_be_on_several_volumes(folder: SharedFolder, mount: Path) -> None:
    (mount / "taken").write_bytes(b"mine")
    temp_files = TempFiles(folder)
    wanted = ["a", "disk/b", "disk/deep/c", "disk/taken", "d/e"]
    files = [temp_files.write(name.encode(), folder.volume_for(name)) for name in wanted]
    temp_files.sync_all(files)
    outcomes = folder.publish_many([file.named(name) for file, name in zip(files, wanted, strict=True)])
    for name, outcome in zip(wanted, outcomes, strict=True):
        if name == "disk/taken":
            assert isinstance(outcome, TargetExists)
        else:
            assert outcome == folder.fingerprint(name)
            assert (folder.root / name).read_bytes() == name.encode()
    for file in files:
        file.discard()
    assert os.listdir(mount / ".p2p") == os.listdir(folder.root / ".p2p") == []


def test_a_copy_of_a_file_from_outside_is_made_on_the_volume_of_its_name(
    folder: SharedFolder, mount: Path, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(DATA)
    with (
        (tmp_path / "source").open("rb") as source,
        TempFiles(folder).copy_in(source.fileno(), folder.volume_for("disk/file")) as copy,
    ):
        fingerprint = copy.publish("disk/file")
    assert (mount / "file").read_bytes() == DATA
    assert fingerprint == folder.fingerprint("disk/file")


def test_a_copy_outside_the_shared_folder_may_be_on_any_file_system(mount: Path) -> None:
    copies = OutsideCopies(SharedFolder(mount / "elsewhere").disk)
    copies.check_target(mount / "missing" / "copy", make_folders=True)
    with copies.create(mount / "missing" / "copy", make_folders=True) as copy:
        os.write(copy.fd, b"contents")
        copy.publish()
    assert (mount / "missing" / "copy").read_bytes() == b"contents"
    assert os.listdir(mount / "missing") == ["copy"]


def test_dot_folders_are_not_shared(folder: SharedFolder, mount: Path) -> None:
    (mount / "file").write_bytes(b"x")
    folder.volume_for("disk/file")
    assert names(folder) == ["disk/file"]


def test_a_fingerprint_stays_until_the_file_changes(folder: SharedFolder, mount: Path) -> None:
    with TempFiles(folder).write(b"data", folder.volume_for("disk/file")) as temporary:
        fingerprint = temporary.publish("disk/file")
    os.sync()
    assert folder.fingerprint("disk/file") == fingerprint
    (mount / "file").write_bytes(b"longer data")
    assert folder.fingerprint("disk/file") != fingerprint


def test_files_on_exfat_keep_their_fingerprints_over_a_new_mount(tmp_path: Path, shared: Path) -> None:
    names_there = [f"{number}" for number in range(5)]
    with file_systems.loop_device(tmp_path / "img") as device:
        file_systems.run("mkfs.exfat", device)
        with file_systems.exfat_on(device, shared):
            folder = SharedFolder(shared)
            published = []
            for name in names_there:
                with TempFiles(folder).write(b"data", folder.volume_for(name)) as temporary:
                    published.append(temporary.publish(name))
            folder.close()
            file_systems.run("umount", shared)
        with file_systems.exfat_on(device, shared):
            # It numbers files in the order in which it meets them.
            for name in reversed(names_there):
                (shared / name).stat()
            folder = SharedFolder(shared)
            assert [folder.fingerprint(name) for name in names_there] == published
            assert [item.fingerprint for item in folder.walk() if isinstance(item, ShareableFile)] == published
            with folder.open("3") as file:
                assert file.fingerprint == published[3]
                file.ensure_unchanged()
            assert len({fingerprint.inode for fingerprint in published}) == len(names_there)
            assert folder.remove([UnwantedFile("3", published[3])]) == [None]
            folder.close()


# ------------------------------------------------------------------------------------------------------------ resuming


def test_a_part_is_found_on_its_volume_after_a_restart(folder: SharedFolder, shared: Path) -> None:
    with PartStore(folder).open(MANIFEST, "disk/file") as part:
        fill(part, 1, 3)
    folder.close()
    # Its volume is locked.
    del part
    again = SharedFolder(shared)
    store = PartStore(again)
    store.clean_up(0)
    # The scan at the start finds the volume.
    assert names(again) == []
    assert store.part_ids() == [MANIFEST.id]
    assert store.saved_manifest(MANIFEST.id) == MANIFEST
    with store.open(MANIFEST, "disk/file") as part:
        assert list(part.verified.present()) == [1, 3]
    store.discard(MANIFEST.id)
    assert store.part_ids() == []
    again.close()


@pytest.mark.parametrize(("first", "second"), [("file", "disk/file"), ("disk/file", "file")])
def test_a_download_that_continues_on_another_volume_keeps_its_pieces(
    folder: SharedFolder, first: str, second: str
) -> None:
    store = PartStore(folder)
    with store.open(MANIFEST, first) as part:
        fill(part, 0, 3)
    with store.open(MANIFEST, second) as part:
        assert list(part.verified.present()) == [0, 3]
        assert part.resumed_bytes == MIB + 5
        fill(part, 1, 2)
        part.publish(second)
    assert (folder.root / second).read_bytes() == DATA
    assert store.part_ids() == []


def test_leftovers_on_a_volume_are_deleted_when_it_is_found(shared: Path, mount: Path) -> None:
    first = SharedFolder(shared)
    with PartStore(first).open(MANIFEST, "disk/file") as part:
        fill(part, 0)
    TempFiles(first).write(b"left by a killed process", first.volume_for("disk/x"))
    first.close()
    del first, part
    written = (mount / ".p2p" / f"{MANIFEST.id}.part").stat().st_mtime
    for age, left in ((DEFAULT_PART_KEEP - 100, 2), (DEFAULT_PART_KEEP + 100, 0)):
        again = SharedFolder(shared)
        PartStore(again, clock=lambda now=written + age: now)  # type: ignore[misc]
        assert names(again) == []
        assert len(os.listdir(mount / ".p2p")) == left
        again.close()


RESERVES = """
import sys
from pathlib import Path
from failing_disk import LACKS, KillingDisk
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles

class Killing(KillingDisk):
    def before_operation(self, number, operation):
        if operation == "rename":
            super().before_operation(self.number, operation)

disk = Killing(1, LACKS["reserve"])
folder = SharedFolder(Path(sys.argv[1]), disk)
with TempFiles(folder).write(b"x" * 1000, folder.volume_for("disk/file")) as temporary:
    disk.arm()
    temporary.publish("disk/file")
"""


def test_a_name_that_a_killed_process_reserved_is_released_before_it_is_shared(shared: Path, mount: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", RESERVES, str(shared)],
        env={"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        check=False,
    )
    assert run.returncode == -9
    assert (mount / "file").read_bytes() == b""
    again = SharedFolder(shared)
    PartStore(again)
    assert names(again) == []
    assert not (mount / "file").exists()
    assert os.listdir(mount / ".p2p") == []
    again.close()


def test_a_copy_of_another_shared_folder_is_not_cleaned_up(folder: SharedFolder, mount: Path) -> None:
    folder.volume_for("disk/file")
    PartStore(folder)
    for top in (folder.root, mount):
        (top / "backup" / ".p2p").mkdir(parents=True)
        (top / "backup" / ".p2p" / "x.tmp").write_bytes(b"another's")
    assert names(folder) == []
    assert (folder.root / "backup/.p2p/x.tmp").exists()
    assert (mount / "backup/.p2p/x.tmp").exists()


# ------------------------------------------------------------------------------------------------- mounts that change


def test_a_volume_can_be_unmounted_when_nothing_is_stored_on_it(folder: SharedFolder, mount: Path) -> None:
    with PartStore(folder).open(MANIFEST, "disk/file") as part:
        fill(part, 0, 1, 2, 3)
        part.publish("disk/file")
    del part
    assert names(folder) == ["disk/file"]
    assert can_unmount(mount)
    assert names(folder) == []


def test_a_mount_that_disappears_ends_a_download_with_one_line_and_harms_nothing(
    folder: SharedFolder, mount: Path
) -> None:
    with PartStore(folder).open(MANIFEST, "disk/file") as part:
        fill(part, 0, 1)
        file_systems.run("umount", "--lazy", mount)
        fill(part, 2, 3)
        with pytest.raises(StorageFault, match="mounted or unmounted meanwhile"):
            part.publish("disk/file")
    assert names(folder) == []
    # The mount point is a folder of the shared folder now.
    with PartStore(folder).open(MANIFEST, "disk/file") as part:
        fill(part, *part.verified.missing())
        part.publish("disk/file")
    assert (mount / "file").read_bytes() == DATA


def test_a_mount_that_appears_during_a_download_is_found_by_the_next_one(tmp_path: Path, shared: Path) -> None:
    folder = SharedFolder(shared)
    (shared / "disk").mkdir()
    with PartStore(folder).open(MANIFEST, "disk/file") as part:
        fill(part, 0, 1, 2, 3)
        with file_systems.tmpfs(shared / "disk"):
            with pytest.raises(StorageFault, match="mounted or unmounted meanwhile"):
                part.publish("disk/file")
            with PartStore(folder).open(MANIFEST, "disk/file") as again:
                assert again.verified.complete
                again.publish("disk/file")
            assert (shared / "disk" / "file").read_bytes() == DATA
            del again
    folder.close()


def test_two_pservers_do_not_store_files_in_one_volume(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "other").mkdir()
    with file_systems.tmpfs(shared / "disk"), file_systems.bind(shared / "disk", tmp_path / "other" / "disk"):
        folder, other = SharedFolder(shared), SharedFolder(tmp_path / "other")
        volume = folder.volume_for("disk/file")
        with pytest.raises(StorageFault, match="another pserver"):
            other.volume_for("disk/file")
        del volume
        other.volume_for("disk/file")
        folder.close()
        other.close()


def test_two_mounts_of_one_folder_share_its_dot_folder(shared: Path) -> None:
    with file_systems.tmpfs(shared / "disk"), file_systems.bind(shared / "disk", shared / "again"):
        folder = SharedFolder(shared)
        PartStore(folder)
        temp_files = TempFiles(folder)
        with temp_files.write(b"1", folder.volume_for("disk/1")) as first:
            with temp_files.write(b"2", folder.volume_for("again/2")) as second:
                second.publish("again/2")
            first.publish("disk/1")
        assert sorted(os.listdir(shared / "again")) == [".p2p", "1", "2"]
        folder.close()


# ------------------------------------------------------------------------------------------- -------- subvolumes


def test_a_btrfs_subvolume_is_a_volume(tmp_path: Path, shared: Path) -> None:
    with file_systems.btrfs(tmp_path / "img", shared):
        file_systems.run("btrfs", "subvolume", "create", shared / "sub")
        folder = SharedFolder(shared)
        with PartStore(folder).open(MANIFEST, "sub/folder/file") as part:
            fill(part, 0, 1, 2, 3)
            part.publish("sub/folder/file")
        assert (shared / "sub/folder/file").read_bytes() == DATA
        assert os.listdir(shared / "sub/.p2p") == []
        del part
        folder.close()


# --------------------------------------------------------------------------------------------------- room, permissions


def test_room_is_that_of_the_volume_of_the_name(tmp_path: Path, shared: Path) -> None:
    with file_systems.tmpfs(shared / "disk", size="2m"):
        folder = SharedFolder(shared)
        with pytest.raises(DiskFull, match="more disk space is needed"):
            PartStore(folder).open(MANIFEST, "disk/file")
        with PartStore(folder).open(MANIFEST, "file"):
            pass
        (tmp_path / "source").write_bytes(DATA)
        with (tmp_path / "source").open("rb") as source, pytest.raises(DiskFull):
            TempFiles(folder).copy_in(source.fileno(), folder.volume_for("disk/file"))
        assert os.listdir(shared / "disk/.p2p") == []
        folder.close()


def test_a_read_only_folder_is_shared_and_refuses_files_until_it_is_writable(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "old").write_bytes(b"old")
    with file_systems.bind(tmp_path / "source", shared):
        file_systems.remount(shared, "ro")
        folder = SharedFolder(shared)
        store = PartStore(folder)
        store.clean_up(0)
        assert names(folder) == ["old"]
        [fault] = folder.faults()
        assert "is read-only" in fault and "mount it writable" in fault
        fingerprint = folder.fingerprint("old")
        assert fingerprint is not None
        for store_file in (
            lambda: folder.volume_for("new"),
            lambda: folder.volume_for("new/folder/file"),
            lambda: store.open(MANIFEST, "new"),
        ):
            with pytest.raises(NotWritable, match="is read-only"):
                store_file()
        (refusal,) = folder.remove([UnwantedFile("old", fingerprint)])
        assert isinstance(refusal, NotWritable) and "is read-only" in refusal.message
        assert store.part_ids() == []
        file_systems.remount(shared, "rw")
        assert folder.faults() == []
        with store.open(MANIFEST, "new") as part:
            fill(part, 0, 1, 2, 3)
            part.publish("new")
        file_systems.remount(shared, "ro")
        with pytest.raises(NotWritable, match="is read-only"):
            folder.volume_for("newer")
        del part
        folder.close()


def test_a_read_only_volume_in_a_writable_folder_refuses_files(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "source").mkdir()
    with file_systems.bind(tmp_path / "source", shared / "disk"):
        file_systems.remount(shared / "disk", "ro")
        folder = SharedFolder(shared)
        assert folder.faults() == []
        with pytest.raises(NotWritable, match=r"disk .* is read-only"):
            folder.volume_for("disk/file")
        folder.volume_for("file")
        folder.close()


def test_a_writable_volume_in_a_read_only_folder_stores_files(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "source" / "disk").mkdir(parents=True)
    with file_systems.bind(tmp_path / "source", shared), file_systems.tmpfs(shared / "disk"):
        file_systems.remount(shared, "ro")
        folder = SharedFolder(shared)
        with PartStore(folder).open(MANIFEST, "disk/file") as part:
            fill(part, 0, 1, 2, 3)
            part.publish("disk/file")
        assert (shared / "disk" / "file").read_bytes() == DATA
        del part
        folder.close()
