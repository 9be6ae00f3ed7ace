"""The page's routes through the real application: who gets in, what strangers see, what forms are believed."""

import html
import re
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tracker.login_throttle import LoginLimits
from tracker_fixture import MakeTracker, TrackerFixture, id_of

HOSTILE = "<img src=x onerror=alert(1)> \"'&amp;.txt"


def enter(world: TrackerFixture, user: str = "ana", password: str | None = None, **kwargs: Any) -> TestResponse:
    """Log in at the page; the account is the one that `world.peer(user)` made."""
    form = {"username": user, "password": f"{user}'s" if password is None else password}
    return world.client.post("/page/login", data=form, **kwargs)


def snapshot(world: TrackerFixture, **query: str) -> dict[str, dict[str, str]]:
    answer = world.client.get("/page/snapshot", query_string=query)
    assert answer.status_code == 200, answer.text
    parts: dict[str, dict[str, str]] = (answer.json or {})["parts"]
    return parts


def test_a_stranger_sees_the_form_and_nothing_of_the_network(world: TrackerFixture) -> None:
    world.peer("ana").share("secret-plan.txt")
    seen = world.client.get("/").text
    assert '<form method="post" action="/page/login">' in seen
    for told in ("secret-plan", "ana", "127.0.0.1", "peer<", "1.0"):
        assert told not in seen.replace('initial-scale=1"', "")


def test_who_logs_in_sees_peers_and_files(world: TrackerFixture) -> None:
    world.peer("ana").share("plan.txt")
    assert "plan.txt" not in world.client.get("/").text
    answer = enter(world)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    seen = world.client.get("/").text
    assert "plan.txt" in seen
    assert "127.0.0.1:5001" in seen


def test_every_route_of_the_page_refuses_a_stranger_but_those_that_let_him_in(world: TrackerFixture) -> None:
    refused = set()
    for rule in world.parts.app.url_map.iter_rules():
        if not rule.endpoint.startswith("dashboard."):
            continue
        [method] = set(rule.methods or ()) - {"HEAD"}
        answer = world.client.open(rule.rule, method=method)
        if answer.status_code == 401 and answer.is_json:
            refused.add(rule.rule)
            assert (answer.json or {})["code"] == "not_logged_in"
    everything = {r.rule for r in world.parts.app.url_map.iter_rules() if r.endpoint.startswith("dashboard.")}
    assert everything - refused == {"/page/login", "/page/logout", "/page/page.css", "/page/page.js", "/page/icon.svg"}


@pytest.mark.parametrize("headers", [{}, {"Cookie": "p2p-page=x"}, {"Authorization": "Bearer x"}])
def test_a_made_up_session_opens_nothing(world: TrackerFixture, headers: dict[str, str]) -> None:
    assert world.client.get("/page/snapshot", headers=headers).status_code == 401
    assert "page/login" in world.client.get("/", headers=headers).text


def test_a_pservers_token_is_no_session_of_the_page_nor_the_other_way_round(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    assert ana.call("GET", "/page/snapshot").status_code == 401
    enter(world)
    assert world.client.get("/peers").status_code == 401


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(world: TrackerFixture) -> None:
    world.peer("ana")
    cookie = enter(world).headers["Set-Cookie"]
    assert cookie.startswith("p2p-page=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert "Domain" not in cookie


def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(world: TrackerFixture) -> None:
    world.peer("ana")
    cookie = enter(world, base_url="https://tracker.example:5000/").headers["Set-Cookie"]
    assert cookie.startswith("__Host-p2p-page-5000=")
    assert "Secure" in cookie.split("; ")


def test_two_trackers_on_one_host_do_not_share_a_cookie(world: TrackerFixture) -> None:
    world.peer("ana")
    names = {enter(world, base_url=f"http://127.0.0.1:{port}/").headers["Set-Cookie"].split("=")[0] for port in (1, 2)}
    assert len(names) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Origin": "https://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
    ],
)
@pytest.mark.parametrize("path", ["/page/login", "/page/logout"])
def test_a_form_that_another_site_sends_is_refused(world: TrackerFixture, path: str, headers: dict[str, str]) -> None:
    world.peer("ana")
    enter(world)
    form = {"username": "ana", "password": "ana's"}
    answer = world.client.post(path, data=form, headers=headers)
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers
    assert world.client.get("/page/snapshot").status_code == 200, "and the session goes on"


@pytest.mark.parametrize("headers", [{"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin"}])
def test_a_form_of_the_page_itself_is_taken(world: TrackerFixture, headers: dict[str, str]) -> None:
    world.peer("ana")
    assert enter(world, headers=headers).status_code == 303


def test_after_log_out_the_session_is_gone_also_for_who_kept_the_cookie(world: TrackerFixture) -> None:
    world.peer("ana")
    kept = enter(world).headers["Set-Cookie"].split(";")[0]
    answer = world.client.post("/page/logout")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert world.client.get("/page/snapshot", headers={"Cookie": kept}).status_code == 401


