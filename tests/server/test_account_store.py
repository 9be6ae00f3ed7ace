"""The database of accounts: creation, upgrade, refusal of what is newer or damaged, and its independence of SQLite."""

import hashlib
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from state_1 import STATE_1
from tracker import VERSION, account_store
from tracker.account_store.opening import open_store
from tracker.account_store.schema import STATE_NUMBER, metadata
from tracker.account_store.store import AccountStore, StoredSession
from tracker.errors import Incompatible
from tracker.state_dir import StateError

MIGRATIONS = Path(account_store.__file__).parent / "migrations"
SESSION = StoredSession("d" * 64, "1" * 32, "ana", "127.0.0.1:5001", True, 1_000_000.25, 1_000_100.75)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[AccountStore]:
    with closing(open_store(path, may_create=True)) as store:
        yield store


def make_state_1(path: Path, users: int = 1) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(STATE_1)
        db.executemany("INSERT INTO users VALUES (?, ?, ?)", [(f"user{n}", f"scrypt${n}", 1.5) for n in range(users)])
        db.execute("INSERT INTO users VALUES ('ana', 'scrypt$x', 1000000.25)")
        _, peer_id, user, address, loopback, created, seen = SESSION
        db.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)",
            (SESSION.token_digest, peer_id, user, address, int(loopback), created, seen),
        )


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def shape(path: Path) -> dict[str, Any]:
    """Tables, columns and constraints, without their order."""
    engine = sa.create_engine(f"sqlite:///{path}")
    inspector = sa.inspect(engine)
    found: dict[str, Any] = {}
    for table in inspector.get_table_names():
        found[table] = {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)
            ],
            "key": inspector.get_pk_constraint(table),
            "unique": inspector.get_unique_constraints(table),
            "foreign": inspector.get_foreign_keys(table),
        }
    engine.dispose()
    return found


def test_what_is_stored_is_read_after_opening_again(store: AccountStore, path: Path) -> None:
    assert store.add_user("ana", "hash", 1.0)
    assert not store.add_user("ana", "another", 2.0)
    store.add_session(SESSION, [])
    second = SESSION._replace(token_digest="e" * 64, peer_id="2" * 32, loopback=False)
    store.add_session(second, [])
    store.set_password("ana", "new hash")
    store.save_last_seen({"d" * 64: 2_000_000.5, "unknown": 1.0})
    store.close()
    with closing(open_store(path, may_create=False)) as again:
        assert again.password_hash("ana") == "new hash"
        assert again.password_hash("ben") is None
        assert sorted(again.sessions(0)) == [SESSION._replace(last_seen=2_000_000.5), second]
        assert list(again.sessions(2_000_000)) == [SESSION._replace(last_seen=2_000_000.5)]
        again.delete_unused_sessions(2_000_000)
        again.delete_session("d" * 64)
        assert list(again.sessions(0)) == []


def test_a_session_replaces_others_in_one_step(store: AccountStore) -> None:
    store.add_user("ana", "hash", 1.0)
    store.add_session(SESSION, [])
    same_peer = SESSION._replace(token_digest="e" * 64)
    with pytest.raises(sa.exc.IntegrityError):
        store.add_session(same_peer._replace(user="nobody", peer_id="2" * 32), [SESSION.token_digest])
    assert list(store.sessions(0)) == [SESSION], "nothing was deleted"
    store.add_session(same_peer, [SESSION.token_digest])
    assert list(store.sessions(0)) == [same_peer]


def test_accounts_of_the_release_before_are_upgraded(path: Path) -> None:
    make_state_1(path)
    with closing(open_store(path, may_create=False)) as store:
        assert store.password_hash("ana") == "scrypt$x"
        assert list(store.sessions(0)) == [SESSION]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'release'").fetchall() == [(VERSION,)]
        assert db.execute("SELECT created FROM users WHERE name = 'ana'").fetchall() == [(1000000.25,)]


