"""Login: accounts, sessions, addresses, limits."""

import logging
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import pytest
import requests

from eventually import eventually
from live_tracker import CHEAP_HASHES, live_tracker
from tracker.addresses import AddressPolicy, is_local, rate_limit_key, split_address
from tracker.concurrency_limits import PerSourceLimit
from tracker.dns import HostLookup
from tracker.errors import BadRequest, Busy, LoginRefused, NotLoggedIn, SendIndex, TooMany
from tracker.login_throttle import LoginLimits, LoginThrottle
from tracker.models import Session, Source
from tracker.passwords import HashCost, Passwords
from tracker.service import Tracker
from tracker.state_dir import StateError
from tracker_fixture import MakeTracker, TrackerFixture

STRANGER = "203.0.113.9"


def login(
    world: TrackerFixture, user: str, password: str, url: str = "127.0.0.1:5001", address: str = "127.0.0.1"
) -> Any:
    return world.call("POST", "/login", json={"username": user, "password": password, "url": url}, source=address)


def test_the_first_login_registers_the_user_and_the_next_checks_the_password(world: TrackerFixture) -> None:
    assert login(world, "ana", "right").status_code == 201
    assert login(world, "ana", "right").status_code == 200
    wrong = login(world, "ana", "wrong")
    assert (wrong.status_code, wrong.json["code"]) == (401, "login_refused")


def test_with_registration_closed_an_unknown_user_and_a_wrong_password_get_the_same_response(
    make_world: MakeTracker,
) -> None:
    login(make_world(), "ana", "right")
    closed = make_world(open_registration=False)
    unknown, wrong = login(closed, "zoe", "x"), login(closed, "ana", "wrong")
    assert unknown.data == wrong.data
    assert {k: v for k, v in unknown.headers if k != "Date"} == {k: v for k, v in wrong.headers if k != "Date"}
    assert login(closed, "ana", "right").status_code == 200


def login_without_registering(world: TrackerFixture, user: str, password: str = "x") -> Any:
    body = {"username": user, "password": password, "url": "127.0.0.1:5001", "register": False}
    return world.call("POST", "/login", json=body)


def test_an_unknown_user_is_refused_as_unknown_when_the_client_does_not_register(world: TrackerFixture) -> None:
    refused = login_without_registering(world, "ana")
    assert (refused.status_code, refused.json["code"]) == (404, "unknown_user")
    assert login(world, "ana", "right").status_code == 201
    assert login_without_registering(world, "ana", "wrong").status_code == 401
    assert login_without_registering(world, "ana", "right").status_code == 200


def test_with_registration_closed_an_unknown_user_is_never_refused_as_unknown(make_world: MakeTracker) -> None:
    closed = make_world(open_registration=False)
    assert login_without_registering(closed, "ana").data == login(closed, "ana", "x").data
    assert login_without_registering(closed, "ana").status_code == 401


def test_an_unknown_user_counts_as_a_failed_login(world: TrackerFixture) -> None:
    answers = [login_without_registering(world, "ana").status_code for _ in range(7)]
    assert answers == [404] * 6 + [429]
    assert login_without_registering(world, "bob").status_code == 404, "another name need not wait"
    for number in range(23):
        login_without_registering(world, f"u{number}")
    assert login_without_registering(world, "one-too-many").status_code == 429


def test_people_who_sign_up_from_one_address_are_not_delayed(world: TrackerFixture) -> None:
    for number in range(60):
        user = f"u{number}"
        assert login_without_registering(world, user, "right").status_code == 404
        assert login(world, user, "right", f"127.0.0.1:{5001 + number}").status_code == 201


def test_a_registration_lets_its_source_fail_no_more_often_than_before(world: TrackerFixture) -> None:
    throttle = LoginThrottle(world.clock, LoginLimits(burst=3))
    for number in range(10):
        with throttle.attempt(f"u{number}", "10.0.0.1"):
            throttle.refund_sign_up(f"u{number}", "10.0.0.1")
    for number in range(3):
        fail(throttle, f"v{number}", "10.0.0.1")
    with pytest.raises(TooMany), throttle.attempt("u", "10.0.0.1"):
        pass


