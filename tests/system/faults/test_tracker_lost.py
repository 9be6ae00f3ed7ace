"""A killed, silent or unreachable tracker: no transfer fails, and its index is complete again after the next pings."""

import random
import time

import pytest

import pserver_pb2 as pb
from eventually import eventually
from system.chaosproxy import ChaosProxy, Fault
from system.cluster import LOOPBACK, TRACKER_UNREACHABLE, Cluster, Peer
from system.faults.counts import quick_and_long
from system.faults.transfer_calls import (
    TransferCall,
    download,
    list_files,
    remove,
    seconds_taken,
    upload,
    wait_for_bytes,
)
from system.payload import digests_in, make_file

MIB = 1 << 20
SIZE = 2 * MIB
NAMES = [f"{n}.bin" for n in range(10)]


@pytest.fixture
def ana(cluster: Cluster, rng: random.Random) -> Peer:
    """A peer with ten files and an UPLOAD_LIMIT."""
    peer = cluster.peer("ana", UPLOAD_LIMIT="16M")
    for name in NAMES:
        make_file(peer.home / name, SIZE, rng)
    assert len(upload(peer, *NAMES, copies=0).wait().uploaded) == len(NAMES)
    return peer


def wait_until_resolved(peer: Peer, calls: list[TransferCall]) -> None:
    """Wait until all downloads know their holders."""

    def resolved() -> bool:
        done = sum(call.done for call in calls)
        phases = [each.progress.phase for each in peer.status().transfers]
        return done + sum(phase != pb.Progress.PHASE_PREPARING for phase in phases) >= len(calls)

    eventually(resolved)


@quick_and_long("kills", 5, 100)
def test_a_tracker_restart_stops_none_of_ten_transfers(
    cluster: Cluster, ana: Peer, rng: random.Random, kills: int
) -> None:
    ben = cluster.peer("ben")
    for _ in range(kills):
        calls = [download(ben, name) for name in NAMES]
        # The holders are known, so no transfer needs the tracker from here on.
        wait_until_resolved(ben, calls)
        wait_for_bytes(ben, calls[0], rng.randrange(1, SIZE))
        cluster.tracker.kill()
        cluster.tracker.start()
        # No peer logs in again: the next ping of each restores the index.
        eventually(lambda: {file.name for file in list_files(ana)} == set(NAMES))
        assert [call.wait().single_download.size for call in calls] == [SIZE] * len(NAMES)
        assert digests_in(ben.shared) == digests_in(ana.shared)
        eventually(lambda: [file.holders for file in list_files(ana)] == [2] * len(NAMES))
        remove(ben, *NAMES)


def lose_tracker_during(cluster: Cluster, count: int) -> tuple[Peer, Peer, TransferCall]:
    """Let ben download `count` small files from ana, and kill the tracker when the first have arrived."""
    ana = cluster.peer("ana")
    (ana.home / "many").mkdir()
    for n in range(count):
        (ana.home / "many" / f"{n}").write_text(f"{n}\n")
    assert len(upload(ana, "many", copies=0).wait().uploaded) == count
    ben = cluster.peer("ben")
    call = download(ben, "many/")
    eventually(lambda: any(each.progress.done for each in ben.status().transfers))
    cluster.tracker.kill()
    return ana, ben, call


def test_a_lost_tracker_is_retried_during_a_download_of_thousands_of_files(cluster: Cluster) -> None:
    """Holders are queried for 4,000 files at a time."""
    count = 8_001
    ana, ben, call = lose_tracker_during(cluster, count)
    # The holders of the first 4,000 files were queried before, perhaps the next 4,000; not that of the last file.
    eventually(lambda: any(each.progress.files_done >= 4_000 for each in ben.status().transfers))
    cluster.tracker.start()
    outcome = call.wait()
    assert (len(outcome.downloaded), outcome.faults) == (count, [])
    assert digests_in(ben.shared) == digests_in(ana.shared)


@pytest.mark.long
def test_a_download_of_thousands_of_files_fails_a_minute_after_the_tracker_is_lost(cluster: Cluster) -> None:
    count = 12_001
    _ana, _ben, call = lose_tracker_during(cluster, count)
    began = time.monotonic()
    outcome = call.wait()
    # One timeout for all remaining files, not one for each 4,000.
    assert time.monotonic() - began < 90
    assert {fault.code for fault in outcome.faults} == {"tracker_unreachable"}
    assert len(outcome.downloaded) + len(outcome.faults) == count


def test_a_pserver_starts_and_stops_while_its_tracker_never_responds(cluster: Cluster, rng: random.Random) -> None:
    address = (LOOPBACK, cluster.tracker.program.port)
    with ChaosProxy(address, (LOOPBACK, 0)) as proxy:
        ana = cluster.peer("ana", SERVER_PORT=proxy.address[1])
        make_file(ana.home / "film.bin", SIZE, rng)
        assert upload(ana, "film.bin", copies=0).wait().single_upload
        assert ana.terminate() == 0

        proxy.set(Fault(blackhole=True))
        proxy.cut()
        # The tracker's timeouts would take 30 s.
        assert seconds_taken(ana.start) < 20
        assert ana.status().user == "ana"
        assert ana.status().files == 1
        eventually(lambda: not ana.status().tracker_reached)
        eventually(lambda: TRACKER_UNREACHABLE in ana.program.log.read_text())
        assert ana.terminate() == 0
        assert not (ana.state / "cookie").exists()
        assert not (ana.state / "port").exists()

        proxy.set(Fault())
        ana.start()
        eventually(lambda: [file.name for file in list_files(ana)] == ["film.bin"])


def test_a_pserver_stops_cleanly_while_its_tracker_is_frozen(cluster: Cluster) -> None:
    ana = cluster.peer("ana")
    cluster.tracker.freeze()
    try:
        assert ana.terminate() == 0
        assert not (ana.state / "cookie").exists()
        assert not (ana.state / "port").exists()
    finally:
        cluster.tracker.thaw()
    ana.start()
    eventually(lambda: ana.status().tracker_reached)
    assert ana.status().user == "ana"
