"""The tracker's accounts across releases: upgraded, killed meanwhile, refused by a release that is too old, locked."""

import hashlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import requests

from programs import NotReady, write_env
from system.cluster import LOOPBACK, PASSWORD, Cluster
from system.releases import THIS_RELEASE, Release
from tracker.account_store.schema import STATE_NUMBER

pytestmark = pytest.mark.history

KILLS = 20
ROWS = 50_000
OLD_COLUMNS = {"users": "name, password, since", "sessions": "token_digest, peer_id, user, url, loopback, since, seen"}
NEW_COLUMNS = {
    "users": "name, password_hash, created",
    "sessions": "token_digest, peer_id, user_name, address, loopback, created, last_seen",
}


def test_peers_stay_logged_in_when_the_tracker_is_upgraded(
    empty_cluster: Cluster, previous_release: Release, rng: random.Random
) -> None:
    tracker = empty_cluster.start_tracker(previous_release)
    old, new = empty_cluster.peer("old", release=previous_release), empty_cluster.peer("new")
    (old.home / "a.bin").write_bytes(rng.randbytes(10_000))
    assert old.pclient("upload", "a.bin", "--copies", "0").code == 0
    sessions = {peer: (peer.state / "session").read_text() for peer in (old, new)}
    # Killed, so that what it wrote last is in the write-ahead log only.
    tracker.kill()
    tracker.program.script = THIS_RELEASE.server
    tracker.start()
    assert new.pclient_until_success("download", "a.bin")["holders"] == [old.address]
    assert {peer: (peer.state / "session").read_text() for peer in (old, new)} == sessions
    assert "state 1 to state" in tracker.program.tail(100)
    assert new.login("new").one["registered"] is False
    wrong = new.pclient("login", "old", "--password-stdin", typed=f"not {PASSWORD}\n")
    assert wrong.error == "login_refused"


def test_the_release_before_refuses_upgraded_accounts_and_leaves_them_as_they_are(
    empty_cluster: Cluster, previous_release: Release
) -> None:
    tracker = empty_cluster.start_tracker()
    peer = empty_cluster.peer("ana")
    with pytest.raises(NotReady, match=r"accounts\.sqlite3 cannot be used: no such column: seen"):
        tracker.restart_as(previous_release.server)
    tracker.program.script = THIS_RELEASE.server
    tracker.start()
    assert peer.pclient("peers").code == 0
    assert peer.status().user == "ana"


@pytest.mark.parametrize("first", ["this", "previous"])
def test_trackers_of_both_releases_never_run_on_one_state_dir(
    empty_cluster: Cluster, previous_release: Release, first: str
) -> None:
    running, other = (THIS_RELEASE, previous_release) if first == "this" else (previous_release, THIS_RELEASE)
    tracker = empty_cluster.start_tracker(running)
    env = write_env(
        empty_cluster.folder / ".env_other",
        {"SERVER_URL": LOOPBACK, "SERVER_PORT": 0, "STATE_DIR": empty_cluster.folder / "tracker"},
    )
    refused = subprocess.run(
        [sys.executable, str(other.server), str(env)], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert f"in use by another tracker (process {tracker.program.pid})" in refused.stderr


def make_old_state(cluster: Cluster, previous_release: Release, rng: random.Random) -> tuple[Path, str]:
    """Return a STATE_DIR of the previous release with many accounts, some of them in the write-ahead log only.

    The token opens one of its sessions.
    """
    tracker = cluster.start_tracker(previous_release)
    body = {"username": "ana", "password": PASSWORD, "url": "127.0.0.1:5001"}
    login = requests.post(f"http://{LOOPBACK}:{tracker.program.port}/login", json=body, timeout=30).json()
    tracker.kill()
    state = cluster.folder / "tracker"
    now = time.time()
    users = [(f"user{n}", f"scrypt$32768$8$3${rng.randbytes(40).hex()}", now - n) for n in range(ROWS)]
    sessions = [
        (rng.randbytes(32).hex(), rng.randbytes(16).hex(), f"user{n}", f"10.0.0.1:{n + 1}", n % 2, now - n, now - n)
        for n in range(ROWS)
    ]
    with closing(sqlite3.connect(state / "accounts.sqlite3")) as db:
        with db:
            db.executemany("INSERT INTO users VALUES (?, ?, ?)", users)
            db.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", sessions[: ROWS // 2])
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA wal_autocheckpoint=0")
        with db:
            db.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", sessions[ROWS // 2 :])
        copy = cluster.folder / "old state"
        shutil.copytree(state, copy)
    assert (copy / "accounts.sqlite3-wal").stat().st_size > 1 << 20
    return copy, login["token"]


def content(state: Path) -> tuple[int, dict[str, str]]:
    """Return the state number of accounts, and a digest of all rows of each table."""
    with closing(sqlite3.connect(state / "accounts.sqlite3")) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables == {"users", "sessions"}:
            number, columns = 1, OLD_COLUMNS
        else:
            assert tables == {"users", "sessions", "meta", "alembic_version"}
            [(stored,)] = db.execute("SELECT version_num FROM alembic_version")
            number, columns = int(stored), NEW_COLUMNS
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        digests = {}
        for table, names in columns.items():
            rows = db.execute(f"SELECT {names} FROM {table} ORDER BY 1").fetchall()
            digests[table] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return number, digests


@pytest.mark.heavy
def test_a_kill_during_the_upgrade_leaves_the_old_or_the_new_state_complete(
    empty_cluster: Cluster, previous_release: Release, rng: random.Random, tmp_path: Path
) -> None:
    old_state, token = make_old_state(empty_cluster, previous_release, rng)
    # Opening a database changes it: it moves the log into the file.
    expected = content(Path(shutil.copytree(old_state, tmp_path / "read")))[1]
    env = write_env(tmp_path / ".env", {"SERVER_URL": LOOPBACK, "SERVER_PORT": 0, "STATE_DIR": tmp_path / "state"})

    def start() -> "subprocess.Popen[bytes]":
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        shutil.copytree(old_state, tmp_path / "state")
        return subprocess.Popen(
            [sys.executable, str(THIS_RELEASE.server), str(env)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def wait_ready(process: "subprocess.Popen[bytes]") -> bytes:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(b"READY ")
        return line

    def end(process: "subprocess.Popen[bytes]") -> None:
        process.send_signal(signal.SIGKILL)
        process.communicate()

    began = time.monotonic()
    process = start()
    wait_ready(process)
    seconds = time.monotonic() - began
    end(process)
    assert content(tmp_path / "state") == (STATE_NUMBER, expected)

    numbers = []
    for _ in range(KILLS):
        process = start()
        try:
            # From the imports until READY, which the migration takes most of.
            process.wait(rng.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            end(process)
        number, found = content(tmp_path / "state")
        assert number in (1, STATE_NUMBER)
        assert found == expected
        numbers.append(number)
    print(f"states after the kills: {numbers}")
    assert 1 in numbers, "no kill came before the end of the migration"

    # A kill in the midst of it, and then a start that is not killed.
    process = start()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.6 * seconds)
    end(process)
    process = subprocess.Popen(
        [sys.executable, str(THIS_RELEASE.server), str(env)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        port = json.loads(wait_ready(process).removeprefix(b"READY "))["port"]
        headers = {"Authorization": f"Bearer {token}"}
        ping = requests.put(
            f"http://{LOOPBACK}:{port}/ping", json={"epoch": "", "index_version": ""}, headers=headers, timeout=30
        )
        assert ping.status_code == 200, "the session of before is open"
    finally:
        end(process)
    assert content(tmp_path / "state")[0] == STATE_NUMBER
