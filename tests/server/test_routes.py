"""The routes, through the real application. tracker_fixture.py checks every response against the OpenAPI document."""

import json
import time
import unicodedata
from collections import Counter
from typing import Any

import pytest
from werkzeug.routing import Rule

from tracker import memory_index
from tracker.errors import all_errors
from tracker.ranking import SAMPLE_SIZE
from tracker.routes import ROUTES, Access
from tracker_fixture import MakeTracker, TrackerFixture, id_of

STRANGER = "203.0.113.9"


def rest_rules(world: TrackerFixture) -> list[Rule]:
    """All rules but those of the dashboard, which have tests of their own (test_dashboard_routes.py)."""
    return [rule for rule in world.parts.app.url_map.iter_rules() if not rule.endpoint.startswith("dashboard.")]


def test_every_rule_of_the_application_is_in_the_table(world: TrackerFixture) -> None:
    rules = {(method, r.rule) for r in rest_rules(world) for method in set(r.methods or ()) - {"HEAD"}}
    assert rules == {(route.method, route.path) for route in ROUTES}


@pytest.mark.parametrize("token", [None, "", "nonsense", "Bearer", "Bearer ", "Bearer x", "Basic eDp5", "Bearer é"])
def test_every_route_needs_a_token_unless_the_table_says_otherwise(world: TrackerFixture, token: str | None) -> None:
    opened = set()
    for rule in rest_rules(world):
        for method in rule.methods or ():
            headers = {"Authorization": token} if token is not None else {}
            answer = world.call(method, rule.rule, source=STRANGER, headers=headers, json={})
            if answer.status_code == 401:
                assert method == "HEAD" or (answer.json or {})["code"] == "not_logged_in"
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            else:
                opened.add(rule.rule)
    assert opened == {"/login", "/", "/healthz"}
    assert opened == {route.path for route in ROUTES if route.access is Access.PUBLIC}


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json"])
def test_metrics_and_openapi_need_a_token_or_the_trackers_own_machine(world: TrackerFixture, path: str) -> None:
    peer = world.peer()
    assert world.call("GET", path, source=STRANGER).status_code == 401
    assert world.call("GET", path, source="127.0.0.1").status_code == 200
    token = {"Authorization": f"Bearer {peer.login['token']}"}
    assert world.call("GET", path, source=STRANGER, headers=token).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-Ip"])
def test_a_header_that_names_another_source_is_ignored(world: TrackerFixture, header: str) -> None:
    claim = {header: "for=127.0.0.1" if header == "Forwarded" else "127.0.0.1"}
    assert world.call("GET", "/metrics", source=STRANGER, headers=claim).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/query"])
def test_a_response_has_one_content_length_and_head_has_no_body(world: TrackerFixture, path: str) -> None:
    got, head = world.call("GET", path), world.call("HEAD", path)
    assert got.headers.getlist("Content-Length") == head.headers.getlist("Content-Length") == [str(len(got.data))]
    assert got.data
    assert not head.data


def test_the_token_of_an_ended_session_is_refused(world: TrackerFixture) -> None:
    ana = world.peer()
    ana.share("a.txt")
    assert ana.call("POST", "/logout").status_code == 200
    for route in ROUTES:
        if route.access is Access.TOKEN:
            assert ana.call(route.method, route.path, {}).status_code == 401
    assert world.peer("bob", "127.0.0.1:5002").call("GET", "/files").json["files"] == []  # type: ignore[index]


def test_a_session_ends_after_a_month_without_requests(world: TrackerFixture) -> None:
    ana = world.peer()
    world.clock.advance(29 * 86400)
    ana.ping()
    world.clock.advance(29 * 86400)
    ana.ping()
    world.clock.advance(31 * 86400)
    assert ana.call("GET", "/peers").status_code == 401


