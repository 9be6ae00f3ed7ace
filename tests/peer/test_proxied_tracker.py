"""A tracker behind a real nginx: lists get through its body limit, and its own answers are named as a proxy's."""

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from daemon.errors import RequestTooLarge, TrackerUnreachable
from daemon.models import IndexEntry, Version
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker
from nginx import nginx
from ports import reserve_port
from system.certificates import Certificates
from tracker_requests import logged_in, tracker_client

pytestmark = pytest.mark.nginx
LOG = 'log_format sizes "$request_method $uri $status $content_length";'


def proxied(
    stack: ExitStack, folder: Path, tracker: LiveTracker, directives: str = "", **options: object
) -> tuple[int, Path]:
    """Run nginx in front of a tracker; return its port and the log of its requests."""
    folder.mkdir(exist_ok=True)
    log = folder / "sizes.log"
    server = f"access_log {log} sizes; {directives} location / {{ proxy_pass {tracker.url}; }}"
    port = stack.enter_context(nginx(folder / "nginx", server, http=LOG, **options))  # type: ignore[arg-type]
    return port, log


def sizes(log: Path, route: str, status: str) -> list[int]:
    """The bytes of the requests to a route that got this status."""
    lines = (line.split() for line in log.read_text().splitlines())
    return [int(size) for _, uri, got, size in lines if (uri, got) == (route, status)]


def names_at(tracker: LiveTracker, prefix: str) -> int:
    client = logged_in(tracker.url, "watcher")

    async def count() -> int:
        return sum([len(page) async for page in client.files(prefix)])

    return asyncio.run(count())


def add_files(peer: LivePserver, prefix: str, count: int) -> list[str]:
    """Add files whose names have 119 bytes."""
    names = [f"{prefix}{number:06}".ljust(119, "x") for number in range(count)]
    for number, name in enumerate(names):
        peer.pserver.library.add_partial(name, f"{number:064x}", 1)
    return names


@pytest.mark.parametrize("limit", ["", "client_max_body_size 64k;"])
def test_long_lists_get_through_a_proxy_whatever_its_limit(
    tmp_path: Path, tracker: LiveTracker, stack: ExitStack, limit: str
) -> None:
    user = "ana" if limit else "ben"
    port, log = proxied(stack, tmp_path, tracker, limit)
    peer = stack.enter_context(live_pserver(tmp_path / user, port, user, ping_interval=3600))
    names = add_files(peer, user, 5200)
    peer.call(peer.pserver.announcer.sync())
    assert names_at(tracker, user) == len(names)
    allowed = sizes(log, "/index", "200")
    assert max(allowed) <= (64 << 10 if limit else 512 << 10)
    # Halved three times at most, and not again for each request.
    assert len(sizes(log, "/index", "413")) <= (4 if limit else 0)

    # The complete index, a query and a placement of as many names.
    peer.call(peer.pserver.account.logout())
    peer.login(user)
    assert names_at(tracker, user) == len(names)
    client = tracker_client(f"http://127.0.0.1:{port}")
    client.token = logged_in(tracker.url, "cleo", "127.0.0.1:10").token
    found = asyncio.run(client.query(names=names))
    assert {file.version.name for file in found} == set(names)
    versions = [Version(name, f"{number:064x}", 1) for number, name in enumerate(names)]
    assert {target.id for target in asyncio.run(client.place(versions, 1))} == {file.id for file in versions}
    # Removals.
    for number in range(len(names)):
        peer.pserver.library.drop_partial(f"{number:064x}")
    peer.call(peer.pserver.announcer.sync())
    assert names_at(tracker, user) == 0


def test_a_proxy_that_refuses_a_single_entry_is_a_fault_until_it_accepts_it(
    tmp_path: Path, tracker: LiveTracker, stack: ExitStack
) -> None:
    strict = stack.enter_context(ExitStack())
    port, _ = proxied(strict, tmp_path, tracker, "client_max_body_size 300;")
    peer = stack.enter_context(live_pserver(tmp_path / "dan", port, "dan", ping_interval=0.2))
    announcer = peer.pserver.announcer
    add_files(peer, "dan", 3)
    with pytest.raises(RequestTooLarge, match=r"a proxy at http://127.0.0.1:\d+ answered 413 with a web page"):
        peer.call(announcer.sync())
    # Also while its pings get through.
    eventually(lambda: "raise its body limit" in announcer.fault and not peer.pserver.tracker.fault)
    strict.close()
    proxied(stack, tmp_path / "new", tracker, port=port)
    eventually(lambda: not announcer.fault)
    assert names_at(tracker, "dan") == 3


