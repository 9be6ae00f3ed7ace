"""Whatever answers in the tracker's place, the pserver goes on and says so in one line; the real one is understood."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from common.status_messages import Load
from daemon.errors import Busy, LoginRefused, NotLoggedIn, PeerError, TrackerUnreachable
from daemon.models import IndexEntry, Version
from daemon.tracker_client.client import SendIndex, TrackerClient
from live_tracker import LiveTracker, live_tracker

ID = "ab" * 32


@contextmanager
def impostor(status: int, body: bytes, retry_after: str = "", *, asked: list[str] | None = None) -> Iterator[str]:
    """Something that gives every request the same answer; `asked` gathers the requests."""

    class Handler(BaseHTTPRequestHandler):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if asked is not None:
                asked.append(self.path)
            self.send_response(status)
            if retry_after:
                self.send_header("Retry-After", retry_after)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


CALLS: list[Callable[[TrackerClient], object]] = [
    lambda client: client.login("ana", "pw", "127.0.0.1:1"),
    lambda client: client.ping("e", "v", Load()),
    lambda client: client.query(names=["a"]),
    lambda client: client.place([Version("a", ID, 1)], 1),
    lambda client: list(client.files("")),
    lambda client: client.peers(),
]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>welcome to the hotel</html>",
        b"{}",
        b"[]",
        b"null",
        b'"x"',
        b"[[1, 2]]",
        json.dumps({"status": 200, "epoch": 5, "server_time": "late", "recheck": 3, "send_index": {}}).encode(),
        json.dumps({"files": [{}], "peers": [7], "targets": [[]], "token": None, "next": 1}).encode(),
        json.dumps({"files": 3, "peers": None, "targets": "x", "ticket_key": "zz", "status": "x"}).encode(),
    ],
)
def test_an_impostor_is_no_tracker(body: bytes) -> None:
    with impostor(200, body) as url:
        for call in CALLS:
            with pytest.raises(
                TrackerUnreachable, match="is no tracker: look at SERVER_URL and SERVER_PORT"
            ) as refusal:
                call(TrackerClient(url))
            assert "\n" not in refusal.value.message


@pytest.fixture
def client(tracker: LiveTracker) -> TrackerClient:
    client = TrackerClient(tracker.url)
    answer = client.login("cleo", "correct horse", "127.0.0.1:9")
    client.token = answer.token
    return client


def test_the_real_one_is_understood(client: TrackerClient) -> None:
    pong = client.ping("none", "none", Load(free_bytes=5))
    assert pong.send_index
    client.put_index("v1", [IndexEntry("a.txt", ID, 3, True)])
    client.patch_index("v1", "v2", [IndexEntry("b.txt", ID, 3, True)], [("a.txt", ID)])
    with pytest.raises(SendIndex):
        client.patch_index("v1", "v3", [], [])
    assert not client.ping(pong.epoch, "v2", Load()).send_index
    assert [page[0].name for page in client.files("b.t")] == ["b.txt"]
    assert [found.version.name for found in client.query(ids=[ID])] == ["b.txt"]
    assert client.query(names=["no such"]) == []
    assert client.peers()[0].address


def test_of_many_files_all_thirty_peers_are_told(client: TrackerClient, tracker: LiveTracker) -> None:
    files = [Version(f"{n:04}", f"{n:064x}", 1) for n in range(400)]
    for number in range(30):
        other = TrackerClient(tracker.url)
        other.token = other.login("dora", "correct horse", f"127.0.0.1:{1000 + number}").token
        other.ping("none", "none", Load(free_bytes=1 << 40))
        other.put_index("1", [IndexEntry(file.name, file.id, 1, False) for file in files])
    found = client.query(ids=[file.id for file in files])
    assert [len(held.holders) for held in found] == [30] * 400
    assert Counter(target.id for target in client.place(files, 30)) == {file.id: 30 for file in files}


def test_refusals_have_their_codes(client: TrackerClient, tracker: LiveTracker) -> None:
    with pytest.raises(LoginRefused):
        TrackerClient(tracker.url).login("cleo", "wrong", "127.0.0.1:9")
    with pytest.raises(NotLoggedIn):
        TrackerClient(tracker.url).ping("e", "v", Load())


def test_peers_of_one_address_log_in_at_once(tmp_path: Path) -> None:
    # Twice as many as the tracker, at its own cost of a hash, has places for.
    with live_tracker(tmp_path, cost=None, limits=None) as tracker, ThreadPoolExecutor(16) as pool:
        url = tracker.url

        def login(number: int) -> bool:
            return TrackerClient(url).login(f"user{number}", "correct horse", f"127.0.0.1:{1000 + number}").registered

        assert all(pool.map(login, range(16)))


@pytest.mark.parametrize(
    ("status", "retry_after", "error"),
    [(429, "1", LoginRefused), (503, "", Busy), (503, "soon", TrackerUnreachable)],
)
def test_what_is_refused_otherwise_is_not_tried_again(status: int, retry_after: str, error: type[PeerError]) -> None:
    asked: list[str] = []
    with impostor(status, b"{}", retry_after, asked=asked) as url, pytest.raises(error):
        TrackerClient(url).login("ana", "pw", "127.0.0.1:1")
    assert asked == ["/login"]


def test_nobody_there_is_one_line() -> None:
    with pytest.raises(TrackerUnreachable, match="is it running"):
        TrackerClient("http://127.0.0.1:9").peers()
