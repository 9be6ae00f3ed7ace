"""What a session needs between two requests and two starts: its file on disk, and the tracker's clock."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from common import state_files
from daemon.errors import PeerError
from daemon.models import Session
from daemon.storage.disk import storage_faults

log = logging.getLogger(__name__)


class SessionFile:
    """STATE_DIR/session, of mode 0600: the session outlives restarts of this pserver."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "session"

    def load(self) -> Session | None:
        """Return the stored session; None if there is none, or the file is damaged or readable by other users."""
        try:
            fields = json.loads(state_files.read_private(self._path))
            return Session(
                user=str(fields["user"]),
                token=str(fields["token"]),
                peer_id=bytes.fromhex(fields["peer_id"]).hex(),
                ticket_key=bytes.fromhex(fields["ticket_key"]),
                clock_offset=float(fields["clock_offset"]),
                address=str(fields["url"]),
                # Sessions of the first releases have none.
                ping_interval=None if fields.get("ping_interval") is None else float(fields["ping_interval"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, state_files.UnsafeFile, ValueError, KeyError, TypeError) as error:
            log.warning("the session file is ignored: %s", type(error).__name__)
            return None

    def save(self, session: Session) -> None:
        """Store a session, replacing the previous one in one step.

        Raises:
            DiskFull, StorageFault: The file cannot be written.
        """
        fields = {
            "user": session.user,
            "token": session.token,
            "peer_id": session.peer_id,
            "ticket_key": session.ticket_key.hex(),
            "clock_offset": session.clock_offset,
            "url": session.address,
            "ping_interval": session.ping_interval,
        }
        with storage_faults(f"writing {self._path}"):
            state_files.write_private(self._path, json.dumps(fields).encode("utf-8"))

    def delete(self) -> None:
        """Delete the stored session. A failure is only logged, because the session has ended at the tracker."""
        try:
            with storage_faults(f"removing {self._path}"):
                state_files.remove(self._path)
        except PeerError as error:
            log.warning("%s", error)


class TrackerClock:
    """The tracker's time, from its last response.

    Between responses it advances with this machine's monotonic clock, so changes of the wall clock have no effect.
    """

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        """Start with this machine's own time.

        Args:
            monotonic: Returns seconds of a clock that is never set back.
            wall: Returns Unix seconds of this machine.
        """
        self._monotonic = monotonic
        self._wall = wall
        self._difference = wall() - monotonic()

    def now(self) -> float:
        """Return the tracker's time in Unix seconds."""
        return self._monotonic() + self._difference

    def set_time(self, server_time: float) -> None:
        """Set the clock to the tracker's time in Unix seconds."""
        self._difference = server_time - self._monotonic()

    @property
    def offset(self) -> float:
        """Seconds by which the tracker's clock is ahead of this machine's wall clock."""
        return self.now() - self._wall()

    def restore(self, offset: float) -> None:
        """Set the clock by an `offset` that an earlier process stored."""
        self.set_time(self._wall() + offset)
