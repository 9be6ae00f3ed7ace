"""Everything that can go wrong in a pserver, each with the code and the sentence that its user sees.

    PeerError
    ├── BadUsage, BadName, AmbiguousName
    ├── NoSuchFile ── FileChanged
    ├── TrackerUnreachable, NoActivePeer
    ├── TargetExists
    ├── DiskFull, QuotaExceeded, StorageFault
    ├── Interrupted, NoHolders, Busy
    ├── NotVerified
    └── LoginRefused, NotLoggedIn, NotAllowed

The codes are those of README's table of exit codes. An error is raised with one line that says what is wrong and what
to do next; nothing else of it ever reaches a user or another peer.
"""

from __future__ import annotations

from common.control_messages import Hint


class PeerError(Exception):
    """A refusal or failure with a code of its own. A bare one is an internal fault."""

    code = "internal"
    # The ids to choose from, if several files have the name.
    ids: tuple[str, ...] = ()
    # What the user can do next.
    hint: Hint | None = None

    def __init__(self, message: str = "internal error; the pserver's log has more", *, name: str = "") -> None:
        super().__init__(message)
        self.message = message
        # The name, id, path or pattern that it is about; empty if it is about none.
        self.name = name


class BadUsage(PeerError):
    """The order makes no sense."""

    code = "bad_usage"


class BadName(PeerError):
    """A name that breaks a rule of names; the message says which."""

    code = "bad_name"


class AmbiguousName(PeerError):
    """A name with several versions; `ids` are the ones to choose from."""

    code = "ambiguous_name"

    def __init__(self, message: str, *, name: str = "", ids: tuple[str, ...] = ()) -> None:
        super().__init__(message, name=name)
        self.ids = ids


class NoSuchFile(PeerError):
    """Not here, or not in the network."""

    code = "no_such_file"


class FileChanged(NoSuchFile):
    """A shared file is no longer what was hashed: its old id is not here any more."""


class TrackerUnreachable(PeerError):
    """The tracker does not answer."""

    code = "tracker_unreachable"


class NoActivePeer(PeerError):
    """No live peer can take a copy."""

    code = "no_active_peer"


class TargetExists(PeerError):
    """Other contents lie under that name; nothing was touched."""

    code = "target_exists"


class DiskFull(PeerError):
    """No room on the disk."""

    code = "disk_full"


class QuotaExceeded(PeerError):
    """This peer keeps as many bytes at others' request as it wants to."""

    code = "quota"


class StorageFault(PeerError):
    """The disk failed in another way."""

    code = "io"


class Interrupted(PeerError):
    """Stopped before the end; what was verified is kept."""

    code = "interrupted"


class NoHolders(PeerError):
    """Nobody who has the rest of the file answers."""

    code = "no_holders"


class Busy(NoHolders):
    """A peer has no room for another stream now; `retry_after` is in seconds."""

    def __init__(self, message: str, *, name: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, name=name)
        self.retry_after = retry_after


class NotVerified(PeerError):
    """Bytes or a manifest that do not match their digest."""

    code = "not_verified"


class LoginRefused(PeerError):
    """The tracker does not accept user and password."""

    code = "login_refused"


class NotLoggedIn(PeerError):
    """Nobody is logged in here."""

    code = "not_logged_in"


class NotAllowed(PeerError):
    """The caller may not do that."""

    code = "not_allowed"


class InUse(Exception):
    """Another program has the port or the folder that this one should use. Of a start only: no peer is ever told it."""
