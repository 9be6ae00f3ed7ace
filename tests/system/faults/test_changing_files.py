"""Files that change, shrink, are replaced or removed while they are served: no corrupt byte, and a correct index."""

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from eventually import eventually
from system.cluster import Cluster, Peer
from system.faults.counts import quick_and_long
from system.faults.transfer_calls import download, list_files, remove, upload, wait_for_bytes
from system.payload import digest, make_file

MIB = 1 << 20
SIZE = 8 * MIB
LIMIT = "24M"

Change = Callable[[Path, random.Random], object]


def change_a_byte(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        at = rng.randrange(os.fstat(file.fileno()).st_size)
        file.seek(at)
        before = file.read(1)
        file.seek(at)
        file.write(bytes([before[0] ^ 1]))


def truncate(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(SIZE))


def append(path: Path, rng: random.Random) -> None:
    with path.open("ab") as file:
        file.write(rng.randbytes(1000))


def replace(path: Path, rng: random.Random) -> None:
    make_file(path.with_name(".new"), SIZE, rng).replace(path)


def remove_it(path: Path, rng: random.Random) -> None:
    path.unlink()


def empty_and_write_anew(path: Path, rng: random.Random) -> None:
    make_file(path, SIZE, rng)


CHANGES: list[Change] = [change_a_byte, truncate, append, replace, remove_it, empty_and_write_anew]


@pytest.fixture
def ana(cluster: Cluster) -> Peer:
    """The holder whose files change."""
    return cluster.peer("ana", UPLOAD_LIMIT=LIMIT)


def holders_of(peer: Peer, name: str, file_id: str) -> list[int]:
    """Return the number of complete copies of a version, as a list of one number; empty if it has none."""
    return [file.holders for file in list_files(peer, name) if file.id == file_id]


@quick_and_long("timings", 20, 500)
def test_a_file_that_changes_while_it_is_served_is_never_served_corrupt(
    cluster: Cluster, ana: Peer, rng: random.Random, timings: int
) -> None:
    cid = cluster.peer("cid", UPLOAD_LIMIT=LIMIT)
    ben = cluster.peer("ben")
    for timing in range(timings):
        name = f"{timing}.bin"
        source = make_file(ana.home / name, SIZE, rng)
        truth = digest(source)
        assert upload(ana, name).wait().single_upload.name == name
        [holder] = [peer for peer in (cid, ben) if (peer.shared / name).exists()]
        [requester] = [peer for peer in (cid, ben) if peer is not holder]

        call = download(requester, name)
        wait_for_bytes(requester, call, rng.randrange(SIZE))
        CHANGES[timing % len(CHANGES)](ana.shared / name, rng)

        got = call.wait().single_download
        assert digest(requester.shared / name) == truth
        # After its next scan ana no longer announces the file.
        eventually(lambda: holders_of(requester, name, got.id) == [2])  # noqa: B023
        for peer in (cid, ben):
            remove(peer, name)
        (ana.shared / name).unlink(missing_ok=True)
        source.unlink()


def test_a_download_waits_when_its_only_holders_file_changes(cluster: Cluster, ana: Peer, rng: random.Random) -> None:
    ben = cluster.peer("ben")
    make_file(ana.home / "film.bin", 3 * SIZE, rng)
    assert upload(ana, "film.bin", copies=0).wait().single_upload
    call = download(ben, "film.bin")
    wait_for_bytes(ben, call, SIZE)
    change_a_byte(ana.shared / "film.bin", rng)
    eventually(lambda: len({file.id for file in list_files(ben, "film.bin") if file.holders}) == 1)
    assert not (ben.shared / "film.bin").exists()
    # With the original content back, the download resumes.
    (ana.shared / "film.bin").unlink()
    assert upload(ana, "film.bin", copies=0).wait().single_upload
    assert call.wait().single_download.size == 3 * SIZE
    assert digest(ben.shared / "film.bin") == digest(ana.home / "film.bin")


def test_a_file_deleted_before_the_next_scan_can_be_downloaded_and_uploaded_again(
    cluster: Cluster, rng: random.Random
) -> None:
    # No scan runs during the test.
    ana = cluster.peer("ana", PING_INTERVAL=60)
    ben = cluster.peer("ben", PING_INTERVAL=60)
    make_file(ana.home / "film.bin", 2 * MIB, rng)
    truth = digest(ana.home / "film.bin")
    assert upload(ana, "film.bin").wait().single_upload.copies == [ben.address]
    (ben.shared / "film.bin").unlink()
    assert not download(ben, "film.bin").wait().single_download.already_present
    assert digest(ben.shared / "film.bin") == truth
    (ana.shared / "film.bin").unlink()
    assert upload(ana, "film.bin", copies=0).wait().single_upload.name == "film.bin"
    assert digest(ana.shared / "film.bin") == truth
    change_a_byte(ana.shared / "film.bin", rng)
    assert upload(ana, "film.bin", copies=0).wait().code == "target_exists"


@pytest.mark.parametrize("inside", [True, False])
def test_the_upload_of_a_growing_log_says_so_or_shares_what_was_there(
    cluster: Cluster, rng: random.Random, inside: bool
) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    log = make_file((ana.shared if inside else ana.home) / "app.log", MIB, rng)
    writer = subprocess.Popen(["sh", "-c", f"while :; do echo line >> {log}; done"])
    try:
        eventually(lambda: log.stat().st_size > MIB)
        result = ana.pclient("upload", str(log))
    finally:
        writer.kill()
        writer.wait()
    if inside:
        assert (result.code, result.error) == (75, "interrupted")
        assert "it is being written to" in result.objects[0]["error"]["message"]
        # Scans share it now.
        eventually(lambda: [file.holders for file in list_files(ben, "app.log")] == [1])
    else:
        assert result.one["copies"] == [ben.address]
        copy = (ben.shared / "app.log").read_bytes()
        assert len(copy) == result.one["size"] > MIB
        assert log.read_bytes().startswith(copy)
