"""The tracker's responses are understood, and those of any other server are a fault of one line."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from common.status_messages import Load
from daemon.errors import Busy, LoginRefused, NotLoggedIn, PeerError, TrackerUnreachable
from daemon.models import IndexEntry, Version
from daemon.tracker_client.client import TrackerClient
from daemon.tracker_client.responses import SendIndex
from daemon.tracker_client.transport import Response, TrackerTransport
from live_tracker import LiveTracker, live_tracker
from tracker.passwords import HashCost
from tracker_requests import PASSWORD, logged_in, tracker_client

ID = "ab" * 32
MEDIUM_HASHES = HashCost(n=2**12, r=8, p=1)


@contextmanager
def impostor(status: int, body: bytes, retry_after: str = "", *, requests: list[str] | None = None) -> Iterator[str]:
    """A server that gives every request the same response; `requests` collects the paths."""

    class Handler(BaseHTTPRequestHandler):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if requests is not None:
                requests.append(self.path)
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


async def list_files(client: TrackerClient, match: str) -> list[str]:
    """Return the first name of each page."""
    return [page[0].name async for page in client.files(match)]


CALLS: list[Callable[[TrackerClient], Coroutine[Any, Any, object]]] = [
    lambda client: client.login("ana", "pw", "127.0.0.1:1"),
    lambda client: client.ping("e", "v", Load()),
    lambda client: client.query(names=["a"]),
    lambda client: client.place([Version("a", ID, 1)], 1),
    lambda client: list_files(client, ""),
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
def test_a_response_that_is_not_the_trackers_is_a_fault_of_one_line(body: bytes) -> None:
    with impostor(200, body) as url:
        for call in CALLS:
            with pytest.raises(
                TrackerUnreachable, match="is not a tracker: check SERVER_URL and SERVER_PORT"
            ) as refusal:
                asyncio.run(call(tracker_client(url)))
            assert "\n" not in refusal.value.message


@pytest.fixture
def client(tracker: LiveTracker) -> TrackerClient:
    return logged_in(tracker.url, "cleo")


def test_the_trackers_responses_are_understood(client: TrackerClient) -> None:
    async def story() -> None:
        response = await client.ping("none", "none", Load(free_bytes=5))
        assert response.send_index
        await client.put_index("v1", [IndexEntry("a.txt", ID, 3, True)])
        await client.patch_index("v1", "v2", [IndexEntry("b.txt", ID, 3, True)], [("a.txt", ID)])
        with pytest.raises(SendIndex):
            await client.patch_index("v1", "v3", [], [])
        assert not (await client.ping(response.epoch, "v2", Load())).send_index
        assert await list_files(client, "b.t") == ["b.txt"]
        assert [found.version.name for found in await client.query(ids=[ID])] == ["b.txt"]
        assert await client.query(names=["no such"]) == []
        assert (await client.peers())[0].address

    asyncio.run(story())


def test_a_query_of_many_files_names_thirty_holders_of_each(client: TrackerClient, tracker: LiveTracker) -> None:
    files = [Version(f"{n:04}", f"{n:064x}", 1) for n in range(400)]

    async def announce(address: str) -> None:
        other = tracker_client(tracker.url)
        other.token = (await other.login("dora", PASSWORD, address)).token
        await other.ping("none", "none", Load(free_bytes=1 << 40))
        await other.put_index("1", [IndexEntry(file.name, file.id, 1, False) for file in files])

    async def story() -> None:
        for number in range(30):
            await announce(f"127.0.0.1:{1000 + number}")
        found = await client.query(ids=[file.id for file in files])
        assert [len(held.holders) for held in found] == [30] * 400
        assert Counter(target.id for target in await client.place(files, 30)) == {file.id: 30 for file in files}

    asyncio.run(story())


def test_refusals_have_their_codes(client: TrackerClient, tracker: LiveTracker) -> None:
    with pytest.raises(LoginRefused):
        asyncio.run(client.login("cleo", "wrong", "127.0.0.1:9"))
    with pytest.raises(NotLoggedIn):
        asyncio.run(tracker_client(tracker.url).ping("e", "v", Load()))


def test_sixteen_peers_behind_one_address_can_log_in_at_once(tmp_path: Path) -> None:
    # The tracker registers eight at a time: the others get 503 and retry. Hashes take some 10 ms, so that they overlap.
    with live_tracker(tmp_path, cost=MEDIUM_HASHES, limits=None) as tracker:
        client = tracker_client(tracker.url, threads=16)

        async def story() -> None:
            logins = (client.login(f"user{n}", PASSWORD, f"127.0.0.1:{1000 + n}") for n in range(16))
            assert all(response.registered for response in await asyncio.gather(*logins))

        asyncio.run(story())


@pytest.mark.parametrize(
    ("status", "retry_after", "error"),
    [(429, "1", LoginRefused), (503, "", Busy), (503, "soon", TrackerUnreachable)],
)
def test_refused_and_invalid_requests_are_not_retried(status: int, retry_after: str, error: type[PeerError]) -> None:
    requests: list[str] = []
    with impostor(status, b"{}", retry_after, requests=requests) as url, pytest.raises(error):
        asyncio.run(tracker_client(url).peers())
    assert requests == ["/peers"]


def test_a_tracker_that_does_not_run_is_a_fault_of_one_line() -> None:
    with pytest.raises(TrackerUnreachable, match="check that it runs"):
        asyncio.run(tracker_client("http://127.0.0.1:9").peers())


def test_a_ping_under_way_ends_before_the_peer_leaves_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tracker might process the ping last, and the peer would be online again."""
    log: list[str] = []
    pinging, release = threading.Event(), threading.Event()

    def request(transport: object, method: str, route: str, *_: object, **__: object) -> Response:
        if route == "/ping":
            pinging.set()
            release.wait(20)
        log.append(f"{method} {route}")
        return Response(200, "OK", {"epoch": "e", "send_index": False, "recheck": [], "server_time": 0.0})

    monkeypatch.setattr(TrackerTransport, "request", request)

    async def leave(executor: Executor) -> None:
        client = TrackerClient("http://127.0.0.1:1", executor)
        ping = asyncio.create_task(client.ping("", "none", Load()))
        await asyncio.to_thread(pinging.wait, 20)
        ping.cancel()
        await asyncio.gather(ping, return_exceptions=True)
        leaving = asyncio.create_task(client.delete_index())
        await asyncio.sleep(0.05)
        release.set()
        await leaving

    with ThreadPoolExecutor(4) as executor:
        asyncio.run(leave(executor))
    assert log == ["PUT /ping", "DELETE /index"]
