"""Routes of the dashboard: sessions, what is visible without one, and forms of other sites."""

import html
import re
from typing import Any
from urllib.parse import urljoin

import pytest
from werkzeug.test import TestResponse

from tracker.login_throttle import LoginLimits
from tracker_fixture import MakeTracker, TrackerFixture, id_of

HOSTILE = "<img src=x onerror=alert(1)> \"'&amp;.txt"


def log_in(world: TrackerFixture, user: str = "ana", password: str | None = None, **kwargs: Any) -> TestResponse:
    """Log in at the dashboard; `world.peer(user)` has made the account."""
    form = {"username": user, "password": f"{user}'s" if password is None else password}
    return world.client.post("/page/login", data=form, **kwargs)


def snapshot(world: TrackerFixture, **query: str) -> dict[str, dict[str, str]]:
    response = world.client.get("/page/snapshot", query_string=query)
    assert response.status_code == 200, response.text
    parts: dict[str, dict[str, str]] = (response.json or {})["parts"]
    return parts


def test_without_a_session_only_the_login_form_is_visible(world: TrackerFixture) -> None:
    world.peer("ana").share("secret-plan.txt")
    page = world.client.get("/").text
    assert '<form method="post" action="page/login">' in page
    for text in ("secret-plan", "ana", "127.0.0.1", "peer<", "1.0"):
        assert text not in page.replace('initial-scale=1"', "")


def test_after_login_peers_and_files_are_visible(world: TrackerFixture) -> None:
    world.peer("ana").share("plan.txt")
    assert "plan.txt" not in world.client.get("/").text
    response = log_in(world)
    assert (response.status_code, response.headers["Location"]) == (303, "../")
    page = world.client.get("/").text
    assert "plan.txt" in page
    assert "127.0.0.1:5001" in page


def test_every_route_except_login_and_assets_needs_a_session(world: TrackerFixture) -> None:
    refused = set()
    for rule in world.parts.app.url_map.iter_rules():
        if not rule.endpoint.startswith("dashboard."):
            continue
        [method] = set(rule.methods or ()) - {"HEAD"}
        response = world.client.open(rule.rule, method=method)
        if response.status_code == 401 and response.is_json:
            refused.add(rule.rule)
            assert (response.json or {})["code"] == "not_logged_in"
    everything = {r.rule for r in world.parts.app.url_map.iter_rules() if r.endpoint.startswith("dashboard.")}
    assert everything - refused == {"/page/login", "/page/logout", "/page/page.css", "/page/page.js", "/page/icon.svg"}


@pytest.mark.parametrize("headers", [{}, {"Cookie": "p2p-page=x"}, {"Authorization": "Bearer x"}])
def test_an_invented_session_is_refused(world: TrackerFixture, headers: dict[str, str]) -> None:
    assert world.client.get("/page/snapshot", headers=headers).status_code == 401
    assert "page/login" in world.client.get("/", headers=headers).text