def test_the_content_of_a_write_ahead_log_is_upgraded_too(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "running.sqlite3")) as db:
        db.executescript(STATE_1)
        db.execute("INSERT INTO users VALUES ('ana', 'in the log', 1.0)")
        db.commit()
        # Copied as a crash leaves it: closing would move the log into the file.
        for suffix in ("", "-wal"):
            path.with_name(path.name + suffix).write_bytes((tmp_path / f"running.sqlite3{suffix}").read_bytes())
    with closing(open_store(path, may_create=False)) as store:
        assert store.password_hash("ana") == "in the log"
    assert not path.with_name("accounts.sqlite3-wal").exists()


def test_an_upgraded_database_is_like_a_new_one(path: Path, tmp_path: Path) -> None:
    make_state_1(path)
    open_store(path, may_create=False).close()
    open_store(tmp_path / "new.sqlite3", may_create=True).close()
    assert shape(path) == shape(tmp_path / "new.sqlite3")


def test_the_migrations_make_the_tables_that_the_queries_use(store: AccountStore, path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_each_state_number_has_one_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    numbers = [revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()]
    assert numbers == [f"{number:04}" for number in range(STATE_NUMBER, 0, -1)]


def test_a_start_without_an_upgrade_changes_no_byte(path: Path, tmp_path: Path) -> None:
    open_store(path, may_create=True).close()
    before = content(tmp_path)
    assert list(before) == ["accounts.sqlite3"]
    open_store(path, may_create=False).close()
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("number", "shown"), [(f"{STATE_NUMBER + 5:04}", str(STATE_NUMBER + 5)), ("ae1027a6acf", "unknown")]
)
def test_accounts_of_a_newer_release_are_refused_and_not_changed(
    path: Path, tmp_path: Path, number: str, shown: str
) -> None:
    open_store(path, may_create=True).close()
    change(path, f"UPDATE alembic_version SET version_num = '{number}'", "UPDATE meta SET value = '9.1.0'")
    before = content(tmp_path)
    with pytest.raises(Incompatible) as refused:
        open_store(path, may_create=False)
    assert str(refused.value) == (
        f"{path} was written by release 9.1.0 (state {shown}), and this is release {VERSION} (state {STATE_NUMBER}): "
        "start release 9.1.0 or a newer one, or restore an older backup"
    )
    assert content(tmp_path) == before


def test_a_newer_release_is_named_even_if_it_has_other_tables(path: Path) -> None:
    open_store(path, may_create=True).close()
    change(
        path,
        "UPDATE alembic_version SET version_num = '0099'",
        "ALTER TABLE users ADD COLUMN role TEXT",
        "ALTER TABLE sessions RENAME COLUMN address TO addresses",
        "DROP TABLE meta",
    )
    with pytest.raises(Incompatible, match=r"release unknown \(state 99\)"):
        open_store(path, may_create=False)


def test_the_release_that_wrote_last_is_recorded(path: Path) -> None:
    open_store(path, may_create=True).close()
    change(path, "UPDATE meta SET value = '0.1.9'")
    open_store(path, may_create=False).close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT value FROM meta").fetchall() == [(VERSION,)]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3 // 4096 * 4096])


def overwrite_a_page(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[5 * 4096 : 6 * 4096] = b"\xff" * 4096
    path.write_bytes(raw)


def drop_tables(path: Path) -> None:
    change(path, "DROP TABLE sessions", "DROP TABLE users", "DROP TABLE IF EXISTS meta")


def leave_only_what_a_copy_without_log_has(path: Path) -> None:
    path.unlink()
    change(path, "PRAGMA journal_mode=WAL")
    assert path.stat().st_size


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"no database\n" * 1000),
    "header only": lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(100)),
    "truncated": truncate,
    "one page overwritten": overwrite_a_page,
    "no tables": drop_tables,
    "no users": lambda path: change(path, "DROP TABLE users"),
    "copied without its log": leave_only_what_a_copy_without_log_has,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("state", [1, STATE_NUMBER])