def test_ping_asks_for_the_complete_index_until_it_was_sent(world: TrackerFixture) -> None:
    ana = world.peer()
    assert ana.ping("1")["send_index"]
    ana.share("a.txt", version="1")
    assert not ana.ping("1")["send_index"]
    assert ana.ping("2")["send_index"]
    other_epoch = {"epoch": "older", "index_version": "1"}
    assert ana.call("PUT", "/ping", other_epoch).json["send_index"]  # type: ignore[index]


def test_a_silent_peer_is_in_no_response_until_it_announces_again(world: TrackerFixture) -> None:
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    ana.share("a.txt")
    world.clock.advance(24)
    bob.ping()
    assert bob.holders("a.txt") == [ana.address]
    world.clock.advance(1)
    assert bob.call("GET", "/query?name=a.txt").json["code"] == "no_such_file"  # type: ignore[index]
    assert [p["url"] for p in bob.call("GET", "/peers").json["peers"]] == [bob.address]  # type: ignore[index]
    assert ana.ping("1")["send_index"]
    ana.share("a.txt")
    assert bob.holders("a.txt") == [ana.address]


def test_a_clean_stop_removes_the_peer_at_once_and_keeps_its_session(world: TrackerFixture) -> None:
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    ana.share("a.txt")
    assert ana.call("DELETE", "/index").status_code == 200
    assert bob.holders("a.txt") == []
    assert [p["url"] for p in bob.call("GET", "/peers").json["peers"]] == [bob.address]  # type: ignore[index]
    assert ana.ping("1")["send_index"]


def test_query_returns_the_best_holders_first_and_never_the_requester(world: TrackerFixture) -> None:
    ana, bob, eve = world.peer(), world.peer("bob", "127.0.0.1:5002"), world.peer("eve", "127.0.0.1:5003")
    ana.share("a.txt")
    bob.share("a.txt")
    eve.share("a.txt", complete=False)
    ana.ping(uploads=5)
    (found,) = world.peer("zoe", "127.0.0.1:5004").call("GET", "/query?name=a.txt").json["files"]  # type: ignore[index]
    assert [h["url"] for h in found["holders"]] == [bob.address, ana.address, eve.address]
    assert [h["complete"] for h in found["holders"]] == [True, True, False]
    assert all(h["why"] and h["ticket"] for h in found["holders"])
    (mine,) = ana.call("GET", f"/query?id={id_of('a.txt')}").json["files"]  # type: ignore[index]
    assert ana.address not in [h["url"] for h in mine["holders"]]


def test_a_file_that_only_the_requester_has_is_found_without_holders(world: TrackerFixture) -> None:
    ana = world.peer()
    ana.share("a.txt")
    assert ana.call("GET", "/query?name=a.txt").json["files"][0]["holders"] == []  # type: ignore[index]


def test_every_route_compares_names_after_folding(world: TrackerFixture) -> None:
    """A name from macOS is decomposed, and people type it composed."""
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    stored, typed, entry = "Cafe\u0301.PDF", "caf\u00e9.pdf", {"id": id_of("x"), "size": 1}
    assert ana.call("PUT", "/index", {"version": "1", "files": [entry | {"name": stored, "complete": True}]})
    for asked in (
        bob.call("GET", "/query", query_string={"name": typed}),
        bob.call("POST", "/query", {"names": [typed, stored.upper()]}),
        bob.call("GET", "/files", query_string={"match": typed}),
        bob.call("GET", "/files", query_string={"match": "CAF?.*"}),
    ):
        assert stored in [f["name"] for f in asked.json["files"]], "the spelling stays as announced"  # type: ignore[index]
    bob.ping(free_bytes=100)
    other = {"name": typed, "id": id_of("y"), "size": 1}
    assert bob.call("POST", "/upload", {"files": [other], "copies": 1}).status_code == 404, (
        "ana has other content there"
    )
    removal = {"base_version": "1", "version": "2", "remove": [{"name": typed, "id": id_of("x")}]}
    assert ana.call("PATCH", "/index", removal).status_code == 200
    assert bob.call("GET", "/files").json["files"] == []  # type: ignore[index]


