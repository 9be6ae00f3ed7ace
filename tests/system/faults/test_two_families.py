"""Host names with an IPv6 and an IPv4 address, of which only one leads somewhere."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from programs import SERVER, write_env
from system.faults.namespaces import Machine, two_machines
from system.faults.remote_peer import RemotePeer, start_on
from system.payload import digest, make_file

# A connection attempt to an address that drops packets takes longer than everything that is measured here.
QUICK = 20.0
NEAR, FAR = "fd00::1", "fd00::2"
HOSTS = f"""127.0.0.1 localhost
{NEAR} near.example
10.99.0.1 near.example
{FAR} far.example
10.99.0.2 far.example
"""


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines with names that have two addresses each."""
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    with two_machines(hosts) as found:
        for machine, address in zip(found, (NEAR, FAR), strict=True):
            machine.run("ip", "addr", "add", f"{address}/64", "dev", "cable", "nodad")
        yield found


@pytest.mark.netns
@pytest.mark.parametrize("dead", ["ip6tables", "iptables"])
def test_tracker_and_peer_are_reached_at_the_address_that_answers(
    tmp_path: Path, machines: tuple[Machine, Machine], rng: random.Random, dead: str
) -> None:
    """Packets to the other address of either machine are dropped."""
    near, far = machines
    for machine in machines:
        machine.run(dead, "--wait", "-A", "INPUT", "-i", "cable", "-p", "tcp", "-j", "DROP")
    with ExitStack() as stack:
        keys = {"SERVER_URL": "0.0.0.0" if dead == "ip6tables" else "::", "SERVER_PORT": 5000}
        values = {**keys, "STATE_DIR": tmp_path / "tracker"}
        stack.callback(start_on(near, SERVER, write_env(tmp_path / ".env_server", values)).stop, 5)
        peers = []
        for machine, name in ((near, "near"), (far, "far")):
            peer = RemotePeer(machine, tmp_path / name, ("near.example", 5000), PSERVER_URL=f"{name}.example")
            stack.callback(peer.program.stop, 5)
            began = time.monotonic()
            peer.pclient("login", name, "--password-stdin", typed="correct horse\n")
            assert time.monotonic() - began < QUICK
            peers.append(peer)
        ana, ben = peers
        make_file(ana.home / "film.bin", 3 << 20, rng)
        ana.pclient("upload", "film.bin", "--copies", "0")
        began = time.monotonic()
        ben.pclient("download", "film.bin")
        assert time.monotonic() - began < QUICK
        assert digest(ben.shared / "film.bin") == digest(ana.shared / "film.bin")
        for peer in peers:
            print(peer.program.tail())
