"""The tracker killed, silent or unreachable: no transfer fails of it, and its index is whole again at once."""

import random
import time

import pytest

import pserver_pb2 as pb
from eventually import eventually
from system.chaosproxy import ChaosProxy, Fault
from system.cluster import LOOPBACK, PING_INTERVAL, Cluster, Peer
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
    """A peer that has ten files and gives them slowly."""
    peer = cluster.peer("ana", UPLOAD_LIMIT="16M")
    for name in NAMES:
        make_file(peer.home / name, SIZE, rng)
    assert len(upload(peer, *NAMES, copies=0).wait().uploaded) == len(NAMES)
    return peer


def wait_until_told(peer: Peer, orders: list[TransferCall]) -> None:
    """Return once all have begun, and know whom to ask."""

    def told() -> bool:
        over = sum(order.done for order in orders)
        phases = [each.progress.phase for each in peer.status().transfers]
        return over + sum(phase != pb.Progress.PHASE_PREPARING for phase in phases) >= len(orders)

    eventually(told)


@quick_and_long("kills", 5, 100)
def test_a_tracker_killed_during_ten_transfers_stops_none(
    cluster: Cluster, ana: Peer, rng: random.Random, kills: int
) -> None:
    ben = cluster.peer("ben")
    for _ in range(kills):
        orders = [download(ben, name) for name in NAMES]
        # All are told whom to ask: from here on nobody needs a tracker.
        wait_until_told(ben, orders)
        wait_for_bytes(ben, orders[0], rng.randrange(1, SIZE))
        cluster.tracker.kill()
        cluster.tracker.start()
        began = time.monotonic()
        # Nobody logs in again: one ping of each peer tells all.
        eventually(lambda: {file.name for file in list_files(ana)} == set(NAMES), PING_INTERVAL + 0.7)
        assert time.monotonic() - began < PING_INTERVAL + 1
        assert [order.wait().single_download.size for order in orders] == [SIZE] * len(NAMES)
        assert digests_in(ben.shared) == digests_in(ana.shared)
        eventually(lambda: [file.holders for file in list_files(ana)] == [2] * len(NAMES))
        remove(ben, *NAMES)


def lost_amid(cluster: Cluster, count: int) -> tuple[Peer, Peer, TransferCall]:
    """Have ben fetch so many small files of ana's, and kill the tracker when the first of them have come."""
    ana = cluster.peer("ana")
    (ana.home / "many").mkdir()
    for n in range(count):
        (ana.home / "many" / f"{n}").write_text(f"{n}\n")
    assert len(upload(ana, "many", copies=0).wait().uploaded) == count
    ben = cluster.peer("ben")
    order = download(ben, "many/")
    eventually(lambda: any(each.progress.done for each in ben.status().transfers))
    cluster.tracker.kill()
    return ana, ben, order


def test_a_tracker_lost_while_thousands_of_files_come_is_asked_again(cluster: Cluster) -> None:
    """Their holders are looked up 4,000 at a time."""
    count = 8_001
    ana, ben, order = lost_amid(cluster, count)
    # The first 4,000 were looked up by then, perhaps the next; not the last file.
    eventually(lambda: any(each.progress.files_done >= 4_000 for each in ben.status().transfers))
    cluster.tracker.start()
    outcome = order.wait()
    assert (len(outcome.downloaded), outcome.faults) == (count, [])
    assert digests_in(ben.shared) == digests_in(ana.shared)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_tracker_that_stays_away_while_thousands_of_files_come_is_told_of_after_a_minute(cluster: Cluster) -> None:
    count = 12_001
    _ana, _ben, order = lost_amid(cluster, count)
    began = time.monotonic()
    outcome = order.wait()
    # Once for all that is left, not once for each lot of 4,000.
    assert time.monotonic() - began < 90
    assert {fault.code for fault in outcome.faults} == {"tracker_unreachable"}
    assert len(outcome.downloaded) + len(outcome.faults) == count


@pytest.mark.timeout(180)
def test_a_pserver_starts_serves_and_ends_while_its_tracker_never_answers(cluster: Cluster, rng: random.Random) -> None:
    address = (LOOPBACK, cluster.tracker.program.port)
    with ChaosProxy(address, (LOOPBACK, 0)) as proxy:
        ana = cluster.peer("ana", SERVER_PORT=proxy.address[1])
        make_file(ana.home / "film.bin", SIZE, rng)
        assert upload(ana, "film.bin", copies=0).wait().single_upload
        assert ana.terminate() == 0

        proxy.set(Fault(blackhole=True))
        proxy.cut()
        assert seconds_taken(ana.start) < 10
        assert ana.status().user == "ana"
        assert ana.status().files == 1
        eventually(lambda: not ana.status().tracker_reached)
        assert seconds_taken(ana.terminate) < 4
        assert not (ana.state / "cookie").exists()
        assert not (ana.state / "port").exists()

        proxy.set(Fault())
        ana.start()
        eventually(lambda: [file.name for file in list_files(ana)] == ["film.bin"])


def test_a_frozen_tracker_holds_no_pserver_back_from_its_end(cluster: Cluster) -> None:
    ana = cluster.peer("ana")
    cluster.tracker.freeze()
    try:
        assert seconds_taken(ana.terminate) < 4
        assert not (ana.state / "cookie").exists()
        assert not (ana.state / "port").exists()
    finally:
        cluster.tracker.thaw()
    ana.start()
    eventually(lambda: ana.status().tracker_reached)
    assert ana.status().user == "ana"
