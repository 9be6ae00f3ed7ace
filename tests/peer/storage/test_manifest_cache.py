"""Claims about the manifest cache: it survives a restart, and damage to its file only makes files be hashed again."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import DiskFull, Incompatible
from daemon.library.identity import Check
from daemon.library.manifest_cache import ManifestCache
from daemon.storage.fingerprints import Fingerprint
from daemon.storage.manifest import Manifest

DAY = 24 * 3600.0
NOW = 20_000 * DAY
# Where SQLite stores PRAGMA user_version.
STATE_NUMBER_BYTES = slice(60, 64)


def some(number: int) -> tuple[Fingerprint, Manifest]:
    return Fingerprint(1, number, 3, 5, 7), Manifest.of_bytes(b"%d" % number)


def confirmed_ids(cache: ManifestCache, fingerprints: list[Fingerprint]) -> list[str | None]:
    """Return the ids that need no check."""
    known = cache.find_ids(fingerprints)
    return [each.id if each is not None and each.check is Check.NONE else None for each in known]


def test_cached_manifests_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    cache = ManifestCache(path, NOW)
    files = [some(number) for number in range(50)]
    cache.put(files)
    cache.record_replicas([("a", files[0][1].id, 3), ("b", files[0][1].id, 4)])
    cache.close()
    cache = ManifestCache(path, NOW)
    assert confirmed_ids(cache, [fingerprint for fingerprint, _ in files]) == [manifest.id for _, manifest in files]
    others = [Fingerprint(1, 0, 3, 6, 7), Fingerprint(1, 0, 4, 5, 7), Fingerprint(1, 1000, 3, 5, 7)]
    assert cache.find_ids(others) == [None] * 3
    assert [cache.manifest(manifest.id) for _, manifest in files] == [manifest for _, manifest in files]
    assert cache.manifest("0" * 64) is None
    assert cache.replica_usage() == (2, 7)
    cache.release_replicas([("a", files[0][1].id)])
    assert cache.replica_usage() == (1, 4)
    cache.forget([files[3][0]])
    assert confirmed_ids(cache, [files[3][0], files[4][0]]) == [None, files[4][1].id]
    cache.close()


def test_a_file_is_found_by_inode_size_and_mtime_and_says_what_must_be_checked(cache: ManifestCache) -> None:
    fingerprint, manifest = some(1)
    cache.put([(fingerprint, manifest)])
    remounted = fingerprint._replace(dev=2)
    renamed = fingerprint._replace(ctime_ns=8)
    elsewhere = fingerprint._replace(dev=2, ctime_ns=8)
    assert cache.find_ids([fingerprint, remounted, renamed, elsewhere]) == [
        (manifest.id, Check.NONE),
        (manifest.id, Check.PIECE),
        (manifest.id, Check.FILE),
        None,
    ]
    cache.put_ids([(elsewhere, manifest.id)])
    assert confirmed_ids(cache, [elsewhere, fingerprint]) == [manifest.id] * 2
    cache.forget([renamed])
    assert cache.find_ids([fingerprint, elsewhere]) == [None] * 2


def test_records_of_incoming_pushes_survive_a_restart_in_order(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    ids = [some(number)[1].id for number in range(3)]
    cache = ManifestCache(path, NOW)
    for id_ in (*ids, ids[0]):
        cache.record_incoming(id_, 7)
    cache.forget_incoming([ids[1], "0" * 64])
    cache.close()
    cache = ManifestCache(path, NOW)
    assert list(cache.incoming_parts().items()) == [(ids[2], 7), (ids[0], 7)]
    cache.close()


def test_fingerprints_with_unsigned_64_bit_numbers_are_stored(cache: ManifestCache) -> None:
    fingerprint = Fingerprint(2**64 - 1, 2**63, 2**47, 2**63 - 1, 2**63 - 1)
    manifest = Manifest.of_bytes(b"x")
    cache.put([(fingerprint, manifest), (Fingerprint(0, 0, 0, -1, -1), manifest)])
    assert confirmed_ids(cache, [fingerprint, Fingerprint(0, 0, 0, -1, -1)]) == [manifest.id] * 2


def test_the_database_is_readable_only_by_its_user(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    cache = ManifestCache(path, NOW)
    cache.put([some(1)])
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    cache.close()


def test_files_unseen_for_long_are_pruned(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    cache = ManifestCache(path, NOW)
    cache.put([some(1), some(2)])
    cache.close()
    cache = ManifestCache(path, NOW + 50 * DAY)
    assert confirmed_ids(cache, [some(1)[0]]) == [some(1)[1].id]
    cache.close()
    cache = ManifestCache(path, NOW + 70 * DAY)
    cache.prune()
    assert confirmed_ids(cache, [some(1)[0], some(2)[0]]) == [some(1)[1].id, None]
    assert cache.manifest(some(1)[1].id) is not None
    assert cache.manifest(some(2)[1].id) is None
    cache.close()


def other_tables(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE files (x)")


def lacking_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE replicas")


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no database at all" * 100),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        other_tables,
        lacking_tables,
    ],
    ids=["empty", "foreign", "cut", "other tables", "lacking tables"],
)
def test_a_foreign_database_is_replaced(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    path = tmp_path / "cache.sqlite"
    cache = ManifestCache(path, NOW)
    cache.put([some(number) for number in range(100)])
    cache.close()
    harm(path)
    cache = ManifestCache(path, NOW)
    cache.find_ids([some(number)[0] for number in range(100)])
    cache.put([some(7)])
    assert confirmed_ids(cache, [some(7)[0]]) == [some(7)[1].id]
    assert cache.replica_usage() == (0, 0)
    cache.close()


@pytest.mark.parametrize("rounds", [100, pytest.param(2_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_a_damaged_database_never_crashes_nor_returns_a_wrong_manifest(tmp_path: Path, rounds: int) -> None:
    pristine = tmp_path / "pristine.sqlite"
    cache = ManifestCache(pristine, NOW)
    cache.put([some(number) for number in range(200)])
    cache.record_replicas([(f"n{number}", some(number)[1].id, 1) for number in range(50)])
    cache.close()
    data = pristine.read_bytes()
    for seed in range(rounds):
        chance = random.Random(seed)
        damaged = bytearray(data)
        if chance.random() < 0.2:
            del damaged[chance.randrange(len(damaged)) :]
        for _ in range(chance.choice([1, 5, 100, 3000])):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path = tmp_path / f"{seed}.sqlite"
        path.write_bytes(damaged)
        try:
            cache = ManifestCache(path, NOW)
        except Incompatible:
            # Damage of the state number alone looks like a newer release.
            assert damaged[STATE_NUMBER_BYTES] != data[STATE_NUMBER_BYTES], f"seed {seed}"
            continue
        for id_ in confirmed_ids(cache, [some(number)[0] for number in range(200)]):
            if id_ is not None:
                manifest = cache.manifest(id_)
                assert manifest is None or manifest.id == id_, f"seed {seed}"
        cache.replica_usage()
        cache.release_replicas_unless(lambda name, id_: name.startswith("n1") and len(id_) == 64)
        cache.put([some(1000)])
        assert confirmed_ids(cache, [some(1000)[0]]) == [some(1000)[1].id], f"seed {seed}"
        cache.prune()
        cache.close()
        for file in tmp_path.glob(f"{seed}.sqlite*"):
            os.unlink(file)


def test_a_full_disk_is_not_taken_for_a_damaged_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ManifestCache(tmp_path / "cache.sqlite", NOW)
    cache.put([some(1)])
    cache.close()
    connect = sqlite3.connect

    def connect_to_full_disk(path: Path, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(path, **options)
        # SQLite raises the limit to the present size: the database cannot grow.
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_to_full_disk)
    with pytest.raises(DiskFull):
        cache.put([some(number) for number in range(2, 2000)])
    assert confirmed_ids(cache, [some(1)[0], some(2)[0]]) == [some(1)[1].id, None]
    assert list(tmp_path.glob("*.damaged")) == []
    cache.close()
