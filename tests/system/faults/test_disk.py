"""Failing, full and read-only disks: a clear error, no data lost, and a retry that resumes."""

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import pserver_pb2 as pb
from failing_disk import FailingDisk
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker
from system.cluster import Cluster
from system.faults.transfer_calls import MetricsEndpoint, download, upload, wait_for_bytes
from system.payload import digest, digests_in, make_file

MIB = 1 << 20
ON_DISK = Path(__file__).with_name("pserver_on_disk.py")


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[LiveTracker]:
    with live_tracker(tmp_path / "tracker") as tracker:
        yield tracker


def fetch(peer: LivePserver, name: str) -> tuple[list[str], int]:
    """Download; return the codes of the faults and the resumed bytes."""
    codes: list[str] = []
    resumed = 0
    with peer.control() as control:
        for event in control.DownloadFileRequest(
            iter([pb.DownloadCommand(names=[name])]), metadata=peer.cookie, timeout=60
        ):
            codes += [fault.code for fault in event.results.faults]
            resumed += sum(each.resumed_bytes for each in event.results.downloaded)
    return codes, resumed


def push(peer: LivePserver, path: Path) -> list[str]:
    """Upload; return the codes of the faults."""
    command = pb.UploadCommand(paths=[str(path)], copies=1)
    with peer.control() as control:
        events = control.UploadFileRequest(iter([command]), metadata=peer.cookie, timeout=60)
        return [fault.code for event in events for fault in event.results.faults]


@pytest.mark.parametrize("size", [3 * MIB, 1000], ids=["pieces", "one piece"])
@pytest.mark.parametrize(("error", "code"), [(errno.ENOSPC, "disk_full"), (errno.EIO, "io")], ids=["ENOSPC", "EIO"])
def test_a_download_reports_a_failed_disk_operation_and_resumes(
    tmp_path: Path, tracker: LiveTracker, rng: random.Random, size: int, error: int, code: str
) -> None:
    disk = FailingDisk(error=error)
    content = rng.randbytes(size)
    with (
        live_pserver(tmp_path / "ana", tracker, "ana") as ana,
        live_pserver(tmp_path / "ben", tracker, "ben", disk=disk, ping_interval=5.0) as ben,
    ):
        faults = 0
        number = 0
        while disk.count >= number:
            number += 1
            name = f"{number}.bin"
            # Each round has its own content, so that an earlier round's data is of no use.
            truth = number.to_bytes(4) + content
            ana.share(name, truth)
            ana.call(ana.pserver.announcer.sync())
            disk.number = number
            disk.arm()
            codes, _ = fetch(ben, name)
            disk.number = 0
            assert codes in ([], [code]), f"operation {number}"
            faults += bool(codes)
            path = ben.shared / name
            assert path.exists() or codes, f"operation {number}"
            assert not path.exists() or path.read_bytes() == truth, f"operation {number}"
            codes, _ = fetch(ben, name)
            assert codes == []
            assert path.read_bytes() == truth, f"operation {number}"
        assert number > 10
        assert faults > 5
        # Files that could not be deleted then are deleted at the next start.
        ben.pserver.part_store.clean_up(0)
        assert os.listdir(ben.shared / ".p2p") == []


def test_a_push_reports_a_failed_disk_operation_and_a_retry_succeeds(
    tmp_path: Path, tracker: LiveTracker, rng: random.Random
) -> None:
    disk = FailingDisk(error=errno.ENOSPC)
    content = rng.randbytes(2 * MIB)
    with (
        live_pserver(tmp_path / "ana", tracker, "ana") as ana,
        live_pserver(tmp_path / "ben", tracker, "ben", disk=disk, ping_interval=5.0) as ben,
    ):
        number = 0
        faults = 0
        while disk.count >= number:
            number += 1
            source = tmp_path / f"{number}.bin"
            source.write_bytes(number.to_bytes(4) + content)
            disk.number = number
            disk.arm()
            codes = push(ana, source)
            disk.number = 0
            assert codes in ([], ["no_active_peer"]), f"operation {number}"
            faults += bool(codes)
            path = ben.shared / source.name
            assert not path.exists() or path.read_bytes() == source.read_bytes(), f"operation {number}"
            assert push(ana, source) == []
            assert path.read_bytes() == source.read_bytes(), f"operation {number}"
        assert faults > 5


@pytest.mark.root
def test_a_full_disk_fails_only_the_download_that_does_not_fit(cluster: Cluster, rng: random.Random) -> None:
    figures = MetricsEndpoint()
    ana = cluster.peer("ana", UPLOAD_LIMIT="16M")
    for name, size in (("large.bin", 12), ("small.bin", 4), ("late.bin", 6)):
        make_file(ana.home / name, size * MIB, rng)
    assert len(upload(ana, "large.bin", "small.bin", "late.bin", copies=0).wait().uploaded) == 3
    ben = cluster.peer("ben", login=False, script=ON_DISK, METRICS_PORT=figures.port)
    ben.login_over_grpc("ben")
    ben.terminate()
    ben.start(TEST_DISK=f"small:17M:{ben.shared}")
    # Only its process sees the mounted file system.
    shared = Path(f"/proc/{ben.program.pid}/root{ben.shared}")

    both = [download(ben, "large.bin"), download(ben, "small.bin")]
    assert [each.wait().single_download.name for each in both] == ["large.bin", "small.bin"]
    full = ben.pclient("download", "late.bin")
    assert full.code == 74
    assert full.error == "disk_full"
    assert set(digests_in(shared)) == {"large.bin", "small.bin"}
    # It still serves its files.
    cid = cluster.peer("cid")
    assert cid.pclient("download", "small.bin").code == 0

    (shared / "large.bin").unlink()
    assert download(ben, "late.bin").wait().single_download.size == 6 * MIB
    assert digest(shared / "late.bin") == digest(ana.shared / "late.bin")