def test_time_and_executable_bit_of_a_name_are_returned(world: TrackerFixture) -> None:
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    later = world.parts.tracker.server_time() + 90.0
    given: dict[str, dict[str, Any]] = {
        "a": {"modified": 1.25, "executable": True},
        "b": {"modified": None},
        "c": {},
        "d": {"modified": later},
    }
    entry: dict[str, Any] = {"id": id_of("x"), "size": 1, "complete": True}
    body = {"version": "1", "files": [entry | {"name": name} | more for name, more in given.items()]}
    assert ana.call("PUT", "/index", body).status_code == 200
    expected = {"a": (1.25, True), "b": (None, False), "c": (None, False), "d": (None, False)}
    for answer in (
        bob.call("GET", "/files"),
        bob.call("POST", "/query", {"names": list(given)}),
        bob.call("POST", "/query", {"ids": [id_of("x")]}),
    ):
        assert {f["name"]: (f["modified"], f["executable"]) for f in answer.json["files"]} == expected  # type: ignore[index]
    world.clock.advance(31)
    ana.ping()
    assert ana.call("PUT", "/index", body).status_code == 200
    (row,) = ana.call("GET", "/files?match=d").json["files"]  # type: ignore[index]
    assert row["modified"] == later, "it is known once the time has come"


def test_a_query_for_many_names_returns_the_known_ones(world: TrackerFixture) -> None:
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    ana.share("a.txt", "b.txt")
    asked = bob.call("POST", "/query", {"names": ["a.txt", "nothing", "b.txt"]})
    assert [f["name"] for f in asked.json["files"]] == ["a.txt", "b.txt"]  # type: ignore[index]
    asked = bob.call("POST", "/query", {"ids": [id_of("b.txt"), id_of("x")]})
    assert [f["name"] for f in asked.json["files"]] == ["b.txt"]  # type: ignore[index]
    assert bob.call("POST", "/query", {"names": ["nothing"]}).status_code == 404


def test_at_most_thirty_holders_are_returned(world: TrackerFixture) -> None:
    for number in range(40):
        world.peer(f"u{number}", f"127.0.0.1:{6000 + number}").share("a.txt")
    assert len(world.peer("zoe").holders("a.txt")) == 30


def test_a_holder_on_loopback_is_offered_only_on_the_trackers_own_machine(make_world: MakeTracker) -> None:
    world = make_world(advertise_check=False)
    ana, far = world.peer(), world.peer("bob", "203.0.113.9:5002", source=STRANGER)
    ana.share("a.txt")
    far.share("b.txt")
    assert far.holders("a.txt") == []
    assert ana.holders("b.txt") == [far.address]
    assert far.targets("b.txt") == []
    assert ana.targets("a.txt") == [far.address]


def test_upload_chooses_idle_peers_that_lack_the_file_and_have_room(world: TrackerFixture) -> None:
    ana = world.peer()
    ana.share("a.txt")
    assert ana.call("POST", "/upload", upload("a.txt")).json["code"] == "no_active_peer"  # type: ignore[index]
    full, busy, idle, has, other = (
        world.peer(name, f"127.0.0.1:600{at}") for at, name in enumerate(("full", "busy", "idle", "has", "other"))
    )
    full.ping(free_bytes=5)
    busy.ping(free_bytes=1000, uploads=3)
    idle.ping(free_bytes=1000)
    has.ping(free_bytes=1000)
    has.share("a.txt")
    other.ping(free_bytes=1000)
    body = {"version": "1", "files": [{"name": "A.TXT", "id": id_of("else"), "size": 1, "complete": True}]}
    other.call("PUT", "/index", body)
    assert ana.targets("a.txt", copies=30) == [idle.address, busy.address]


