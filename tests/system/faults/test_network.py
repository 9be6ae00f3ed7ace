"""Networks with loss, delay and partitions: correct data, no peer dropped, and a quick recovery."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eventually import eventually
from programs import PCLIENT, PSERVER, SERVER, Program, write_env
from system.chaosproxy import ChaosProxy, Fault
from system.cluster import LOOPBACK, SOURCE_FAILED, TRACKER_UNREACHABLE, Cluster
from system.faults.counts import quick_and_long
from system.faults.namespaces import Machine, command_in_namespace, two_machines
from system.faults.transfer_calls import download, remove, upload
from system.payload import digest, make_file

MIB = 1 << 20
SIZE = 16 * MIB


class RemotePeer:
    """A pserver in one of two namespaces, with pclient beside it."""

    def __init__(self, machine: Machine, folder: Path, tracker: tuple[str, int], **keys: object) -> None:
        folder.mkdir()
        self.machine = machine
        self.home = folder
        self.shared = folder / "shared"
        values = {
            "PSERVER_URL": machine.address,
            "PSERVER_LOCAL_URL": "0.0.0.0",
            "PSERVER_PORT": 5001,
            "SERVER_URL": tracker[0],
            "SERVER_PORT": tracker[1],
            "SHARED_DIR": self.shared,
            "STATE_DIR": folder / "state",
            "PING_INTERVAL": 1,
            **keys,
        }
        env = write_env(folder / ".env_pserver", values)
        self.env = write_env(
            folder / ".env_pclient", {"PSERVER_URL": LOOPBACK, "PSERVER_PORT": 5001, "STATE_DIR": folder / "state"}
        )
        self.program = start_on(machine, PSERVER, env)

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start a pclient command."""
        command = command_in_namespace(self.machine.pid, sys.executable, str(PCLIENT), str(self.env), "--json", *words)
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.home
        )

    def pclient(self, *words: str, typed: str = "") -> list[dict[str, object]]:
        """Run a pclient command; must succeed."""
        process = self.begin(*words)
        out, err = process.communicate(typed, timeout=100)
        assert process.returncode == 0, (out, err)
        return [json.loads(line) for line in out.splitlines()]

    def verified_bytes(self) -> int:
        """Return the bytes that the resume data counts as verified, in pieces of 1 MiB."""
        return MIB * sum(path.read_bytes()[-SIZE // MIB // 8 :].hex().count("f") * 4 for path in self.resume_files())

    def resume_files(self) -> list[Path]:
        """Return the resume data files of unfinished downloads."""
        return list((self.shared / ".p2p").glob("*.have"))


def start_on(machine: Machine, script: Path, env: Path) -> Program:
    """Start a program in a namespace."""
    launcher = Path(__file__).with_name("namespaces.py")
    program = Program(script.stem, launcher, [str(machine.pid), script, env], env.parent / "log")
    program.start()
    return program


@pytest.fixture
def pair(tmp_path: Path, rng: random.Random) -> Iterator[tuple[RemotePeer, RemotePeer]]:
    """A holder in the tracker's namespace, and a requester in the other."""
    with ExitStack() as stack:
        near, far = stack.enter_context(two_machines())
        values = {"SERVER_URL": near.address, "SERVER_PORT": 5000, "STATE_DIR": tmp_path / "tracker"}
        stack.callback(start_on(near, SERVER, write_env(tmp_path / ".env_server", values)).stop, 5)
        peers = []
        for machine, name in ((near, "ana"), (far, "ben")):
            limit = {"UPLOAD_LIMIT": "4M"} if name == "ana" else {}
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
        eventually(lambda: ben.verified_bytes() >= 4 * MIB, 30)
        ben.machine.disconnect()
        cut = time.monotonic()
        eventually(lambda: time.monotonic() - cut > 1, 5)  # noqa: B023
        before = ben.verified_bytes()
        eventually(lambda: time.monotonic() - cut > 20, 25, every=0.5)  # noqa: B023
        assert process.poll() is None
        assert ben.verified_bytes() == before
        ben.machine.reconnect()
        eventually(lambda: ben.verified_bytes() > before or not ben.resume_files(), 15)  # noqa: B023
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
