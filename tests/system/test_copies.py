"""Real pservers and sparse files, reflinks and hard links on real file systems."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import file_systems
from system.cluster import Cluster
from system.payload import digest, make_file

pytestmark = [pytest.mark.filesystems, pytest.mark.timeout(600)]

MIB = 1 << 20


def allocated(path: Path) -> int:
    return 512 * path.stat().st_blocks


def make_sparse(path: Path, size: int, rng: random.Random) -> Path:
    """Write 1 MiB of data at three places of a file of `size` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
        for at in (0, size // 2 + 12_288, size - MIB):
            file.seek(at)
            file.write(rng.randbytes(MIB))
    return path


def free_bytes(folder: Path) -> int:
    os.sync()
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "btrfs"])
def test_a_sparse_file_larger_than_the_disk_is_copied_received_and_exported_with_its_holes(
    cluster: Cluster, tmp_path: Path, rng: random.Random, kind: str
) -> None:
    ana = cluster.peer("ana")
    source = make_sparse(ana.home / "disk.img", 1024 * MIB, rng)
    with file_systems.small(kind, tmp_path / "disk.img", cluster.folder / "ben" / "shared") as shared:
        ben = cluster.peer("ben")
        assert ana.pclient("upload", str(source), "--copies", "0").code == 0
        assert allocated(ana.shared / "disk.img") < 8 * MIB
        got = ben.pclient("download", "disk.img", "--output", str(ben.home / "out.img")).one
        assert got["resumed_bytes"] == 0
        for copy in (shared / "disk.img", ben.home / "out.img"):
            assert digest(copy) == digest(source)
            assert allocated(copy) < 8 * MIB
        make_sparse(ben.home / "own.img", 700 * MIB, rng)
        assert ben.pclient("upload", str(ben.home / "own.img"), "--copies", "0").code == 0
        assert digest(shared / "own.img") == digest(ben.home / "own.img")
        assert allocated(shared / "own.img") < 8 * MIB


def test_a_sparse_file_is_pushed_to_a_peer_with_room_for_its_data(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben", QUOTA="16M")
    source = make_sparse(ana.home / "disk.img", 300 * MIB, rng)
    assert ana.pclient("upload", str(source)).one["copies"] == [ben.address]
    assert digest(ben.shared / "disk.img") == digest(source)
    assert allocated(ben.shared / "disk.img") < 8 * MIB
    make_file(ana.home / "dense.img", 17 * MIB, rng)
    assert ana.pclient("upload", str(ana.home / "dense.img")).error == "no_active_peer"


def test_a_sparse_download_that_is_killed_resumes(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben", DOWNLOAD_LIMIT=6 * MIB)
    source = ana.shared / "disk.img"
    make_file(source, 24 * MIB, rng)
    with source.open("r+b") as file:
        file.truncate(100 * MIB)
    assert ana.pclient("upload", str(source), "--copies", "0").code == 0
    running = ben.start_command("download", "disk.img")
    ben.at_progress(0.85, ben.kill)
    assert running.wait().code == 75
    ben.start()
    resumed = ben.pclient_until_success("download", "disk.img")
    assert 0 < resumed["resumed_bytes"] < 24 * MIB
    assert digest(ben.shared / "disk.img") == digest(source)
    assert allocated(ben.shared / "disk.img") <= 25 * MIB


def test_a_copy_on_btrfs_shares_its_blocks(cluster: Cluster, tmp_path: Path, rng: random.Random) -> None:
    with file_systems.btrfs(tmp_path / "btrfs.img", cluster.folder / "ana") as disk:
        ana = cluster.peer("ana")
        file_systems.run("btrfs", "subvolume", "create", disk / "sub")
        for folder in (ana.home, disk / "sub"):
            source = make_file(folder / f"{folder.name}.bin", 60 * MIB, rng)
            before = free_bytes(disk)
            assert ana.pclient("upload", str(source), "--copies", "0").code == 0
            assert digest(ana.shared / source.name) == digest(source)
            assert before - free_bytes(disk) < 8 * MIB


def test_without_room_for_a_copy_the_message_offers_a_link_which_works(cluster: Cluster, rng: random.Random) -> None:
    with file_systems.tmpfs(cluster.folder / "ana", "40m"):
        ana, ben = cluster.peer("ana"), cluster.peer("ben")
        source = make_file(ana.home / "disc.iso", 25 * MIB, rng)
        refused = ana.pclient("upload", str(source), json_output=False)
        assert refused.code == 74
        assert "`upload --link` shares it by a hard link" in refused.stderr
        linked = ana.pclient("upload", str(source), "--link").one
        assert linked["copies"] == [ben.address]
        assert (ana.shared / "disc.iso").samefile(source)
        assert digest(ben.shared / "disc.iso") == digest(source)
        # An edit outside is a new version of the shared file.
        with source.open("r+b") as file:
            file.write(b"edited")
        changed = ana.pclient("upload", str(ana.shared / "disc.iso"), "--copies", "0").one
        assert changed["id"] != linked["id"]


def test_a_large_copy_comes_with_the_advice_to_link(cluster: Cluster) -> None:
    with file_systems.tmpfs(cluster.folder / "ana", "2200m"):
        ana = cluster.peer("ana")
        for name, data in (("dense.iso", b"\1" * MIB), ("sparse.iso", b"")):
            with (ana.home / name).open("wb") as file:
                for _ in range(1024):
                    file.write(data)
                file.truncate(1024 * MIB)
            done = ana.pclient("upload", str(ana.home / name), "--copies", "0", json_output=False)
            assert done.code == 0
            assert ("`upload --link` shares a file without a copy" in done.stderr) == bool(data)


def test_a_link_is_refused_in_one_line_where_it_is_impossible(
    cluster: Cluster, tmp_path: Path, rng: random.Random
) -> None:
    ana = cluster.peer("ana")
    with file_systems.tmpfs(tmp_path / "other") as other:
        make_file(other / "far.bin", 3 * MIB, rng)
        refused = ana.pclient("upload", str(other / "far.bin"), "--link")
        assert (refused.code, refused.error) == (2, "bad_usage")
        assert "on another file system" in refused.objects[0]["error"]["message"]
    with file_systems.exfat(tmp_path / "exfat.img", tmp_path / "stick") as stick:
        (stick / "shared").mkdir()
        make_file(stick / "near.bin", 3 * MIB, rng)
        ben = cluster.peer("ben", SHARED_DIR=stick / "shared")
        refused = ben.pclient("upload", str(stick / "near.bin"), "--link")
        assert (refused.code, refused.error) == (2, "bad_usage")
        assert "allows no further hard link" in refused.objects[0]["error"]["message"]
        assert os.listdir(stick / "shared" / ".p2p") == []
        assert ben.pclient("upload", str(stick / "near.bin"), "--copies", "0").code == 0