def test_an_interactive_sign_up_is_no_refused_login(world: TrackerFixture, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    login_without_registering(world, "ana")
    login(world, "ana", "right")
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == [
        "unknown_user",
        "registered",
        "login",
    ]
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    metrics = world.parts.metrics.exposition().decode()
    assert 'tracker_events_total{event="unknown_user"} 1.0' in metrics
    assert 'tracker_events_total{event="login_refused"} 0.0' in metrics


def test_with_registration_closed_an_unknown_user_is_logged_as_a_refused_login(
    make_world: MakeTracker, caplog: pytest.LogCaptureFixture
) -> None:
    login_without_registering(make_world(open_registration=False), "ana")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "login_refused user='ana' source='127.0.0.1' known=False")
    ]


def test_a_repeated_login_checks_the_password_and_changes_nothing_else(
    world: TrackerFixture,
) -> None:
    ana = world.peer("ana", "127.0.0.1:5001")
    ana.share("a.txt")
    body = {"username": "ana", "password": "wrong", "url": "127.0.0.1:5001"}
    assert ana.call("POST", "/login", body).status_code == 401
    again = ana.call("POST", "/login", {**body, "password": "ana's"})
    assert again.status_code == 200
    kept = ("token", "peer_id", "ticket_key", "epoch")
    assert {key: again.json[key] for key in kept} == {key: ana.login[key] for key in kept}  # type: ignore[index]
    assert [file["name"] for file in ana.call("GET", "/files").json["files"]] == ["a.txt"]  # type: ignore[index]


@pytest.mark.parametrize(("rounds", "apart"), [(60, 0.1), pytest.param(1_000, 0.05, marks=pytest.mark.long)])
def test_with_registration_closed_an_unknown_user_and_a_wrong_password_take_the_same_time(
    make_world: MakeTracker, rounds: int, apart: float
) -> None:
    # A hash of some milliseconds is most of the time of a login, so a missing one would show. CPU time, because other
    # processes do not count in it.
    settings = {"cost": HashCost(2**12, 8, 1), "limits": LoginLimits(free_failures=10**6, burst=10**6)}
    login(make_world(**settings), "ana", "right")
    closed = make_world(open_registration=False, **settings)
    times: dict[str, list[float]] = {"ana": [], "zoe": []}
    for _ in range(rounds):
        for user, taken in times.items():
            began = process_time()
            assert login(closed, user, "wrong").status_code == 401
            taken.append(process_time() - began)
    assert median(times["zoe"]) == pytest.approx(median(times["ana"]), rel=apart)


def test_accounts_sessions_and_ticket_keys_survive_a_restart(make_world: MakeTracker) -> None:
    ana = make_world().peer()
    again = make_world()
    ana.world = again
    assert ana.ping()["epoch"] != ana.login["epoch"]
    session = again.parts.auth.authenticate(ana.login["token"])
    assert session.ticket_key.hex() == ana.login["ticket_key"]


def test_neither_password_nor_token_nor_ticket_key_is_stored_on_disk(make_world: MakeTracker, tmp_path: Path) -> None:
    ana = make_world().peer("ana")
    for path in (tmp_path / "state").iterdir():
        content = path.read_bytes()
        assert b"ana's" not in content
        assert ana.login["token"].encode() not in content
        assert bytes.fromhex(ana.login["ticket_key"]) not in content
        assert ana.login["ticket_key"].encode() not in content
        assert path.stat().st_mode & 0o077 == 0, path


def test_an_address_of_an_online_peer_is_refused_to_another_user(world: TrackerFixture) -> None:
    ana = world.peer("ana", "127.0.0.1:5001")
    taken = login(world, "bob", "x", "127.0.0.1:5001")
    assert (taken.status_code, taken.json["code"]) == (409, "address_taken")
    world.clock.advance(25)
    assert login(world, "bob", "x", "127.0.0.1:5001").status_code == 200
    assert ana.call("PUT", "/ping", {"epoch": "", "index_version": ""}).status_code == 401


