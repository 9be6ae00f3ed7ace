"""How far the recorded id of a file can be trusted: compares its fingerprint with the recorded one. Pure.

Inode, size and mtime identify a file. The device number does not: it changes when some file systems are mounted again.
ctime tells whether the file may have changed although its mtime did not; a program can set the mtime, but not ctime.
"""

from __future__ import annotations

from enum import IntEnum

from daemon.storage.fingerprints import Fingerprint


class Check(IntEnum):
    """What must be read of a file before its recorded id is trusted, the least first."""

    NONE = 0
    # One piece chosen at random: the file has another device number, or the record is of a release without ctime.
    PIECE = 1
    # Everything: the inode changed since the file was hashed.
    FILE = 2


def required_check(recorded_dev: int, recorded_ctime_ns: int | None, now: Fingerprint) -> Check | None:
    """Return the check that a file needs whose inode, size and mtime are the recorded ones.

    Args:
        recorded_dev: the recorded device number.
        recorded_ctime_ns: the recorded ctime; None if the record has none.
        now: the present fingerprint of the file.

    Returns:
        The check, or None if the record is not about this file.
    """
    if recorded_ctime_ns is None:
        return Check.PIECE
    if recorded_ctime_ns == now.ctime_ns:
        return Check.NONE if recorded_dev == now.dev else Check.PIECE
    return Check.FILE if recorded_dev == now.dev else None


def compare(recorded: Fingerprint, now: Fingerprint) -> Check | None:
    """Return the check that a file needs which had the fingerprint `recorded`; None if it is another file now."""
    if (recorded.inode, recorded.size, recorded.mtime_ns) != (now.inode, now.size, now.mtime_ns):
        return None
    return required_check(recorded.dev, recorded.ctime_ns, now)
