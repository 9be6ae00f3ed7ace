"""Programs killed at any moment of a transfer: nothing wrong gets a name, only what was in flight is lost."""

import random
from pathlib import Path

import pytest

import pserver_pb2 as pb
from eventually import eventually
from system.cluster import Cluster, Peer
from system.faults.counts import quick_and_long
from system.faults.transfer_calls import (
    MetricsEndpoint,
    download,
    moved_bytes,
    remove,
    seconds_taken,
    upload,
    wait_for_bytes,
)
from system.payload import digest, make_file

MIB = 1 << 20
SIZE = 16 * MIB
LIMIT = "24M"
# A piece of 1 MiB is asked for at most so many times before one has verified.
IN_FLIGHT = 8 * MIB
ON_DISK = Path(__file__).with_name("pserver_on_disk.py")


@pytest.fixture
def figures() -> MetricsEndpoint:
    return MetricsEndpoint()


@pytest.fixture
def ana(cluster: Cluster, rng: random.Random, figures: MetricsEndpoint) -> Peer:
    """A peer that shares film.bin and gives it slowly."""
    peer = cluster.peer("ana", UPLOAD_LIMIT=LIMIT, METRICS_PORT=figures.port)
    make_file(peer.home / "film.bin", SIZE, rng)
    assert upload(peer, "film.bin", copies=0).wait().single_upload.name == "film.bin"
    return peer


@pytest.fixture
def truth(ana: Peer) -> str:
    """What film.bin is."""
    return digest(ana.home / "film.bin")


def nothing_wrong(peer: Peer, truth: str) -> None:
    """A name stands for the whole file, or for nothing."""
    path = peer.shared / "film.bin"
    assert not path.exists() or digest(path) == truth


@quick_and_long("kills", 10, 200)
def test_a_downloader_killed_loses_what_was_in_flight(
    cluster: Cluster, ana: Peer, truth: str, figures: MetricsEndpoint, rng: random.Random, kills: int
) -> None:
    ben = cluster.peer("ben")
    for _ in range(kills):
        order = download(ben, "film.bin")
        verified = wait_for_bytes(ben, order, rng.randrange(SIZE))
        ben.kill()
        order.wait()
        nothing_wrong(ben, truth)
        ben.start()
        got = download(ben, "film.bin").wait().single_download
        assert got.already_present or got.resumed_bytes >= verified
        assert digest(ben.shared / "film.bin") == truth
        remove(ben, "film.bin")
    assert figures["p2p_sent_bytes_total"] <= kills * (SIZE + IN_FLIGHT)


# Operations from the fsync that precedes the name; all of them only when there is time.
MOMENTS = [pytest.param(number, marks=[] if number in (2, 4, 7) else pytest.mark.long) for number in range(1, 13)]


@pytest.mark.parametrize("number", MOMENTS)
def test_a_downloader_killed_between_fsync_and_name(cluster: Cluster, ana: Peer, truth: str, number: int) -> None:
    ben = cluster.peer("ben", script=ON_DISK)
    ben.terminate()
    ben.start(TEST_DISK=f"kill:fsync:{number}")
    # It dies before it can tell, or soon after, at the first look through the folder.
    assert download(ben, "film.bin").wait().code == ""
    ben.program.wait()
    nothing_wrong(ben, truth)
    ben.start()
    got = download(ben, "film.bin").wait().single_download
    assert got.already_present or got.resumed_bytes == SIZE
    assert digest(ben.shared / "film.bin") == truth
    assert not list((ben.shared / ".p2p").glob("*"))


@quick_and_long("kills", 5, 100)
def test_a_receiver_killed_is_told_of_and_resumes(
    cluster: Cluster, ana: Peer, truth: str, figures: MetricsEndpoint, rng: random.Random, kills: int
) -> None:
    ben = cluster.peer("ben")
    for _ in range(kills):
        order = upload(ana, "film.bin")
        kept = wait_for_bytes(ben, order, rng.randrange(SIZE), "push")
        ben.kill()
        outcome = order.wait()
        nothing_wrong(ben, truth)
        if not outcome.uploaded:
            assert outcome.code == "no_active_peer", outcome
        ben.start()
        sent = figures["p2p_sent_bytes_total"]
        again = eventually(lambda: upload(ana, "film.bin").wait().uploaded, 20)
        assert list(again[0].copies) == [ben.address]
        assert digest(ben.shared / "film.bin") == truth
        assert figures["p2p_sent_bytes_total"] - sent <= SIZE - kept
        remove(ben, "film.bin")


@quick_and_long("kills", 5, 100)
def test_a_killed_holders_pieces_are_asked_of_others_within_a_second(
    cluster: Cluster, ana: Peer, truth: str, rng: random.Random, kills: int
) -> None:
    holders = [ana, cluster.peer("cid", UPLOAD_LIMIT=LIMIT)]
    assert download(holders[1], "film.bin").wait().single_download
    ben = cluster.peer("ben")
    for kill in range(kills):
        victim = holders[kill % 2]
        order = download(ben, "film.bin")
        wait_for_bytes(ben, order, rng.randrange(SIZE * 9 // 10))
        victim.kill()
        assert seconds_taken(lambda: eventually(lambda: order.done or not busy(ben, victim), 5)) < 1.0  # noqa: B023
        assert order.wait().single_download.size == SIZE
        assert digest(ben.shared / "film.bin") == truth
        victim.start()
        remove(ben, "film.bin")


def busy(peer: Peer, holder: Peer) -> bool:
    """Whether a download still counts on a holder."""
    sources = [source for each in peer.status().transfers for source in each.progress.sources]
    return any(source.address == holder.address and source.state == "active" for source in sources)


def test_the_same_contents_ordered_twice_at_once_are_fetched_once(
    cluster: Cluster, ana: Peer, truth: str, figures: MetricsEndpoint
) -> None:
    ben = cluster.peer("ben")
    orders = [download(ben, "film.bin") for _ in range(5)]
    eventually(lambda: moved_bytes(ben) > 0)
    assert [order.wait().single_download.size for order in orders] == [SIZE] * 5
    assert digest(ben.shared / "film.bin") == truth
    assert figures["p2p_sent_bytes_total"] == SIZE


def test_a_holder_that_left_in_good_order_is_waited_for(cluster: Cluster, ana: Peer, rng: random.Random) -> None:
    # More than a holder gives while it takes its leave.
    make_file(ana.home / "long.bin", 4 * SIZE, rng)
    assert upload(ana, "long.bin", copies=0).wait().single_upload
    ben = cluster.peer("ben")
    order = download(ben, "long.bin")
    wait_for_bytes(ben, order, SIZE // 2)
    assert ana.terminate() == 0
    eventually(lambda: [each.progress.phase for each in ben.status().transfers] == [pb.Progress.PHASE_WAITING])
    ana.start()
    assert order.wait().single_download.size == 4 * SIZE
    assert digest(ben.shared / "long.bin") == digest(ana.home / "long.bin")
