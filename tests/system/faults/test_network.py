"""Networks with loss, delay and partitions: correct data, no peer dropped, and a quick recovery."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from programs import SERVER, write_env
from system.chaosproxy import ChaosProxy, Fault
from system.cluster import LOOPBACK, SOURCE_FAILED, TRACKER_UNREACHABLE, Cluster
from system.faults.counts import quick_and_long
from system.faults.namespaces import two_machines
from system.faults.remote_peer import RemotePeer, start_on
from system.faults.transfer_calls import download, remove, upload
from system.payload import digest, make_file

MIB = 1 << 20
SIZE = 16 * MIB


@pytest.fixture
def pair(tmp_path: Path, rng: random.Random) -> Iterator[tuple[RemotePeer, RemotePeer]]:
    """A holder in the tracker's namespace, and a requester in the other."""
    with ExitStack() as stack:
        near, far = stack.enter_context(two_machines())
        values = {"SERVER_URL": near.address, "SERVER_PORT": 5000, "STATE_DIR": tmp_path / "tracker"}
        stack.callback(start_on(near, SERVER, write_env(tmp_path / ".env_server", values)).stop, 5)
        peers = []
        for machine, name in ((near, "ana"), (far, "ben")):
            limit: dict[str, Any] = {"UPLOAD_LIMIT": "4M"} if name == "ana" else {}
            peer = RemotePeer(machine, tmp_path / name, (near.address, 5000), **limit)
            stack.callback(peer.program.stop, 5)
            peer.pclient("login", name, "--password-stdin", typed="correct horse\n")
            peers.append(peer)
        ana, ben = peers
        make_file(ana.home / "film.bin", SIZE, rng)
        ana.pclient("upload", "film.bin", "--copies", "0")
        yield ana, ben
        for peer in peers:
            print(peer.program.tail())


@pytest.mark.netns
@quick_and_long("times", 1, 20)
def test_a_download_resumes_after_a_network_partition(pair: tuple[RemotePeer, RemotePeer], times: int) -> None:
    ana, ben = pair
    for _ in range(times):
        process = ben.begin("download", "film.bin")
        eventually(lambda: ben.verified_bytes(SIZE) >= 4 * MIB, 30)
        ben.machine.disconnect()
        cut = time.monotonic()
        eventually(lambda: time.monotonic() - cut > 1, 5)  # noqa: B023
        before = ben.verified_bytes(SIZE)
        eventually(lambda: time.monotonic() - cut > 20, 25, every=0.5)  # noqa: B023
        assert process.poll() is None
        assert ben.verified_bytes(SIZE) == before
        ben.machine.reconnect()
        eventually(lambda: ben.verified_bytes(SIZE) > before or not ben.resume_files(), 15)  # noqa: B023
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, (out, err)
        assert digest(ben.shared / "film.bin") == digest(ana.home / "film.bin")
        ben.pclient("remove", "film.bin", "--yes")


@pytest.mark.netns
@pytest.mark.parametrize("share", [0.01, 0.05], ids=["1 percent", "5 percent"])
@quick_and_long("times", 1, 10)
def test_packet_loss_costs_no_holder(pair: tuple[RemotePeer, RemotePeer], share: float, times: int) -> None:
    ana, ben = pair
    ben.machine.drop_packets(share)
    for _ in range(times):
        [got] = ben.pclient("download", "film.bin")
        assert got["holders"] == [f"{ana.machine.address}:5001"]
        assert digest(ben.shared / "film.bin") == digest(ana.home / "film.bin")
        assert {peer["user"] for peer in ben.pclient("peers")} == {"ana", "ben"}
        ben.pclient("remove", "film.bin", "--yes")
    log = ben.program.log.read_text()
    assert SOURCE_FAILED not in log
    assert TRACKER_UNREACHABLE not in log


@quick_and_long("times", 1, 10)
def test_a_delay_of_200_ms_costs_no_holder(empty_cluster: Cluster, rng: random.Random, times: int) -> None:
    cluster = empty_cluster
    # ana announces the address of the proxy.
    cluster.start_tracker(ADVERTISE_CHECK="false")
    ana = cluster.peer("ana", PSERVER_URL="127.0.0.2")
    size = 2 * MIB + 1
    make_file(ana.home / "film.bin", size, rng)
    assert upload(ana, "film.bin", copies=0).wait().single_upload
    port = ana.program.port
    tracker = (LOOPBACK, cluster.tracker.program.port)
    slow = Fault(delay=0.2)
    with ChaosProxy((LOOPBACK, port), ("127.0.0.2", port), slow), ChaosProxy(tracker, (LOOPBACK, 0), slow) as proxy:
        ben = cluster.peer("ben", SERVER_PORT=proxy.address[1])
        for _ in range(times):
            got = download(ben, "film.bin").wait().single_download
            assert list(got.holders) == [f"127.0.0.2:{port}"]
            assert digest(ben.shared / "film.bin") == digest(ana.home / "film.bin")
            remove(ben, "film.bin")
        log = ben.program.log.read_text()
        assert SOURCE_FAILED not in log
        assert TRACKER_UNREACHABLE not in log
