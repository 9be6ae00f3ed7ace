"""Networks that lose, delay and part: right bytes in the end, nobody taken for dead, back soon after healing."""

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
from system.cluster import LOOPBACK, Cluster
from system.faults.counts import quick_and_long
from system.faults.namespaces import Machine, command_in_namespace, two_machines
from system.faults.transfer_calls import download, remove, upload
from system.payload import digest, make_file

MIB = 1 << 20
SIZE = 16 * MIB


class Far:
    """A pserver on one of two machines, driven by pclient there."""

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
        self.program = on(machine, PSERVER, env)

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start a pclient command."""
        command = command_in_namespace(self.machine.pid, sys.executable, str(PCLIENT), str(self.env), "--json", *words)
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.home
        )

    def pclient(self, *words: str, typed: str = "") -> list[dict[str, object]]:
        """Run a pclient command; must go well."""
        process = self.begin(*words)
        out, err = process.communicate(typed, timeout=100)
        assert process.returncode == 0, (out, err)
        return [json.loads(line) for line in out.splitlines()]

    def kept(self) -> int:
        """Bytes on the disk that are verified: pieces of 1 MiB that the notes count."""
        return MIB * sum(notes.read_bytes()[-SIZE // MIB // 8 :].hex().count("f") * 4 for notes in self.notes())

    def notes(self) -> list[Path]:
        """What lies beside unfinished files."""
        return list((self.shared / ".p2p").glob("*.have"))


def on(machine: Machine, script: Path, env: Path) -> Program:
    """Start a program on a machine."""
    launcher = Path(__file__).with_name("namespaces.py")
    program = Program(script.stem, launcher, [str(machine.pid), script, env], env.parent / "log")
    program.start()
    return program


@pytest.fixture
def pair(tmp_path: Path, rng: random.Random) -> Iterator[tuple[Far, Far]]:
    """A holder on the tracker's machine, and an asker on the other."""
    with ExitStack() as stack:
        near, far = stack.enter_context(two_machines())
        values = {"SERVER_URL": near.address, "SERVER_PORT": 5000, "STATE_DIR": tmp_path / "tracker"}
        stack.callback(on(near, SERVER, write_env(tmp_path / ".env_server", values)).stop, 5)
        peers = []
        for machine, name in ((near, "ana"), (far, "ben")):
            limit = {"UPLOAD_LIMIT": "4M"} if name == "ana" else {}
            peer = Far(machine, tmp_path / name, (near.address, 5000), **limit)
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
def test_a_partition_of_20_seconds_is_over_5_seconds_after_it(pair: tuple[Far, Far], times: int) -> None:
    ana, ben = pair
    for _ in range(times):
        order = ben.begin("download", "film.bin")
        eventually(lambda: ben.kept() >= 4 * MIB, 30)
        ben.machine.disconnect()
        cut = time.monotonic()
        eventually(lambda: time.monotonic() - cut > 1, 5)  # noqa: B023
        before = ben.kept()
        eventually(lambda: time.monotonic() - cut > 20, 25, every=0.5)  # noqa: B023
        assert order.poll() is None
        assert ben.kept() == before
        ben.machine.reconnect()
        eventually(lambda: ben.kept() > before or not ben.notes(), 5)  # noqa: B023
        out, err = order.communicate(timeout=60)
        assert order.returncode == 0, (out, err)
        assert digest(ben.shared / "film.bin") == digest(ana.home / "film.bin")
        ben.pclient("remove", "film.bin", "--yes")


@pytest.mark.netns
@pytest.mark.parametrize("share", [0.01, 0.05], ids=["1 percent", "5 percent"])
@quick_and_long("times", 1, 10)
def test_a_network_that_loses_is_slow_and_nothing_worse(pair: tuple[Far, Far], share: float, times: int) -> None:
    ana, ben = pair
    ben.machine.drop_packets(share)
    for _ in range(times):
        [got] = ben.pclient("download", "film.bin")
        assert got["holders"] == [f"{ana.machine.address}:5001"]
        assert digest(ben.shared / "film.bin") == digest(ana.home / "film.bin")
        assert {peer["user"] for peer in ben.pclient("peers")} == {"ana", "ben"}
        ben.pclient("remove", "film.bin", "--yes")
    log = ben.program.log.read_text()
    assert "source failed" not in log
    assert "does not answer" not in log


@quick_and_long("times", 1, 10)
def test_a_delay_of_200_ms_is_nobodys_death(empty_cluster: Cluster, rng: random.Random, times: int) -> None:
    cluster = empty_cluster
    # Ana is announced where the proxy listens.
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
        assert "source failed" not in log
        assert "does not answer" not in log
