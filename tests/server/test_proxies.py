"""Requests through reverse proxies: which address counts as their source, and what an unknown source may do."""

import http.client
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from live_tracker import live_tracker
from tracker.login_throttle import LoginLimits
from tracker.models import Source
from tracker.proxies import TrustedProxies, parse_networks

CLIENT, OTHER = "203.0.113.9", "203.0.113.10"
TRUSTED = "127.0.0.1, 10.0.0.0/24, ::1, 2001:db8:1::/48"


class Rest:
    """Requests to a tracker whose headers are sent exactly as given, also twice."""

    def __init__(self, port: int) -> None:
        self._port = port

    def call(
        self, method: str, path: str, *headers: tuple[str, str], body: Any = None, token: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Return status and JSON of the response."""
        data = b"" if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.putrequest(method, path)
            sent = [*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
            for name, value in [*sent, ("Authorization", f"Bearer {token}")][: len(sent) + bool(token)]:
                connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if "json" in answer.headers["Content-Type"] else {}
        finally:
            connection.close()

    def login(
        self, url: str, *headers: tuple[str, str], user: str = "ana", password: str = "x"
    ) -> tuple[int, dict[str, Any]]:
        body = {"username": user, "password": password, "url": url}
        return self.call("POST", "/login", *headers, body=body)


def via(address: str) -> tuple[str, str]:
    """The header of a proxy whose client has this address."""
    return "X-Forwarded-For", address


@contextmanager
def rest(folder: Path, trusted: str = "", **settings: Any) -> Iterator[Rest]:
    networks = parse_networks(trusted) if trusted else ()
    with live_tracker(folder / "state", trusted_proxies=networks, **settings) as tracker:
        yield Rest(tracker.port)


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Rest]:
    """A tracker behind a trusted proxy on its own machine."""
    with rest(tmp_path, "127.0.0.1") as calls:
        yield calls


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Rest]:
    """A tracker that trusts no proxy."""
    with rest(tmp_path) as calls:
        yield calls


@pytest.mark.parametrize(
    ("connection", "forwarded_for", "source"),
    [
        # Without any header of a proxy the connection counts, whoever it is.
        (CLIENT, None, Source(CLIENT)),
        ("127.0.0.1", None, Source("127.0.0.1")),
        # The right-most address that is no trusted proxy.
        ("127.0.0.1", [CLIENT], Source(CLIENT)),
        ("127.0.0.1", [f"127.0.0.1, {CLIENT}"], Source(CLIENT)),
        ("127.0.0.1", [f"{OTHER}, {CLIENT}, 10.0.0.7"], Source(CLIENT)),
        ("10.0.0.7", [f"{OTHER},{CLIENT},10.0.0.7,10.0.0.8"], Source(CLIENT)),
        ("10.0.0.7", [f"{CLIENT}, 198.51.100.1"], Source("198.51.100.1")),
        ("127.0.0.1", [OTHER, CLIENT], Source(CLIENT)),
        ("127.0.0.1", [f"{OTHER}, {CLIENT}", "10.0.0.7"], Source(CLIENT)),
        # Forms of an address.
        ("127.0.0.1", [f"{CLIENT}:4711"], Source(CLIENT)),
        ("127.0.0.1", [f"  {CLIENT}\t"], Source(CLIENT)),
        ("127.0.0.1", [f"{CLIENT}, , ,"], Source(CLIENT)),
        ("127.0.0.1", ["2001:DB8::1"], Source("2001:db8::1")),
        ("127.0.0.1", ["[2001:db8::1]"], Source("2001:db8::1")),
        ("127.0.0.1", ["[2001:db8::1]:4711"], Source("2001:db8::1")),
        ("::1", ["fe80::1%eth0"], Source("fe80::1")),
        ("2001:db8:1::5", ["2001:db8:2::1, 2001:db8:1::6"], Source("2001:db8:2::1")),
        ("127.0.0.1", [f"::ffff:{CLIENT}"], Source(CLIENT)),
        ("::ffff:10.0.0.7", [CLIENT], Source(CLIENT)),
        # What names no machine.
        ("127.0.0.1", ["unknown"], Source("127.0.0.1", known=False)),
        ("127.0.0.1", [f"{CLIENT}, unknown"], Source("127.0.0.1", known=False)),
        ("127.0.0.1", [f"{CLIENT}, unknown, 10.0.0.7"], Source("10.0.0.7", known=False)),
        ("127.0.0.1", ["_hidden, unix:"], Source("127.0.0.1", known=False)),
        ("127.0.0.1", ["0.0.0.0"], Source("127.0.0.1", known=False)),
        ("127.0.0.1", ["[::1"], Source("127.0.0.1", known=False)),
        ("127.0.0.1", ["203.0.113.9:x"], Source("127.0.0.1", known=False)),
        ("127.0.0.1", ["203.0.113"], Source("127.0.0.1", known=False)),
        ("127.0.0.1", [""], Source("127.0.0.1", known=False)),
        # Only other headers of a proxy: nobody says who the client is.
        ("127.0.0.1", [], Source("127.0.0.1", known=False)),
        # From elsewhere nothing is believed.
        (OTHER, [CLIENT], Source(OTHER, known=False)),
        (OTHER, ["127.0.0.1"], Source(OTHER, known=False)),
        ("127.0.0.2", [CLIENT], Source("127.0.0.2", known=False)),
        # A client on the machine of a proxy.
        ("127.0.0.1", ["127.0.0.1"], Source("127.0.0.1")),
        ("127.0.0.1", ["127.0.0.2"], Source("127.0.0.2")),
        ("10.0.0.7", ["10.0.0.7"], Source("10.0.0.7")),
        # Loopback addresses of another machine are not those of the tracker's.
        ("10.0.0.7", ["127.0.0.1"], Source("10.0.0.7")),
        ("10.0.0.7", ["::1"], Source("10.0.0.7")),
        ("10.0.0.7", ["127.0.0.9, 127.0.0.1"], Source("10.0.0.7")),
        ("127.0.0.1", ["127.0.0.1, 10.0.0.7"], Source("10.0.0.7")),
        ("10.0.0.7", [f"{CLIENT}, 127.0.0.1"], Source(CLIENT)),
    ],
)
def test_the_source_is_the_right_most_address_that_is_no_trusted_proxy(
    connection: str, forwarded_for: list[str] | None, source: Source
) -> None:
    assert TrustedProxies(parse_networks(TRUSTED)).source_of(connection, forwarded_for) == source


def test_without_trusted_proxies_no_header_is_believed() -> None:
    assert TrustedProxies().source_of("127.0.0.1", [CLIENT]) == Source("127.0.0.1", known=False)


@pytest.mark.parametrize(
    "value", ["x", "10.0.0.1/8", "0.0.0.0/0", "::/0", "::ffff:0:0/96", "localhost", "1.2.3.4,", ","]
)
def test_what_is_no_address_or_trusts_everybody_is_no_list_of_proxies(value: str) -> None:
    with pytest.raises(ValueError):
        parse_networks(value)


def test_networks_are_addresses_or_prefixes() -> None:
    assert [str(each) for each in parse_networks("10.0.0.7 ,2001:db8::/32,::ffff:10.1.0.0/112")] == [
        "10.0.0.7/32",
        "2001:db8::/32",
        "10.1.0.0/16",
    ]


@pytest.mark.parametrize(
    "header",
    [via("127.0.0.1"), via(CLIENT), ("Forwarded", "for=127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("Via", "1.1 proxy")],
    ids=lambda header: header[0],
)
@pytest.mark.parametrize("trusted", ["", "10.0.0.7"])
def test_a_request_through_an_unknown_proxy_is_not_from_this_machine(
    tmp_path: Path, trusted: str, header: tuple[str, str]
) -> None:
    with rest(tmp_path, trusted) as calls:
        for url in ("127.0.0.1:5001", "localhost:5001", "[::1]:5001", "auto:5001"):
            status, answer = calls.login(url, header)
            assert (status, answer["code"]) == (400, "bad_request"), url
            assert "TRUSTED_PROXIES" in answer["message"]
        status, session = calls.login("127.0.0.1:5001")
        assert status == 201
        for path in ("/metrics", "/openapi.json"):
            assert calls.call("GET", path, header)[0] == 401
            assert calls.call("GET", path, header, token=session["token"])[0] == 200
            assert calls.call("GET", path)[0] == (401 if trusted else 200)


def test_an_unknown_client_may_announce_a_dialable_address_if_the_check_is_off(tmp_path: Path) -> None:
    with rest(tmp_path, advertise_check=False) as calls:
        assert calls.login("203.0.113.9:5001", via(CLIENT))[0] == 201
        assert calls.login("127.0.0.1:5001", via(CLIENT))[0] == 400
        assert calls.login("auto:5001", via(CLIENT))[0] == 400


def test_behind_a_trusted_proxy_metrics_always_need_a_token(behind: Rest) -> None:
    _, session = behind.login("127.0.0.1:5001")
    for path in ("/metrics", "/openapi.json"):
        for headers in ((), (via(CLIENT),), (via("127.0.0.1"),)):
            assert behind.call("GET", path, *headers)[0] == 401
            assert behind.call("GET", path, *headers, token=session["token"])[0] == 200


def test_a_peer_behind_a_trusted_proxy_has_the_address_that_the_proxy_sees(behind: Rest) -> None:
    for url in ("127.0.0.1:5001", f"{OTHER}:5001", "localhost:5001"):
        assert behind.login(url, via(CLIENT))[0] == 400
    # What the client wrote itself stands further left.
    assert behind.login("127.0.0.1:5001", via(f"127.0.0.1, {CLIENT}"))[0] == 400
    assert behind.login("127.0.0.1:5001", via("127.0.0.1"), via(CLIENT))[0] == 400
    for header, url in ((via(CLIENT), f"{CLIENT}:5001"), (via("[2001:db8::1]:99"), "[2001:db8::1]:5001")):
        assert behind.login(url, header)[1]["url"] == url
        assert behind.login("auto:5001", header)[1]["url"] == url


@pytest.mark.parametrize("headers", [(), (via("127.0.0.1"),), (via("127.0.0.2"),)], ids=["direct", "proxied", "other"])
def test_auto_on_the_trackers_own_machine_is_its_loopback_address(behind: Rest, headers: Any) -> None:
    status, session = behind.login("auto:5001", *headers)
    assert (status, session["url"]) == (201, "127.0.0.1:5001")


@pytest.mark.parametrize("url", ["auto:0", "auto:65536", "auto:", "auto:x", "auto", "[auto]:5001"])
def test_auto_needs_a_port(plain: Rest, url: str) -> None:
    assert plain.login(url)[0] == 400


def test_an_address_of_one_link_only_is_not_announced_as_seen(behind: Rest) -> None:
    status, answer = behind.login("auto:5001", via("fe80::1%eth0"))
    assert status == 400 and "cannot dial fe80::1" in answer["message"]


def test_a_far_client_of_a_proxy_is_offered_no_loopback_address(behind: Rest) -> None:
    _, near = behind.login("127.0.0.1:5001", user="ana")
    _, local = behind.login("127.0.0.1:5002", user="bob")
    _, far = behind.login(f"{CLIENT}:5001", via(CLIENT), user="cleo")
    file = {"name": "a.txt", "id": "0" * 64, "size": 1, "complete": True}
    behind.call("PUT", "/index", body={"version": "1", "files": [file]}, token=near["token"])

    def holders(token: str, *headers: tuple[str, str]) -> list[str]:
        found = behind.call("GET", "/query?name=a.txt", *headers, token=token)[1]["files"]
        return [holder["url"] for holder in found[0]["holders"]]

    assert holders(local["token"]) == ["127.0.0.1:5001"]
    assert holders(local["token"], via("127.0.0.1")) == ["127.0.0.1:5001"]
    assert holders(far["token"], via(CLIENT)) == []
    assert holders(far["token"], via("127.0.0.1"), via(CLIENT)) == []
    assert holders(far["token"], ("Via", "1.1 proxy")) == []
    # The same for receivers of copies.
    body = {"files": [{"name": "b.txt", "id": "1" * 64, "size": 1}], "copies": 3}
    assert behind.call("POST", "/upload", via(CLIENT), body=body, token=far["token"])[0] == 404
    targets = behind.call("POST", "/upload", body=body, token=local["token"])[1]["targets"]
    assert {target["url"] for target in targets} == {"127.0.0.1:5001", f"{CLIENT}:5001"}


def test_one_guesser_behind_the_proxy_delays_no_other_client(tmp_path: Path) -> None:
    with rest(tmp_path, "127.0.0.1", limits=LoginLimits(burst=10)) as calls:
        assert calls.login(f"{OTHER}:5001", via(OTHER), user="ana")[0] == 201
        # A guesser invents a new client for each guess; the proxy adds the real one.
        statuses = [
            calls.login(f"{CLIENT}:{6000 + n}", via(f"198.51.100.{n}, {CLIENT}"), user=f"u{n // 2}", password=f"{n}")[0]
            for n in range(24)
        ]
        assert statuses[:3] == [201, 401, 201] and statuses[-1] == 429
        assert calls.login(f"{OTHER}:5002", via(OTHER), user="ana")[0] == 200
        assert calls.login(f"{OTHER}:5003", via(OTHER), user="dora")[0] == 201


def test_a_proxy_that_is_not_trusted_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), rest(tmp_path) as calls:
        for _ in range(3):
            calls.call("GET", "/healthz", via(CLIENT))
    [line] = [record.getMessage() for record in caplog.records if "TRUSTED_PROXIES" in record.getMessage()]
    assert "127.0.0.1" in line


def test_a_header_with_underscores_is_not_a_header_of_a_proxy(behind: Rest) -> None:
    assert behind.login("auto:5001", ("X_Forwarded_For", CLIENT))[1]["url"] == "127.0.0.1:5001"
