"""STATE_DIR of the tracker: its lock, and its secret beside the accounts."""

import fcntl
import os
from pathlib import Path

import pytest

from tracker.app_factory import open_accounts
from tracker.state_dir import StateDir, StateError

# The file that each release locked, by the first commit that did. A release never removes one of them.
LOCKS = {"the first release": "lock", "since 10e2cda": ".p2p-lock"}


@pytest.mark.parametrize("name", LOCKS.values(), ids=LOCKS)
def test_a_tracker_of_any_release_excludes_this_one(tmp_path: Path, name: str) -> None:
    descriptor = os.open(tmp_path / name, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(descriptor, b"4711")
    with pytest.raises(StateError, match=r"is in use by another tracker \(process 4711\)"), StateDir(tmp_path):
        pass
    os.close(descriptor)
    with StateDir(tmp_path):
        pass


@pytest.mark.parametrize("name", LOCKS.values(), ids=LOCKS)
def test_this_tracker_excludes_one_of_any_release(tmp_path: Path, name: str) -> None:
    with StateDir(tmp_path):
        descriptor = os.open(tmp_path / name, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert os.pread(descriptor, 20, 0) == str(os.getpid()).encode()
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_refused_tracker_holds_no_lock(tmp_path: Path) -> None:
    with StateDir(tmp_path):
        (tmp_path / "lock").unlink()
        with pytest.raises(StateError), StateDir(tmp_path):
            pass
    with StateDir(tmp_path):
        pass


def test_lost_accounts_are_no_new_network(tmp_path: Path) -> None:
    open_accounts(tmp_path, 1.0).close()
    secret = (tmp_path / "secret").read_bytes()
    (tmp_path / "accounts.sqlite3").unlink()
    with pytest.raises(StateError, match="is missing, and a tracker has run in this folder: restore it from a backup"):
        open_accounts(tmp_path, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    (tmp_path / "secret").unlink()
    open_accounts(tmp_path, 1.0).close()
    assert (tmp_path / "secret").read_bytes() != secret


def test_a_tracker_that_was_killed_at_its_first_start_starts_again(tmp_path: Path) -> None:
    open_accounts(tmp_path, 1.0).close()
    # The secret is made last.
    (tmp_path / "secret").unlink()
    accounts = open_accounts(tmp_path, 1.0)
    assert accounts.register("ana", "hash", 1.0)
    accounts.close()
