"""Two lock files in STATE_DIR, by which pclients share one child pserver. They need no process that survives.

Each pclient shares the lock of the users while it runs. The guard of a child (`child_guard`) has the lock of the child
from its start to its end. It waits until it has the lock of the users alone: then no pclient uses the child, and no
pclient can begin to use it before it has stopped. The system releases a lock when its process ends in any way.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

# The names begin with a dot, as that of the pserver's own lock does (`common.state_files.LOCK_FILE`).
USERS_LOCK = ".pclients-lock"
CHILD_LOCK = ".child-lock"


def open_lock(path: Path) -> int:
    """Open a lock file, which is created, and return its descriptor. Closing it releases its lock."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def share(lock: int) -> None:
    """Share a lock with others. Waits while a guard has it, which is until its child has stopped."""
    fcntl.flock(lock, fcntl.LOCK_SH)


def try_acquire(lock: int) -> bool:
    """Acquire a lock alone, without waiting; return whether that succeeded."""
    return _try(lock, fcntl.LOCK_EX)


def try_share(lock: int) -> bool:
    """Share a lock, without waiting; return whether that succeeded."""
    return _try(lock, fcntl.LOCK_SH)


def release(lock: int) -> None:
    """Release a lock; its descriptor stays open."""
    fcntl.flock(lock, fcntl.LOCK_UN)


def _try(lock: int, operation: int) -> bool:
    try:
        fcntl.flock(lock, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
