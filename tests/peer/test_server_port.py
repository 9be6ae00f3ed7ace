"""The gRPC server listens on its port, prefers the port of the last run, and says why it cannot listen."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import pytest

from common import channels
from daemon.errors import InUse
from daemon.rpc.server import listen
from daemon.runtime.settings import Settings
from live_pserver import settings_for

T = TypeVar("T")


def with_server(work: Callable[[grpc.aio.Server], T]) -> T:
    """Call `work` with a server that has not started."""

    async def run() -> T:
        server = grpc.aio.server(options=channels.server_options())
        try:
            return work(server)
        finally:
            await server.stop(None)

    return asyncio.run(run())


def settings(tmp_path: Path, **changes: object) -> Settings:
    return settings_for(tmp_path, 5000, **changes)


@pytest.fixture
def used_port() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use_is_reported_with_its_address(tmp_path: Path, used_port: int) -> None:
    with pytest.raises(InUse) as caught:
        with_server(lambda server: listen(server, settings(tmp_path, port=used_port), 0))
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{used_port}: address already in use"


def test_an_address_of_another_machine_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InUse, match=r"cannot listen on 192\.0\.2\.1:0: cannot assign requested address"):
        with_server(lambda server: listen(server, settings(tmp_path, listen_host="192.0.2.1"), 0))


def test_any_free_port_prefers_the_port_of_the_last_run(tmp_path: Path, used_port: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        last_port = free.getsockname()[1]
    assert with_server(lambda server: listen(server, settings(tmp_path), last_port)).port == last_port
    assert with_server(lambda server: listen(server, settings(tmp_path), used_port)).port not in (0, used_port)


@pytest.mark.ipv6
def test_all_addresses_of_a_host_name_are_listened_on_at_one_port(tmp_path: Path) -> None:
    def dial(server: grpc.aio.Server) -> set[str]:
        found = listen(server, settings(tmp_path, listen_host="localhost"), 0)
        for address in found.addresses:
            socket.create_connection((address, found.port), timeout=10).close()
        return set(found.addresses)

    assert with_server(dial) == {"127.0.0.1", "::1"}


@pytest.mark.ipv6
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_is_in_use_at_one_address_is_in_use(tmp_path: Path, address: str) -> None:
    """gRPC would be content with the other address, and another program would get the calls to this one."""
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as other:
        port = other.getsockname()[1]
        changed = settings(tmp_path, listen_host="localhost", port=port)
        with pytest.raises(InUse, match=f"cannot listen on localhost:{port}: address already in use"):
            with_server(lambda server: listen(server, changed, 0))
        changed = settings(tmp_path, listen_host="localhost")
        assert with_server(lambda server: listen(server, changed, port)).port != port


def test_an_unknown_host_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InUse, match=r"cannot listen on no-such-host\.invalid:0: "):
        with_server(lambda server: listen(server, settings(tmp_path, listen_host="no-such-host.invalid"), 0))