def test_pserver_tokens_and_browser_sessions_are_separate(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    assert ana.call("GET", "/page/snapshot").status_code == 401
    log_in(world)
    assert world.client.get("/peers").status_code == 401


def test_the_cookie_is_hidden_from_scripts_and_other_sites(world: TrackerFixture) -> None:
    world.peer("ana")
    cookie = log_in(world).headers["Set-Cookie"]
    assert cookie.startswith("p2p-page=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert "Domain" not in cookie


def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(world: TrackerFixture) -> None:
    world.peer("ana")
    cookie = log_in(world, base_url="https://tracker.example:5000/").headers["Set-Cookie"]
    assert cookie.startswith("__Host-p2p-page-5000=")
    assert "Secure" in cookie.split("; ")


def test_the_cookie_is_secure_if_a_proxy_ends_tls(world: TrackerFixture) -> None:
    world.peer("ana")
    cookie = log_in(world, headers={"Origin": "https://localhost"}).headers["Set-Cookie"]
    assert cookie.startswith("__Host-p2p-page=")
    assert "Secure" in cookie.split("; ")
    # The proxy passes the cookie on without TLS, and only the form has an Origin.
    browser = world.parts.app.test_client(use_cookies=False)
    kept = {"Cookie": cookie.partition(";")[0]}
    assert browser.get("/page/snapshot", headers=kept).status_code == 200
    assert browser.post("/page/logout", headers=kept | {"Origin": "https://localhost"}).status_code == 303
    assert browser.get("/page/snapshot", headers=kept).status_code == 401


def test_over_tls_a_cookie_that_another_site_could_have_set_is_ignored(world: TrackerFixture) -> None:
    world.peer("ana")
    browser = world.parts.app.test_client(use_cookies=False)
    kept = {"Cookie": log_in(world, base_url="http://localhost:5000/").headers["Set-Cookie"].partition(";")[0]}
    assert browser.get("/page/snapshot", base_url="http://localhost:5000/", headers=kept).status_code == 200
    assert browser.get("/page/snapshot", base_url="https://localhost:5000/", headers=kept).status_code == 401


@pytest.mark.parametrize("status", [200, 401])
def test_every_link_of_the_login_form_is_relative_to_its_own_address(world: TrackerFixture, status: int) -> None:
    world.peer("ana")
    form = world.client.get("/") if status == 200 else log_in(world, password="wrong")
    assert form.status_code == status
    links = re.findall(r'(?:href|src|action)="([^"]+)"', form.text)
    page = "http://localhost/p2p/" if status == 200 else "http://localhost/p2p/page/login"
    assert {urljoin(page, link) for link in links} == {
        f"http://localhost/p2p/page/{name}" for name in ("page.css", "icon.svg", "login")
    }


def test_two_trackers_on_one_host_do_not_share_a_cookie(world: TrackerFixture) -> None:
    world.peer("ana")
    names = {log_in(world, base_url=f"http://127.0.0.1:{port}/").headers["Set-Cookie"].split("=")[0] for port in (1, 2)}
    assert len(names) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Origin": "https://localhost:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
    ],
)
@pytest.mark.parametrize("path", ["/page/login", "/page/logout"])
def test_a_form_from_another_site_is_refused(world: TrackerFixture, path: str, headers: dict[str, str]) -> None:
    world.peer("ana")
    log_in(world)
    form = {"username": "ana", "password": "ana's"}
    response = world.client.post(path, data=form, headers=headers)
    assert response.status_code == 403
    assert "Set-Cookie" not in response.headers
    assert world.client.get("/page/snapshot").status_code == 200, "the session continues"


@pytest.mark.parametrize("headers", [{"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin"}])
def test_a_form_of_the_dashboard_is_accepted(world: TrackerFixture, headers: dict[str, str]) -> None:
    world.peer("ana")
    assert log_in(world, headers=headers).status_code == 303


def test_a_kept_cookie_is_invalid_after_logout(world: TrackerFixture) -> None:
    world.peer("ana")
    kept = log_in(world).headers["Set-Cookie"].split(";")[0]
    response = world.client.post("/page/logout")
    assert (response.status_code, response.headers["Location"]) == (303, "../")
    assert world.client.get("/page/snapshot", headers={"Cookie": kept}).status_code == 401


