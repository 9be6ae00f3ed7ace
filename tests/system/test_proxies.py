"""The reverse proxies of docs/deployment.md, run as they are written there, in front of a tracker on loopback.

The tracker and the proxy are on one machine, a network namespace. Peers and strangers come from another one.
"""

import http.client
import json
import os
import random
import re
import socket
import ssl
import subprocess
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest

from certificates import Authority, make_machine
from eventually import eventually
from nginx import nginx_with
from programs import SERVER, TOP
from system.certificates import Certificates
from system.faults.namespaces import Machine, command_in_namespace, enter_network, two_machines
from system.faults.remote_peer import RemotePeer, start_on
from system.payload import digest, make_file

HOST = "tracker.example.org"
OTHER_CLIENT, NEW_ADDRESS = "10.99.0.3", "10.99.0.4"
ID = "0" * 64
MIB = 1 << 20


def example(first_line: str) -> str:
    """The indented block of docs/deployment.md that begins with this line."""
    [section] = re.findall(r"(?ms)^## Behind a reverse proxy\n(.*?)^## ", (TOP / "docs" / "deployment.md").read_text())
    blocks = [textwrap.dedent(block).strip("\n") for block in re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", section)]
    [found] = [block for block in blocks if block.startswith(first_line)]
    return f"{found}\n"


def nginx_example(path: str) -> str:
    text = example("upstream p2p {")
    if path:
        location, proxy_pass = example("location /p2p/ {").splitlines()
        text = text.replace("location / {", location).replace("    proxy_pass http://p2p;", proxy_pass)
    return text


def caddy_example(path: str) -> str:
    text = example(f"{HOST} {{")
    return text.replace("    reverse_proxy 127.0.0.1:5000\n", example("redir ")) if path else text


@contextmanager
def caddy_with(folder: Path, caddyfile: str, prefix: list[str]) -> Iterator[None]:
    """Run Caddy until the block ends."""
    folder.mkdir()
    config = folder / "Caddyfile"
    config.write_text(caddyfile)
    environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*prefix, "caddy", "run", "--adapter", "caddyfile", "--config", config],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)
        print((folder / "log").read_text()[-2000:])


@dataclass
class Response:
    """An HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class FarClient:
    """Requests from the far machine to the proxy. `thread` runs them there."""

    def __init__(self, address: str, path: str, authority: Path, thread: ThreadPoolExecutor) -> None:
        self._address = address
        self._path = path
        self._context = ssl.create_default_context(cafile=authority)
        self._thread = thread

    def call(
        self,
        method: str,
        route: str,
        body: Any = None,
        *,
        token: str = "",
        source: str = "",
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a request, from the address `source` if one is given; a body is sent as JSON unless it is text."""
        sent = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        text = body if isinstance(body, str) else json.dumps(body) if body is not None else ""
        return self._thread.submit(self._call, method, route, text, sent | (headers or {}), source).result(60)

    def login(self, user: str, url: str, password: str = "x", **options: Any) -> Response:
        return self.call("POST", "/login", {"username": user, "password": password, "url": url}, **options)

    def _call(self, method: str, route: str, body: str, headers: dict[str, str], source: str) -> Response:
        connection = http.client.HTTPConnection(HOST)
        # This process does not have the hosts file of the far machine.
        plain = socket.create_connection(
            (self._address, 443), timeout=30, source_address=(source, 0) if source else None
        )
        try:
            connection.sock = self._context.wrap_socket(plain, server_hostname=HOST)
            connection.request(method, self._path + route, body, headers)
            answer = connection.getresponse()
            return Response(answer.status, answer.headers, answer.read())
        finally:
            connection.close()
            plain.close()


@dataclass
class Site:
    """A tracker behind a proxy, on the near machine, as the far machine sees it."""

    folder: Path
    near: Machine
    far: Machine
    path: str
    authority: Path
    client: FarClient
    stack: ExitStack

    def peer(self, name: str, machine: Machine) -> RemotePeer:
        """Start a pserver that asks the tracker for its address, and log it in."""
        # Without TLS_CA the system's authorities are trusted: here, that of the test.
        trusted = {"SSL_CERT_FILE": str(self.authority)}
        url = (
            example("SERVER_URL=https").strip().splitlines()[0].removeprefix("SERVER_URL=").removesuffix("/p2p")
            + self.path
        )
        peer = RemotePeer(machine, self.folder / name, (url, 5000), environment=trusted, PSERVER_URL="auto")
        self.stack.callback(peer.program.stop)
        peer.pclient("login", name, "--password-stdin", typed="correct horse\n")
        return peer


