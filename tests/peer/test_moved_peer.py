"""A session follows its peer to another address: the tracker offers it there, and earlier tickets stay valid."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from common.status_messages import ListedPeer
from daemon.errors import Incompatible, LoginRefused
from daemon.tracker_client.own_address import OwnAddress
from eventually import eventually
from live_pserver import LivePserver, live_pserver
from live_tracker import LiveTracker, live_tracker
from scripted_tracker import scripted_tracker
from ticket_signer import READ
from tracker_requests import PASSWORD, logged_in, tracker_client


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[LiveTracker]:
    with live_tracker(tmp_path / "tracker") as live:
        yield live


def addresses_of(tracker: LiveTracker, user: str) -> list[str]:
    """The addresses of the online peers of a user."""
    peers: list[ListedPeer] = asyncio.run(logged_in(tracker.url, "watcher").peers())
    return [peer.address for peer in peers if peer.user == user]


def shown_address(live: LivePserver) -> str:
    with live.control() as control:
        return control.Status(pb.StatusRequest(), metadata=live.cookie, timeout=10).address


def holders(tracker: LiveTracker, name: str) -> list[str]:
    found = asyncio.run(logged_in(tracker.url, "watcher").query(names=[name]))
    return [holder.address for file in found for holder in file.holders]


def test_what_a_ping_announces() -> None:
    address = OwnAddress("::1")
    address.port = 5001
    assert (address.announced, address.in_ping, address.shown) == ("[::1]:5001", None, "[::1]:5001")
    address.of_session = "[::1]:5000"
    assert (address.in_ping, address.shown) == ("[::1]:5001", "[::1]:5000")
    address.of_session = "[::1]:5001"
    assert address.in_ping is None
    automatic = OwnAddress("auto")
    automatic.port = 5001
    automatic.of_session = "192.0.2.7:5001"
    assert (automatic.in_ping, automatic.shown) == ("auto:5001", "192.0.2.7:5001")


def test_a_session_survives_a_change_of_the_announced_address(tmp_path: Path, tracker: LiveTracker) -> None:
    with live_pserver(tmp_path / "ana", tracker, "ana") as ana:
        manifest = ana.share("mine.txt", b"mine")
        before, port = ana.session(), ana.pserver.port
        ticket = ana.ticket(manifest.id, READ)[0][1]
    with live_pserver(tmp_path / "ana", tracker, announced_host="127.0.0.2") as ana:
        moved = f"127.0.0.2:{port}"
        eventually(lambda: addresses_of(tracker, "ana") == [moved])
        eventually(lambda: holders(tracker, "mine.txt") == [moved])
        eventually(lambda: ana.session()["url"] == moved)
        after, same = ana.session(), ("user", "token", "peer_id", "ticket_key")
        assert [after[key] for key in same] == [before[key] for key in same]
        assert shown_address(ana) == moved
        assert ana.pserver.account.check_ticket(ticket).id == manifest.id


def test_a_taken_port_is_replaced_and_the_new_one_announced(
    tmp_path: Path, tracker: LiveTracker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with live_pserver(tmp_path / "ana", tracker, "ana") as ana:
        before = ana.address
    port = int(before.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)), live_pserver(tmp_path / "ana", tracker) as ana:
        assert ana.pserver.port != port
        eventually(lambda: addresses_of(tracker, "ana") == [ana.address])
        assert f"other peers reach this one at {ana.address} now; it was {before}" in caplog.messages
    # The next start tries the new port first.
    with live_pserver(tmp_path / "ana", tracker) as again:
        assert again.address == ana.address


def test_an_automatic_address_is_where_the_tracker_sees_the_peer(tmp_path: Path, tracker: LiveTracker) -> None:
    with live_pserver(tmp_path / "ana", tracker, announced_host="auto") as ana:
        assert shown_address(ana) == f"auto:{ana.pserver.port}"
        ana.login("ana")
        assert ana.session()["url"] == shown_address(ana) == ana.address
        assert addresses_of(tracker, "ana") == [ana.address]
        before = ana.session()["token"]
    with live_pserver(tmp_path / "ana", tracker, announced_host="auto") as ana:
        eventually(lambda: addresses_of(tracker, "ana") == [ana.address])
        assert ana.session()["token"] == before


def test_a_fixed_address_may_become_automatic_and_the_reverse(tmp_path: Path, tracker: LiveTracker) -> None:
    with live_pserver(tmp_path / "ana", tracker, "ana", announced_host="127.0.0.3") as ana:
        port = ana.pserver.port
    for host, seen in (("auto", "127.0.0.1"), ("127.0.0.3", "127.0.0.3")):
        with live_pserver(tmp_path / "ana", tracker, announced_host=host) as ana:
            eventually(lambda: addresses_of(tracker, "ana") == [f"{seen}:{port}"])  # noqa: B023


def test_a_login_repairs_the_address_at_once(tmp_path: Path, tracker: LiveTracker) -> None:
    with live_pserver(tmp_path / "ana", tracker, "ana", announced_host="127.0.0.2") as ana:
        eventually(lambda: addresses_of(tracker, "ana"))
        before = ana.session()["token"]
        # As if the last ping had been sent from another network.
        own_address = ana.pserver.own_address
        own_address.of_session = "127.0.0.9:1"
        ana.login("ana")
        assert own_address.of_session == f"127.0.0.2:{ana.pserver.port}"
        assert ana.session()["token"] == before
        assert addresses_of(tracker, "ana") == [own_address.of_session]


def test_a_login_as_another_user_at_another_address_leaves_no_session_behind(
    tmp_path: Path, tracker: LiveTracker
) -> None:
    with live_pserver(tmp_path / "ana", tracker, "ana") as ana:
        port = ana.pserver.port
        eventually(lambda: addresses_of(tracker, "ana"))
    with ExitStack() as stack:
        # A peer of somebody else prevents the move, so that the session of ana stays at its address.
        other = tracker_client(tracker.url)
        other.token = asyncio.run(other.login("emil", PASSWORD, f"127.0.0.2:{port}")).token
        live = live_pserver(tmp_path / "ana", tracker, announced_host="127.0.0.2", ping_interval=0.2)
        ana = stack.enter_context(live)
        eventually(lambda: "another user's peer is online at" in ana.pserver.announcer.fault)
        with pytest.raises(LoginRefused, match="another user's peer is online at"):
            ana.login("ben")
        assert ana.pserver.account.user == "ana"
        asyncio.run(other.logout())
        ana.login("ben")
        assert addresses_of(tracker, "ana") == []
        assert addresses_of(tracker, "ben") == [f"127.0.0.2:{port}"]


class FirstProtocol:
    """Answers of a tracker whose sessions cannot move."""

    def __init__(self, scripted: Any) -> None:
        self.scripted = scripted
        self.respond = scripted.respond
        scripted.respond = self

    def __call__(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.respond(method, path, body)
        if path == "/ping" and "url" not in body:
            pong = {"epoch": "e", "send_index": False, "recheck": [], "server_time": 1.0}
            return {"status": 200, "message": "ok", **pong}
        return {"status": 200, "message": "ok"} if path == "/index" else answer


def test_at_a_tracker_of_the_first_protocol_a_changed_address_ends_the_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted_tracker() as scripted:
        FirstProtocol(scripted)
        keys: dict[str, Any] = {"tracker_url": scripted.url, "ping_interval": 0.2}
        with live_pserver(tmp_path / "ana", 1, "ana", **keys) as ana:
            eventually(lambda: any(path == "/ping" for _, path, _ in scripted.requests))
            assert ana.pserver.account.user == "ana"
        with live_pserver(tmp_path / "ana", 1, **keys, announced_host="127.0.0.2") as ana:
            eventually(lambda: ana.pserver.account.user is None)
            assert not (ana.home / "state" / "session").exists()
        [line] = [message for message in caplog.messages if message.startswith("logged out")]
        assert "but the address is now 127.0.0.2:" in line and line.endswith("log in again")


def test_a_tracker_of_the_first_protocol_does_not_know_automatic_addresses(tmp_path: Path) -> None:
    with scripted_tracker() as scripted:
        keys: dict[str, Any] = {"tracker_url": scripted.url, "announced_host": "auto"}
        refusal = pytest.raises(Incompatible, match="does not know PSERVER_URL=auto: upgrade it, or set an address")
        with live_pserver(tmp_path / "ana", 1, **keys) as ana, refusal:
            ana.login("ana")
        assert all(path != "/login" for _, path, _ in scripted.requests)
