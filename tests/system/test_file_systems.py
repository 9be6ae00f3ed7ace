"""Real pservers on real file systems: exFAT, btrfs subvolumes, tmpfs, bind mounts and read-only folders."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import file_systems
from eventually import eventually
from system.cluster import Cluster, Peer
from system.payload import digest, digests_in, make_file

pytestmark = [pytest.mark.filesystems, pytest.mark.timeout(600)]

MIB = 1 << 20
LARGE = 24 * MIB
# Bytes a second: a large file takes seconds.
SLOW = 6 * MIB


def share_small(peer: Peer, folder: str, rng: random.Random, count: int = 50) -> None:
    for number in range(count):
        make_file(peer.shared / folder / f"{number}", rng.randrange(3000), rng)


def share(peer: Peer, *names: str) -> None:
    """Share what is in the shared folder under these names."""
    result = peer.pclient("upload", *(str(peer.shared / name) for name in names), "--copies", "0")
    assert result.code == 0, result


def download(peer: Peer, *words: str) -> None:
    result = peer.pclient("download", *words)
    assert result.code == 0, result


def dot_files(folder: Path) -> list[str]:
    return os.listdir(folder / ".p2p")


def test_a_shared_folder_on_exfat_does_all_that_others_do(cluster: Cluster, tmp_path: Path, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    share_small(ana, "small", rng)
    make_file(ana.shared / "large.bin", LARGE, rng)
    share(ana, "small", "large.bin")
    with file_systems.exfat(tmp_path / "exfat.img", cluster.folder / "ben" / "shared") as disk:
        ben = cluster.peer("ben", DOWNLOAD_LIMIT=SLOW)
        download(ben, "small/")
        # Killed in the middle; the next start resumes.
        running = ben.start_command("download", "large.bin")
        ben.at_progress(0.4, ben.kill)
        assert running.wait().code == 75
        ben.start()
        resumed = ben.pclient_until_success("download", "large.bin")
        assert resumed["resumed_bytes"] >= LARGE // 4, resumed
        assert digests_in(disk) == digests_in(ana.shared)
        # exFAT shows every file as executable, which is not announced; it stores times in units of 10 ms.
        listed = {each["name"]: each for each in ana.pclient("files").objects}
        assert not any(each["executable"] for each in listed.values())
        for name in digests_in(disk):
            assert abs((disk / name).stat().st_mtime - (ana.shared / name).stat().st_mtime) < 2, name
        # Pushed here, large and small, and copied in from outside.
        make_file(ana.home / "pushed.bin", 3 * MIB, rng)
        make_file(ana.home / "pushed.txt", 1000, rng)
        for name in ("pushed.bin", "pushed.txt"):
            assert ana.pclient("upload", str(ana.home / name)).one["copies"] == [ben.address]
            assert digest(disk / name) == digest(ana.home / name)
        make_file(ben.home / "own.bin", 3 * MIB, rng)
        assert ben.pclient("upload", str(ben.home / "own.bin")).one["copies"] == [ana.address]
        assert digest(disk / "own.bin") == digest(ben.home / "own.bin")
        # Nothing is replaced, in any case of letters.
        refused = ben.pclient("download", "pushed.bin", "--output", "OWN.bin")
        assert (refused.code, refused.error) == (73, "target_exists")
        assert ben.pclient("remove", "own.bin", "--yes").code == 0
        assert sorted(digests_in(disk)) == sorted({*digests_in(ana.shared)} - {"own.bin"})
        assert dot_files(disk) == []
        assert list(ben.status().faults) == []


def test_a_copy_outside_may_be_on_exfat(cluster: Cluster, tmp_path: Path, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    make_file(ana.shared / "a.bin", 3 * MIB, rng)
    share(ana, "a.bin")
    with file_systems.exfat(tmp_path / "exfat.img", tmp_path / "stick") as stick:
        # Found out before a byte moves.
        refused = ben.pclient("download", "a.bin", "--output", f"{stick}/what?.bin")
        assert (refused.code, refused.error) == (74, "io")
        assert digests_in(ben.shared) == {}
        download(ben, "a.bin", "--output", f"{stick}/copy.bin")
        assert digest(stick / "copy.bin") == digest(ana.shared / "a.bin")
        again = ben.pclient("download", "a.bin", "--output", f"{stick}/COPY.BIN")
        assert (again.code, again.error) == (73, "target_exists")
        assert os.listdir(stick) == ["copy.bin"]


def test_files_for_a_subvolume_and_a_tmpfs_inside_are_prepared_there(
    cluster: Cluster, tmp_path: Path, rng: random.Random
) -> None:
    ana = cluster.peer("ana")
    for folder in ("sub", "fast", "main"):
        share_small(ana, f"{folder}/small", rng)
        make_file(ana.shared / folder / "large.bin", LARGE, rng)
    share(ana, "sub", "fast", "main")
    shared = cluster.folder / "ben" / "shared"
    with file_systems.btrfs(tmp_path / "btrfs.img", shared):
        file_systems.run("btrfs", "subvolume", "create", shared / "sub")
        with file_systems.tmpfs(shared / "fast"):
            ben = cluster.peer("ben", DOWNLOAD_LIMIT=SLOW)
            running = ben.start_command("download", "sub/large.bin")
            ben.at_progress(0.4, ben.kill)
            assert running.wait().code == 75
            assert dot_files(shared / "sub")
            ben.start()
            resumed = ben.pclient_until_success("download", "sub/large.bin")
            assert resumed["resumed_bytes"] >= LARGE // 4, resumed
            download(ben, "sub/", "fast/", "main/")
            assert digests_in(shared) == digests_in(ana.shared)
            assert [dot_files(folder) for folder in (shared, shared / "sub", shared / "fast")] == [[], [], []]
            # Pushed and copied in from outside, under names there.
            for folder in ("sub", "fast"):
                make_file(ana.home / folder / "pushed.bin", 3 * MIB, rng)
                make_file(ana.home / folder / "pushed.txt", 1000, rng)
                results = ana.pclient("upload", str(ana.home / folder)).objects
                assert [each["copies"] for each in results] == [[ben.address]] * 2
                make_file(ben.home / folder / "own.bin", 3 * MIB, rng)
                assert ben.pclient("upload", str(ben.home / folder)).one["copies"] == [ana.address]
            assert digests_in(shared) == digests_in(ana.shared)
            assert ben.pclient("upload", str(shared / "fast"), "--copies", "0").code == 0
            # It is not in use, so it can be unmounted.
            file_systems.run("umount", shared / "fast")
            eventually(lambda: not any(name.startswith("fast/") for name in shown(ben)))


def shown(peer: Peer) -> list[str]:
    """The names that this peer has, as the tracker lists them for it."""
    return [each["name"] for each in peer.pclient("files").objects if each["holders"] == 2]


def test_a_mount_that_disappears_during_a_download_ends_it_with_one_line(cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    make_file(ana.shared / "disk" / "large.bin", LARGE, rng)
    make_file(ana.shared / "other.bin", 3 * MIB, rng)
    share(ana, "disk", "other.bin")
    shared = cluster.folder / "ben" / "shared"
    with file_systems.tmpfs(shared / "disk"):
        ben = cluster.peer("ben", DOWNLOAD_LIMIT=SLOW)
        running = ben.start_command("download", "disk/large.bin")
        ben.at_progress(0.3, lambda: file_systems.run("umount", "--lazy", shared / "disk"))
        result = running.wait()
        assert (result.code, result.error) == (74, "io")
        assert "mounted or unmounted meanwhile" in result.objects[0]["error"]["message"]
        assert "Traceback" not in ben.program.tail(200)
        download(ben, "other.bin")
        # The mount point is an ordinary folder now.
        download(ben, "disk/large.bin")
        assert digests_in(shared) == digests_in(ana.shared)


def test_a_read_only_shared_folder_is_shared_and_stores_nothing_until_it_is_writable(
    cluster: Cluster, tmp_path: Path, rng: random.Random
) -> None:
    ana = cluster.peer("ana")
    make_file(ana.shared / "new.bin", 3 * MIB, rng)
    make_file(ana.shared / "new.txt", 1000, rng)
    share(ana, "new.bin", "new.txt")
    source = tmp_path / "source"
    make_file(source / "old.bin", 3 * MIB, rng)
    make_file(source / "old.txt", 1000, rng)
    with file_systems.bind(source, cluster.folder / "ben" / "shared") as shared:
        file_systems.remount(shared, "ro")
        ben = cluster.peer("ben")
        [fault] = ben.status().faults
        assert f"{shared} is read-only" in fault
        assert f"{shared} is read-only" in ben.pclient("status", json_output=False).stdout
        assert ben.pclient("status").one["faults"] == [fault]
        eventually(lambda: sorted(each["name"] for each in ana.pclient("files").objects)[-2:] == ["old.bin", "old.txt"])
        download(ana, "old.bin", "old.txt")
        assert digest(ana.shared / "old.bin") == digest(source / "old.bin")
        for words in (("download", "new.bin"), ("download", "new.txt"), ("remove", "old.bin", "--yes")):
            refused = ben.pclient(*words)
            assert (refused.code, refused.error) == (74, "io"), refused
            assert "is read-only" in refused.objects[0]["error"]["message"]
        make_file(ben.home / "outside.bin", 2 * MIB, rng)
        refused = ben.pclient("upload", str(ben.home / "outside.bin"))
        assert (refused.code, refused.error) == (74, "io")
        # Without a receiver, the push ends with one line, large or small.
        for name in ("new.bin", "new.txt"):
            alone = ana.pclient("upload", str(ana.shared / name))
            assert (alone.code, alone.error) == (69, "no_active_peer"), alone
        assert sorted(os.listdir(source)) == ["old.bin", "old.txt"]
        file_systems.remount(shared, "rw")
        eventually(lambda: not ben.status().faults)
        download(ben, "new.bin", "new.txt")
        assert ben.pclient("remove", "old.bin", "--yes").code == 0
        assert digest(source / "new.bin") == digest(ana.shared / "new.bin")
