"""Frozen holders: noticed, replaced, and used again when they continue."""

import random
import shutil
import time

import pytest

import pserver_pb2 as pb
from eventually import eventually
from system.cluster import Cluster, Peer
from system.faults.counts import quick_and_long
from system.faults.transfer_calls import download, remove, upload, wait_for_bytes
from system.payload import digests_in, make_file

MIB = 1 << 20
SIZE = 16 * MIB
NAMES = ["one.bin", "two.bin", "three.bin"]
LIMIT = "12M"
# Seconds in which a frozen holder is noticed. gRPC's keepalive alone needs more than 60 s.
NOTICED = 20.0


@pytest.fixture
def ana(cluster: Cluster, rng: random.Random) -> Peer:
    """A holder with an UPLOAD_LIMIT."""
    peer = cluster.peer("ana", UPLOAD_LIMIT=LIMIT)
    for name in NAMES:
        make_file(peer.home / name, SIZE, rng)
    assert len(upload(peer, *NAMES, copies=0).wait().uploaded) == 3
    return peer


@quick_and_long("rounds", 1, 17)
def test_three_downloads_survive_a_holder_that_freezes_mid_piece(
    cluster: Cluster, ana: Peer, rng: random.Random, rounds: int
) -> None:
    cid = cluster.peer("cid", UPLOAD_LIMIT=LIMIT)
    assert len(download(cid, *NAMES).wait().downloaded) == 3
    ben = cluster.peer("ben")
    for _ in range(rounds):
        call = download(ben, *NAMES)
        wait_for_bytes(ben, call, rng.randrange(MIB, SIZE))
        cid.freeze()
        eventually(lambda: call.done or stalled(ben, cid) == len(transfers(ben)), NOTICED)  # noqa: B023
        assert len(call.wait().downloaded) == 3
        cid.thaw()
        assert digests_in(ben.shared) == digests_in(ana.shared)
        remove(ben, *NAMES)


def test_one_good_holder_of_four_is_enough(cluster: Cluster, ana: Peer, rng: random.Random) -> None:
    limits = {"killed": LIMIT, "frozen": LIMIT, "trickling": "16K"}
    others = [cluster.peer(name, UPLOAD_LIMIT=limit) for name, limit in limits.items()]
    killed, frozen, _trickling = others
    name, size = "long.bin", 8 * SIZE
    source = make_file(ana.home / name, size, rng)
    for peer in [ana, *others]:
        # Copied here, since a download at 16 KiB/s would take hours.
        shutil.copyfile(source, peer.shared / name)
    ben = cluster.peer("ben")
    eventually(lambda: [file["holders"] for file in ben.pclient("files", name).objects] == [4])
    began = time.monotonic()
    call = download(ben, name)
    wait_for_bytes(ben, call, size // 8)
    killed.kill()
    frozen.freeze()
    assert call.wait().single_download.size == size
    # The trickling holder alone would take two hours.
    assert time.monotonic() - began < 5 * size / (12 * MIB)
    frozen.thaw()
    assert digests_in(ben.shared)[name] == digests_in(ana.shared)[name]


def test_a_download_waits_for_its_frozen_only_holder(cluster: Cluster, ana: Peer) -> None:
    ben = cluster.peer("ben")
    call = download(ben, "one.bin")
    wait_for_bytes(ben, call, SIZE // 4)
    ana.freeze()
    eventually(lambda: ben.status().transfers[0].progress.phase == pb.Progress.PHASE_WAITING, NOTICED)
    ana.thaw()
    assert call.wait().single_download.size == SIZE
    assert digests_in(ben.shared)["one.bin"] == digests_in(ana.shared)["one.bin"]


@pytest.mark.long
def test_a_download_waits_for_a_holder_that_the_tracker_dropped(cluster: Cluster, ana: Peer) -> None:
    ben = cluster.peer("ben")
    call = download(ben, "one.bin")
    wait_for_bytes(ben, call, SIZE // 4)
    ana.freeze()
    frozen = time.monotonic()
    eventually(lambda: time.monotonic() - frozen > 35, 40, every=1)
    ana.thaw()
    assert call.wait().single_download.size == SIZE
    assert digests_in(ben.shared)["one.bin"] == digests_in(ana.shared)["one.bin"]


def transfers(peer: Peer) -> list[pb.TransferStatus]:
    return [each for each in peer.status().transfers if each.kind == "download"]


def stalled(peer: Peer, holder: Peer) -> int:
    """Return the number of downloads for which a holder is not active."""
    sources = [source for each in transfers(peer) for source in each.progress.sources]
    return sum(source.address == holder.address and source.state != "active" for source in sources)
