"""Many streams at once on one pserver: all are served, Control responds, and SIGTERM stops it cleanly."""

import random
import statistics

import pytest

from eventually import eventually
from system.cluster import Cluster, Peer
from system.faults.counts import quick_and_long
from system.faults.transfer_calls import TransferCall, download, remove, seconds_taken, upload
from system.payload import digests_in, make_file

MIB = 1 << 20
# Eight peers with eight streams each, the most that one peer may have: 64 in each direction.
PEERS = 8
EACH = 8
SIZE = MIB + 100_001

pytestmark = pytest.mark.heavy


@pytest.fixture
def ana(cluster: Cluster, rng: random.Random) -> Peer:
    """The pserver in the middle, with 64 files and an UPLOAD_LIMIT that keeps all transfers running at once."""
    peer = cluster.peer("ana", UPLOAD_LIMIT="16M")
    names = [f"{n}.out" for n in range(PEERS * EACH)]
    for name in names:
        make_file(peer.home / name, SIZE, rng)
    assert len(upload(peer, *names, copies=0).wait().uploaded) == len(names)
    return peer


@pytest.fixture
def crowd(cluster: Cluster, rng: random.Random) -> list[Peer]:
    """Eight peers with eight files each."""
    peers = []
    for p in range(PEERS):
        peer = cluster.peer(f"peer{p}", UPLOAD_LIMIT="2M")
        names = [f"{p}.{n}.in" for n in range(EACH)]
        for name in names:
            make_file(peer.home / name, SIZE, rng)
        assert len(upload(peer, *names, copies=0).wait().uploaded) == EACH
        peers.append(peer)
    return peers


@quick_and_long("rounds", 1, 10)
def test_64_downloads_and_64_uploads_at_once(cluster: Cluster, ana: Peer, crowd: list[Peer], rounds: int) -> None:
    for _ in range(rounds):
        # Queued behind the streams, Control would respond after seconds.
        assert move_all(ana, crowd) < 1.0


def move_all(ana: Peer, crowd: list[Peer]) -> float:
    """Transfer all files at once and remove the copies; return the median response time of Control, in seconds."""
    truth = digests_in(ana.shared)
    for peer in crowd:
        truth |= digests_in(peer.shared)
    calls: list[TransferCall] = []
    for p, peer in enumerate(crowd):
        calls += [download(peer, f"{p * EACH + n}.out") for n in range(EACH)]
        calls += [download(ana, f"{p}.{n}.in") for n in range(EACH)]
    response_times = []
    while not all(call.done for call in calls):
        response_times.append(seconds_taken(ana.status))
    assert [call.wait().single_download.size for call in calls] == [SIZE] * 2 * PEERS * EACH
    print(f"Control: slowest of {len(response_times)} responses {max(response_times):.3f} s")
    assert digests_in(ana.shared) == truth
    for p, peer in enumerate(crowd):
        names = [f"{p * EACH + n}.out" for n in range(EACH)]
        assert {name: truth[name] for name in names}.items() <= digests_in(peer.shared).items()
        remove(peer, *names)
    remove(ana, *(f"{p}.{n}.in" for p in range(PEERS) for n in range(EACH)))
    return statistics.median(response_times)


@quick_and_long("rounds", 1, 20)
def test_sigterm_with_50_streams_stops_cleanly(
    cluster: Cluster, ana: Peer, crowd: list[Peer], rng: random.Random, rounds: int
) -> None:
    names = [f"{n}.out" for n in range(PEERS * EACH)]
    for _ in range(rounds):
        calls = []
        for p, peer in enumerate(crowd):
            calls += [download(peer, name) for name in rng.sample(names, 4)]
            calls += [download(ana, f"{p}.{n}.in") for n in range(3)]
        eventually(lambda: len(ana.status().transfers) >= 50 or any(call.done for call in calls))  # noqa: B023
        assert ana.terminate() == 0
        assert not (ana.state / "cookie").exists()
        assert not (ana.state / "port").exists()
        ana.start()
        for call in calls:
            call.wait()
        for p, peer in enumerate(crowd):
            theirs = digests_in(peer.shared)
            assert {name: digest for name, digest in theirs.items() if name.endswith(".out")}.items() <= digests_in(
                ana.shared
            ).items()
            gone = [name for name in theirs if name.endswith(".out")]
            if gone:
                remove(peer, *gone)
            for n in range(3):
                assert download(ana, f"{p}.{n}.in").wait().single_download.size == SIZE
                assert digests_in(ana.shared)[f"{p}.{n}.in"] == theirs[f"{p}.{n}.in"]
        remove(ana, *(f"{p}.{n}.in" for p in range(PEERS) for n in range(3)))