PROXIES = [
    pytest.param((proxy, path), marks=getattr(pytest.mark, proxy), id=f"{proxy}{'-below-a-path' if path else ''}")
    for proxy in ("nginx", "caddy")
    for path in ("", "/p2p")
]
pytestmark = pytest.mark.netns


@pytest.fixture(params=PROXIES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    kind, path = request.param
    with ExitStack() as stack:
        hosts = tmp_path / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n10.99.0.1 {HOST}\n")
        near, far = stack.enter_context(two_machines(hosts))
        far.run("ip", "addr", "add", f"{OTHER_CLIENT}/24", "dev", "cable")
        now = datetime.now(UTC)
        identity = Certificates.of_machine(make_machine(Authority.create(now), tmp_path, (HOST,), now))
        env = tmp_path / ".env_server"
        env.write_text(example("SERVER_URL=127.0.0.1") + f"STATE_DIR={tmp_path / 'state'}\nPING_TIMEOUT=10\n")
        tracker = start_on(near, SERVER, env)
        stack.callback(tracker.stop)
        text = nginx_example(path) if kind == "nginx" else caddy_example(path)
        for name, made in (("cert.pem", identity.certificate), ("key.pem", identity.key)):
            assert f"/etc/ssl/p2p/{name}" in text
            text = text.replace(f"/etc/ssl/p2p/{name}", str(made))
        prefix = command_in_namespace(near.pid)
        run = (
            nginx_with(tmp_path / kind, text, prefix=prefix)
            if kind == "nginx"
            else caddy_with(tmp_path / kind, text, prefix)
        )
        stack.enter_context(run)
        thread = stack.enter_context(ThreadPoolExecutor(1, initializer=enter_network, initargs=(far.pid,)))
        client = FarClient(near.address, path, identity.authority, thread)
        eventually(lambda: answers(client))
        yield Site(tmp_path, near, far, path, identity.authority, client, stack)


def answers(client: FarClient) -> bool:
    try:
        return client.call("GET", "/healthz").status == 200
    except OSError:
        return False


def test_peers_share_files_by_a_tracker_behind_the_proxy(site: Site, rng: random.Random) -> None:
    ana, ben = site.peer("ana", site.far), site.peer("ben", site.near)
    content = digest(make_file(ana.home / "x.bin", 3 * MIB, rng))
    [uploaded] = ana.pclient("upload", "x.bin")
    assert uploaded["copies"] == [f"{site.near.address}:5001"]
    assert digest(ben.shared / "x.bin") == content
    second = digest(make_file(ben.shared / "y.bin", 3 * MIB, rng))
    eventually(lambda: "y.bin" in [file["name"] for file in ana.pclient("files")])
    [downloaded] = ana.pclient("download", "y.bin")
    assert downloaded["holders"] == [f"{site.near.address}:5001"]
    assert digest(ana.shared / "y.bin") == second
    assert {peer["url"]: peer["user"] for peer in ana.pclient("peers")} == {
        f"{site.far.address}:5001": "ana",
        f"{site.near.address}:5001": "ben",
    }
    # The far machine gets another address, as by DHCP.
    site.far.run("ip", "addr", "del", f"{site.far.address}/24", "dev", "cable")
    site.far.run("ip", "addr", "add", f"{NEW_ADDRESS}/24", "dev", "cable")
    eventually(lambda: f"{NEW_ADDRESS}:5001" in [peer["url"] for peer in ben.pclient("peers")])
    third = digest(make_file(ana.shared / "z.bin", MIB, rng))
    eventually(lambda: "z.bin" in [file["name"] for file in ben.pclient("files")])
    [fetched] = ben.pclient("download", "z.bin")
    assert fetched["holders"] == [f"{NEW_ADDRESS}:5001"]
    assert digest(ben.shared / "z.bin") == third


def test_strangers_get_no_metrics_and_no_loopback_address(site: Site) -> None:
    client = site.client
    spoofs: list[dict[str, str]] = [
        {}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"X-Real-IP": "127.0.0.1"},
    ]  # fmt: skip
    session = client.login("ana", "auto:5001").json
    assert session["url"] == f"{site.far.address}:5001"
    for headers in spoofs:
        for route in ("/metrics", "/openapi.json"):
            assert client.call("GET", route, headers=headers).status == 401
            assert client.call("GET", route, headers=headers, token=session["token"]).status == 200
        for url in ("127.0.0.1:5009", "localhost:5009", f"{site.near.address}:5009", "10.99.0.77:5009"):
            assert client.login("eve", url, headers=headers).status == 400
        session = client.login("ana", "auto:5001", headers=headers).json
        assert session["url"] == f"{site.far.address}:5001"