def test_a_pserver_with_its_token_may_change_to_another_user(world: TrackerFixture) -> None:
    ana, eve = world.peer("ana", "127.0.0.1:5001"), world.peer("eve", "127.0.0.1:5002")
    wanted = {"username": "bob", "password": "x", "url": "127.0.0.1:5001"}
    assert eve.call("POST", "/login", wanted).status_code == 409
    assert ana.call("POST", "/login", {**wanted, "username": "eve"}).status_code == 401
    assert ana.call("GET", "/peers").status_code == 200
    assert ana.call("POST", "/login", wanted).status_code == 200
    assert ana.call("GET", "/peers").status_code == 401
    assert eve.call("GET", "/peers").status_code == 200


def test_after_a_restart_an_address_stays_reserved_for_one_ping_timeout(
    make_world: MakeTracker,
) -> None:
    first = make_world()
    first.peer("ana", "127.0.0.1:5001")
    first.clock.advance(5)
    second = make_world(first.clock)
    assert login(second, "bob", "x", "127.0.0.1:5001").status_code == 409
    second.clock.advance(25)
    assert login(second, "bob", "x", "127.0.0.1:5001").status_code == 200


def test_a_login_without_token_ends_the_earlier_session_at_the_address(world: TrackerFixture) -> None:
    first = world.peer()
    first.share("a.txt")
    second = world.peer()
    assert first.call("GET", "/peers").status_code == 401
    assert second.login["peer_id"] != first.login["peer_id"]
    assert second.call("GET", "/files").json["files"] == []  # type: ignore[index]


