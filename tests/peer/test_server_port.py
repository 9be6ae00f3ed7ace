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
    assert with_server(lambda server: listen(server, settings(tmp_path), last_port)) == last_port
    assert with_server(lambda server: listen(server, settings(tmp_path), used_port)) not in (0, used_port)
