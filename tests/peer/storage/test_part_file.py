"""Claims about part files: verified pieces survive, claimed pieces are verified, incomplete files have no name."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.errors import BeingWritten, DiskFull, Interrupted, NoSuchFile, NotVerified, TargetExists
from daemon.runtime.settings import DEFAULT_PART_KEEP
from daemon.storage.hashing import hash_file
from daemon.storage.manifest import Manifest
from daemon.storage.part_file import Part, PartStore
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from failing_disk import LACKS, LackingDisk

MIB = 1 << 20
DATA = random.Random(7).randbytes(3 * MIB + 17)


def manifest_of(data: bytes) -> Manifest:
    digests = b"".join(Manifest.of_bytes(data[at : at + MIB]).digests for at in range(0, len(data), MIB))
    return Manifest(len(data), MIB, digests)


MANIFEST = manifest_of(DATA)


@pytest.fixture
def store(folder: SharedFolder) -> PartStore:
    return PartStore(folder)


def piece(number: int) -> bytes:
    return DATA[number * MIB : (number + 1) * MIB]


def fill(part: Part, *numbers: int) -> None:
    for number in numbers:
        data = piece(number)
        part.store(number, [data[:100], memoryview(data)[100:]])


def dot(folder: SharedFolder) -> list[str]:
    return sorted(os.listdir(folder.root / ".p2p"))


def test_pieces_stored_in_any_order_are_published_as_the_complete_file(folder: SharedFolder, store: PartStore) -> None:
    with store.open(MANIFEST, "name") as part:
        assert part.resumed_bytes == 0
        fill(part, 3, 0, 2)
        part.start_writeback()
        assert list(part.verified.missing()) == [1]
        with pytest.raises(NotVerified):
            part.publish("a/b")
        assert os.listdir(folder.root) == [".p2p"]
        fill(part, 1)
        fingerprint = part.publish("a/b")
        assert part.read(3, 10, 7) == piece(3)[10:17]
    assert (folder.root / "a/b").read_bytes() == DATA
    assert fingerprint == folder.fingerprint("a/b")
    assert dot(folder) == []


def test_an_empty_file_is_published_at_once(folder: SharedFolder, store: PartStore) -> None:
    with store.open(Manifest.of_bytes(b""), "name") as part:
        part.publish("empty")
    assert (folder.root / "empty").read_bytes() == b""


def test_verified_pieces_survive_closing_and_opening(folder: SharedFolder, store: PartStore) -> None:
    with store.open(MANIFEST, "name") as part:
        fill(part, 3, 1)
    seen: list[int] = []
    with PartStore(folder).open(MANIFEST, "name", progress=seen.append) as part:
        assert list(part.verified.present()) == [1, 3]
        assert part.resumed_bytes == sum(seen) == MIB + 17
    assert PartStore(folder).saved_manifest(MANIFEST.id) == MANIFEST
    assert PartStore(folder).part_ids() == [MANIFEST.id]


def test_only_verified_pieces_can_be_read(store: PartStore) -> None:
    with store.open(MANIFEST, "name") as part:
        fill(part, 3)
        assert part.read(3, 0, 17) == piece(3)
        for number, offset, length in ((0, 0, 1), (3, 0, 18), (3, 17, 1), (3, -1, 2), (4, 0, 1), (-1, 0, 1)):
            with pytest.raises(NoSuchFile):
                part.read(number, offset, length)
    with pytest.raises(NoSuchFile):
        part.read(3, 0, 1)


def test_readers_survive_reopening_and_publication_of_a_part(store: PartStore) -> None:
    with store.open(MANIFEST, "name") as read:
        fill(read, 3)
        with store.open(MANIFEST, "name") as part:
            assert list(part.verified.present()) == [3]
            fill(part, 0, 1, 2)
            assert read.read(3, 0, 17) == piece(3)
            part.publish("complete")
        assert read.read(3, 0, 17) == piece(3)
        assert list(read.verified.present()) == [3]


def test_discarding_a_part_deletes_its_files(folder: SharedFolder, store: PartStore) -> None:
    with store.open(MANIFEST, "name") as part:
        fill(part, 0)
    store.discard(MANIFEST.id)
    assert dot(folder) == []


def test_a_part_whose_name_is_taken_stays(folder: SharedFolder, store: PartStore) -> None:
    (folder.root / "a").write_bytes(b"mine")
    with store.open(MANIFEST, "name") as part:
        fill(part, 0, 1, 2, 3)
        with pytest.raises(TargetExists):
            part.publish("a")
        part.publish("b")
    assert (folder.root / "a").read_bytes() == b"mine"
    assert (folder.root / "b").read_bytes() == DATA


def test_a_part_is_not_created_without_enough_disk_space(folder: SharedFolder, store: PartStore) -> None:
    size = folder.free_bytes() // MIB * MIB + 1024 * MIB
    manifest = Manifest(size, MIB, bytes(32 * (size // MIB)))
    with pytest.raises(DiskFull, match="more disk space is needed"):
        store.open(manifest, "name")
    assert dot(folder) == []


def test_cancelling_the_verification_of_a_part_loses_nothing(store: PartStore) -> None:
    with store.open(MANIFEST, "name") as part:
        fill(part, 0, 1)
    with pytest.raises(Interrupted):
        store.open(MANIFEST, "name", stop=lambda: True)
    with store.open(MANIFEST, "name") as part:
        assert part.verified.count == 2


def test_pieces_stored_by_many_threads_are_all_recorded(folder: SharedFolder, store: PartStore) -> None:
    with store.open(MANIFEST, "name") as part:
        threads = [threading.Thread(target=fill, args=(part, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert part.verified.complete
    with PartStore(folder).open(MANIFEST, "name") as part:
        assert part.verified.complete


# ------------------------------------------------------------------------------------------------------------- damage


def damage(path: Path, chance: random.Random) -> None:
    """Damage a file in one random way."""
    data = bytearray(path.read_bytes())
    match chance.randrange(7):
        case 0:
            path.write_bytes(data[: chance.randrange(len(data))])
        case 1:
            path.write_bytes(data + chance.randbytes(chance.randrange(1, 50)))
        case 2:
            path.write_bytes(chance.randbytes(chance.randrange(200)))
        case 3:
            path.unlink()
        case 4:
            path.unlink()
            path.symlink_to("/etc/hostname")
        case _:
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
            path.write_bytes(data)


@pytest.mark.parametrize("rounds", [100, pytest.param(2_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_corrupt_pieces_of_a_part_are_missing_and_never_published(
    folder: SharedFolder, store: PartStore, rounds: int
) -> None:
    for seed in range(rounds):
        chance = random.Random(seed)
        with store.open(MANIFEST, "name") as part:
            fill(part, *chance.sample(range(4), chance.randrange(1, 5)))
        suffix = chance.choice([".part", ".have"])
        damage(folder.root / ".p2p" / f"{MANIFEST.id}{suffix}", chance)
        with PartStore(folder).open(MANIFEST, "name") as part:
            for number in part.verified.present():
                assert part.read(number, 0, MANIFEST.length(number)) == piece(number), f"seed {seed}"
            fill(part, *part.verified.missing())
            part.publish(f"{seed}")
        assert (folder.root / f"{seed}").read_bytes() == DATA, f"seed {seed}"
        (folder.root / f"{seed}").unlink()
        assert dot(folder) == [], f"seed {seed}"


# ------------------------------------------------------------------------------------------------------------- killed

KILLED = """
import random, sys
from pathlib import Path
from failing_disk import KillingDisk
from daemon.storage.part_file import PartStore
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder

