"""A tracker that cannot be reached is a fault of one line that says what to check, until it responds."""

import asyncio
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import NotLoggedIn, TrackerUnreachable
from daemon.tracker_client.transport import TrackerTransport
from live_tracker import live_tracker
from silent_address import silent_address
from system.certificates import Certificates
from tracker.http_server import TlsFiles
from tracker_requests import tracker_client

RUNNING = "does not answer: check that it runs"
USES_TLS = "if it uses TLS, set TLS_CA or put https:// before SERVER_URL"
NO_TLS = "if it does not use TLS, remove TLS_CA or put http:// before SERVER_URL"
NOT_TRUSTED = "not signed by TLS_CA, or it does not use TLS: check SERVER_URL and TLS_CA"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("theirs"))


@pytest.fixture
def tls(ours: Certificates) -> TlsFiles:
    return TlsFiles(ours.certificate, ours.key)


def fault_of(url: str, authority: Path | None = None) -> str:
    """The fault of a request to this tracker, which the client keeps."""
    client = tracker_client(url, verify=str(authority) if authority else True)
    with pytest.raises(TrackerUnreachable) as refusal:
        asyncio.run(client.peers())
    assert client.fault == refusal.value.message
    assert "\n" not in client.fault
    return client.fault


@contextmanager
def server(answer: bytes, *, held: threading.Event | None = None, go: threading.Event | None = None) -> Iterator[int]:
    """A server that sends `answer` and closes; yields its port. A request for /held gets nothing."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked = self.request.recv(65536)
            if held is not None and go is not None and b"/held" in asked:
                held.set()
                go.wait(20)
            else:
                self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield listening.server_address[1]
        finally:
            listening.shutdown()


def test_http_to_a_tracker_with_tls_advises_tls_ca(tmp_path: Path, tls: TlsFiles) -> None:
    with live_tracker(tmp_path, tls=tls) as tracker:
        assert fault_of(tracker.url.replace("https:", "http:")).endswith(f"{RUNNING}; {USES_TLS}")


def test_tls_to_a_tracker_without_it_is_not_trusted(tmp_path: Path, ours: Certificates) -> None:
    with live_tracker(tmp_path) as tracker:
        assert fault_of(tracker.url.replace("http:", "https:"), ours.authority).endswith(NOT_TRUSTED)


def test_a_certificate_of_another_authority_is_not_trusted(tmp_path: Path, tls: TlsFiles, theirs: Certificates) -> None:
    with live_tracker(tmp_path, tls=tls) as tracker:
        assert fault_of(tracker.url, theirs.authority).endswith(NOT_TRUSTED)
        assert fault_of(tracker.url).endswith(NOT_TRUSTED)


def test_a_certificate_for_another_address_is_not_trusted(tmp_path: Path, tls: TlsFiles, ours: Certificates) -> None:
    with live_tracker(tmp_path, host="127.0.0.3", tls=tls) as tracker:
        assert fault_of(tracker.url, ours.authority).endswith(NOT_TRUSTED)


def test_a_missing_tls_ca_file_is_a_fault_until_it_is_back(tmp_path: Path, tls: TlsFiles, ours: Certificates) -> None:
    authority = tmp_path / "ca.pem"
    with live_tracker(tmp_path / "tracker", tls=tls) as tracker:
        client = tracker_client(tracker.url, verify=str(authority))
        with pytest.raises(TrackerUnreachable, match="check TLS_CA"):
            asyncio.run(client.negotiate())
        authority.write_bytes(ours.authority.read_bytes())
        asyncio.run(client.negotiate())
        assert not client.fault


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-other\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_a_server_that_closes_early_or_speaks_no_http_advises_tls_ca(answer: bytes) -> None:
    with server(answer) as port:
        assert fault_of(f"http://127.0.0.1:{port}").endswith(f"{RUNNING}; {USES_TLS}")


def test_a_server_that_closes_during_tls_advises_to_remove_tls_ca(ours: Certificates) -> None:
    with server(b"") as port:
        assert fault_of(f"https://127.0.0.1:{port}", ours.authority).endswith(f"{RUNNING}; {NO_TLS}")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("200 OK", "is not a tracker: check SERVER_URL and SERVER_PORT"),
        ("404 Not Found", "is not a tracker: check SERVER_URL and SERVER_PORT"),
        # A gateway in front of a tracker that is down.
        ("502 Bad Gateway", RUNNING),
        ("429 Too Many Requests", "answered 429: check its settings, and SERVER_URL"),
    ],
)
def test_another_web_server_is_not_a_tracker(status: str, sentence: str) -> None:
    page = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 17\r\n\r\n<html>hotel</html".encode()
    with server(page) as port:
        assert fault_of(f"http://127.0.0.1:{port}").endswith(sentence)


def test_any_response_of_the_tracker_clears_the_fault(tmp_path: Path) -> None:
    with live_tracker(tmp_path) as tracker:
        client = tracker_client(tracker.url)
        assert client.fault
        with pytest.raises(NotLoggedIn):
            asyncio.run(client.peers())
        assert not client.fault


def test_a_failure_of_an_older_request_does_not_replace_a_newer_success() -> None:
    held, go = threading.Event(), threading.Event()
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    with server(answer, held=held, go=go) as port, ThreadPoolExecutor(1) as pool:
        transport = TrackerTransport(f"http://127.0.0.1:{port}", verify=True)

        def request(route: str) -> object:
            return transport.request("GET", route, None, params=None, token=None, timeout=20)

        old = pool.submit(request, "/held")
        assert held.wait(20)
        request("/now")
        go.set()
        with pytest.raises(TrackerUnreachable):
            old.result()
        assert not transport.fault


def test_a_tracker_is_reached_at_the_address_of_its_name_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> None:
    """The first addresses drop packets: one after the other, they would take 3 s each."""
    lookup = socket.getaddrinfo

    def resolve(host: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
        hosts = [*(f"127.0.1.{number}" for number in range(1, 9)), "127.0.0.1"] if host == "two.example" else [host]
        return [found for each in hosts for found in lookup(each, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with live_tracker(tmp_path) as tracker:
        for number in range(1, 9):
            silent_address(stack, f"127.0.1.{number}", tracker.port)
        client = tracker_client(f"http://two.example:{tracker.port}")
        began = time.monotonic()
        asyncio.run(client.negotiate())
        assert time.monotonic() - began < 12
