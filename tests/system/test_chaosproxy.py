"""The chaos proxy injects exactly the configured fault."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from system.chaosproxy import ChaosProxy, Fault

PAYLOAD = bytes(range(256)) * 4096


@pytest.fixture
def source() -> Iterator[tuple[str, int]]:
    """A server that sends PAYLOAD to each client and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.sendall(PAYLOAD)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def fetch(address: tuple[str, int], seconds: float = 10.0) -> bytes:
    """Return what is received until the end, a reset, or `seconds` without data."""
    got = bytearray()
    with socket.create_connection(address, timeout=seconds) as connection:
        while True:
            try:
                some = connection.recv(1 << 16)
            except (ConnectionResetError, TimeoutError):
                return bytes(got)
            if not some:
                return bytes(got)
            got += some


def test_without_a_fault_every_byte_passes(source: tuple[str, int]) -> None:
    with ChaosProxy(source) as proxy:
        assert fetch(proxy.address) == PAYLOAD
        assert proxy.passed == len(PAYLOAD)


def test_a_flipped_byte_is_the_only_change(source: tuple[str, int]) -> None:
    with ChaosProxy(source, fault=Fault(flip_at=300_001)) as proxy:
        got = fetch(proxy.address)
    differing = [at for at, (a, b) in enumerate(zip(got, PAYLOAD, strict=True)) if a != b]
    assert differing == [300_001]


@pytest.mark.parametrize("fault", [Fault(end_after=100_000), Fault(stall_after=100_000)], ids=["end", "stall"])
def test_an_end_and_a_stall_happen_at_their_byte(source: tuple[str, int], fault: Fault) -> None:
    with ChaosProxy(source, fault=fault) as proxy:
        assert fetch(proxy.address, 0.5) == PAYLOAD[:100_000]


def test_a_reset_is_a_reset(source: tuple[str, int]) -> None:
    with (
        ChaosProxy(source, fault=Fault(reset_after=0)) as proxy,
        socket.create_connection(proxy.address, timeout=10) as connection,
        pytest.raises(ConnectionResetError),
    ):
        connection.recv(1)


def test_a_stalled_connection_resumes_when_the_fault_is_cleared(source: tuple[str, int]) -> None:
    with (
        ChaosProxy(source, fault=Fault(stall_after=10)) as proxy,
        socket.create_connection(proxy.address, timeout=10) as connection,
    ):
        got = bytearray()
        while len(got) < 10:
            got += connection.recv(10)
        proxy.set(Fault())
        while some := connection.recv(1 << 16):
            got += some
    assert bytes(got) == PAYLOAD


def test_the_rate_is_not_exceeded(source: tuple[str, int]) -> None:
    with ChaosProxy(source, fault=Fault(rate=4 * len(PAYLOAD))) as proxy:
        began = time.monotonic()
        assert fetch(proxy.address) == PAYLOAD
        assert time.monotonic() - began >= 0.2
