"""The pserver speaks the newest protocol that it and the tracker know, and says so if there is none."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.status_messages import Load
from common.version import PROTOCOL, VERSION
from daemon.errors import BadUsage, Incompatible, TrackerUnreachable
from live_tracker import live_tracker
from scripted_tracker import ScriptedTracker, scripted_tracker
from tracker_requests import tracker_client

NEWEST = PROTOCOL[1]
# A tracker that speaks none of our protocols.
FUTURE = {"version": "9.1.0", "protocol": [NEWEST + 1, NEWEST + 3]}


@pytest.fixture
def tracker() -> Iterator[ScriptedTracker]:
    with scripted_tracker() as scripted:
        yield scripted


def logins(tracker: ScriptedTracker) -> list[set[str]]:
    """The fields of each login that the tracker got."""
    return [set(body) for _, path, body in tracker.requests if path == "/login"]


def test_both_sides_of_this_release_speak_its_newest_protocol(tmp_path: Path) -> None:
    with live_tracker(tmp_path) as tracker:
        client = tracker_client(tracker.url)
        assert client.protocol == 1
        asyncio.run(client.login("ana", "pw", "127.0.0.1:9"))
        assert client.protocol == NEWEST


def test_a_tracker_without_numbers_gets_no_new_field(tracker: ScriptedTracker) -> None:
    client = tracker_client(tracker.url)
    asyncio.run(client.login("ana", "pw", "127.0.0.1:9"))
    assert client.protocol == 1
    assert logins(tracker) == [{"username", "password", "url"}]


def test_a_newer_tracker_gets_the_fields_of_the_newest_protocol_that_both_speak(tracker: ScriptedTracker) -> None:
    tracker.release = {"version": "9.1.0", "protocol": [NEWEST, NEWEST + 3], "more": [1]}
    tracker.known_fields |= {"version", "protocol"}
    client = tracker_client(tracker.url)
    asyncio.run(client.login("ana", "pw", "127.0.0.1:9"))
    assert client.protocol == NEWEST
    [body] = [body for _, path, body in tracker.requests if path == "/login"]
    assert (body["version"], body["protocol"]) == (VERSION, list(PROTOCOL))


def test_a_tracker_without_a_common_protocol_gets_no_request_and_the_reason_has_both_releases(
    tracker: ScriptedTracker,
) -> None:
    tracker.release = FUTURE
    client = tracker_client(tracker.url)
    for call in (
        lambda: client.login("ana", "secret", "127.0.0.1:9"),
        lambda: client.ping("", "none", Load()),
        client.peers,
    ):
        with pytest.raises(Incompatible) as refusal:
            asyncio.run(call())
        assert (
            refusal.value.message
            == client.fault
            == (
                f"the tracker at {tracker.url} is release 9.1.0 (protocols {NEWEST + 1} to {NEWEST + 3}), "
                f"this pserver release {VERSION} (protocols {PROTOCOL[0]} to {NEWEST}): upgrade this pserver"
            )
        )
    assert {path for _, path, _ in tracker.requests} == {"/healthz"}

    tracker.release = {}
    asyncio.run(client.login("ana", "secret", "127.0.0.1:9"))
    assert client.fault == ""


def test_a_tracker_that_was_replaced_by_an_older_one_gets_the_request_again_without_new_fields(
    tracker: ScriptedTracker,
) -> None:
    tracker.release = {"version": VERSION, "protocol": PROTOCOL}
    respond = tracker.respond

    def replace_before_the_login(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/login":
            tracker.release = {}
        return respond(method, path, body)

    tracker.respond = replace_before_the_login  # type: ignore[method-assign]
    client = tracker_client(tracker.url)
    asyncio.run(client.login("ana", "pw", "127.0.0.1:9"))
    assert logins(tracker) == [{"username", "password", "url", "version", "protocol"}, {"username", "password", "url"}]
    assert client.protocol == 1


def test_a_bad_request_to_a_tracker_of_the_same_release_is_not_repeated(tracker: ScriptedTracker) -> None:
    tracker.release = {"version": VERSION, "protocol": PROTOCOL}
    with pytest.raises(BadUsage):
        asyncio.run(tracker_client(tracker.url).login("ana", "pw", "127.0.0.1:9"))
    assert len(logins(tracker)) == 1


def test_a_login_that_the_tracker_finds_incompatible_says_what_the_tracker_says(tracker: ScriptedTracker) -> None:
    def refuse(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/login":
            return {"status": 400, "message": "upgrade the pserver", "code": "incompatible"}
        return {"status": 200, "message": "ok"}

    tracker.respond = refuse  # type: ignore[method-assign]
    with pytest.raises(Incompatible, match=r"^upgrade the pserver$"):
        asyncio.run(tracker_client(tracker.url).login("ana", "pw", "127.0.0.1:9"))


@pytest.mark.parametrize("protocol", [None, 2, "12", [2], [1, 2, 3], ["a", "b"], {"oldest": 1, "newest": 2}])
def test_a_server_with_another_kind_of_protocol_is_no_tracker(tracker: ScriptedTracker, protocol: object) -> None:
    tracker.release = {"version": "1", "protocol": protocol}
    client = tracker_client(tracker.url)
    with pytest.raises(TrackerUnreachable, match="is not a tracker"):
        asyncio.run(client.negotiate())


def test_the_name_of_a_release_is_printable_and_short(tracker: ScriptedTracker) -> None:
    tracker.release = FUTURE | {"version": "9\n\x1b[31m" + "x" * 1000}
    with pytest.raises(Incompatible) as refusal:
        asyncio.run(tracker_client(tracker.url).negotiate())
    assert refusal.value.message.isprintable()
    assert len(refusal.value.message) < 300
