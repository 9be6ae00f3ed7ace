"""Holes stay holes: in copies, in received pieces, in small files; and zeros cost neither disk space nor reading."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import BeingWritten, DiskFull
from daemon.storage.contents import copy_contents
from daemon.storage.disk import Disk
from daemon.storage.hashing import hash_file
from daemon.storage.manifest import Manifest
from daemon.storage.part_file import PartStore
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.sparse import MIN_HOLE_BYTES, data_bytes, write_sparse
from daemon.storage.temp_files import TempFiles

MIB = 1 << 20
KIB = 1 << 10
# Data in these pieces of a file of 64 MiB, and much less than a piece in the last one.
DATA_PIECES = (0, 17, 40)


class NearlyFullDisk(Disk):
    """A disk with 8 MiB of room."""

    def free_bytes(self, fd: int) -> int:
        return 8 * MIB


class DiskWithoutHoles(Disk):
    """A disk of a file system that neither reports nor makes holes, and that shares no blocks."""

    def find_data(self, fd: int, offset: int) -> tuple[int, int] | None:
        size = os.fstat(fd).st_size
        return (offset, size) if offset < size else None

    def punch_hole(self, fd: int, offset: int, length: int) -> bool:
        return False

    def clone(self, source: int, target: int) -> bool:
        return False


class CopyingDisk(Disk):
    """A disk of a file system that shares no blocks, and that counts the bytes read."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes_read = 0

    def clone(self, source: int, target: int) -> bool:
        return False

    def pread_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        count = super().pread_into(fd, buffer, offset)
        self.bytes_read += count
        return count


class NearlyFullCopyingDisk(NearlyFullDisk, CopyingDisk):
    """A disk with 8 MiB of room that shares no blocks."""


def allocated(path: Path) -> int:
    return 512 * path.stat().st_blocks


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """A file of 64 MiB with 3 MiB and 4 KiB of data."""
    path = tmp_path / "sparse.img"
    rng = random.Random(7)
    with path.open("wb") as file:
        file.truncate(64 * MIB)
        for piece in DATA_PIECES:
            file.seek(piece * MIB)
            file.write(rng.randbytes(MIB))
        file.seek(63 * MIB + 512 * KIB)
        file.write(rng.randbytes(4 * KIB))
    if allocated(path) > 8 * MIB:
        pytest.skip("the file system of the test folder has no holes")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[SharedFolder]:
    folder = SharedFolder(tmp_path / "shared", NearlyFullDisk())
    yield folder
    folder.close()


def manifest_of(path: Path) -> Manifest:
    with path.open("rb") as file:
        return hash_file(Disk(), file.fileno(), path.stat().st_size)


def store_missing(part_store: PartStore, manifest: Manifest, source: Path, pieces: int = 100) -> Path:
    """Write missing pieces, as a download does, in blocks of 256 KiB; publish the file if it is complete."""
    content = source.read_bytes()
    with part_store.open(manifest, "copy.img") as part:
        for piece in list(part.verified.missing())[:pieces]:
            begin = manifest.offset(piece)
            end = begin + manifest.length(piece)
            part.store(piece, [content[at : min(at + 256 * KIB, end)] for at in range(begin, end, 256 * KIB)])
        if part.verified.complete:
            part.publish("copy.img")
    return part_store.folder.root / "copy.img"


def test_a_received_file_has_holes_and_needs_room_for_its_data_only(folder: SharedFolder, sparse: Path) -> None:
    manifest = manifest_of(sparse)
    assert data_bytes(manifest) == 4 * MIB
    part_store = PartStore(folder)
    with part_store.open(manifest, "copy.img") as part:
        assert list(part.verified.missing()) == [*DATA_PIECES, 63]
        assert (part.resumed_bytes, part.zero_bytes) == (0, 60 * MIB)
    copy = store_missing(part_store, manifest, sparse)
    assert copy.read_bytes() == sparse.read_bytes()
    # The zeros inside the last piece are a hole too, but for the reserved blocks at its edges.
    assert allocated(copy) <= 3 * MIB + 128 * KIB


def test_a_part_with_holes_resumes_and_counts_no_zeros(folder: SharedFolder, sparse: Path) -> None:
    manifest = manifest_of(sparse)
    store_missing(PartStore(folder), manifest, sparse, pieces=2)
    with PartStore(folder).open(manifest, "copy.img") as part:
        assert part.resumed_bytes == 2 * MIB
        assert list(part.verified.missing()) == [DATA_PIECES[2], 63]
    copy = store_missing(PartStore(folder), manifest, sparse)
    assert copy.read_bytes() == sparse.read_bytes()
    assert allocated(copy) <= 3 * MIB + 128 * KIB