def test_the_dashboard_changes_no_session_of_a_pserver(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    log_in(world)
    world.client.post("/page/logout")
    ana.ping()
    assert len((ana.call("GET", "/peers").json or {})["peers"]) == 1


@pytest.mark.parametrize(
    ("user", "password"),
    [("ana", "wrong"), ("zoe", "x"), ("", ""), ("ana", ""), ("<b>", "x"), ("a" * 65, "x"), ("ana", "é" * 513)],
)
def test_a_refused_login_shows_one_line_and_registers_no_account(
    world: TrackerFixture, user: str, password: str
) -> None:
    world.peer("ana")
    response = log_in(world, user, password)
    assert response.status_code == 401
    assert "Wrong user name or password." in response.text
    assert "Set-Cookie" not in response.headers
    if user:
        assert f'value="{html.escape(user[:64])}"' in response.text
    assert log_in(world, "zoe", "x").status_code == 401


def test_failed_logins_of_dashboard_and_pservers_count_together(make_world: MakeTracker) -> None:
    world = make_world(limits=LoginLimits(free_failures=2))
    world.peer("ana")
    world.call("POST", "/login", json={"username": "ana", "password": "wrong", "url": "127.0.0.1:1"})
    for _ in range(2):
        assert log_in(world, password="wrong").status_code == 401
    response = log_in(world)
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    assert "Too many failed logins" in response.text


def test_a_changed_password_ends_the_users_sessions(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    log_in(world)
    assert ana.call("POST", "/password", {"old": "ana's", "new": "better"}).status_code == 200
    assert world.client.get("/page/snapshot").status_code == 401
    assert log_in(world, password="better").status_code == 303


def test_an_idle_session_ends_after_12_hours_and_an_active_one_after_a_week(world: TrackerFixture) -> None:
    world.peer("ana")
    log_in(world)
    for _ in range(20):
        world.clock.advance(11 * 3600)
        last = world.client.get("/page/snapshot").status_code
    assert last == 401, "after a week"
    log_in(world)
    world.clock.advance(13 * 3600)
    assert world.client.get("/page/snapshot").status_code == 401, "after half a day unseen"


def test_the_content_policy_allows_only_the_trackers_own_files(world: TrackerFixture) -> None:
    world.peer("ana").share(HOSTILE)
    log_in(world)
    for path in ("/", "/page/snapshot", "/page/page.js", "/page/page.css"):
        policy = world.client.get(path).headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "http" not in policy
    page = world.client.get("/").text
    assert " style=" not in page
    assert "<style" not in page
    assert "javascript:" not in page
    assert "//" not in page.replace("<!doctype html>", "").replace("http://www.w3.org/2000/svg", "")


def test_a_hostile_name_is_escaped_everywhere(world: TrackerFixture) -> None:
    ana, ben = world.peer("ana"), world.peer("ben", "127.0.0.1:5002")
    ana.share(HOSTILE)
    ana.ping()
    ben.ping()
    assert ana.targets(HOSTILE) == ["127.0.0.1:5002"]
    ben.holders(HOSTILE)
    ben.share(HOSTILE)
    ben.call("POST", "/report", {"id": id_of(HOSTILE), "url": "127.0.0.1:5001", "reason": HOSTILE})
    log_in(world)
    for page in (
        world.client.get("/", query_string={"match": HOSTILE}).text,
        "".join(part["html"] for part in snapshot(world).values()),
        "".join(part["html"] for part in snapshot(world, match=HOSTILE + "no such").values()),
    ):
        assert "<img src=x" not in page
        assert "&lt;img src=x" in page


def test_an_unchanged_snapshot_is_not_sent_again(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    ana.share("a.txt")
    log_in(world)
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
    log_in(world)
    tags = {name: part["tag"] for name, part in snapshot(world).items()}
    world.clock.advance(2)
    ana.ping(uploads=1, rate=5e6)
    sent = {name for name, part in snapshot(world, have=",".join(tags.values())).items() if "html" in part}
    assert sent == {"summary", "network", "peers"}


def test_without_scripts_the_page_is_complete_and_reloads(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    ana.share("a.txt", "b.txt")
    log_in(world)
    world.clock.advance(7)
    page = world.client.get("/", query_string={"match": "B.T"}).text
    assert '<noscript><meta http-equiv="refresh"' in page
    assert "7 s ago</time>" in page
    assert "b.txt" in page
    assert "a.txt" not in page
    assert 'value="B.T"' in page


def test_a_refused_password_change_is_shown_as_such(world: TrackerFixture) -> None:
    ana = world.peer("ana")
    ana.share("a.txt", "b.txt")
    ana.call("POST", "/password", {"old": "wrong", "new": "y"})
    log_in(world)
    parts = snapshot(world)
    assert "(wrong old password)" in parts["errors"]["html"]
    assert "login" not in parts["errors"]["html"]
    assert "1 refused password change" in parts["summary"]["html"]
    assert re.search(r"2 files \(\d+ B\), 2 copies", parts["summary"]["html"])
