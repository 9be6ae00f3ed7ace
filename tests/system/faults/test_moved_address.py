"""A machine that gets another address while its pserver runs, as a laptop does: the session follows it."""

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from eventually import eventually
from programs import SERVER, write_env
from system.faults.namespaces import two_machines
from system.faults.remote_peer import RemotePeer, start_on
from system.payload import digest, make_file


def addresses_of(peer: RemotePeer, user: str) -> list[object]:
    """The addresses of the online peers of a user, as another peer sees them."""
    return [each["url"] for each in peer.pclient("peers") if each["user"] == user]


@pytest.mark.netns
def test_a_peer_with_a_new_address_is_offered_there(tmp_path: Path, rng: random.Random) -> None:
    with ExitStack() as stack:
        near, far = stack.enter_context(two_machines())
        values = {"SERVER_URL": near.address, "SERVER_PORT": 5000, "STATE_DIR": tmp_path / "tracker"}
        stack.callback(start_on(near, SERVER, write_env(tmp_path / ".env_server", values)).stop, 5)
        peers = []
        for machine, name in ((near, "ana"), (far, "ben")):
            peer = RemotePeer(machine, tmp_path / name, (near.address, 5000), PSERVER_URL="auto")
            stack.callback(peer.program.stop, 5)
            peer.pclient("login", name, "--password-stdin", typed="correct horse\n")
            peers.append(peer)
        ana, ben = peers
        for name in ("first.bin", "second.bin"):
            make_file(ben.home / name, 3 << 20, rng)
            ben.pclient("upload", name, "--copies", "0")
        assert addresses_of(ana, "ben") == [f"{far.address}:5001"]
        assert ana.pclient("download", "first.bin")[0]["holders"] == [f"{far.address}:5001"]

        far.run("ip", "addr", "del", f"{far.address}/24", "dev", "cable")
        far.run("ip", "addr", "add", "10.99.0.77/24", "dev", "cable")
        eventually(lambda: addresses_of(ana, "ben") == ["10.99.0.77:5001"], 60)
        assert ben.pclient("status")[0]["url"] == "10.99.0.77:5001"
        assert ana.pclient("download", "second.bin")[0]["holders"] == ["10.99.0.77:5001"]
        assert digest(ana.shared / "second.bin") == digest(ben.shared / "second.bin")
        for peer in peers:
            print(peer.program.tail())
