"""Listening sockets: all addresses of a host name, on one port, shared with no other process."""

import errno
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from live_tracker import live_tracker
from ports import reserve_port
from tracker.http_server import ListenError, listen

LAUNCHER = Path(__file__).parents[2] / "server" / "server.py"
# No machine has this address.
NOT_HERE = "203.0.113.1"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def name_has(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let the system's resolver return these addresses for every name."""
    ask = socket.getaddrinfo

    def getaddrinfo(_host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        return [found for address in addresses for found in ask(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def bound(stack: ExitStack, host: str, port: int) -> list[tuple[str, int]]:
    return [stack.enter_context(listener).getsockname()[:2] for listener in listen(host, port)]


@pytest.mark.parametrize("port", [0, None], ids=["any port", "one port"])
def test_a_name_with_several_addresses_is_listened_on_at_all_of_them(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, port: int | None
) -> None:
    name_has(monkeypatch, "::1", "127.0.0.1", "127.0.0.2", "127.0.0.1")
    addresses = bound(stack, "tracker.example", reserve_port() if port is None else port)
    assert [address for address, _ in addresses] == ["127.0.0.1", "127.0.0.2", "::1"]
    assert len({port for _, port in addresses}) == 1


def test_an_address_of_another_machine_is_skipped(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    name_has(monkeypatch, NOT_HERE, "127.0.0.1")
    assert [address for address, _ in bound(stack, "tracker.example", 0)] == ["127.0.0.1"]


def test_a_name_of_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name_has(monkeypatch, NOT_HERE, "198.51.100.1")
    with pytest.raises(ListenError, match=r"cannot listen on tracker\.example:0: cannot assign requested address"):
        listen("tracker.example", 0)


def test_a_port_in_use_at_one_address_is_refused_and_nothing_stays_open(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_has(monkeypatch, "127.0.0.1", "127.0.0.2")
    port = reserve_port()
    stack.enter_context(socket.create_server(("127.0.0.2", port)))
    with pytest.raises(ListenError, match="address already in use"):
        listen("tracker.example", port)
    socket.create_server(("127.0.0.1", port)).close()


def test_a_free_port_is_free_at_all_addresses(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    name_has(monkeypatch, "127.0.0.1", "127.0.0.2")
    refused: list[int] = []
    bind = socket.socket.bind

    def busy_twice(self: socket.socket, address: Any) -> None:
        if address[0] == "127.0.0.2" and len(refused) < 2:
            refused.append(address[1])
            raise OSError(errno.EADDRINUSE, "Address already in use")
        bind(self, address)

    monkeypatch.setattr(socket.socket, "bind", busy_twice)
    [(_, first), (_, second)] = bound(stack, "tracker.example", 0)
    assert len(refused) == 2
    assert first == second


def test_requests_at_every_address_reach_the_same_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        name_has(patched, "127.0.0.1", "127.0.0.2", "::1")
        with live_tracker(tmp_path, host="tracker.example") as tracker:
            patched.undo()
            body = {"username": "ana", "password": "x", "url": "auto:5001"}
            token = requests.post(f"http://127.0.0.1:{tracker.port}/login", json=body, timeout=20).json()["token"]
            for host in ("127.0.0.1", "127.0.0.2", "[::1]"):
                headers = {"Authorization": f"Bearer {token}"}
                peers = requests.get(f"http://{host}:{tracker.port}/peers", headers=headers, timeout=20).json()["peers"]
                assert [peer["user"] for peer in peers] == ["ana"]
        for host in ("127.0.0.1", "127.0.0.2", "::1"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, tracker.port), timeout=20)


def test_a_tracker_on_localhost_answers_at_each_address_of_the_name(tmp_path: Path) -> None:
    env = tmp_path / ".env_server"
    env.write_text("SERVER_URL=localhost\nSERVER_PORT=0\nSTATE_DIR=state\n")
    process = subprocess.Popen(
        [sys.executable, str(LAUNCHER), str(env)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline().removeprefix("READY "))
        addresses = {str(found[4][0]) for found in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}
        assert ready["host"] in addresses
        assert ready["host"] == "127.0.0.1" or "127.0.0.1" not in addresses
        for address in addresses:
            host = f"[{address}]" if ":" in address else address
            assert requests.get(f"http://{host}:{ready['port']}/healthz", timeout=20).status_code == 200
    finally:
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "no TLS" not in err
