"""STATE_DIR: its mode, its lock, its secret. The other files in it belong to tracker.accounts."""

import fcntl
import os
import secrets
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

# Pservers recognize a STATE_DIR by this file, and share nothing of it (peer/common/state_files.py).
_LOCK_FILE = ".p2p-lock"


class StateError(Exception):
    """The folder cannot be used; one line that says why."""


class StateDir:
    """A folder of mode 0700, locked for one tracker while the context manager is entered.

    Entering raises StateError if the folder cannot be used, or is in use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.path.stat().st_uid != os.geteuid():
                raise StateError(
                    f"STATE_DIR {self.path} belongs to another user: set STATE_DIR to a folder of your own"
                )
            self.path.chmod(0o700)
            self._lock = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"STATE_DIR {self.path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._lock, 20, 0).decode(errors="replace").strip()
            os.close(self._lock)
            raise StateError(
                f"STATE_DIR {self.path} is in use by another tracker (process {holder or 'unknown'}): "
                "stop it, or set STATE_DIR to another folder"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)


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
        raise StateError(f"{path} cannot be used: {error.strerror}") from error
    if len(value) != 32:
        raise StateError(f"{path} is damaged: remove it, and all peers log in again")
    return value