def test_verified_data_is_kept_when_the_disk_fills_up(tmp_path: Path, tracker: LiveTracker, rng: random.Random) -> None:
    class FillingDisk(FailingDisk):
        """Has room for seven writes."""

        room = 7

        def before_operation(self, number: int, operation: str) -> None:
            self.room -= operation == "pwrite"
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), operation)

    disk = FillingDisk()
    truth = rng.randbytes(6 * MIB)
    with (
        live_pserver(tmp_path / "ana", tracker, "ana", upload_limit=8 * MIB) as ana,
        live_pserver(tmp_path / "ben", tracker, "ben", disk=disk, ping_interval=60.0) as ben,
    ):
        ana.share("film.bin", truth)
        ana.call(ana.pserver.announcer.sync())
        # The resume data, then three pieces, each with an update of the resume data.
        disk.arm()
        codes, _ = fetch(ben, "film.bin")
        assert codes == ["disk_full"]
        assert not (ben.shared / "film.bin").exists()
        disk.armed = False
        codes, resumed = fetch(ben, "film.bin")
        assert codes == []
        assert resumed >= 3 * MIB
        assert (ben.shared / "film.bin").read_bytes() == truth


def test_an_exceeded_quota_refuses_a_push_before_its_first_byte(cluster: Cluster, rng: random.Random) -> None:
    figures = MetricsEndpoint()
    ana = cluster.peer("ana", METRICS_PORT=figures.port)
    ben = cluster.peer("ben", QUOTA="5M")
    for name, size in (("a.bin", 3), ("b.bin", 3), ("c.bin", 2)):
        make_file(ana.home / name, size * MIB, rng)
    assert upload(ana, "a.bin").wait().single_upload.copies == [ben.address]
    sent = figures["p2p_sent_bytes_total"]
    refused = upload(ana, "b.bin").wait()
    assert refused.code == "no_active_peer"
    assert "do not fit into the quota" in refused.faults[0].message
    assert figures["p2p_sent_bytes_total"] == sent
    assert upload(ana, "c.bin").wait().single_upload.copies == [ben.address]
    # Downloads of its own user need no quota.
    assert download(ben, "b.bin").wait().single_download.size == 3 * MIB
    assert digests_in(ben.shared) == digests_in(ana.shared)


def test_a_peer_with_a_read_only_folder_still_serves(tmp_path: Path, tracker: LiveTracker, rng: random.Random) -> None:
    class ReadOnlyDisk(FailingDisk):
        """Refuses all changes, as a read-only file system does."""

        def before_operation(self, number: int, operation: str) -> None:
            if operation in {"pwrite", "allocate", "truncate", "link", "unlink", "mkdir", "rmdir"}:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), operation)

    disk = ReadOnlyDisk()
    with (
        live_pserver(tmp_path / "ana", tracker, "ana") as ana,
        live_pserver(tmp_path / "ben", tracker, "ben", disk=disk) as ben,
    ):
        truth = {"a.bin": rng.randbytes(2 * MIB), "b.bin": rng.randbytes(2 * MIB)}
        ana.share("a.bin", truth["a.bin"])
        ben.share("b.bin", truth["b.bin"])
        for peer in (ana, ben):
            peer.call(peer.pserver.announcer.sync())
        disk.arm()
        assert fetch(ben, "a.bin")[0] == ["io"]
        assert fetch(ana, "b.bin") == ([], 0)
        assert (ana.shared / "b.bin").read_bytes() == truth["b.bin"]
        disk.armed = False
        assert fetch(ben, "a.bin") == ([], 0)
        assert (ben.shared / "a.bin").read_bytes() == truth["a.bin"]


def test_a_file_size_limit_is_a_disk_error(cluster: Cluster, rng: random.Random) -> None:
    import resource  # noqa: PLC0415  # of Unix alone

    ana = cluster.peer("ana")
    make_file(ana.home / "film.bin", 8 * MIB, rng)
    assert upload(ana, "film.bin", copies=0).wait().single_upload
    ben = cluster.peer("ben")
    resource.prlimit(ben.program.pid, resource.RLIMIT_FSIZE, (4 * MIB, resource.RLIM_INFINITY))
    assert ben.pclient("download", "film.bin").code == 74
    resource.prlimit(ben.program.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    running = download(ben, "film.bin")
    wait_for_bytes(ben, running, 1)
    assert running.wait().single_download.size == 8 * MIB
    assert digest(ben.shared / "film.bin") == digest(ana.home / "film.bin")
