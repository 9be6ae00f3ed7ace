"""Programs killed at any moment of a transfer: no corrupt file is published, and only data in flight is lost."""

import random
from pathlib import Path

import pytest

import pserver_pb2 as pb
from eventually import eventually
from system.cluster import SOURCE_FAILED, Cluster, Peer
from system.faults.counts import quick_and_long
from system.faults.transfer_calls import (
    MetricsEndpoint,
    download,
    moved_bytes,
    remove,
    upload,
    wait_for_bytes,
)
from system.payload import digest, make_file

MIB = 1 << 20
SIZE = 16 * MIB
LIMIT = "24M"
# Bytes that may be in flight when a downloader is killed.
IN_FLIGHT = 8 * MIB
ON_DISK = Path(__file__).with_name("pserver_on_disk.py")


@pytest.fixture
def figures() -> MetricsEndpoint:
    return MetricsEndpoint()


@pytest.fixture
def ana(cluster: Cluster, rng: random.Random, figures: MetricsEndpoint) -> Peer:
    """A peer that shares film.bin and has an UPLOAD_LIMIT."""
    peer = cluster.peer("ana", UPLOAD_LIMIT=LIMIT, METRICS_PORT=figures.port)
    make_file(peer.home / "film.bin", SIZE, rng)
    assert upload(peer, "film.bin", copies=0).wait().single_upload.name == "film.bin"
    return peer


@pytest.fixture
def truth(ana: Peer) -> str:
    """Digest of film.bin."""
    return digest(ana.home / "film.bin")


def assert_not_corrupt(peer: Peer, truth: str) -> None:
    """Assert that film.bin is complete or does not exist."""
    path = peer.shared / "film.bin"
    assert not path.exists() or digest(path) == truth


@quick_and_long("kills", 10, 200)
def test_a_killed_downloader_loses_only_what_was_in_flight(
    cluster: Cluster, ana: Peer, truth: str, figures: MetricsEndpoint, rng: random.Random, kills: int
) -> None:
    ben = cluster.peer("ben")
    for _ in range(kills):
        call = download(ben, "film.bin")
        verified = wait_for_bytes(ben, call, rng.randrange(SIZE))
        ben.kill()
        call.wait()
        assert_not_corrupt(ben, truth)
        ben.start()
        got = download(ben, "film.bin").wait().single_download
        assert got.already_present or got.resumed_bytes >= verified
        assert digest(ben.shared / "film.bin") == truth
        remove(ben, "film.bin")
    assert figures["p2p_sent_bytes_total"] <= kills * (SIZE + IN_FLIGHT)


# Numbers of disk operations, counted from the fsync before publishing; all of them only with -m long.
MOMENTS = [pytest.param(number, marks=[] if number in (2, 4, 7) else pytest.mark.long) for number in range(1, 13)]


@pytest.mark.parametrize("number", MOMENTS)
def test_a_downloader_killed_while_publishing_resumes(cluster: Cluster, ana: Peer, truth: str, number: int) -> None:
    ben = cluster.peer("ben", script=ON_DISK)
    ben.terminate()
    ben.start(TEST_DISK=f"kill:fsync:{number}")
    # It is killed before it reports the result, or soon after, in the next scan.
    assert download(ben, "film.bin").wait().code == ""
    ben.program.wait()
    assert_not_corrupt(ben, truth)
    ben.start()
    got = download(ben, "film.bin").wait().single_download
    assert got.already_present or got.resumed_bytes == SIZE
    assert digest(ben.shared / "film.bin") == truth
    assert not list((ben.shared / ".p2p").glob("*"))


@quick_and_long("kills", 5, 100)
def test_a_push_to_a_killed_receiver_fails_clearly_and_resumes(
    cluster: Cluster, ana: Peer, truth: str, figures: MetricsEndpoint, rng: random.Random, kills: int
) -> None:
    ben = cluster.peer("ben")
    for _ in range(kills):
        call = upload(ana, "film.bin")
        received = wait_for_bytes(ben, call, rng.randrange(SIZE), "push")
        ben.kill()
        outcome = call.wait()
        assert_not_corrupt(ben, truth)
        if not outcome.uploaded:
            assert outcome.code == "no_active_peer", outcome
        ben.start()
        sent = figures["p2p_sent_bytes_total"]
        again = eventually(lambda: upload(ana, "film.bin").wait().uploaded, 20)
        assert list(again[0].copies) == [ben.address]
        assert digest(ben.shared / "film.bin") == truth
        assert figures["p2p_sent_bytes_total"] - sent <= SIZE - received
        remove(ben, "film.bin")


@quick_and_long("kills", 5, 100)
def test_pieces_of_a_killed_holder_are_requested_from_another(
    cluster: Cluster, ana: Peer, truth: str, rng: random.Random, kills: int
) -> None:
    holders = [ana, cluster.peer("cid", UPLOAD_LIMIT=LIMIT)]
    assert download(holders[1], "film.bin").wait().single_download
    ben = cluster.peer("ben")
    for kill in range(kills):
        victim = holders[kill % 2]
        call = download(ben, "film.bin")
        wait_for_bytes(ben, call, rng.randrange(SIZE * 9 // 10))
        victim.kill()
        # A closed connection is noticed at once, a stalled stream only after some seconds.
        eventually(lambda: call.done or not is_active(ben, victim), 4)  # noqa: B023
        assert call.wait().single_download.size == SIZE
        assert digest(ben.shared / "film.bin") == truth
        victim.start()
        remove(ben, "film.bin")
    assert SOURCE_FAILED in ben.program.log.read_text()


def is_active(peer: Peer, holder: Peer) -> bool:
    """Return whether a download still uses a holder."""
    sources = [source for each in peer.status().transfers for source in each.progress.sources]
    return any(source.address == holder.address and source.state == "active" for source in sources)


def test_concurrent_downloads_of_one_file_fetch_it_once(
    cluster: Cluster, ana: Peer, truth: str, figures: MetricsEndpoint
) -> None:
    ben = cluster.peer("ben")
    calls = [download(ben, "film.bin") for _ in range(5)]
    eventually(lambda: moved_bytes(ben) > 0)
    assert [call.wait().single_download.size for call in calls] == [SIZE] * 5
    assert digest(ben.shared / "film.bin") == truth
    # The holder counts a block once gRPC has taken it: perhaps after ben has received it, and never if ben left first.
    eventually(lambda: figures["p2p_sent_bytes_total"] >= SIZE - MIB)
    assert figures["p2p_sent_bytes_total"] <= SIZE


def test_a_download_waits_for_its_only_holder_to_restart(cluster: Cluster, ana: Peer, rng: random.Random) -> None:
    # Larger than what a holder sends while it stops.
    make_file(ana.home / "long.bin", 4 * SIZE, rng)
    assert upload(ana, "long.bin", copies=0).wait().single_upload
    ben = cluster.peer("ben")
    call = download(ben, "long.bin")
    wait_for_bytes(ben, call, SIZE // 2)
    assert ana.terminate() == 0
    eventually(lambda: [each.progress.phase for each in ben.status().transfers] == [pb.Progress.PHASE_WAITING])
    ana.start()
    assert call.wait().single_download.size == 4 * SIZE
    assert digest(ben.shared / "long.bin") == digest(ana.home / "long.bin")
