"""STATE_DIR: its mode, its lock, its secret. The other files in it belong to tracker.account_store."""

import errno
import fcntl
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

# Pservers recognize a STATE_DIR by the first file, and share nothing of it (peer/common/state_files.py). Early releases
# locked the second one. Both are locked, so that no two releases run on one STATE_DIR.
_LOCK_FILES = (".p2p-lock", "lock")


class StateError(Exception):
    """The folder cannot be used; one line that says why."""

    exit_status = 1


class StateFull(StateError):
    """The disk of the folder is full."""

    exit_status = 74


def unusable(what: str, error: OSError) -> StateError:
    """Return the error that says that a file or folder cannot be used."""
    kind = StateFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StateError
    return kind(f"{what} cannot be used: {error.strerror}")


class StateDir:
    """A folder of mode 0700, locked for one tracker while the context manager is entered.

    Entering raises StateError if the folder cannot be used, or is in use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._locks: list[int] = []

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.path.stat().st_uid != os.geteuid():
                raise StateError(
                    f"STATE_DIR {self.path} belongs to another user: set STATE_DIR to a folder of your own"
                )
            self.path.chmod(0o700)
            for name in _LOCK_FILES:
                self._lock(self.path / name)
        except BaseException as error:
            self._unlock()
            if isinstance(error, OSError):
                raise unusable(f"STATE_DIR {self.path}", error) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unlock()

    def _lock(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._locks.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            raise StateError(
                f"STATE_DIR {self.path} is in use by another tracker (process {holder or 'unknown'}): "
                "stop it, or set STATE_DIR to another folder"
            ) from None
        # The process id is only for that message, so a full disk is no reason not to start.
        with suppress(OSError):
            written = os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            os.ftruncate(descriptor, written)

    def _unlock(self) -> None:
        while self._locks:
            os.close(self._locks.pop())


def load_secret(path: Path) -> bytes:
    """Return the 32 random bytes from which all ticket keys are derived; create the file at the first start.

    Raises:
        StateError: the file is damaged, or other users can read it.
    """
    try:
        # Written under another name first, so that a crash never leaves half of it.
        if not path.exists():
            fresh = path.with_name(f".{path.name}.new")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise StateError(
                    f"{path} can be read by other users: chmod 600 it, or remove it and all peers log in again"
                )
            value = file.read(33)
    except OSError as error:
        raise unusable(str(path), error) from error
    if len(value) != 32:
        raise StateError(f"{path} is damaged: remove it, and all peers log in again")
    return value
