"""The previous release's pserver state is upgraded without loss, also by a killed process; a newer one is refused."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from common.version import VERSION
from eventually import eventually
from ports import reserve_port
from programs import PSERVER, NotReady, write_env
from system.cluster import Cluster
from system.payload import digests_in, make_file
from system.releases import THIS_RELEASE, Release
from system.test_hidden_changes import listed, metric

pytestmark = pytest.mark.history

MIB = 1 << 20
FILES = 100_000
KILLS = 20
# Fills the manifest cache of the previous release with its own code.
FILL = """
import hashlib, sys, time
from pathlib import Path
from daemon.library.manifest_cache import ManifestCache
from daemon.storage.disk import Fingerprint
from daemon.storage.manifest import Manifest

cache = ManifestCache(Path(sys.argv[1]), time.time())
for start in range(0, FILES, 10_000):
    numbers = range(start, start + 10_000)
    cache.put([(Fingerprint(1, n, 1, 5), Manifest(1, 1 << 20, hashlib.sha256(b"%d" % n).digest())) for n in numbers])
ids = [id_ for id_ in cache.find_ids([Fingerprint(1, n, 1, 5) for n in range(500)]) if id_]
cache.record_replicas((f"name {n}", id_, 1) for n, id_ in enumerate(ids))
for id_ in ids[:50]:
    cache.record_incoming(id_, 7)
cache.close()
"""


def test_an_upgrade_keeps_ids_replicas_session_and_unfinished_downloads(
    empty_cluster: Cluster, previous_release: Release, rng: random.Random
) -> None:
    empty_cluster.start_tracker()
    ana = empty_cluster.peer("ana", release=previous_release, METRICS_PORT=reserve_port())
    ben = empty_cluster.peer("ben", release=previous_release, METRICS_PORT=reserve_port(), DOWNLOAD_LIMIT="2M")
    for number in range(20):
        make_file(ana.home / "small" / f"{number}", 1000 + number, rng)
    make_file(ana.home / "film.bin", 30 * MIB, rng)
    assert ana.pclient("upload", "small").code == 0
    assert ana.pclient("upload", "film.bin", "--copies", "0").code == 0
    unfinished = ben.start_command("download", "film.bin")
    ben.at_progress(0.3, lambda: None)
    before = {peer.home: digests_in(peer.shared) for peer in (ana, ben)}
    ids, used = listed(ana), ben.status().quota_used
    assert used == sum(1000 + number for number in range(20))

    for peer in (ana, ben):
        peer.restart_as(THIS_RELEASE.pserver)
        peer.pclient_script = THIS_RELEASE.pclient
    unfinished.wait()

    for peer in (ana, ben):
        eventually(lambda peer=peer: metric(peer, "p2p_logged_in") == 1)  # type: ignore[misc]
        eventually(lambda peer=peer: metric(peer, "p2p_unconfirmed_files") == 0)  # type: ignore[misc]
        assert digests_in(peer.shared) == before[peer.home]
    eventually(lambda: listed(ana) == ids)
    assert ben.status().quota_used == used
    small = sum(1000 + number for number in range(20))
    # One piece of each file, which is all of a small one.
    assert metric(ana, "p2p_hashed_bytes_total") == small + MIB
    assert metric(ben, "p2p_hashed_bytes_total") == small
    received = ben.pclient("download", "film.bin").one
    assert received["resumed_bytes"] >= 8 * MIB


@pytest.fixture
def filled(tmp_path: Path, previous_release: Release) -> Path:
    """A manifest cache of the previous release that knows 100,000 files."""
    path = tmp_path / "filled" / "catalog.db"
    path.parent.mkdir()
    command = [sys.executable, "-c", FILL.replace("FILES", str(FILES)), str(path)]
    environment = {**os.environ, "PYTHONPATH": str(previous_release.top / "peer")}
    subprocess.run(command, env=environment, check=True, timeout=120)
    return path


class Rows(NamedTuple):
    """The state number of a manifest cache, and its numbers of rows."""

    state: int
    files: int
    manifests: int
    replicas: int
    incoming: int


def size_of(log: Path) -> int:
    """Return the bytes of a log; -1 without one. The check of the state at the start makes one for a moment."""
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return -1


def rows(path: Path) -> Rows:
    """Return what is in a sound cache of either release."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (state,) = connection.execute("PRAGMA user_version").fetchone()
        tables = (
            ("files", "manifests", "kept", "begun") if state == 1 else ("files", "manifests", "replicas", "incoming")
        )
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
        return Rows(state, *counts)


@pytest.mark.heavy
def test_kills_during_the_upgrade_of_a_large_state_lose_nothing(
    filled: Path, tmp_path: Path, rng: random.Random
) -> None:
    keys = dict.fromkeys(("PSERVER_URL", "PSERVER_LOCAL_URL", "SERVER_URL"), "127.0.0.1")
    keys |= {"PSERVER_PORT": "0", "SERVER_PORT": str(reserve_port()), "STATE_DIR": "state", "SHARED_DIR": "shared"}
    env = write_env(tmp_path / ".env", keys)
    state = tmp_path / "state"
    log_bytes = 12 * MIB
    killed_in = {1: 0, 2: 0}
    # Some are killed at their end: their logs are as long as those of the others would get.
    for number in range(KILLS):
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(mode=0o700)
        shutil.copy(filled, state / "catalog.db")
        log = state / "catalog.db-wal"
        process = subprocess.Popen([sys.executable, PSERVER, env], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        if number % 5 == 0:
            assert process.stdout.readline().startswith(b"READY")
            log_bytes = log.stat().st_size
        else:
            limit = rng.random() * log_bytes
            eventually(lambda: size_of(log) >= limit, 60, every=0.0005)  # noqa: B023
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
        found = rows(state / "catalog.db")
        assert (found.files, found.manifests) == (FILES, FILES)
        if found.state == 1:
            assert (found.replicas, found.incoming) == (500, 50)
        # After the upgrade, the start goes on and removes the records of replicas and parts that are not there.
        killed_in[found.state] += 1
    print(f"log of {log_bytes} bytes; killed with the old state: {killed_in[1]}, with the new one: {killed_in[2]}")
    assert killed_in[1] and killed_in[2] >= KILLS // 5


def test_the_state_of_a_newer_release_stops_the_start_and_is_not_touched(cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    make_file(ana.shared / "a.txt", 1000, rng)
    eventually(lambda: listed(ana))
    assert ana.terminate() == 0
    path = ana.state / "catalog.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE files ADD COLUMN flavour TEXT")
        connection.execute("UPDATE written_by SET release = '9.9.0'")
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
    before = {file.name: file.read_bytes() for file in ana.state.iterdir()}
    with pytest.raises(NotReady) as refusal:
        ana.start()
    last_line = str(refusal.value).splitlines()[-1]
    assert "exit status 69" in str(refusal.value)
    assert last_line.startswith("pserver: ")
    for part in (str(path), "9.9.0", "state 99", VERSION, "state 2"):
        assert part in last_line
    assert {file.name: file.read_bytes() for file in ana.state.iterdir()} == before
