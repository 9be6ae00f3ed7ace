"""Claims about hashing: the manifest is the same for any number of threads, and a truncated file has none."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from blake3 import blake3

from daemon.errors import FileChanged, Interrupted
from daemon.storage.disk import Disk
from daemon.storage.hashing import hash_file, hash_pieces

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 9 * MIB + 3])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_piece_has_its_own_digest(tmp_path: Path, size: int, threads: int) -> None:
    data = random.Random(size).randbytes(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    seen: list[int] = []
    with path.open("rb") as file:
        manifest = hash_file(Disk(), file.fileno(), size, progress=seen.append, threads=threads)
    assert (manifest.size, manifest.piece_length) == (size, MIB)
    assert manifest.digests == b"".join(blake3(data[at : at + MIB]).digest() for at in range(0, size, MIB))
    assert sum(seen) == size


def test_pieces_are_hashed_in_the_requested_order(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(MIB) + b"\1" * MIB + b"\2" * 5)
    with path.open("rb") as file:
        digests = hash_pieces(Disk(), file.fileno(), 2 * MIB + 5, [2, 0])
    assert digests == [blake3(b"\2" * 5).digest(), blake3(bytes(MIB)).digest()]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_that_is_too_short_counts_as_changed(tmp_path: Path, threads: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(9 * MIB))
    with path.open("rb") as file, pytest.raises(FileChanged):
        hash_file(Disk(), file.fileno(), 9 * MIB + 1, threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_hashing_stops_when_cancelled(tmp_path: Path, threads: int) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 100 * MIB)
    done: list[int] = []
    with path.open("rb") as file, pytest.raises(Interrupted):
        hash_file(Disk(), file.fileno(), 100 * MIB, progress=done.append, stop=lambda: len(done) >= 5, threads=threads)
    assert len(done) <= 5 + threads