def test_a_change_is_announced_in_parts_of_the_bytes_that_a_proxy_accepts(
    tmp_path: Path, tracker: LiveTracker, stack: ExitStack
) -> None:
    """Halving ends at one entry, and the versions of the parts follow each other."""
    port, log = proxied(stack, tmp_path, tracker, "client_max_body_size 700;")
    client = tracker_client(f"http://127.0.0.1:{port}")
    client.token = logged_in(tracker.url, "emil", "127.0.0.1:77").token

    async def story() -> None:
        files = [IndexEntry(f"emil-{number}", f"{number:064x}", 1, True) for number in range(20)]
        await client.put_index("1", files)
        await client.patch_index(
            "1", "2", [IndexEntry("emil-new", "f" * 64, 1, True)], [file[:2] for file in files[:9]]
        )

    asyncio.run(story())
    assert names_at(tracker, "emil-") == 12
    assert max(sizes(log, "/index", "200")) <= 700


def fault_of(url: str) -> str:
    client = tracker_client(url)
    with pytest.raises(TrackerUnreachable) as refusal:
        asyncio.run(client.negotiate())
    assert client.fault == refusal.value.message
    assert "\n" not in client.fault
    return client.fault


def test_the_answers_of_a_proxy_are_not_said_to_be_another_servers(tmp_path: Path, stack: ExitStack) -> None:
    certificates = Certificates.make(tmp_path)

    def behind(name: str, server: str, **options: object) -> str:
        port = stack.enter_context(nginx(tmp_path / name, server, **options))  # type: ignore[arg-type]
        return fault_of(f"http://127.0.0.1:{port}")

    down = behind("down", f"location / {{ proxy_pass http://127.0.0.1:{reserve_port()}; }}")
    assert down.endswith("answered 502 with a web page: the tracker behind it does not answer: check that it runs")
    assert "answered 403 with a web page: check its settings" in behind("closed", "location / { deny all; }")
    moved = behind("moved", "return 301 https://files.example$request_uri;")
    assert moved.endswith("redirects to https://files.example/healthz: set SERVER_URL to where it leads")
    assert behind("tls", identity(certificates), tls=True).endswith(
        "answered 400 with a web page: if it uses TLS, set SERVER_URL to https://..."
    )


def test_the_json_of_another_gateway_is_understood(tmp_path: Path, tracker: LiveTracker, stack: ExitStack) -> None:
    body = json.dumps({"message": "Request Too Long"})
    page = f"location /upload {{ default_type application/json; return 413 '{body}'; }}"
    port, _ = proxied(stack, tmp_path, tracker, page)
    client = logged_in(f"http://127.0.0.1:{port}", "finn", "127.0.0.1:78")
    with pytest.raises(RequestTooLarge, match="Request Too Long"):
        asyncio.run(client.place([Version("a", "a" * 64, 1)], 1))


def identity(certificates: Certificates) -> str:
    """The directives for TLS with these certificates."""
    return f"ssl_certificate {certificates.certificate}; ssl_certificate_key {certificates.key};"


def downloads(peer: LivePserver, name: str) -> list[Any]:
    """Download a file; return the faults."""
    with peer.control() as control:
        events = control.DownloadFileRequest(iter([pb.DownloadCommand(names=[name])]), metadata=peer.cookie, timeout=30)
        return [fault for event in events for fault in event.results.faults]


def test_a_tracker_below_a_path_of_a_proxy_with_tls_serves_peers_without_tls(
    tmp_path: Path, tracker: LiveTracker, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates.make(tmp_path)
    # The authority becomes one of this process's system.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    server = f"{identity(certificates)} location /team/p2p/ {{ proxy_pass {tracker.url}/; }}"
    port = stack.enter_context(nginx(tmp_path / "nginx", server, tls=True))
    url = f"https://127.0.0.1:{port}/team/p2p"
    gus, hal = (
        stack.enter_context(live_pserver(tmp_path / user, tracker, user, tracker_url=url)) for user in ("gus", "hal")
    )
    gus.share("proxied.txt", b"by a proxy")
    gus.call(gus.pserver.announcer.sync())
    assert downloads(hal, "proxied.txt") == []
    assert (hal.shared / "proxied.txt").read_bytes() == b"by a proxy"
    with hal.control() as control:
        assert (
            control.Status(pb.StatusRequest(), metadata=hal.cookie, timeout=10).tracker == f"127.0.0.1:{port}/team/p2p"
        )


def test_an_unknown_authority_of_the_proxy_is_a_fault(tmp_path: Path, tracker: LiveTracker, stack: ExitStack) -> None:
    server = f"{identity(Certificates.make(tmp_path))} location / {{ proxy_pass {tracker.url}; }}"
    port = stack.enter_context(nginx(tmp_path / "nginx", server, tls=True))
    assert "is not trusted" in fault_of(f"https://127.0.0.1:{port}")