def test_a_password_change_needs_the_old_password(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    refused = ana.call("POST", "/password", {"old": "wrong", "new": "y"}).json
    assert refused == {"status": 401, "code": "login_refused", "message": "the old password is wrong"}
    assert ana.call("POST", "/password", {"old": "ana's", "new": "y"}).status_code == 200
    assert login(world, "ana", "ana's").status_code == 401
    assert login(world, "ana", "y").status_code == 200


def test_an_empty_or_too_long_password_is_refused_with_its_limits(world: TrackerFixture) -> None:
    refused = login(world, "ana", "é" * 513)
    assert (refused.status_code, refused.json["message"]) == (400, "password: should have 1 to 1024 bytes")
    assert login(world, "ana", "").json == refused.json
    assert login(world, "ana", "é" * 512).status_code == 201


def test_after_five_failures_each_failure_doubles_the_delay_up_to_a_minute(world: TrackerFixture) -> None:
    world.peer("ana")
    for _ in range(6):
        assert login(world, "ana", "wrong").status_code == 401
    waits = []
    for _ in range(8):
        refused = login(world, "ana", "ana's")
        assert (refused.status_code, refused.json["code"]) == (429, "too_many")
        waits.append(int(refused.headers["Retry-After"]))
        world.clock.advance(waits[-1])
        assert login(world, "ana", "wrong").status_code == 401
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    world.clock.advance(61)
    assert login(world, "ana", "ana's").status_code == 200, "the right password resets the delay"
    assert login(world, "ana", "wrong").status_code == 401


def test_an_unknown_user_is_delayed_like_a_known_one(make_world: MakeTracker) -> None:
    world = make_world(open_registration=False)
    assert [login(world, "zoe", "x").status_code for _ in range(7)] == [401] * 6 + [429]


def test_guesses_of_many_names_are_limited_by_source_and_other_sources_are_not(make_world: MakeTracker) -> None:
    world = make_world(open_registration=False, advertise_check=False)
    answers = [login(world, f"u{n}", "x", address="203.0.113.9").status_code for n in range(40)]
    assert answers == [401] * 30 + [429] * 10
    assert login(world, "someone", "x", address="203.0.113.10").status_code == 401


def test_successful_logins_are_never_delayed(world: TrackerFixture) -> None:
    assert {login(world, "ana", "right").status_code for _ in range(100)} == {200, 201}


def test_a_thousand_guesses_cost_a_few_hashes(world: TrackerFixture) -> None:
    world.peer("ana")
    answers = [login(world, "ana", f"guess {n}").status_code for n in range(1000)]
    assert answers.count(401) <= 30


def test_a_flood_of_logins_is_refused_as_busy() -> None:
    passwords = Passwords(HashCost(2**14, 8, 1), max_running=1, max_queued=2)
    outcomes: list[str] = []

    def check() -> None:
        try:
            passwords.check("x", None)
            outcomes.append("checked")
        except Busy:
            outcomes.append("busy")

    threads = [threading.Thread(target=check) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("busy") >= 20
    assert passwords.check("x", passwords.hash("x"))


def test_a_hash_with_another_cost_is_replaced_at_the_next_login(make_world: MakeTracker, tmp_path: Path) -> None:
    make_world(cost=HashCost(32, 1, 1)).peer("ana")
    make_world(cost=CHEAP_HASHES).peer("ana")
    with sqlite3.connect(tmp_path / "state" / "accounts.sqlite3") as db:
        ((stored,),) = db.execute("SELECT password_hash FROM users")
    assert stored.startswith("scrypt$16$1$1$")


def test_the_cost_of_a_hash_is_the_minimum_of_owasp() -> None:
    assert HashCost() == HashCost(n=2**15, r=8, p=3)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:1", "10.0.0.1:65535", "[::1]:5001", "[2001:db8::1]:80", "peer1:5001", "a.b-c.d:1"]
)
def test_an_address_is_host_and_port(url: str) -> None:
    host, port = split_address(url)
    assert f"{f'[{host}]' if ':' in host else host}:{port}" == url


@pytest.mark.parametrize(
    "url",
    [
        *("", ":", "host", "host:", ":5001", "host:0", "host:65536", "host:05001", "host:+1", "host: 1", "host:1 "),
        *(" host:1", "http://host:1", "host:1/", "host/x:1", "user@host:1", "unix:/run/docker.sock", "unix:1/x"),
        *("dns:///host:1", "::1:5001", "[::1]", "[::1]:", "[::1%eth0]:1", "[127.0.0.1]:1", "[host]:1", "256.1.1.1:1"),
        *("127.1:1", "2130706433:1", "0x7f.1:1", "-host:1", "host-:1", "ho..st:1", ".host:1", "hö.st:1", "host\n:1"),
        *("host:1\n", "host:\u0661", "a" * 64 + ":1", "h" * 300 + ":1"),
    ],
)
def test_anything_but_host_and_port_is_refused_as_an_address(world: TrackerFixture, url: str) -> None:
    with pytest.raises(BadRequest):
        split_address(url)
    refused = login(world, "ana", "x", url)
    assert (refused.status_code, refused.json["code"]) == (400, "bad_request")


HOSTS = {
    "peer1": {"203.0.113.9"},
    "both": {"127.0.0.1", "203.0.113.9"},
    "127.0.0.1": {"127.0.0.1"},
    "203.0.113.9": {"203.0.113.9"},
    "::ffff:203.0.113.9": {"::ffff:203.0.113.9"},
    "0.0.0.0": {"0.0.0.0"},
    "224.0.0.1": {"224.0.0.1"},
    "::1": {"::1"},
}


@pytest.mark.parametrize(
    ("url", "source", "good"),
    [
        ("peer1:1", "203.0.113.9", True),
        ("203.0.113.9:1", "203.0.113.9", True),
        ("203.0.113.9:1", "::ffff:203.0.113.9", True),
        ("[::ffff:203.0.113.9]:1", "203.0.113.9", True),
        ("peer1:1", "203.0.113.10", False),
        ("127.0.0.1:1", "203.0.113.9", False),
        ("nowhere:1", "203.0.113.9", False),
        ("127.0.0.1:1", "127.0.0.1", True),
        ("127.0.0.1:1", "::1", True),
        ("[::1]:1", "127.0.0.1", True),
        ("0.0.0.0:1", "127.0.0.1", False),
        ("224.0.0.1:1", "224.0.0.1", False),
    ],
)
def test_an_announced_address_must_lead_to_the_source_of_the_request(url: str, source: str, good: bool) -> None:
    addresses = AddressPolicy(True, lambda host, _source: HOSTS.get(host, set()))
    if good:
        assert addresses.resolve(url, Source(source)).loopback == (not url.startswith(("peer1", "203", "[::ffff")))
    else:
        with pytest.raises(BadRequest):
            addresses.resolve(url, Source(source))


def test_without_the_check_any_address_that_can_be_dialled_may_be_announced() -> None:
    addresses = AddressPolicy(False, lambda host, _source: HOSTS.get(host, set()))
    assert not addresses.resolve("peer1:1", Source("198.51.100.1")).loopback
    assert not addresses.resolve("nowhere:1", Source("198.51.100.1")).loopback
    assert addresses.resolve("127.0.0.1:1", Source("198.51.100.1")).loopback
    with pytest.raises(BadRequest):
        addresses.resolve("0.0.0.0:1", Source("198.51.100.1"))


@pytest.mark.parametrize("announce", ["put", "patch", "ping"])
def test_a_request_that_finishes_after_the_logout_does_not_bring_the_peer_back(
    world: TrackerFixture, announce: str
) -> None:
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    ana.share("a.txt")
    session = world.parts.auth.authenticate(ana.login["token"])
    assert ana.call("POST", "/logout").status_code == 200
    with pytest.raises(NotLoggedIn):
        SLOW[announce](world.parts.tracker, session)
    assert [p["url"] for p in bob.call("GET", "/peers").json["peers"]] == [bob.address]  # type: ignore[index]


@pytest.mark.parametrize("announce", ["put", "patch"])
def test_an_announce_that_finishes_after_a_clean_stop_does_not_bring_the_peer_back(
    world: TrackerFixture, announce: str
) -> None:
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    ana.share("a.txt")
    session = world.parts.auth.authenticate(ana.login["token"])
    assert ana.call("DELETE", "/index").status_code == 200
    with pytest.raises(SendIndex):
        SLOW[announce](world.parts.tracker, session)
    assert world.parts.tracker.ping(session, "", "1", None).send_index
    assert [p["url"] for p in bob.call("GET", "/peers").json["peers"]] == [bob.address]  # type: ignore[index]
    ana.share("a.txt")
    assert bob.holders("a.txt") == [ana.address], "a new announce does"


def test_a_logout_during_a_clean_stop_ends_the_session(world: TrackerFixture) -> None:
    ana = world.peer()
    session = world.parts.auth.authenticate(ana.login["token"])
    assert ana.call("DELETE", "/index").status_code == 200
    world.parts.auth.logout(session)
    assert ana.call("GET", "/peers").status_code == 401
    assert login(world, "bob", "x", ana.address).status_code == 201


# What a request does after its session was looked up and its body was read.
SLOW: dict[str, Callable[[Tracker, Session], object]] = {
    "put": lambda tracker, session: tracker.put_index(session, "2", [("a.txt", bytes(32), 1, True, None, None)]),
    "patch": lambda tracker, session: tracker.patch_index(
        session, "1", "2", [("b.txt", bytes(32), 1, True, None, None)], []
    ),
    "ping": lambda tracker, session: tracker.ping(session, "", "", None),
}


def test_a_flood_of_registrations_does_not_keep_other_sources_from_logging_in(make_world: MakeTracker) -> None:
    entrance = make_world(cost=HashCost(2**13, 8, 1), advertise_check=False).parts.auth
    entrance.login("ana", "right", "10.0.0.1:5001", Source("203.0.113.10"))
    over = threading.Event()
    refused = []

    def flood(number: int) -> None:
        for account in count():
            if over.is_set():
                return
            try:
                entrance.login(f"x{number}-{account}", "x", f"10.0.{number}.1:{account + 1}", Source(STRANGER))
            except Busy:
                refused.append(number)

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(24)]
    try:
        for thread in threads:
            thread.start()
        eventually(lambda: refused)
        for _ in range(5):
            entrance.login("ana", "right", "10.0.0.1:5001", Source("203.0.113.10"))
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_lookups_at_a_silent_name_server_time_out_and_are_limited_by_source() -> None:
    over = threading.Event()
    lookups = HostLookup(lambda host: {host} if over.wait(20) else set(), timeout=0.01)
    assert lookups("203.0.113.9", STRANGER) == {"203.0.113.9"}, "an IP address needs no lookup"
    assert [lookups("silent", STRANGER) for _ in range(2)] == [set()] * 2
    with pytest.raises(Busy):
        lookups("silent", STRANGER)
    assert lookups("silent", "203.0.113.10") == set()
    over.set()
    eventually(lambda: answered(lookups))


