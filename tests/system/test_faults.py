"""pclient and pserver stopped during a transfer: the bytes on disk are correct at the end. More in faults/."""

import random
import signal

import pytest

from eventually import eventually
from system.cluster import Cluster, Peer
from system.payload import digest, make_file

MIB = 1 << 20
SIZE = 48 * MIB
# Slow enough for a fault at 40 %, fast enough for a quick test.
LIMIT = "16M"


@pytest.fixture
def ana(cluster: Cluster, rng: random.Random) -> Peer:
    """A peer that shares film.bin and has an UPLOAD_LIMIT."""
    peer = cluster.peer("ana", UPLOAD_LIMIT=LIMIT)
    make_file(peer.home / "film.bin", SIZE, rng)
    assert peer.pclient("upload", "film.bin", "--copies", "0").code == 0
    return peer


def assert_complete(peer: Peer, ana: Peer) -> None:
    """Assert that both peers have the same film.bin."""
    assert digest(peer.shared / "film.bin") == digest(ana.home / "film.bin")


def test_a_killed_pclient_does_not_cancel_its_transfer(cluster: Cluster, ana: Peer) -> None:
    ben = cluster.peer("ben")
    job = ben.start_command("download", "film.bin")
    ben.at_progress(0.2, job.process.kill)
    job.process.communicate()
    eventually((ben.shared / "film.bin").exists, 60)
    assert_complete(ben, ana)


def test_a_repeated_command_follows_the_running_transfer_and_ctrl_c_cancels_it(cluster: Cluster, ana: Peer) -> None:
    ben = cluster.peer("ben", DOWNLOAD_LIMIT="2M")
    job = ben.start_command("download", "film.bin")
    eventually(lambda: ben.progress() > 0, 30)
    job.process.kill()
    job.process.communicate()
    [before] = [transfer.transfer for transfer in ben.status().transfers]
    again = ben.start_command("download", "film.bin")
    assert again.process.stderr is not None
    assert "already running" in again.process.stderr.readline()
    assert [transfer.transfer for transfer in ben.status().transfers] == [before]
    again.process.send_signal(signal.SIGINT)
    again.process.send_signal(signal.SIGINT)
    stopped = again.wait()
    assert stopped.code == 130, stopped
    eventually(lambda: not ben.status().transfers)


def test_ctrl_c_cancels_and_keeps_verified_data(cluster: Cluster, ana: Peer) -> None:
    ben = cluster.peer("ben")
    job = ben.start_command("download", "film.bin")
    ben.at_progress(0.4, lambda: job.process.send_signal(signal.SIGINT))
    stopped = job.wait()
    assert stopped.code == 130, stopped
    assert "run the same command again to resume" in stopped.objects[-1]["error"]["message"]
    eventually(lambda: not ben.status().transfers)
    assert not (ben.shared / "film.bin").exists()
    assert ben.pclient("download", "film.bin").one["resumed_bytes"] >= 0.4 * SIZE - 9 * MIB
    assert_complete(ben, ana)


def test_sigterm_during_a_transfer_stops_cleanly(cluster: Cluster, ana: Peer) -> None:
    ben = cluster.peer("ben")
    job = ben.start_command("download", "film.bin")
    eventually(lambda: ben.progress() >= 0.3, 30, every=0.005)
    assert ana.terminate() == 0
    assert ben.terminate() == 0
    assert job.wait().code in {69, 75}
    for peer in (ana, ben):
        assert not (peer.state / "cookie").exists()
        assert not (peer.state / "port").exists()
    ana.start()
    ben.start()
    assert ben.pclient_until_success("download", "film.bin")["resumed_bytes"] > 0
    assert_complete(ben, ana)


@pytest.mark.tls
def test_transfers_work_over_tls(cluster: Cluster, ana: Peer, rng: random.Random) -> None:
    ben = cluster.peer("ben")
    got = ben.pclient("download", "film.bin").one
    assert got["holders"] == [ana.address]
    make_file(ben.home / "back.bin", 3 * MIB, rng)
    assert ben.pclient("upload", "back.bin").one["copies"] == [ana.address]
    assert digest(ana.shared / "back.bin") == digest(ben.home / "back.bin")