def test_damage_is_one_line_and_no_new_network(path: Path, damage: str, state: int) -> None:
    make_state_1(path, users=2000)
    if state > 1:
        open_store(path, may_create=False).close()
    DAMAGE[damage](path)
    before = path.read_bytes()
    with pytest.raises(StateError) as refused:
        open_store(path, may_create=True)
    message = str(refused.value)
    assert "\n" not in message
    assert re.match(
        rf"{re.escape(str(path))} is damaged \(.+\): restore it from a backup; to begin a new network", message
    )
    assert path.read_bytes() == before


def test_missing_accounts_are_created_only_for_a_new_network(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"accounts\.sqlite3 is missing, and a tracker has run in this folder"):
        open_store(path, may_create=False)
    assert list(tmp_path.iterdir()) == []
    open_store(path, may_create=True).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("journal", ["accounts.sqlite3-wal", "accounts.sqlite3-journal"])
def test_a_journal_without_its_database_stays(path: Path, journal: str) -> None:
    (path.parent / journal).write_bytes(b"may be the only copy")
    with pytest.raises(StateError, match=f"is damaged .it is missing, and {journal} exists"):
        open_store(path, may_create=True)
    assert (path.parent / journal).read_bytes() == b"may be the only copy"
    assert not path.exists()


def test_an_unfinished_creation_is_begun_again(path: Path, tmp_path: Path) -> None:
    for name in (".accounts.sqlite3.new", ".accounts.sqlite3.new-journal"):
        (tmp_path / name).write_bytes(b"half")
    open_store(path, may_create=True).close()
    assert [each.name for each in tmp_path.iterdir()] == ["accounts.sqlite3"]


def test_a_link_in_place_of_the_file_is_not_followed(path: Path, tmp_path: Path) -> None:
    open_store(tmp_path / "elsewhere", may_create=True).close()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="cannot be used"):
        open_store(path, may_create=False)


def test_another_program_that_writes_delays_a_change_and_never_loses_it(store: AccountStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        added: list[bool] = []
        thread = threading.Thread(target=lambda: added.append(store.add_user("ana", "hash", 1.0)))
        thread.start()
        assert store.password_hash("ana") is None, "reads do not wait"
        other.execute("COMMIT")
        thread.join()
    assert added == [True] and store.password_hash("ana") == "hash"


def test_changes_of_many_threads_are_all_stored(store: AccountStore) -> None:
    results: list[bool] = []

    def register(number: int) -> None:
        results.extend(store.add_user(f"user{each}", str(number), 1.0) for each in range(20))

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(True) == 20, "each account is created once"


def postgresql_statements() -> str:
    """The SQL of all migrations for PostgreSQL."""
    lines: list[str] = []
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)

    class Buffer:
        def write(self, text: str) -> None:
            lines.append(text)

        def flush(self) -> None:
            """Nothing is buffered."""

    context = MigrationContext.configure(
        dialect_name="postgresql",
        opts={"as_sql": True, "output_buffer": Buffer(), "fn": lambda *_: (), "target_metadata": metadata},
    )
    with Operations.context(context):
        for revision in reversed(list(scripts.walk_revisions())):
            revision.module.upgrade()
    return "".join(lines)


def test_every_migration_and_table_can_be_written_for_postgresql() -> None:
    assert "ALTER TABLE sessions RENAME url TO address" in postgresql_statements()
    dialect = sa.make_url("postgresql://").get_dialect()()
    for table in metadata.sorted_tables:
        assert f"CREATE TABLE {table.name}" in str(sa.schema.CreateTable(table).compile(dialect=dialect))


def test_only_one_module_has_sql_of_sqlite() -> None:
    package = MIGRATIONS.parent
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"PRAGMA|sqlite_master|exec_driver_sql|OR IGNORE|\btext\(", path.read_text())
    }
    assert found == {"sqlite_file.py"}