def answered(lookups: HostLookup) -> set[str]:
    try:
        return lookups("silent", STRANGER)
    except Busy:
        return set()


def test_hosts_with_a_silent_name_server_do_not_delay_other_logins(tmp_path: Path) -> None:
    over = threading.Event()

    def silent(host: str) -> set[str]:
        return {host} if host == "127.0.0.1" or over.wait(60) else set()

    with live_tracker(tmp_path, resolver=silent) as tracker:

        def post(user: str, url: str) -> int:
            body = {"username": user, "password": "x", "url": url}
            return requests.post(f"{tracker.url}/login", json=body, timeout=30).status_code

        floods = [threading.Thread(target=post, args=("eve", f"h{number}:1")) for number in range(48)]
        try:
            for flood in floods:
                flood.start()
            began = perf_counter()
            assert {post("ana", "127.0.0.1:5001") for _ in range(10)} <= {200, 201}
            # Ten logins that waited for the lookups would take three seconds each.
            assert perf_counter() - began < 20
        finally:
            over.set()
            for flood in floods:
                flood.join()


def test_a_delayed_login_causes_no_dns_lookup(make_world: MakeTracker) -> None:
    asked: list[str] = []

    def resolver(host: str) -> set[str]:
        asked.append(host)
        return {"127.0.0.1"}

    world = make_world(resolver=resolver)
    world.peer("ana", "host:1")
    for _ in range(6):
        assert login(world, "ana", "wrong", "host:1").status_code == 401
    asked.clear()
    assert login(world, "ana", "wrong", "host:1").status_code == 429
    assert asked == []


