"""Terminals and pservers ended in the middle of a transfer; the bytes on disk are right in the end. See faults/."""

import random
import signal
import time

import pytest

from eventually import eventually
from system.cluster import Cluster, Peer
from system.payload import digest, make_file

MIB = 1 << 20
SIZE = 48 * MIB
# Slow enough that something can happen at 40 %, fast enough for a quick test.
LIMIT = "16M"


@pytest.fixture
def ana(cluster: Cluster, rng: random.Random) -> Peer:
    """A peer that has film.bin and gives it slowly."""
    peer = cluster.peer("ana", UPLOAD_LIMIT=LIMIT)
    make_file(peer.home / "film.bin", SIZE, rng)
    assert peer.pclient("upload", "film.bin", "--copies", "0").code == 0
    return peer


def assert_whole(peer: Peer, ana: Peer) -> None:
    """`peer` has what `ana` has."""
    assert digest(peer.shared / "film.bin") == digest(ana.home / "film.bin")


def test_a_dead_terminal_does_not_cancel(cluster: Cluster, ana: Peer) -> None:
    ben = cluster.peer("ben")
    job = ben.start_command("download", "film.bin")
    ben.at_progress(0.2, job.process.kill)
    job.process.communicate()
    eventually((ben.shared / "film.bin").exists, 30)
    assert_whole(ben, ana)


def test_after_a_dead_terminal_the_same_command_follows_the_transfer_and_two_ctrl_c_end_it(
    cluster: Cluster, ana: Peer
) -> None:
    ben = cluster.peer("ben", DOWNLOAD_LIMIT="2M")
    job = ben.start_command("download", "film.bin")
    eventually(lambda: ben.progress() > 0, 30)
    job.process.kill()
    job.process.communicate()
    [before] = [transfer.transfer for transfer in ben.status().transfers]
    again = ben.start_command("download", "film.bin")
    assert again.process.stderr is not None
    assert "under way already" in again.process.stderr.readline()
    assert [transfer.transfer for transfer in ben.status().transfers] == [before]
    again.process.send_signal(signal.SIGINT)
    again.process.send_signal(signal.SIGINT)
    stopped = again.wait()
    assert stopped.code == 130, stopped
    eventually(lambda: not ben.status().transfers)


def test_ctrl_c_cancels_keeps_and_says_how_to_resume(cluster: Cluster, ana: Peer) -> None:
    ben = cluster.peer("ben")
    job = ben.start_command("download", "film.bin")
    ben.at_progress(0.4, lambda: job.process.send_signal(signal.SIGINT))
    stopped = job.wait()
    assert stopped.code == 130, stopped
    assert "run it again to resume" in stopped.objects[-1]["error"]["message"]
    eventually(lambda: not ben.status().transfers)
    assert not (ben.shared / "film.bin").exists()
    assert ben.pclient("download", "film.bin").one["resumed_bytes"] >= 0.4 * SIZE - 9 * MIB
    assert_whole(ben, ana)


def test_sigterm_in_the_middle_is_a_clean_end(cluster: Cluster, ana: Peer) -> None:
    ben = cluster.peer("ben")
    job = ben.start_command("download", "film.bin")
    eventually(lambda: ben.progress() >= 0.3, 30, every=0.005)
    began = time.monotonic()
    assert ana.terminate() == 0
    assert time.monotonic() - began < 4
    began = time.monotonic()
    assert ben.terminate() == 0
    assert time.monotonic() - began < 4
    assert job.wait().code in {69, 75}
    for peer in (ana, ben):
        assert not (peer.state / "cookie").exists()
        assert not (peer.state / "port").exists()
    ana.start()
    ben.start()
    assert ben.pclient_until_success("download", "film.bin")["resumed_bytes"] > 0
    assert_whole(ben, ana)


@pytest.mark.tls
def test_everything_goes_over_tls(cluster: Cluster, ana: Peer, rng: random.Random) -> None:
    ben = cluster.peer("ben")
    got = ben.pclient("download", "film.bin").one
    assert got["holders"] == [ana.address]
    make_file(ben.home / "back.bin", 3 * MIB, rng)
    assert ben.pclient("upload", "back.bin").one["copies"] == [ana.address]
    assert digest(ana.shared / "back.bin") == digest(ben.home / "back.bin")
