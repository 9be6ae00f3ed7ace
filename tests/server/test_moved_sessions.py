"""Peers whose address changes: a ping with `url` lets the session follow."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from eventually import eventually
from live_tracker import LiveTracker, live_tracker
from tracker.errors import NotLoggedIn, SendIndex
from tracker.models import Source
from tracker.proxies import parse_networks
from tracker_fixture import MakeTracker, Peer, TrackerFixture, id_of

HERE = Source("127.0.0.1")


def move(peer: Peer, url: str, status: int = 200) -> dict[str, Any]:
    """Ping with an address; return the response."""
    body = {"epoch": peer.login["epoch"], "index_version": "1", "url": url}
    answer = peer.call("PUT", "/ping", body)
    assert answer.status_code == status, answer.text
    return answer.json or {}


def addresses(peer: Peer) -> list[str]:
    """The addresses of all online peers, as this one sees them."""
    return sorted(each["url"] for each in (peer.call("GET", "/peers").json or {})["peers"])


def test_the_session_follows_its_peer_with_its_files(world: TrackerFixture) -> None:
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    ana.share("a.txt")
    ticket = bob.tickets("a.txt")["127.0.0.1:5001"]
    answer = move(ana, "127.0.0.1:6001")
    assert answer["url"] == "127.0.0.1:6001"
    assert not answer["send_index"], "the index stays"
    assert bob.holders("a.txt") == ["127.0.0.1:6001"]
    assert addresses(bob) == ["127.0.0.1:5002", "127.0.0.1:6001"]
    report = {"id": id_of("a.txt"), "url": "127.0.0.1:5001", "reason": "x"}
    assert "no online peer" in bob.call("POST", "/report", report).json["message"]  # type: ignore[index]
    assert "recorded" in bob.call("POST", "/report", report | {"ticket": ticket}).json["message"]  # type: ignore[index]
    # The old address is free, and the new one is not.
    assert world.peer("cleo", "127.0.0.1:5001").login["url"] == "127.0.0.1:5001"
    body = {"username": "dora", "password": "x", "url": "127.0.0.1:6001"}
    assert world.call("POST", "/login", json=body).status_code == 409
    # The token is the same, and so is the key of its tickets: a later login finds the session.
    again = ana.call("POST", "/login", {"username": "ana", "password": "ana's", "url": "127.0.0.1:6001"}).json or {}
    assert (again["token"], again["ticket_key"]) == (ana.login["token"], ana.login["ticket_key"])


def test_a_ping_without_an_address_or_with_the_present_one_changes_nothing(world: TrackerFixture) -> None:
    ana = world.peer()
    assert "url" not in ana.ping()
    assert move(ana, "127.0.0.1:5001")["url"] == "127.0.0.1:5001"
    assert move(ana, "auto:5001")["url"] == "127.0.0.1:5001"
    assert 'tracker_events_total{event="moved"} 0.0' in world.call("GET", "/metrics").text
    move(ana, "auto:5003")
    assert 'tracker_events_total{event="moved"} 1.0' in world.call("GET", "/metrics").text


def test_the_present_address_is_not_looked_up_again(make_world: MakeTracker) -> None:
    asked: list[str] = []

    def resolver(host: str) -> set[str]:
        asked.append(host)
        return {"127.0.0.1"}

    world = make_world(resolver=resolver)
    ana = world.peer(address="ana.example:5001")
    for _ in range(5):
        move(ana, "ana.example:5001")
    assert asked == ["ana.example"]
    move(ana, "ana.example:5002")
    assert asked == ["ana.example"] * 2


def test_auto_is_the_address_that_the_tracker_sees(make_world: MakeTracker) -> None:
    ana = make_world().peer(address="203.0.113.9:5001", source="203.0.113.9")
    for source, seen in (("203.0.113.10", "203.0.113.10:5001"), ("2001:db8::1", "[2001:db8::1]:5001")):
        ana.source = source
        assert move(ana, "auto:5001")["url"] == seen
        assert addresses(ana) == [seen]


def test_a_new_address_must_lead_to_the_source(world: TrackerFixture) -> None:
    ana = world.peer(address="203.0.113.9:5001", source="203.0.113.9")
    ana.share("a.txt")
    for url in ("203.0.113.10:5001", "127.0.0.1:5001", "0.0.0.0:5001", "nowhere.invalid:5001", "x", "auto:0"):
        assert move(ana, url, 400)["code"] == "bad_request"
    assert addresses(ana) == ["203.0.113.9:5001"]


def test_an_online_peer_of_another_user_keeps_its_address(world: TrackerFixture) -> None:
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    assert move(ana, "127.0.0.1:5002", 409)["code"] == "address_taken"
    assert addresses(bob) == ["127.0.0.1:5001", "127.0.0.1:5002"]
    world.clock.advance(20)
    ana.ping()
    world.clock.advance(10)
    assert move(ana, "127.0.0.1:5002")["url"] == "127.0.0.1:5002", "bob is offline by now"
    assert bob.call("GET", "/peers").status_code == 401
    assert addresses(ana) == ["127.0.0.1:5002"]


def test_another_session_of_the_user_at_the_address_ends(world: TrackerFixture) -> None:
    first, second = world.peer(), world.peer(address="127.0.0.1:5002")
    second.share("a.txt")
    move(first, "127.0.0.1:5002")
    assert second.call("GET", "/peers").status_code == 401
    assert addresses(first) == ["127.0.0.1:5002"]
    assert first.call("GET", "/query", query_string={"name": "a.txt"}).status_code == 404


def test_the_new_address_survives_a_restart(make_world: MakeTracker) -> None:
    ana = make_world().peer(address="203.0.113.9:5001", source="203.0.113.9")
    ana.source = "127.0.0.1"
    move(ana, "auto:5001")
    restarted = make_world()
    ana.world = restarted
    ana.ping()
    ana.share("a.txt")
    assert addresses(ana) == ["127.0.0.1:5001"]
    far = restarted.peer("bob", "203.0.113.10:5001", "203.0.113.10")
    assert far.holders("a.txt") == [], "it is known as a loopback address again"


def test_a_peer_that_was_offline_comes_back_at_its_new_address(world: TrackerFixture) -> None:
    ana = world.peer()
    ana.share("a.txt")
    world.clock.advance(60)
    assert move(ana, "127.0.0.1:6001")["send_index"]
    ana.share("a.txt")
    assert world.peer("bob", "127.0.0.1:5002").holders("a.txt") == ["127.0.0.1:6001"]


def test_holders_at_a_loopback_address_are_hidden_from_far_peers_once_they_moved_there(world: TrackerFixture) -> None:
    ana = world.peer(address="203.0.113.9:5001", source="203.0.113.9")
    far = world.peer("bob", "203.0.113.10:5001", "203.0.113.10")
    ana.share("a.txt")
    assert far.holders("a.txt") == ["203.0.113.9:5001"]
    ana.source = "127.0.0.1"
    move(ana, "127.0.0.1:5001")
    assert far.holders("a.txt") == []
    ana.source = "203.0.113.9"
    move(ana, "auto:5001")
    assert far.holders("a.txt") == ["203.0.113.9:5001"]


def test_a_clean_stop_or_a_logout_that_began_before_a_move_finds_the_moved_session(world: TrackerFixture) -> None:
    auth = world.parts.auth
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    before = auth.authenticate(ana.login["token"])
    move(ana, "127.0.0.1:6001")
    auth.leave_index(before)
    assert addresses(bob) == [bob.address]
    ana.ping()
    assert addresses(bob) == [bob.address, "127.0.0.1:6001"]
    auth.logout(before)
    assert addresses(bob) == [bob.address]
    assert ana.call("GET", "/peers").status_code == 401
    assert world.peer("cleo", "127.0.0.1:6001").login["user"] == "cleo"


@pytest.mark.parametrize(
    ("change", "error"), [("logout", NotLoggedIn), ("stop", SendIndex), ("move", SendIndex)], ids=str
)
def test_a_move_that_finishes_after_another_change_does_nothing(
    world: TrackerFixture, change: str, error: type[Exception]
) -> None:
    auth = world.parts.auth
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    before = auth.authenticate(ana.login["token"])
    changes: dict[str, Callable[[], object]] = {
        "logout": lambda: auth.logout(before),
        "stop": lambda: auth.leave_index(before),
        "move": lambda: auth.move(before, "127.0.0.1:6002", HERE),
    }
    changes[change]()
    online = addresses(bob)
    with pytest.raises(error):
        auth.move(before, "127.0.0.1:6001", HERE)
    assert addresses(bob) == online


def ping(tracker: LiveTracker, token: str, url: str = "", **headers: str) -> requests.Response:
    body = {"epoch": "", "index_version": ""} | ({"url": url} if url else {})
    sent = {"Authorization": f"Bearer {token}", **headers}
    return requests.put(f"{tracker.url}/ping", json=body, headers=sent, timeout=30)


def log_in(tracker: LiveTracker, user: str, url: str) -> str:
    body = {"username": user, "password": "x", "url": url}
    return str(requests.post(f"{tracker.url}/login", json=body, timeout=30).json()["token"])


def test_a_name_whose_name_server_is_silent_delays_no_other_ping(tmp_path: Path) -> None:
    over, asked = threading.Event(), threading.Event()

    def silent(host: str) -> set[str]:
        asked.set()
        over.wait(60)
        return {"127.0.0.1"}

    with live_tracker(tmp_path, resolver=silent) as tracker:
        ana, bob = log_in(tracker, "ana", "127.0.0.1:5001"), log_in(tracker, "bob", "127.0.0.1:5002")
        moved: list[requests.Response] = []
        thread = threading.Thread(target=lambda: moved.append(ping(tracker, ana, "slow.example:5001")))
        thread.start()
        try:
            eventually(asked.is_set)
            assert [ping(tracker, bob).status_code for _ in range(10)] == [200] * 10
            assert not moved, "the other ping still waits"
        finally:
            over.set()
            thread.join()
        assert [each.status_code for each in moved] == [200]
        assert moved[0].json()["url"] == "slow.example:5001"
        # It was one request, although it began in the event loop.
        metrics = requests.get(f"{tracker.url}/metrics", timeout=30).text
        assert 'tracker_requests_total{method="PUT",route="/ping",status="200"} 11.0' in metrics


def test_a_ping_through_an_unknown_proxy_moves_no_session_to_loopback(tmp_path: Path) -> None:
    with live_tracker(tmp_path) as tracker:
        token = log_in(tracker, "ana", "127.0.0.1:5001")
        for url in ("127.0.0.1:5002", "auto:5001", "auto:5002"):
            refused = ping(tracker, token, url, **{"X-Forwarded-For": "203.0.113.9"})
            assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
            assert "TRUSTED_PROXIES" in refused.json()["message"]
        assert ping(tracker, token, "auto:5001").json()["url"] == "127.0.0.1:5001"


def test_a_ping_through_a_trusted_proxy_moves_the_session_to_its_client(tmp_path: Path) -> None:
    with live_tracker(tmp_path, trusted_proxies=parse_networks("127.0.0.1")) as tracker:
        token = log_in(tracker, "ana", "127.0.0.1:5001")
        for client in ("203.0.113.9", "203.0.113.10"):
            moved = ping(tracker, token, "auto:5001", **{"X-Forwarded-For": client})
            assert moved.json()["url"] == f"{client}:5001"