def test_copies_are_spread_over_users(world: TrackerFixture) -> None:
    ana = world.peer()
    for at, user in enumerate(["bob", "bob", "bob", "eve"]):
        world.peer(user, f"127.0.0.1:600{at}").ping(free_bytes=1000)
    world.peer("ana", "127.0.0.1:6009").ping(free_bytes=10**12)
    chosen = ana.targets("a.txt", copies=2)
    peers = {p["url"]: p["user"] for p in ana.call("GET", "/peers").json["peers"]}  # type: ignore[index]
    assert {peers[url] for url in chosen} == {"bob", "eve"}


def test_a_user_with_a_copy_comes_after_users_without(world: TrackerFixture) -> None:
    ana = world.peer()
    world.peer("bob", "127.0.0.1:6000").share("a.txt")
    other = world.peer("bob", "127.0.0.1:6001")
    other.ping(free_bytes=10**12)
    eve = world.peer("eve", "127.0.0.1:6002")
    eve.ping(free_bytes=1000, uploads=3)
    assert ana.targets("a.txt") == [eve.address]
    assert ana.targets("a.txt", copies=2) == [eve.address, other.address]


def test_files_of_one_request_share_the_free_space_of_a_receiver(world: TrackerFixture) -> None:
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    bob.ping(free_bytes=25)
    body = {"files": [{"name": n, "id": id_of(n), "size": 10} for n in ("a", "b", "c")], "copies": 1}
    assert len(ana.call("POST", "/upload", body).json["targets"]) == 2  # type: ignore[index]


def test_each_name_of_one_content_is_placed_at_the_same_receivers(world: TrackerFixture) -> None:
    """Receivers got one name for each id, and the others were lost when the uploader left."""
    ana = world.peer()
    for number in range(9):
        world.peer(f"u{number}", f"127.0.0.1:{6000 + number}").ping(free_bytes=15)
    files = [
        {"name": name, "id": id_of("same"), "size": 10} for name in ("pkg/a/LICENSE", "pkg/b/LICENSE", "pkg/B/license")
    ]
    targets = ana.call("POST", "/upload", {"files": files, "copies": 2}).json["targets"]  # type: ignore[index]
    assert Counter(t["name"] for t in targets) == {"pkg/a/LICENSE": 2, "pkg/b/LICENSE": 2}, "folded names are one"
    assert len({t["url"] for t in targets}) == 2, "the bytes need room once, and are sent once"
    assert len({t["ticket"] for t in targets}) == 2, "a ticket is for one receiver and one id"


def test_a_peer_with_the_content_receives_the_name_that_it_lacks(world: TrackerFixture) -> None:
    ana, asker = world.peer(), world.peer("asker", "127.0.0.1:5009")
    holder, other = world.peer("bob", "127.0.0.1:5002"), world.peer("eve", "127.0.0.1:5003")
    other.ping(free_bytes=1000)
    holder.ping(free_bytes=0, uploads=5)
    entry = {"id": id_of("same"), "size": 10}
    holder.call("PUT", "/index", {"version": "1", "files": [entry | {"name": "a.txt", "complete": True}]})
    asked = {"files": [entry | {"name": "b.txt"}], "copies": 2}
    targets = ana.call("POST", "/upload", asked).json["targets"]  # type: ignore[index]
    assert [t["url"] for t in targets] == [holder.address, other.address]
    assert targets[0]["why"].startswith("has the content under another name")
    added = entry | {"name": "b.txt", "complete": True}
    holder.call("PATCH", "/index", {"base_version": "1", "version": "2", "add": [added]})
    targets = ana.call("POST", "/upload", asked).json["targets"]  # type: ignore[index]
    assert holder.address not in [t["url"] for t in targets], "now it has the name"
    other.call("PUT", "/index", {"version": "1", "files": [entry | {"name": "a.txt", "complete": True}]})
    (found,) = asker.call("GET", "/query?name=b.txt").json["files"]  # type: ignore[index]
    assert {h["url"]: (h["complete"], h["has_name"]) for h in found["holders"]} == {
        holder.address: (True, True),
        other.address: (True, False),
    }