data = random.Random(7).randbytes(3 * (1 << 20) + 17)
pieces = [data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)]
manifest = Manifest(len(data), 1 << 20, b"".join(Manifest.of_bytes(piece).digests for piece in pieces))
disk = KillingDisk(int(sys.argv[2]), sys.argv[3:])
folder = SharedFolder(Path(sys.argv[1]), disk)
disk.arm()
with PartStore(folder).open(manifest, "name") as part:
    for number in part.verified.missing():
        part.store(number, [pieces[number]])
        print(number, flush=True)
    part.publish("folder/file")
"""


def killed_at(root: Path, number: int, lacks: Sequence[str]) -> tuple[bool, list[int]]:
    """Fetch in a process that is killed before its n-th operation; return whether it was, and the pieces it stored."""
    paths = [entry for entry in sys.path if entry]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), str(number), *lacks],
        env={"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    assert run.returncode in (0, -9)
    return run.returncode == -9, [int(line) for line in run.stdout.split()]


@pytest.mark.parametrize("naming", ["rename", "link", "reserve"])
def test_a_process_killed_at_any_operation_leaves_no_wrong_file_and_loses_one_piece_at_most(
    tmp_path: Path, naming: str
) -> None:
    lacks = LACKS[naming]
    number = 0
    killed = True
    while killed:
        number += 1
        root = tmp_path / str(number)
        killed, stored = killed_at(root, number, lacks)
        file = root / "folder" / "file"
        folder = SharedFolder(root, LackingDisk(lacks))
        store = PartStore(folder)
        if naming != "reserve" and file.exists():
            assert file.read_bytes() == DATA
        store.clean_up(0)
        if file.exists():
            assert file.read_bytes() == DATA
            assert len(stored) == 4
            # With links: killed before the removal of the temporary name, which `clean_up` has removed.
            assert file.stat().st_nlink == 1
            assert [name for name in dot(folder) if name.endswith(".part")] == []
        else:
            with store.open(MANIFEST, "name") as part:
                assert set(part.verified.present()) >= set(stored)
                fill(part, *part.verified.missing())
                part.publish("folder/file")
            assert file.read_bytes() == DATA
        folder.close()
    assert number > 12


def test_a_published_part_is_not_written_to(folder: SharedFolder, store: PartStore) -> None:
    with store.open(MANIFEST, "name") as part:
        fill(part, 0, 1, 2, 3)
    os.link(folder.root / ".p2p" / f"{MANIFEST.id}.part", folder.root / "published")
    with store.open(MANIFEST, "name") as part:
        assert part.verified.count == 0
        part.store(0, [bytes(MIB)])
    assert (folder.root / "published").read_bytes() == DATA


def test_clean_up_deletes_temporary_published_and_unused_files(
    folder: SharedFolder, store: PartStore, root: Path
) -> None:
    with store.open(MANIFEST, "name") as part:
        fill(part, 0)
    with store.open(Manifest.of_bytes(b"other"), "name"):
        pass
    TempFiles(folder).write(b"left by a killed process", folder.volumes.main)
    written = (root / ".p2p" / f"{MANIFEST.id}.part").stat().st_mtime
    os.utime(root / ".p2p" / f"{MANIFEST.id}.part", (written + 1000, written + 1000))
    os.utime(root / ".p2p" / f"{MANIFEST.id}.have", (written + 1000, written + 1000))
    store.clean_up(written + DEFAULT_PART_KEEP + 500)
    assert dot(folder) == [f"{MANIFEST.id}.have", f"{MANIFEST.id}.part"]
    store.clean_up(written + DEFAULT_PART_KEEP + 1500)
    assert dot(folder) == []


def test_one_line_names_each_unfinished_file_that_is_deleted(
    folder: SharedFolder, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = PartStore(folder, keep_seconds=10)
    for name in ("first name", "later/name"):
        with store.open(MANIFEST, name) as part:
            fill(part, 0)
    written = (root / ".p2p" / f"{MANIFEST.id}.part").stat().st_mtime
    store.clean_up(written + 9)
    assert caplog.messages == []
    store.clean_up(written + 11)
    [line] = caplog.messages
    assert "'later/name'" in line and MANIFEST.id in line
    assert dot(folder) == []


def test_resume_data_of_an_earlier_release_has_no_name(
    folder: SharedFolder, store: PartStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with store.open(MANIFEST, "name") as part:
        fill(part, 0, 2)
    resume_data = root / ".p2p" / f"{MANIFEST.id}.have"
    resume_data.write_bytes(resume_data.read_bytes().removesuffix(b"name"))
    store.clean_up(resume_data.stat().st_mtime + DEFAULT_PART_KEEP - 10)
    with store.open(MANIFEST, "name") as part:
        assert list(part.verified.present()) == [0, 2]
    assert resume_data.read_bytes().endswith(b"name")


# ------------------------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize("size", [0, 1, 5 * MIB + 3])
@pytest.mark.parametrize("way", ["best", "kernel", "ours"])
def test_a_copy_has_the_same_content(folder: SharedFolder, tmp_path: Path, size: int, way: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(size).randbytes(size))
    if way != "best":
        folder.disk.clone = lambda source, target: False  # type: ignore[method-assign]
    if way == "ours":
        folder.disk.copy_range = lambda source, target, length, offset: -1  # type: ignore[method-assign]
    seen: list[int] = []
    with (
        source.open("rb") as file,
        TempFiles(folder).copy_in(file.fileno(), folder.volumes.main, progress=seen.append) as copy,
    ):
        with copy.handle as fd:
            manifest = hash_file(folder.disk, fd, copy.size)
        copy.publish("copy")
    assert (folder.root / "copy").read_bytes() == source.read_bytes()
    assert manifest == manifest_of(source.read_bytes())
    assert sum(seen) == size
    assert dot(folder) == []


def test_copying_a_changing_file_fails(folder: SharedFolder, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(MIB))
    with source.open("rb") as file, pytest.raises(BeingWritten):
        TempFiles(folder).copy_in(
            file.fileno(), folder.volumes.main, progress=lambda count: source.write_bytes(b"other")
        )
    assert dot(folder) == []


def test_a_cancelled_copy_leaves_nothing(folder: SharedFolder, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(MIB))
    folder.disk.clone = lambda source, target: False  # type: ignore[method-assign]
    with source.open("rb") as file, pytest.raises(Interrupted):
        TempFiles(folder).copy_in(file.fileno(), folder.volumes.main, stop=lambda: True)
    assert dot(folder) == []