def test_a_guesser_is_delayed_and_another_user_logs_in(site: Site) -> None:
    client = site.client
    assert client.login("ana", "auto:5001").status == 201

    def guess() -> int:
        names = {"X-Forwarded-For": f"198.51.100.{random.randrange(256)}"}
        user = f"user{random.randrange(10**9)}"
        return client.call(
            "POST", "/login", {"username": user, "password": "x", "url": "auto:5001", "register": False},
            source=OTHER_CLIENT, headers=names,
        ).status  # fmt: skip

    statuses = [guess() for _ in range(40)]
    assert set(statuses) == {404, 429}
    assert statuses[-1] == 429
    assert client.login("ana", "auto:5001").status == 200
    assert client.login("dora", "auto:5002").status == 201


def test_the_longest_list_passes_the_proxy(site: Site) -> None:
    token = site.client.login("ana", "auto:5001").json["token"]
    files = [{"name": f"{n:04}".ljust(199, "x"), "id": ID, "size": 1, "complete": True} for n in range(5000)]
    body = json.dumps({"version": "1", "files": files}).ljust(16_000_000)
    assert site.client.call("PUT", "/index", body, token=token).json["message"] == "5000 files"


def test_the_dashboard_works_through_the_proxy(site: Site) -> None:
    client = site.client
    client.login("ana", "auto:5001")
    origin = f"https://{HOST}"
    here = f"{site.path}/"

    def followed(link: str, page: str) -> str:
        """The route at the tracker to which a link of a page of the browser leads."""
        return "/" + urljoin(f"{origin}{page}", link).removeprefix(f"{origin}{here}")

    form = client.call("GET", "/")
    for link in re.findall(rb'(?:href|src|action)="([^"]+)"', form.body):
        assert followed(link.decode(), here) in {"/page/login", "/page/page.css", "/page/icon.svg"}
    browser = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
    refused = client.call("POST", "/page/login", urlencode({"username": "ana", "password": "no"}), headers=browser)
    assert refused.status == 401
    for link in re.findall(rb'(?:href|src|action)="([^"]+)"', refused.body):
        route = followed(link.decode(), f"{here}page/login")
        assert route == "/page/login" or client.call("GET", route).status == 200
    entered = client.call("POST", "/page/login", urlencode({"username": "ana", "password": "x"}), headers=browser)
    assert (entered.status, followed(entered.headers["Location"], f"{here}page/login")) == (303, "/")
    cookie = entered.headers["Set-Cookie"]
    assert cookie.startswith("__Host-p2p-page") and "Secure" in cookie
    headers = {"Cookie": cookie.partition(";")[0]}
    page = client.call("GET", "/", headers=headers)
    assert b"Log out" in page.body
    for link in re.findall(rb'(?:href|src)="([^"]+)"', page.body):
        if not link.startswith(b"#"):
            assert client.call("GET", followed(link.decode(), here).partition("#")[0], headers=headers).status == 200
    assert client.call("GET", "/page/snapshot", headers=headers).status == 200
    assert client.call("POST", "/page/logout", "", headers=headers | browser).status == 303
    assert client.call("GET", "/page/snapshot", headers=headers).status == 401
