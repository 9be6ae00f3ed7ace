"""Why the tracker was not reached is told in one line that says what to look at, and no longer once it answers."""

import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.errors import NotLoggedIn, TrackerUnreachable
from daemon.tracker_client.client import TrackerClient
from daemon.tracker_client.transport import TrackerTransport
from live_tracker import live_tracker
from system.certificates import Certificates
from tracker.http_server import TlsFiles

RUNNING = "does not answer: is it running?"
NOT_TRUSTED = "not from TLS_CA, or it speaks no TLS: look at SERVER_URL and TLS_CA"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("theirs"))


@pytest.fixture
def tls(ours: Certificates) -> TlsFiles:
    return TlsFiles(ours.certificate, ours.key)


def said(url: str, authority: Path | None = None) -> str:
    """What is said of this tracker, in the refusal and afterwards."""
    client = TrackerClient(url, verify=str(authority) if authority else True)
    with pytest.raises(TrackerUnreachable) as refusal:
        client.peers()
    assert client.fault == refusal.value.message
    assert "\n" not in client.fault
    return client.fault


@contextmanager
def server(answer: bytes, *, held: threading.Event | None = None, go: threading.Event | None = None) -> Iterator[int]:
    """Something that answers whoever speaks so, and hangs up; its port. Who asks for /held waits, for nothing."""

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


def test_a_tracker_with_tls_is_dialled_without(tmp_path: Path, tls: TlsFiles) -> None:
    with live_tracker(tmp_path, tls=tls) as tracker:
        assert said(tracker.url.replace("https:", "http:")).endswith(f"{RUNNING} if it has TLS, set TLS_CA")


def test_a_tracker_without_tls_is_dialled_with(tmp_path: Path, ours: Certificates) -> None:
    with live_tracker(tmp_path) as tracker:
        assert said(tracker.url.replace("http:", "https:"), ours.authority).endswith(NOT_TRUSTED)


def test_a_certificate_of_another_authority(tmp_path: Path, tls: TlsFiles, theirs: Certificates) -> None:
    with live_tracker(tmp_path, tls=tls) as tracker:
        assert said(tracker.url, theirs.authority).endswith(NOT_TRUSTED)
        assert said(tracker.url).endswith(NOT_TRUSTED)


def test_a_certificate_for_another_address(tmp_path: Path, tls: TlsFiles, ours: Certificates) -> None:
    with live_tracker(tmp_path, host="127.0.0.3", tls=tls) as tracker:
        assert said(tracker.url, ours.authority).endswith(NOT_TRUSTED)


def test_certificates_that_are_gone_come_again(tmp_path: Path, tls: TlsFiles, ours: Certificates) -> None:
    authority = tmp_path / "ca.pem"
    with live_tracker(tmp_path / "tracker", tls=tls) as tracker:
        client = TrackerClient(tracker.url, verify=str(authority))
        with pytest.raises(TrackerUnreachable, match="look at TLS_CA"):
            client.probe()
        authority.write_bytes(ours.authority.read_bytes())
        client.probe()
        assert not client.fault


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-other\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_what_breaks_off_or_speaks_no_http_may_want_tls(answer: bytes) -> None:
    with server(answer) as port:
        assert said(f"http://127.0.0.1:{port}").endswith(f"{RUNNING} if it has TLS, set TLS_CA")


def test_what_hangs_up_at_tls_may_have_none(ours: Certificates) -> None:
    with server(b"") as port:
        assert said(f"https://127.0.0.1:{port}", ours.authority).endswith(
            f"{RUNNING} if it has no TLS, leave out TLS_CA"
        )


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("200 OK", "is no tracker: look at SERVER_URL and SERVER_PORT"),
        ("404 Not Found", "is no tracker: look at SERVER_URL and SERVER_PORT"),
        # A gateway before a tracker that is down.
        ("502 Bad Gateway", RUNNING),
    ],
)
def test_another_web_server_is_no_tracker(status: str, sentence: str) -> None:
    page = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 17\r\n\r\n<html>hotel</html".encode()
    with server(page) as port:
        assert said(f"http://127.0.0.1:{port}").endswith(sentence)


def test_whatever_the_tracker_answers_it_is_reached(tmp_path: Path) -> None:
    with live_tracker(tmp_path) as tracker:
        client = TrackerClient(tracker.url)
        assert client.fault
        with pytest.raises(NotLoggedIn):
            client.peers()
        assert not client.fault


def test_an_old_question_that_is_given_up_is_no_news() -> None:
    held, go = threading.Event(), threading.Event()
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    with server(answer, held=held, go=go) as port, ThreadPoolExecutor(1) as pool:
        line = TrackerTransport(f"http://127.0.0.1:{port}", verify=True)

        def ask(route: str) -> object:
            return line.request("GET", route, None, query=None, token=None, timeout=20)

        old = pool.submit(ask, "/held")
        assert held.wait(20)
        ask("/now")
        go.set()
        with pytest.raises(TrackerUnreachable):
            old.result()
        assert not line.fault