def test_the_page_disturbs_no_pservers_session(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    enter(world)
    world.client.post("/page/logout")
    ana.ping()
    assert len((ana.call("GET", "/peers").json or {})["peers"]) == 1


@pytest.mark.parametrize(
    ("user", "password"),
    [("ana", "wrong"), ("nobody", "x"), ("", ""), ("ana", ""), ("<b>", "x"), ("a" * 65, "x"), ("ana", "é" * 513)],
)
def test_the_form_comes_back_with_one_line_and_registers_nobody(
    world: TrackerFixture, user: str, password: str
) -> None:
    world.peer("ana")
    answer = enter(world, user, password)
    assert answer.status_code == 401
    assert "Wrong user name or password." in answer.text
    assert "Set-Cookie" not in answer.headers
    if user:
        assert f'value="{html.escape(user[:64])}"' in answer.text
    assert enter(world, "nobody", "x").status_code == 401


def test_failed_logins_at_the_page_and_by_pservers_count_together(make_world: MakeTracker) -> None:
    world = make_world(limits=LoginLimits(free_failures=2))
    world.peer("ana")
    world.call("POST", "/login", json={"username": "ana", "password": "wrong", "url": "127.0.0.1:1"})
    for _ in range(2):
        assert enter(world, password="wrong").status_code == 401
    answer = enter(world)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Too many failed logins" in answer.text


def test_a_changed_password_ends_the_sessions_that_the_old_one_opened(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    enter(world)
    assert ana.call("POST", "/password", {"old": "ana's", "new": "better"}).status_code == 200
    assert world.client.get("/page/snapshot").status_code == 401
    assert enter(world, password="better").status_code == 303


def test_a_session_that_nobody_uses_ends_and_one_in_use_is_asked_again_after_a_week(world: TrackerFixture) -> None:
    world.peer("ana")
    enter(world)
    for _ in range(20):
        world.clock.advance(11 * 3600)
        last = world.client.get("/page/snapshot").status_code
    assert last == 401, "after a week"
    enter(world)
    world.clock.advance(13 * 3600)
    assert world.client.get("/page/snapshot").status_code == 401, "after half a day unseen"


def test_nothing_may_run_or_load_but_what_the_tracker_serves(world: TrackerFixture) -> None:
    world.peer("ana").share(HOSTILE)
    enter(world)
    for path in ("/", "/page/snapshot", "/page/page.js", "/page/page.css"):
        policy = world.client.get(path).headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "http" not in policy
    seen = world.client.get("/").text
    assert " style=" not in seen
    assert "<style" not in seen
    assert "javascript:" not in seen
    assert "//" not in seen.replace("<!doctype html>", "").replace("http://www.w3.org/2000/svg", "")


def test_a_hostile_name_is_text_wherever_it_stands(world: TrackerFixture) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ana.share(HOSTILE)
    ana.ping()
    ben.ping()
    assert ana.targets(HOSTILE) == ["127.0.0.1:5002"]
    ben.holders(HOSTILE)
    ben.share(HOSTILE)
    ben.call("POST", "/report", {"id": id_of(HOSTILE), "url": "127.0.0.1:5001", "reason": HOSTILE})
    enter(world)
    for seen in (
        world.client.get("/", query_string={"match": HOSTILE}).text,
        "".join(part["html"] for part in snapshot(world).values()),
        "".join(part["html"] for part in snapshot(world, match=HOSTILE + "no such").values()),
    ):
        assert "<img src=x" not in seen
        assert "&lt;img src=x" in seen


def test_a_snapshot_is_not_sent_again_while_nothing_changes(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    ana.share("a.txt")
    enter(world)
    first = world.client.get("/page/snapshot")
    headers = {"If-None-Match": first.headers["ETag"]}
    world.clock.advance(1.5)
    again = world.client.get("/page/snapshot", headers=headers)
    assert (again.status_code, again.data) == (304, b"")
    assert float(again.headers["Server-Time"]) - float(first.headers["Server-Time"]) == pytest.approx(1.5)
    ana.share("a.txt", "b.txt", version="2")
    world.clock.advance(1.5)
    assert world.client.get("/page/snapshot", headers=headers).status_code == 200


def test_parts_that_the_browser_has_are_not_sent(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    ana.share("a.txt")
    enter(world)
    tags = {name: part["tag"] for name, part in snapshot(world).items()}
    world.clock.advance(2)
    ana.ping(uploads=1, rate=5e6)
    sent = {name for name, part in snapshot(world, have=",".join(tags.values())).items() if "html" in part}
    assert sent == {"summary", "network", "peers"}


def test_without_its_script_the_page_has_everything_and_comes_again(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    ana.share("a.txt", "b.txt")
    enter(world)
    world.clock.advance(7)
    seen = world.client.get("/", query_string={"match": "B.T"}).text
    assert '<noscript><meta http-equiv="refresh"' in seen
    assert "7 s ago</time>" in seen
    assert "b.txt" in seen
    assert "a.txt" not in seen
    assert 'value="B.T"' in seen


def test_a_wrong_old_password_is_told_as_what_it_is_and_versions_as_versions(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    ana.share("a.txt", "b.txt")
    ana.call("POST", "/password", {"old": "wrong", "new": "y"})
    enter(world)
    parts = snapshot(world)
    assert "(wrong old password)" in parts["errors"]["html"]
    assert "login" not in parts["errors"]["html"]
    assert "1 refused password change" in parts["summary"]["html"]
    assert re.search(r"2 files \(\d+ B\), 2 copies", parts["summary"]["html"])
