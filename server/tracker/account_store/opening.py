"""Opens the database at the start of the tracker: creates, checks and upgrades it, or says in one line why not."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from tracker.account_store import sqlite_file
from tracker.account_store.schema import STATE_NUMBER
from tracker.account_store.store import AccountStore
from tracker.account_store.upgrade import NoAccounts, stored_number, upgrade
from tracker.errors import DiskFull, Incompatible
from tracker.state_dir import StateError, StateFull, unusable

log = logging.getLogger("tracker.accounts")


def open_store(path: Path, *, may_create: bool) -> AccountStore:
    """Open the accounts in a SQLite file, upgraded to the newest state.

    Args:
        path: the file.
        may_create: whether a missing file means a new network, not a lost one.

    Raises:
        StateError: the file is missing, damaged, or cannot be used.
        Incompatible: a newer release wrote it; nothing is changed.
    """
    with _start_faults(path):
        if sqlite_file.exists(path):
            with _transaction(path) as connection:
                number = stored_number(connection)
                sqlite_file.check(connection)
                upgrade(connection, number)
            if number < STATE_NUMBER:
                log.info("the accounts were upgraded from state %s to state %s", number, STATE_NUMBER)
            sqlite_file.use_rollback_journal(path)
        elif may_create:
            with sqlite_file.creating(path) as fresh, _transaction(fresh) as connection:
                upgrade(connection, 0)
        else:
            raise StateError(
                f"{path} is missing, and a tracker has run in this folder: restore it from a backup; "
                "to begin a new network instead, remove the file secret beside it"
            )
        return AccountStore(sqlite_file.open_engine(path), sqlite_file.translate)


@contextmanager
def _transaction(path: Path) -> Iterator[sa.Connection]:
    engine = sqlite_file.open_engine(path, foreign_keys=False)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _start_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unusable(str(path), error) from error
    except Incompatible as error:
        raise Incompatible(f"{path} {error}") from None
    except NoAccounts:
        raise _damaged(path, "it has no accounts; a copy of a running tracker's file needs its -wal file") from None
    except sqlite_file.Damaged as error:
        raise _damaged(path, str(error)) from None
    except sqlite_file.ERRORS as error:
        if sqlite_file.is_damage(error):
            raise _damaged(path, sqlite_file.reason(error)) from error
        if isinstance(sqlite_file.translate(error), DiskFull):
            raise StateFull(f"{path} cannot be used: the disk is full; make room") from error
        raise StateError(f"{path} cannot be used: {sqlite_file.reason(error)}") from error


def _damaged(path: Path, reason: str) -> StateError:
    return StateError(
        f"{path} is damaged ({reason}): restore it from a backup; "
        "to begin a new network instead, remove it and the file secret beside it"
    )