def test_a_piece_of_zeros_replaces_other_bytes_in_the_part(tmp_path: Path, sparse: Path) -> None:
    for number, disk in enumerate((Disk(), DiskWithoutHoles())):
        folder = SharedFolder(tmp_path / f"shared{number}", disk)
        manifest = manifest_of(sparse)
        PartStore(folder).open(manifest, "copy.img").close()
        with (folder.root / ".p2p" / f"{manifest.id}.part").open("r+b") as file:
            file.seek(5 * MIB)
            file.write(b"junk")
        with PartStore(folder).open(manifest, "copy.img") as part:
            assert 5 in part.verified.missing()
        assert store_missing(PartStore(folder), manifest, sparse).read_bytes() == sparse.read_bytes()
        folder.close()


def test_a_file_that_does_not_fit_is_refused_before_a_byte_is_written(folder: SharedFolder, tmp_path: Path) -> None:
    path = tmp_path / "large.img"
    path.write_bytes(b"".join(bytes([1 + number]) * MIB for number in range(9)))
    with pytest.raises(DiskFull, match=r"1\.00 MiB more"):
        PartStore(folder).open(manifest_of(path), "copy.img")
    with path.open("rb") as source, (tmp_path / "copy").open("wb") as target:
        with pytest.raises(DiskFull, match=r"1\.00 MiB more"):
            copy_contents(NearlyFullCopyingDisk(), source.fileno(), target.fileno(), 9 * MIB)
        assert os.fstat(target.fileno()).st_size == 0


def test_a_copy_has_the_holes_of_its_source(tmp_path: Path, sparse: Path) -> None:
    progress: list[int] = []
    with sparse.open("rb") as source, (tmp_path / "copy").open("w+b") as target:
        disk = NearlyFullCopyingDisk()
        assert not copy_contents(disk, source.fileno(), target.fileno(), 64 * MIB, progress=progress.append)
    assert (tmp_path / "copy").read_bytes() == sparse.read_bytes()
    assert allocated(tmp_path / "copy") <= allocated(sparse) + 64 * KIB
    assert sum(progress) == 64 * MIB


def test_a_small_received_file_has_holes(folder: SharedFolder) -> None:
    for content in (bytes(MIB), b"begin" + bytes(900 * KIB) + b"end", bytes(MIN_HOLE_BYTES - 1), bytes(40 * KIB)):
        with TempFiles(folder).write(content, folder.volumes.main) as file:
            path = folder.root / ".p2p" / file.temporary
            assert path.read_bytes() == content
            assert allocated(path) <= 64 * KIB


def test_holes_are_hashed_without_reading(sparse: Path) -> None:
    disk = CopyingDisk()
    with sparse.open("rb") as file:
        manifest = hash_file(disk, file.fileno(), 64 * MIB)
        dense = hash_file(DiskWithoutHoles(), file.fileno(), 64 * MIB)
    assert manifest == dense
    assert disk.bytes_read == 4 * MIB


@given(
    runs=st.lists(st.tuples(st.booleans(), st.integers(1, 40_000)), min_size=1, max_size=8),
    cut=st.integers(0, 100_000),
    offset=st.integers(0, 9000),
)
def test_what_is_written_with_holes_reads_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[bool, int]], cut: int, offset: int
) -> None:
    data = b"".join(bytes(length) if zeros else b"\x07" * length for zeros, length in runs)
    path = tmp_path_factory.mktemp("runs") / "file"
    for disk in (Disk(), DiskWithoutHoles()):
        with path.open("w+b") as file:
            file.write(b"\x09" * (offset + len(data)))
            file.flush()
            write_sparse(disk, file.fileno(), [data[:cut], memoryview(data)[cut:]], offset, overwrite=True)
        assert path.read_bytes() == b"\x09" * offset + data


def test_a_copy_of_a_growing_file_ends_where_the_file_ended_at_the_start(folder: SharedFolder, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"line\n" * 100_000)

    def append(_: int) -> None:
        with log.open("ab") as file:
            file.write(b"more\n")

    for disk in (Disk(), CopyingDisk()):
        before = log.read_bytes()
        other = SharedFolder(tmp_path / type(disk).__name__, disk)
        with (
            log.open("rb") as source,
            TempFiles(other).copy_in(source.fileno(), other.volumes.main, progress=append) as copy,
        ):
            assert (other.root / ".p2p" / copy.temporary).read_bytes() == before
        assert log.stat().st_size > len(before)
        other.close()


def test_a_copy_of_a_file_whose_content_changes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"a" * MIB)

    def change(_: int) -> None:
        with path.open("r+b") as file:
            file.write(b"b")

    folder = SharedFolder(tmp_path / "shared", CopyingDisk())
    with path.open("rb") as source, pytest.raises(BeingWritten, match="being written to"):
        TempFiles(folder).copy_in(source.fileno(), folder.volumes.main, progress=change)
    assert os.listdir(folder.root / ".p2p") == []
    folder.close()