def test_the_only_peer_that_can_store_a_file_is_found_among_many(make_world: MakeTracker) -> None:
    world = make_world(advertise_check=False)
    ana = world.peer("ana", "10.0.0.1:5001", source=STRANGER)
    crowd = [world.peer("mallory", f"10.0.1.1:{6000 + number}", source=STRANGER) for number in range(SAMPLE_SIZE * 2)]
    for each in crowd:
        each.ping(free_bytes=5)
    crowd[77].ping(free_bytes=10)
    for _ in range(5):
        assert ana.targets("a.txt", size=10) == [crowd[77].address]
    assert ana.targets("a.txt", size=5, copies=30)[29:], "others suffice for a smaller file"


def test_the_tickets_of_one_response_are_shared_by_all_files(world: TrackerFixture) -> None:
    """Without the limit one request of an account with 31 peers made 150,000 tickets, a response of 54 MB."""
    ids = [f"{n:064x}" for n in range(5000)]
    asker, *others = [world.peer("mallory", f"127.0.0.1:{6001 + n}") for n in range(32)]
    for other in others:
        other.ping(free_bytes=1 << 60)
    order = {"files": [{"name": f"f{id_}", "id": id_, "size": 1} for id_ in ids], "copies": 30}
    targets = asker.call("POST", "/upload", order).json["targets"]  # type: ignore[index]
    assert Counter(target["id"] for target in targets) == dict.fromkeys(ids, 2)
    files = [{"name": f"f{id_}", "id": id_, "size": 1, "complete": True} for id_ in ids[:1000]]
    for other in others:
        other.call("PUT", "/index", {"version": "1", "files": files})
    for question in ({"ids": ids[:1000]}, {"names": [f"f{id_}" for id_ in ids[:1000]]}):
        found = asker.call("POST", "/query", question).json["files"]  # type: ignore[index]
        assert [len(file["holders"]) for file in found] == [10] * 1000


def test_a_name_is_folded_once_for_all_candidates(world: TrackerFixture) -> None:
    """5,000 names with combining marks, and 200 peers with other content under them, took minutes."""
    marks = sorted(filter(unicodedata.combining, map(chr, range(0x300, 0x370))), key=unicodedata.combining)
    path = "/".join(["a" + "".join(reversed(marks[-98:]))] * 4)
    names = [f"{n}b/{path}" for n in range(100)]
    for number in range(60):
        other = world.peer("mallory", f"127.0.0.1:{6001 + number}")
        files = [{"name": name.replace("b", "B"), "id": id_of("x"), "size": 1, "complete": True} for name in names]
        other.call("PUT", "/index", {"version": "1", "files": files})
    order = {"files": [{"name": name, "id": id_of(name), "size": 1} for name in names], "copies": 1}
    asker = world.peer()
    # CPU time of this thread: other processes do not count in it.
    began = time.thread_time()
    assert asker.call("POST", "/upload", order).json["code"] == "no_active_peer"  # type: ignore[index]
    assert time.thread_time() - began < 0.8


def upload(name: str, copies: int = 1) -> dict[str, Any]:
    return {"files": [{"name": name, "id": id_of(name), "size": 10}], "copies": copies}


def test_a_receiver_with_unknown_free_space_can_be_chosen(world: TrackerFixture) -> None:
    ana, bob = world.peer(), world.peer("bob", "127.0.0.1:5002")
    bob.ping(uploads=1)
    assert ana.targets("a.txt") == [bob.address]


def test_files_are_listed_in_pages(world: TrackerFixture) -> None:
    ana = world.peer()
    names = [f"{n:04} é.txt" for n in range(25)]
    ana.share(*names)
    seen, after = [], None
    while True:
        page = ana.call("GET", "/files", query_string={"limit": 10} | ({"after": after} if after else {})).json
        assert page is not None
        seen += [f["name"] for f in page["files"]]
        after = page["next"]
        if after is None:
            break
    assert seen == names


