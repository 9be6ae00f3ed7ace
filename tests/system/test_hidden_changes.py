"""Files whose content changed without their mtime, and files whose inode or device changed without their content."""

import os
import random
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import file_systems
from eventually import eventually
from ports import reserve_port
from system.cluster import Cluster, Peer
from system.payload import digest, make_file

MIB = 1 << 20


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Change content and set the modification time back, as `touch -r` and disk encryption do."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def metric(peer: Peer, name: str) -> float:
    """Return a metric of a peer; it is 0 until it is counted."""
    port = peer.env.read_text().partition("METRICS_PORT=")[2].split()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    [value] = [line.split()[1] for line in lines if line.split()[0] == name]
    return float(value)


def listed(peer: Peer) -> dict[str, str]:
    """Return the ids of the names with a complete holder."""
    return {each["name"]: each["id"] for each in peer.pclient("files").objects if each["holders"]}


def test_a_hidden_change_gets_a_new_id_and_harms_no_download(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    path = make_file(ana.shared / "disk.img", 9 * MIB, rng)
    before = ana.pclient("upload", str(path), "--copies", "0").one["id"]
    overwrite(path, 5 * MIB, b"changed inside")
    eventually(lambda: listed(ben).get("disk.img", before) != before)
    received = ben.pclient("download", "disk.img")
    assert received.code == 0, received
    assert digest(ben.shared / "disk.img") == digest(path)


def test_a_command_that_names_a_file_finds_a_hidden_change_at_once(cluster: Cluster, rng: random.Random) -> None:
    # The next scan is up to 20 s away.
    ana, ben = cluster.peer("ana", PING_INTERVAL=20), cluster.peer("ben")
    path = make_file(ana.shared / "small.txt", 1000, rng)
    before = ana.pclient("upload", str(path), "--copies", "0").one["id"]
    overwrite(path, 0, b"changed")
    sent = ana.pclient("upload", str(path)).one
    assert sent["id"] != before and sent["copies"] == [ben.address]
    assert digest(ben.shared / "small.txt") == digest(path)


def test_new_modes_withdraw_no_file_and_are_read_once(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana", METRICS_PORT=reserve_port()), cluster.peer("ben")
    sizes = {"film.bin": 20 * MIB, "folder/a.txt": 1000, "folder/b.txt": 2000}
    for name, size in sizes.items():
        make_file(ana.shared / name, size, rng)
    assert ana.pclient("upload", str(ana.shared), "--copies", "0").code == 0
    ids, hashed = listed(ben), metric(ana, "p2p_hashed_bytes_total")
    assert hashed == sum(sizes.values())
    for path in ana.shared.rglob("*.*"):
        path.chmod(0o600)
    assert ben.pclient("download", "film.bin").code == 0
    eventually(lambda: metric(ana, "p2p_hashed_bytes_total") == 2 * hashed)
    assert metric(ana, "p2p_unconfirmed_files") == 0
    assert listed(ben) == ids


@pytest.mark.filesystems
@pytest.mark.parametrize("kind", ["btrfs", "exfat"])
def test_a_new_mount_with_another_device_number_hashes_no_file_again(
    cluster: Cluster, rng: random.Random, tmp_path: Path, kind: str
) -> None:
    shared, size, image = tmp_path / "mount", 16 * MIB, tmp_path / "image"
    with file_systems.loop_device(image) as device:
        file_systems.run(f"mkfs.{kind}", device)
        with mounted(kind, device, shared):
            ana = cluster.peer("ana", SHARED_DIR=shared, METRICS_PORT=reserve_port())
            for number in range(3):
                make_file(shared / f"{number}.bin", size, rng)
            assert ana.pclient("upload", str(shared), "--copies", "0").code == 0
            ids, dev = listed(ana), shared.stat().st_dev
            assert len(ids) == 3
            assert ana.terminate() == 0
    # Others use the numbers that have become free: that of the loop device, and that of the mount.
    with file_systems.loop_device(tmp_path / "other image"), file_systems.tmpfs(tmp_path / "other"):  # noqa: SIM117
        with file_systems.loop_device(image) as device, mounted(kind, device, shared):
            assert shared.stat().st_dev != dev
            ana.start()
            eventually(lambda: metric(ana, "p2p_shared_files") == 3)
            eventually(lambda: listed(ana) == ids)
            eventually(lambda: metric(ana, "p2p_unconfirmed_files") == 0)
            assert metric(ana, "p2p_hashed_bytes_total") == 3 * MIB
            assert ana.terminate() == 0
            # From here on the new number is known.
            ana.start()
            eventually(lambda: listed(ana) == ids)
            assert metric(ana, "p2p_hashed_bytes_total") == 0
            assert ana.terminate() == 0


def mounted(kind: str, device: str, folder: Path) -> AbstractContextManager[Path]:
    """Mount the btrfs or exFAT file system of a device."""
    return file_systems.exfat_on(device, folder) if kind == "exfat" else file_systems.mounted(folder, device)
