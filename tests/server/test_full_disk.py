"""A full STATE_DIR: each refusal has a code, and what needs no disk goes on."""

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from eventually import eventually
from full_disk import fill, small_file_system
from live_tracker import LiveTracker, live_tracker
from programs import SERVER, write_env
from state_1 import STATE_1
from tracker.app_factory import SteadyClock
from tracker_fixture import ManualClock

pytestmark = pytest.mark.root

HOUR = 3600.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_file_system(tmp_path / "disk") as folder:
        yield folder


class Client:
    """A client of the tracker that logs in as one user."""

    def __init__(self, tracker: LiveTracker, user: str) -> None:
        self.url = tracker.url
        self.user = user
        self.headers: dict[str, str] = {}

    def login(self, port: int = 5001, password: str = "x") -> requests.Response:
        body = {"username": self.user, "password": password, "url": f"127.0.0.1:{port}"}
        response = requests.post(f"{self.url}/login", json=body, timeout=20)
        if response.ok:
            self.headers = {"Authorization": f"Bearer {response.json()['token']}"}
        return response

    def post(self, route: str, body: dict[str, str] | None = None) -> requests.Response:
        return requests.post(self.url + route, json=body, headers=self.headers, timeout=20)

    def ping(self) -> int:
        body = {"epoch": "", "index_version": ""}
        return requests.put(f"{self.url}/ping", json=body, headers=self.headers, timeout=20).status_code


def refusal(response: requests.Response) -> tuple[int, str]:
    body = response.json()
    assert "\n" not in body["message"] and "the tracker's disk is full" in body["message"]
    return response.status_code, body["code"]


DISK_FULL = (507, "disk_full")


def test_on_a_full_disk_logins_and_password_changes_are_refused_and_pings_are_not(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with live_tracker(small_disk) as tracker:
        ana, zoe = Client(tracker, "ana"), Client(tracker, "zoe")
        assert ana.login().status_code == 201
        ballast = fill(small_disk)
        assert refusal(zoe.login(5002)) == DISK_FULL, "a registration"
        assert refusal(ana.login(5003)) == DISK_FULL, "a new session"
        assert refusal(ana.post("/password", {"old": "x", "new": "y"})) == DISK_FULL
        assert refusal(ana.post("/logout")) == DISK_FULL
        assert ana.ping() == 200, "nothing was changed"
        assert ana.login(password="wrong").status_code == 401
        page = requests.post(f"{tracker.url}/page/login", data={"username": "ana", "password": "x"}, timeout=20)
        assert page.status_code == 200, "the dashboard stores no session"

        ballast.unlink()
        assert zoe.login(5002).status_code == 201
        assert ana.post("/password", {"old": "x", "new": "y"}).status_code == 200
        assert ana.post("/logout").status_code == 200
    texts = [record.getMessage() for record in caplog.records]
    assert texts.count("the accounts cannot be changed: database or disk is full") == 1, texts
    assert texts.count("the accounts can be changed again") == 1
    assert not any(record.exc_info for record in caplog.records)


def test_a_login_that_the_full_disk_refuses_ends_no_session(small_disk: Path) -> None:
    with live_tracker(small_disk) as tracker:
        ana = Client(tracker, "ana")
        assert ana.login().status_code == 201
        fill(small_disk)
        again = Client(tracker, "ana")
        assert refusal(again.login()) == DISK_FULL, "the same address, without its token"
        assert ana.ping() == 200


def test_the_hourly_write_of_last_uses_breaks_no_request_and_is_logged_once(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    with live_tracker(small_disk, clock=SteadyClock(clock, clock)) as tracker:
        clients = [Client(tracker, f"user{number}") for number in range(3)]
        for number, client in enumerate(clients):
            assert client.login(5001 + number).status_code == 201
        fill(small_disk)
        failed = "the accounts cannot be changed"
        for _ in range(3):
            clock.advance(HOUR + 1)
            assert [client.ping() for client in clients] == [200] * 3
        eventually(lambda: failed in caplog.text)
        assert caplog.text.count(failed) == 1
        assert all(record.levelno < logging.ERROR or failed in record.getMessage() for record in caplog.records)


def test_a_tracker_starts_on_a_full_disk(small_disk: Path) -> None:
    with live_tracker(small_disk) as tracker:
        ana = Client(tracker, "ana")
        assert ana.login().status_code == 201
        port = tracker.port
    fill(small_disk)
    with live_tracker(small_disk, port=port):
        assert ana.ping() == 200
        assert refusal(ana.post("/logout")) == DISK_FULL


def test_a_session_that_ended_while_the_disk_was_full_stays_ended(small_disk: Path) -> None:
    clock = ManualClock()
    steady = SteadyClock(clock, clock)
    with live_tracker(small_disk, clock=steady) as tracker:
        ana = Client(tracker, "ana")
        ana.login()
        port = tracker.port
        fill(small_disk)
        clock.advance(31 * 24 * HOUR)
        assert ana.ping() == 401
    with live_tracker(small_disk, port=port, clock=steady):
        assert ana.ping() == 401


def start(disk: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    env = write_env(folder / ".env", {"SERVER_URL": "127.0.0.1", "SERVER_PORT": 0, "STATE_DIR": disk})
    return subprocess.run(
        [sys.executable, str(SERVER), str(env)], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_first_start_on_a_full_disk_exits_with_one_line(small_disk: Path, tmp_path: Path) -> None:
    fill(small_disk)
    result = start(small_disk, tmp_path)
    assert (result.returncode, result.stdout) == (74, "")
    assert result.stderr.count("\n") == 1 and str(small_disk) in result.stderr


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_an_upgrade_on_a_full_disk_exits_with_one_line_and_changes_nothing(
    small_disk: Path, tmp_path: Path, journal: str
) -> None:
    def rows() -> list[tuple[str]]:
        with closing(sqlite3.connect(small_disk / "accounts.sqlite3")) as db:
            return db.execute("SELECT name, password, since FROM users").fetchall()

    with closing(sqlite3.connect(small_disk / "accounts.sqlite3")) as db, db:
        db.executescript(STATE_1)
        db.executemany("INSERT INTO users VALUES (?, 'hash', 1.0)", [(f"user{n}",) for n in range(1000)])
        db.commit()
        db.execute(f"PRAGMA journal_mode={journal}")
    before = rows()
    ballast = fill(small_disk)
    result = start(small_disk, tmp_path)
    assert (result.returncode, result.stdout) == (74, ""), result.stderr
    assert result.stderr.count("\n") == 1 and "the disk is full" in result.stderr
    ballast.unlink()
    assert rows() == before