def test_a_change_of_another_version_is_refused_with_send_index(world: TrackerFixture) -> None:
    ana = world.peer()
    change = {"base_version": "1", "version": "2", "add": [], "remove": []}
    refused = ana.call("PATCH", "/index", change)
    assert (refused.status_code, refused.json["code"]) == (409, "send_index")  # type: ignore[index]
    ana.share("a.txt", version="1")
    assert ana.call("PATCH", "/index", change).status_code == 200
    assert ana.call("PATCH", "/index", change).status_code == 200


def test_a_bad_name_is_refused_with_its_rule_and_nothing_is_changed(world: TrackerFixture) -> None:
    ana = world.peer()
    files = [{"name": n, "id": id_of(n), "size": 1, "complete": True} for n in ("good", "../bad")]
    refused = ana.call("PUT", "/index", {"version": "1", "files": files})
    assert refused.status_code == 400
    assert refused.json["code"] == "bad_name" and "begins with a dot" in refused.json["message"]  # type: ignore[index]
    assert ana.call("GET", "/files").json["files"] == []  # type: ignore[index]
    assert ana.call("GET", "/query?name=..%2Fx").json["code"] == "bad_name"  # type: ignore[index]


GOOD_FILE = {"name": "a", "id": "0" * 64, "size": 1, "complete": True}
BAD_BODIES = [
    ("PUT", "/ping", b""),
    ("PUT", "/ping", b"null"),
    ("PUT", "/ping", b"[]"),
    ("PUT", "/ping", b"{"),
    ("PUT", "/ping", b"\xff\xfe{}"),
    ("PUT", "/ping", b"\xef\xbb\xbf{}"),
    ("PUT", "/ping", b'{"epoch": "x"}'),
    ("PUT", "/ping", b'{"epoch": 1, "index_version": "1"}'),
    ("PUT", "/ping", b'{"epoch": "x", "index_version": "1", "load": {"rate": NaN}}'),
    ("PUT", "/ping", b'{"epoch": "x", "index_version": "1", "load": {"rate": 1e999}}'),
    ("PUT", "/ping", b'{"epoch": "x", "index_version": "1", "load": {"rate": -1}}'),
    ("PUT", "/ping", b'{"epoch": "x", "index_version": "1", "load": {"uploads": true}}'),
    ("PUT", "/ping", b'{"epoch": "x", "index_version": "1", "load": {"uploads": 1.5}}'),
    ("PUT", "/ping", b'{"epoch": "x", "index_version": "1", "load": {"free_bytes": 1' + b"0" * 5000 + b"}}"),
    ("PUT", "/ping", b'{"epoch": "' + b"x" * 65 + b'", "index_version": "1"}'),
    ("PUT", "/ping", b'{"epoch": "\\ud800", "index_version": "1"}'),
    ("PUT", "/ping", b'{"epoch": "\xed\xa0\x80", "index_version": "1"}'),
    ("PUT", "/ping", b"[" * 8000),
    ("PUT", "/ping", b'{"a":' * 3000),
    ("PUT", "/index", json.dumps({"version": "1"}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE] * 5001}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"size": -1}]}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"size": 2**63}]}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"size": "1"}]}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"id": "A" * 64}]}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"id": "0" * 63}]}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"id": "0" * 64 + chr(10)}]}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"complete": 1}]}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"name": None}]}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"modified": "1"}]}).encode()),
    (
        "PUT",
        "/index",
        b'{"version": "1", "files": [{"name": "a", "id": "%s", "size": 1, "complete": true, '
        b'"modified": 1e999}]}' % (b"0" * 64),
    ),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"executable": 1}]}).encode()),
    ("PUT", "/index", json.dumps({"version": "1", "files": [GOOD_FILE | {"name": "\ud800"}]}).encode()),
    ("POST", "/query", json.dumps({}).encode()),
    ("POST", "/query", json.dumps({"names": []}).encode()),
    ("POST", "/query", json.dumps({"names": ["a"] * 1001}).encode()),
    ("POST", "/query", json.dumps({"names": ["a"], "ids": []}).encode()),
    ("POST", "/query", json.dumps({"ids": ["xyz"]}).encode()),
    ("POST", "/upload", json.dumps(upload("a", 0)).encode()),
    ("POST", "/upload", json.dumps(upload("a", 31)).encode()),
    ("POST", "/upload", json.dumps({"files": [], "copies": 1}).encode()),
    ("POST", "/report", json.dumps({"id": "0" * 64, "url": "x"}).encode()),
    ("POST", "/logout", b"[]"),
    ("POST", "/login", json.dumps({"username": "a b", "password": "x", "url": "127.0.0.1:1"}).encode()),
    ("POST", "/login", json.dumps({"username": "a" * 65, "password": "x", "url": "127.0.0.1:1"}).encode()),
    ("POST", "/login", json.dumps({"username": "a\n", "password": "x", "url": "127.0.0.1:1"}).encode()),
    ("POST", "/login", json.dumps({"username": "", "password": "x", "url": "127.0.0.1:1"}).encode()),
    ("POST", "/login", json.dumps({"username": "a", "password": "", "url": "127.0.0.1:1"}).encode()),
    ("POST", "/login", json.dumps({"username": "a", "password": "é" * 513, "url": "127.0.0.1:1"}).encode()),
]


