"""Claims about the state of other releases: earlier ones are upgraded and lose nothing, newer ones are not touched."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from common.version import VERSION
from daemon.errors import Incompatible
from daemon.library.cache_database import STATE_NUMBER
from daemon.library.identity import Check
from daemon.library.manifest_cache import ManifestCache
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.manifest import Manifest

DAY = 24 * 3600.0
NOW = 20_000 * DAY
# The schema of state 1, with the data types of release 0.1.
STATE_1 = """
CREATE TABLE files (
    dev INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, id BLOB NOT NULL, seen INTEGER NOT NULL,
    PRIMARY KEY (dev, inode, size, mtime_ns)
) STRICT, WITHOUT ROWID;
CREATE TABLE manifests (id BLOB PRIMARY KEY, manifest BLOB NOT NULL) STRICT;
CREATE TABLE kept (name TEXT, id BLOB, size INTEGER NOT NULL, PRIMARY KEY (name, id)) STRICT, WITHOUT ROWID;
CREATE TABLE begun (id BLOB NOT NULL UNIQUE, size INTEGER NOT NULL) STRICT;
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
"""


def manifest(number: int) -> Manifest:
    return Manifest.of_bytes(b"%d" % number)


def fingerprint(number: int) -> Fingerprint:
    return Fingerprint(1, number, 3, 5, 7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


def make_state_1(path: Path, files: int) -> None:
    with closing(sqlite3.connect(path)) as old:
        old.executescript(STATE_1)
        ids = [bytes.fromhex(manifest(number).id) for number in range(files)]
        old.executemany(
            "INSERT INTO files VALUES (1, ?, 3, 5, ?, ?)", [(n, id_, NOW // DAY) for n, id_ in enumerate(ids)]
        )
        old.executemany("INSERT INTO manifests VALUES (?, ?)", [(ids[n], manifest(n).encode()) for n in range(files)])
        old.executemany("INSERT INTO kept VALUES (?, ?, 3)", [("b/a", ids[0]), ("c", ids[1])])
        old.executemany("INSERT INTO begun VALUES (?, ?)", [(ids[2], 20), (ids[1], 10)])
        old.commit()


def state_number(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_upgraded(path: Path, files: int) -> None:
    cache = ManifestCache(path, NOW)
    known = cache.find_ids([fingerprint(number) for number in range(files)])
    assert known == [(manifest(number).id, Check.PIECE) for number in range(files)]
    assert cache.manifest(manifest(files - 1).id) == manifest(files - 1)
    assert cache.replica_usage() == (3, 6)
    assert list(cache.incoming_parts().items()) == [(manifest(2).id, 20), (manifest(1).id, 10)]
    cache.close()


def test_an_upgrade_keeps_ids_manifests_replicas_and_incoming_parts(path: Path) -> None:
    make_state_1(path, 50)
    check_upgraded(path, 50)
    check_upgraded(path, 50)
    assert state_number(path) == STATE_NUMBER
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_first_releases_had_no_records_of_incoming_parts(path: Path) -> None:
    make_state_1(path, 3)
    with closing(sqlite3.connect(path)) as old:
        old.execute("DROP TABLE begun")
    cache = ManifestCache(path, NOW)
    assert cache.replica_usage() == (3, 6)
    cache.record_incoming(manifest(1).id, 5)
    assert cache.incoming_parts() == {manifest(1).id: 5}
    cache.close()


# Opens the database like ManifestCache, and is killed before its n-th statement.
KILLED_UPGRADE = """
import os, signal, sqlite3, sys
from pathlib import Path
from daemon.library.manifest_cache import ManifestCache

connect, left = sqlite3.connect, int(sys.argv[2])

class Killing(sqlite3.Connection):
    def execute(self, *arguments):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(*arguments)

sqlite3.connect = lambda *arguments, **options: connect(*arguments, factory=Killing, **options)
ManifestCache(Path(sys.argv[1]), 0)
"""


@pytest.mark.parametrize("statement", range(1, 18))
def test_a_process_killed_during_an_upgrade_leaves_the_old_state_or_the_new_one(path: Path, statement: int) -> None:
    make_state_1(path, 200)
    killed = run_python(KILLED_UPGRADE, path, statement)
    assert killed == -signal.SIGKILL
    assert state_number(path) in (1, STATE_NUMBER)
    check_upgraded(path, 200)


def run_python(script: str, *arguments: object) -> int:
    """Run a script with the packages of the pserver; return its exit status."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, check=False, timeout=60).returncode


def test_the_database_names_the_release_that_wrote_it_last(path: Path) -> None:
    for written in ("0.1.0", "0.9.9"):
        ManifestCache(path, NOW).close()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT release FROM written_by").fetchall() == [(VERSION,)]
            connection.execute("UPDATE written_by SET release = ?", (written,))
            connection.commit()
    ManifestCache(path, NOW).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT release FROM written_by").fetchall() == [(VERSION,)]


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE files ADD COLUMN flavour TEXT")
        connection.execute("UPDATE written_by SET release = '0.9.0'")
        connection.execute("PRAGMA user_version = 9")
        connection.commit()


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_database_of_a_newer_release_is_refused_and_not_touched(path: Path) -> None:
    ManifestCache(path, NOW).close()
    make_newer(path)
    before = content(path.parent)
    for _ in range(2):
        with pytest.raises(Incompatible) as refusal:
            ManifestCache(path, NOW)
        for part in (str(path), "0.9.0", "state 9", VERSION, f"state {STATE_NUMBER}"):
            assert part in refusal.value.message
        assert content(path.parent) == before


KILLED_NEWER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA user_version = 9")
connection.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_newer_database_whose_process_was_killed_is_refused_and_not_touched(path: Path) -> None:
    ManifestCache(path, NOW).close()
    assert run_python(KILLED_NEWER, path) == -signal.SIGKILL
    before = content(path.parent)
    assert f"{path.name}-wal" in before
    with pytest.raises(Incompatible):
        ManifestCache(path, NOW)
    after = content(path.parent)
    # The index of the log is in memory that processes share, and is made anew when it is needed.
    assert {name: data for name, data in after.items() if not name.endswith("-shm")} == {
        name: data for name, data in before.items() if not name.endswith("-shm")
    }
