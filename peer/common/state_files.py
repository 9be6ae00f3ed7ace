"""STATE_DIR: its default place, and small private files in it that are written atomically and read only if safe.

Never follows a symbolic link, and never leaves a file that another user can read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.home_folder import home_folder

PORT_FILE = "port"
# The IP addresses that the running pserver listens on, one a line.
ADDRESSES_FILE = "addresses"
# Bytes. No private file is longer.
_MAX_BYTES = 4096
# Every STATE_DIR has this file from its first use on, a tracker's too (tracker/state_dir.py). The name begins with a
# dot, so no peer can push a file of this name.
LOCK_FILE = ".p2p-lock"


class UnsafeFile(Exception):
    """Another user could have read or written the file. The message says why, and what to do."""


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 in one atomic step, in place of an existing one. Its folder must exist.

    Raises:
        OSError: if the file cannot be written; no part of it is left then.
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
    """Return the content of a private file of at most 4 KiB.

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafeFile: if it is a link or no regular file, if another user owns it or may use it, or if it is too long.
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
        content = os.read(handle, _MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(content) > _MAX_BYTES:
        raise UnsafeFile(f"{path} is longer than {_MAX_BYTES} bytes; restart the pserver")
    return content


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeFile(f"{path} is not a regular file; remove it and start the pserver again")
    if found.st_uid != os.geteuid():
        raise UnsafeFile(f"{path} belongs to user {found.st_uid}, not to you; run this as the pserver's user")
    if found.st_mode & 0o077:
        raise UnsafeFile(
            f"{path} is accessible to other users (mode {stat.S_IMODE(found.st_mode):04o}, should be 0600);"
            " restart the pserver, which writes a new one"
        )


def remove(path: Path) -> None:
    """Delete a file if it exists."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def write_port(state_dir: Path, port: int) -> None:
    """Write the port of the running pserver to STATE_DIR/port, where its pclient reads it."""
    write_private(state_dir / PORT_FILE, f"{port}\n".encode("ascii"))


def read_port(state_dir: Path) -> int:
    """Return the port of the pserver that runs on this STATE_DIR.

    Raises:
        FileNotFoundError: if no pserver runs on it.
        UnsafeFile: if the file cannot be trusted, or contains no port.
    """
    path = state_dir / PORT_FILE
    text = read_private(path).strip()
    if not (text.isdigit() and 0 < int(text) <= 65535):
        raise UnsafeFile(f"{path} contains no port; restart the pserver")
    return int(text)


def write_addresses(state_dir: Path, addresses: Sequence[str]) -> None:
    """Write the IP addresses that the running pserver listens on, where its pclient reads them."""
    write_private(state_dir / ADDRESSES_FILE, "".join(f"{address}\n" for address in addresses).encode("ascii"))


def read_addresses(state_dir: Path) -> list[str]:
    """Return the IP addresses that the pserver of this STATE_DIR listens on; none if it is of an earlier release.

    Raises:
        UnsafeFile: if the file cannot be trusted.
    """
    try:
        return read_private(state_dir / ADDRESSES_FILE).decode("ascii", "replace").split()
    except FileNotFoundError:
        return []


def is_state_dir(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder is the STATE_DIR of any tracker or pserver, running or not.

    The lock file decides it. The mode does not: a copy, and some file systems, lose it.
    """
    return os.path.lexists(os.path.join(folder, LOCK_FILE))


def default_shared_dir(port: int, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the default SHARED_DIR of the pserver on `port`. See `default_state_dir`."""
    base = _base_dir(environment, "XDG_DATA_HOME", ".local/share")
    return base and base / f"peer-{port}" / "shared"


def default_state_dir(port: int, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the default STATE_DIR of the pserver on `port`; it is not created.

    Default folders follow the XDG base directory specification, version 0.8. They differ by port, so two peers of one
    user never share one.

    Args:
        port: PSERVER_PORT.
        environment: the process environment, for XDG_STATE_HOME and HOME.

    Returns:
        The folder; None if XDG_STATE_HOME does not name one and the user has no home folder.
    """
    base = _base_dir(environment, "XDG_STATE_HOME", ".local/state")
    return base and base / f"peer-{port}"


def _base_dir(environment: Mapping[str, str], variable: str, default: str) -> Path | None:
    # The specification: "If an implementation encounters a relative path [...] it should consider the path invalid".
    value = environment.get(variable, "")
    if value.startswith("/"):
        return Path(value) / "p2p"
    home = home_folder(environment)
    return home and home / default / "p2p"