@pytest.mark.parametrize(("method", "path", "body"), BAD_BODIES, ids=lambda value: ascii(value)[:60])
def test_a_bad_body_is_refused_in_one_line(world: TrackerFixture, method: str, path: str, body: bytes) -> None:
    answer = world.peer().call(method, path, data=body, content_type="application/json")
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request"), answer.text  # type: ignore[index]
    assert answer.json["message"].isprintable()  # type: ignore[index]


@pytest.mark.parametrize(
    "query",
    [
        *("/query", "/query?name=a&id=b", "/query?id=xyz", "/query?nme=a", "/query?name=a&name=b", "/files?limit=0"),
        *("/files?limit=1001", "/files?limit=x", "/files?limit=%D9%A1", "/files?after=%21", "/files?after=AAAA"),
    ],
)
def test_a_bad_query_string_is_refused(world: TrackerFixture, query: str) -> None:
    answer = world.peer().call("GET", query)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request"), answer.text  # type: ignore[index]


def test_unknown_fields_and_parameters_are_ignored(world: TrackerFixture) -> None:
    """A newer pserver sends more than this tracker knows."""
    more = {"later": {"than": ["this"]}}
    login = {"username": "ana", "password": "ana's", "url": "127.0.0.1:5001"} | more
    token = world.call("POST", "/login", json=login).json["token"]  # type: ignore[index]
    entry = {"name": "a.txt", "id": id_of("a"), "size": 1}
    load = {"uploads": 1, "downloads": 0, "free_bytes": 1 << 30, "rate": 0.0} | more
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", "/ping", {"epoch": "", "index_version": "none", "load": load}),
        ("PUT", "/index", {"version": "1", "files": [entry | {"complete": True} | more]}),
        ("PATCH", "/index", {"base_version": "1", "version": "2", "add": [entry | {"complete": True} | more]}),
        ("PATCH", "/index", {"base_version": "2", "version": "3", "remove": [{"name": "b", "id": id_of("b")} | more]}),
        ("POST", "/query", {"names": ["a.txt"]}),
        ("POST", "/query", {"ids": [id_of("a")]}),
        ("GET", "/query?name=a.txt&later=1", {}),
        ("GET", "/files?match=a&later=1&later=2", {}),
        ("POST", "/report", {"id": id_of("a"), "url": "127.0.0.1:5001", "reason": "x"}),
        ("POST", "/password", {"old": "ana's", "new": "ana's"}),
        ("POST", "/logout", {}),
    ]
    for method, path, body in requests:
        sent = body | more if method != "GET" else None
        answer = world.call(method, path, headers={"Authorization": f"Bearer {token}"}, json=sent)
        assert answer.status_code == 200, (method, path, answer.text)


