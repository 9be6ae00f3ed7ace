"""The state of the database: which release wrote it, and its upgrade to the newest state in one transaction."""

import logging
from pathlib import Path

import sqlalchemy as sa

from tracker import VERSION
from tracker.account_store.schema import RELEASE_KEY, STATE_NUMBER, meta
from tracker.errors import Incompatible

_MIGRATIONS = Path(__file__).parent / "migrations"
# Alembic's own table, with the number of the last migration.
_NUMBER = sa.table("alembic_version", sa.column("version_num", sa.Text))
# The state of releases that stored no number.
_UNNUMBERED = 1


class NoAccounts(Exception):
    """The database has no tables of accounts."""


def stored_number(connection: sa.Connection) -> int:
    """Return the state of a database, at most STATE_NUMBER.

    Raises:
        Incompatible: a newer release wrote the database.
        NoAccounts: it has no accounts.
    """
    tables = set(sa.inspect(connection).get_table_names())
    if not {"users", "sessions"} <= tables:
        raise NoAccounts
    number = _number(connection) if _NUMBER.name in tables else _UNNUMBERED
    if number is None or number > STATE_NUMBER:
        release = (_release(connection) if meta.name in tables else None) or "unknown"
        raise Incompatible(
            f"was written by release {release} (state {number or 'unknown'}), and this is release {VERSION} "
            f"(state {STATE_NUMBER}): start release {release} or a newer one, or restore an older backup"
        )
    return number


def upgrade(connection: sa.Connection, number: int) -> None:
    """Bring a database to STATE_NUMBER, and record that this release writes to it.

    Args:
        connection: in a transaction, which the caller commits.
        number: the present state; 0 for a new database.
    """
    if number < STATE_NUMBER:
        _migrate(connection, number)
    match _release(connection):
        case None:
            connection.execute(meta.insert().values(key=RELEASE_KEY, value=VERSION))
        case release if release != VERSION:
            connection.execute(meta.update().where(meta.c.key == RELEASE_KEY).values(value=VERSION))


def _number(connection: sa.Connection) -> int | None:
    """Return the stored number; None if it is not one of this project's."""
    found = connection.execute(sa.select(_NUMBER.c.version_num)).scalars().all()
    if len(found) != 1 or not (found[0].isascii() and found[0].isdigit()):
        return None
    return int(found[0])


def _release(connection: sa.Connection) -> str | None:
    return connection.execute(sa.select(meta.c.value).where(meta.c.key == RELEASE_KEY)).scalar()


def _migrate(connection: sa.Connection, number: int) -> None:
    # Alembic logs each step, and what kind of database this is.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Imported here: it takes 0.1 s and 10 MB, and few starts need it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    if number == _UNNUMBERED:
        command.stamp(config, f"{_UNNUMBERED:04}")
    command.upgrade(config, "head")
