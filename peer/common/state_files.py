"""Small private files in STATE_DIR: written whole or not at all, read only if nobody else can have touched them.

Never follows a link, never leaves a file that another user can read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

PORT_FILE = "port"
_LONGEST = 4096
# The lock that a STATE_DIR has from its first use on, a tracker's too (tracker/state.py). A dot name: no other peer can
# send a file that has it.
LOCK_FILE = ".p2p-lock"


class UnsafeFile(Exception):
    """A file that others can read or write, or that is not ours; the message says which and what to do."""


def write_private(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step, mode 0600, replacing what is there. The folder must exist.

    Raises:
        OSError: if the disk refuses; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def read_private(path: Path) -> bytes:
    """The content of a small private file.

    Raises:
        FileNotFoundError: if there is none.
        UnsafeFile: if it is a link, no regular file, another user's, open to others, or absurdly long.
        OSError: if it cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        if path.is_symlink():
            raise UnsafeFile(f"{path} is a link; remove it and start the pserver again") from error
        raise
    try:
        _check_private(path, os.fstat(handle))
        content = os.read(handle, _LONGEST + 1)
    finally:
        os.close(handle)
    if len(content) > _LONGEST:
        raise UnsafeFile(f"{path} is too long to be what it should be; restart the pserver")
    return content


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeFile(f"{path} is not a regular file; remove it and start the pserver again")
    if found.st_uid != os.geteuid():
        raise UnsafeFile(f"{path} belongs to user {found.st_uid}, not to you; run this as the pserver's user")
    if found.st_mode & 0o077:
        raise UnsafeFile(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}, should be 0600);"
            " restart the pserver, which makes a new one"
        )


def remove(path: Path) -> None:
    """Remove a file; harmless if there is none."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def write_port(state_dir: Path, port: int) -> None:
    """Keep the port of the running pserver where its terminal finds it."""
    write_private(state_dir / PORT_FILE, f"{port}\n".encode("ascii"))


def read_port(state_dir: Path) -> int:
    """The port of the pserver that runs on this STATE_DIR.

    Raises:
        FileNotFoundError: if none runs.
        UnsafeFile: if the file cannot be trusted, or holds no port.
    """
    path = state_dir / PORT_FILE
    text = read_private(path).strip()
    if not (text.isdigit() and 0 < int(text) <= 65535):
        raise UnsafeFile(f"{path} holds no port; restart the pserver")
    return int(text)


def is_state_dir(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is the STATE_DIR of a tracker or a pserver, one's own or another's, running or not.

    By the lock that each leaves there: the mode is lost in a copy, and on some file systems.
    """
    return os.path.lexists(os.path.join(folder, LOCK_FILE))