def test_a_body_that_is_not_json_or_too_long_is_refused(world: TrackerFixture) -> None:
    ana = world.peer()
    form = ana.call("PUT", "/ping", data=b"{}", content_type="text/plain")
    assert (form.status_code, form.json["code"]) == (415, "bad_media_type")  # type: ignore[index]
    long = ana.call("PUT", "/ping", data=b" " * 20_000, content_type="application/json")
    assert (long.status_code, long.json["code"]) == (413, "too_large")  # type: ignore[index]


def test_errors_for_unknown_routes_and_methods_are_json(world: TrackerFixture) -> None:
    nothing = world.call("GET", "/nothing\x1b[2J")
    assert (nothing.status_code, nothing.json["code"]) == (404, "not_found")  # type: ignore[index]
    for method in ("PUT", "OPTIONS", "TRACE", "BREW"):
        refused = world.call(method, "/login")
        assert (refused.status_code, refused.json["code"]) == (405, "method_not_allowed")  # type: ignore[index]
        assert refused.headers["Allow"] == "POST"


def test_an_internal_error_is_in_the_log_and_not_in_the_response(world: TrackerFixture) -> None:
    def broken() -> str:
        raise RuntimeError("secret inside")

    world.parts.app.view_functions["healthz"] = broken
    answer = world.client.get("/healthz")
    assert (answer.status_code, answer.json["code"]) == (500, "internal")  # type: ignore[index]
    assert "secret" not in answer.text


def test_metrics_count_events_and_contain_no_names(world: TrackerFixture) -> None:
    ana = world.peer("very-own-name", "127.0.0.1:5001")
    ana.share("private-file.txt")
    text = ana.call("GET", "/metrics").text
    for figure in (
        "tracker_peers 1.0",
        "tracker_files 1.0",
        "tracker_entries 1.0",
        'tracker_events_total{event="login"} 1.0',
    ):
        assert figure in text
    assert 'tracker_requests_total{method="PUT",route="/index",status="200"} 1.0' in text
    # The port with its colon: a figure may have the digits by chance.
    for canary in ("very-own-name", ":5001", "private-file"):
        assert canary not in text


def test_every_error_code_is_in_openapi_and_unique(world: TrackerFixture) -> None:
    text = world.call("GET", "/openapi.json").text
    codes = [error.code for error in all_errors()]
    assert len(codes) == len(set(codes))
    assert all(f"`{code}`" in text for code in codes)
    assert "| 500 | `internal` | The tracker failed; its log says why. |" in text


def test_an_id_with_thousands_of_names_is_returned_with_a_few(world: TrackerFixture) -> None:
    ana, ben = world.peer(), world.peer("ben", "127.0.0.1:5002")
    files = [{"name": f"{n:04}", "id": id_of("x"), "size": 1, "complete": True} for n in range(5000)]
    ana.call("PUT", "/index", {"version": "1", "files": files})
    one = ben.call("GET", "/query", query_string={"id": id_of("x")}).json
    many = ben.call("POST", "/query", {"ids": [id_of("x"), *(f"{n:064x}" for n in range(999))]}).json
    assert one and many
    assert (len(one["files"]), len(many["files"])) == (100, 5)
    assert all(len(file["holders"]) == 1 for file in one["files"])


def test_a_search_that_times_out_returns_a_short_page_with_next(
    world: TrackerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = world.peer()
    ana.share(*(f"{n:04}" for n in range(100)))
    monkeypatch.setattr(memory_index, "SEARCH_TIMEOUT", -1.0)
    found, after, pages = [], None, 0
    while pages == 0 or after is not None:
        page = ana.call("GET", "/files", query_string={"match": "*7?", **({"after": after} if after else {})}).json
        assert page
        found += [file["name"] for file in page["files"]]
        after, pages = page["next"], pages + 1
    assert found == [f"{n:04}" for n in range(70, 80)]
    assert pages > 3