@pytest.mark.parametrize(
    ("source", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_source_is_an_ipv4_address_or_a_64_bit_ipv6_network(source: str, counted: str) -> None:
    assert rate_limit_key(source) == counted


def test_parallel_guesses_are_limited_like_sequential_ones(make_world: MakeTracker) -> None:
    entrance = make_world(cost=HashCost(2**13, 8, 1)).parts.auth
    entrance.login("ana", "right", "127.0.0.1:5001", Source("127.0.0.1"))
    outcomes: list[type[Exception]] = []

    def guess() -> None:
        try:
            entrance.login("ana", "wrong", "127.0.0.1:5002", Source("127.0.0.1"))
        except (LoginRefused, TooMany, Busy) as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=guess) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 16
    assert outcomes.count(LoginRefused) <= 6


def test_a_running_attempt_is_not_a_failure(world: TrackerFixture) -> None:
    throttle = LoginThrottle(world.clock)
    with ExitStack() as tries:
        for _ in range(6):
            tries.enter_context(throttle.attempt("ana", "10.0.0.1"))
        with pytest.raises(Busy), throttle.attempt("ana", "10.0.0.1"):
            pass
        with throttle.attempt("bob", "10.0.0.1"):
            pass
    for _ in range(40):
        with pytest.raises(Busy), throttle.attempt("ana", "10.0.0.1"):
            raise Busy("no room for the hash")
    throttle.check("ana", "10.0.0.1")


def test_one_source_runs_no_more_throttle_than_may_fail(world: TrackerFixture) -> None:
    throttle = LoginThrottle(world.clock, LoginLimits(burst=3))
    with ExitStack() as tries:
        for user in ("a", "b", "c"):
            tries.enter_context(throttle.attempt(user, "2001:db8::1"))
        with pytest.raises(Busy), throttle.attempt("d", "2001:db8::2"):
            pass
        with throttle.attempt("d", "10.0.0.2"):
            pass


def fail(throttle: LoginThrottle, user: str, address: str) -> None:
    with pytest.raises(LoginRefused), throttle.attempt(user, address):
        raise LoginRefused("wrong")


@pytest.mark.parametrize("failures", range(9))
def test_each_failure_reduces_the_throttle_that_may_run(world: TrackerFixture, failures: int) -> None:
    throttle = LoginThrottle(world.clock)
    for _ in range(failures):
        fail(throttle, "ana", "10.0.0.1")
        world.clock.advance(60)
    with ExitStack() as tries:
        for _ in range(max(1, 6 - failures)):
            tries.enter_context(throttle.attempt("ana", "10.0.0.1"))
        with pytest.raises(Busy), throttle.attempt("ana", "10.0.0.1"):
            pass


def test_after_its_burst_a_source_may_fail_ten_times_a_minute(world: TrackerFixture) -> None:
    throttle = LoginThrottle(world.clock)
    names = (f"u{number}" for number in count())
    for pause, tries in ((0, 30), (6.001, 1), (60.001, 10), (3600, 30)):
        world.clock.advance(pause)
        for _ in range(tries):
            fail(throttle, next(names), "10.0.0.1")
        with pytest.raises(TooMany, match="try again in 6 s"):
            throttle.check(next(names), "10.0.0.1")
    throttle.check(next(names), "10.0.0.2")


def test_the_reported_delay_is_rounded_up(world: TrackerFixture) -> None:
    throttle = LoginThrottle(world.clock)
    for _ in range(6):
        fail(throttle, "ana", "10.0.0.1")
    world.clock.advance(0.7)
    with pytest.raises(TooMany, match="try again in 1 s"):
        throttle.check("ana", "10.0.0.1")


def test_the_number_of_remembered_failures_is_bounded(world: TrackerFixture) -> None:
    throttle = LoginThrottle(world.clock, LoginLimits(max_remembered=10))
    for number in range(100):
        for _ in range(6):
            fail(throttle, f"u{number}", f"10.0.0.{number}")
    last = range(90, 100)
    assert throttle.remembered == ([f"u{number}" for number in last], [f"10.0.0.{number}" for number in last])
    assert throttle.running == 0
    with pytest.raises(TooMany):
        throttle.check("u99", "10.0.1.1")


def test_each_source_has_slots_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.concurrency_limits.is_local", lambda source: source.startswith("127."))
    limit = PerSourceLimit(2, 3)
    for source, most in (("127.0.0.1", 3), ("2001:db8::1", 2), (STRANGER, 2)):
        for _ in range(2):
            with ExitStack() as held:
                for _ in range(most):
                    held.enter_context(limit.acquired(source))
                with pytest.raises(Busy), limit.acquired(source):
                    pass
    with limit.acquired("2001:db8::1"), limit.acquired("2001:db8::2"):
        with pytest.raises(Busy):
            limit.acquire("2001:db8::3")
        limit.acquire("2001:db8:0:1::1")
        limit.release("2001:db8:0:1::1")
    with pytest.raises(NotLoggedIn), limit.acquired(STRANGER):
        raise NotLoggedIn("x")
    assert limit.in_use == {}


def test_a_damaged_database_is_reported_in_one_line(make_world: MakeTracker, tmp_path: Path) -> None:
    make_world().peer("ana")
    for path in (tmp_path / "state").glob("accounts.sqlite3-*"):
        path.unlink()
    (tmp_path / "state" / "accounts.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(StateError, match=r"is damaged .*: restore it from a backup"):
        make_world()


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "192.0.2.7"), (socket.AF_INET6, "2001:db8::7")], ids=["4", "6"]
)
def test_on_the_trackers_own_machine_any_address_of_it_may_be_announced(
    monkeypatch: pytest.MonkeyPatch, family: socket.AddressFamily, address: str
) -> None:
    class Probe(ExitStack):
        def __init__(self, family: socket.AddressFamily, kind: socket.SocketKind) -> None:
            super().__init__()
            self.family = family

        def bind(self, where: tuple[str, int]) -> None:
            if (self.family, where) not in {(family, (address, 0)), (socket.AF_INET, ("0.0.0.0", 0))}:
                raise OSError

    monkeypatch.setattr("tracker.addresses.socket.socket", Probe)
    url = f"[{address}]:1" if ":" in address else f"{address}:1"
    addresses = AddressPolicy(True, lambda host, _source: {host})
    assert not addresses.resolve(url, Source("127.0.0.1")).loopback
    assert addresses.resolve("127.0.0.1:1", Source(address)).loopback
    with pytest.raises(BadRequest):
        addresses.resolve(url, Source(STRANGER))
    assert [is_local(each) for each in (address, STRANGER, "0.0.0.0", "", "x")] == [True, *[False] * 4]
