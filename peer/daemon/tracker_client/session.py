"""The login session on disk: it outlives restarts of this pserver, and ends at logout.

The only module that touches its file.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from common import state_files
from daemon.errors import PeerError
from daemon.models import Session
from daemon.storage.disk import storage_faults

log = logging.getLogger(__name__)


class SessionFile:
    """STATE_DIR/session, of mode 0600."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "session"

    def load(self) -> Session | None:
        """Return the session that was kept; None if there is none, or the file makes no sense."""
        try:
            fields = json.loads(state_files.read_private(self._path))
            return Session(
                user=str(fields["user"]),
                token=str(fields["token"]),
                peer_id=bytes.fromhex(fields["peer_id"]).hex(),
                ticket_key=bytes.fromhex(fields["ticket_key"]),
                clock_offset=float(fields["clock_offset"]),
                address=str(fields["url"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, state_files.UnsafeFile, ValueError, KeyError, TypeError) as error:
            log.warning("the session file is ignored: %s", type(error).__name__)
            return None

    def save(self, session: Session) -> None:
        """Keep a session, replacing the one before in one step. Raises DiskFull or StorageFault if it cannot."""
        fields = {
            "user": session.user,
            "token": session.token,
            "peer_id": session.peer_id,
            "ticket_key": session.ticket_key.hex(),
            "clock_offset": session.clock_offset,
            "url": session.address,
        }
        with storage_faults(f"writing {self._path}"):
            state_files.write_private(self._path, json.dumps(fields).encode("utf-8"))

    def delete(self) -> None:
        """Drop the session. A disk that keeps it all the same is logged: the tracker knows it no more."""
        try:
            with storage_faults(f"removing {self._path}"):
                state_files.remove(self._path)
        except PeerError as error:
            log.warning("%s", error)
