"""Files of STATE_DIR that exist while the pserver runs: its cookie, its port, its addresses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from common import state_files
from daemon.errors import PeerError
from daemon.storage.disk import storage_faults

log = logging.getLogger(__name__)

T = TypeVar("T")


@contextmanager
def present_while_running(path: Path, write: Callable[[], T]) -> Iterator[T]:
    """Create the file `path` with `write`, yield what that returns, and delete the file afterwards.

    A file that cannot be deleted is logged: the next start replaces it.

    Raises:
        DiskFull, StorageFault: if the file cannot be written.
    """
    with storage_faults(f"writing {path}"):
        written = write()
    try:
        yield written
    finally:
        try:
            with storage_faults(f"removing {path}"):
                state_files.remove(path)
        except PeerError as error:
            log.warning("%s", error)
