"""The errors of a pserver. Each has a code and a one-line message for the user.

    PeerError
    ├── BadUsage, BadName, AmbiguousName
    ├── NoSuchFile ── FileChanged
    ├── TrackerUnreachable ── RequestTooLarge
    ├── NoActivePeer, Incompatible
    ├── TargetExists
    ├── DiskFull, QuotaExceeded, StorageFault ── NotWritable
    ├── Interrupted ── BeingWritten
    ├── NoHolders, Busy
    ├── NotVerified
    ├── LoginRefused ── UnknownUser
    └── NotLoggedIn, NotAllowed

The codes are those of the exit code table in docs/cli.md. Only the code, the message and the hint of an error reach a
user or another peer.
"""

from __future__ import annotations

from common.control_messages import Hint


class PeerError(Exception):
    """Base of all errors that a user or another peer sees. An instance of this class itself is an internal error."""

    code = "internal"
    # The ids to choose from, if several files have the name.
    ids: tuple[str, ...] = ()
    # What the user can do next; None if there is nothing, or the message says it.
    hint: Hint | None = None

    def __init__(
        self,
        message: str = "internal error; see the pserver's log",
        *,
        name: str = "",
        hint: Hint | None = None,
    ) -> None:
        """Make the error.

        Args:
            message: one line that says what is wrong. It names no command: pclient renders `hint` for that.
            name: the name, id, path or pattern that the error is about; empty if it is about none.
            hint: what the user can do next; None for the default of the class.
        """
        super().__init__(message)
        self.message = message
        self.name = name
        if hint is not None:
            self.hint = hint


class BadUsage(PeerError):
    """The command or the request is malformed."""

    code = "bad_usage"


class BadName(PeerError):
    """The name breaks a rule for names; the message says which."""

    code = "bad_name"


class AmbiguousName(PeerError):
    """The name has several versions; `ids` are the ones to choose from."""

    code = "ambiguous_name"

    def __init__(self, message: str, *, name: str = "", ids: tuple[str, ...] = (), hint: Hint | None = None) -> None:
        super().__init__(message, name=name, hint=hint)
        self.ids = ids


class NoSuchFile(PeerError):
    """This peer, or the network, does not have the file."""

    code = "no_such_file"


class FileChanged(NoSuchFile):
    """A shared file has changed since it was hashed, so its old id is gone."""


class TrackerUnreachable(PeerError):
    """The tracker does not respond."""

    code = "tracker_unreachable"


class RequestTooLarge(TrackerUnreachable):
    """A proxy in front of the tracker accepts no request of this size."""


class NoActivePeer(PeerError):
    """No online peer can store a copy."""

    code = "no_active_peer"


class Incompatible(PeerError):
    """The releases of two programs, or of a program and its state, do not fit; the message says which to upgrade."""

    code = "incompatible"


class TargetExists(PeerError):
    """Another file has that name; it was not changed."""

    code = "target_exists"


class DiskFull(PeerError):
    """The disk is full."""

    code = "disk_full"


class QuotaExceeded(PeerError):
    """The replicas of this peer have reached QUOTA."""

    code = "quota"


class StorageFault(PeerError):
    """The disk failed for another reason."""

    code = "io"


class NotWritable(StorageFault):
    """The shared folder, or a folder in it, is read-only. It shares its files, and nothing can be stored or removed."""


class Interrupted(PeerError):
    """The transfer was stopped early. Its verified pieces stay on disk."""

    code = "interrupted"


class BeingWritten(Interrupted):
    """Another program writes to a file that should be shared. A file of the shared folder is shared when that ends."""


class NoHolders(PeerError):
    """No holder of the missing pieces responds."""

    code = "no_holders"


class Busy(NoHolders):
    """A peer serves as many streams as it can; `retry_after` is in seconds."""

    def __init__(self, message: str, *, name: str = "", retry_after: float = 1.0, hint: Hint | None = None) -> None:
        super().__init__(message, name=name, hint=hint)
        self.retry_after = retry_after


class NotVerified(PeerError):
    """The bytes, or a manifest, do not match their digest."""

    code = "not_verified"


class LoginRefused(PeerError):
    """The tracker rejects the user name or the password."""

    code = "login_refused"


class UnknownUser(LoginRefused):
    """The tracker has no account of that name, and none was to be made."""

    code = "unknown_user"


class NotLoggedIn(PeerError):
    """This peer is logged out."""

    code = "not_logged_in"
    hint = Hint.LOG_IN


class NotAllowed(PeerError):
    """The caller lacks the permission."""

    code = "not_allowed"


class InUse(Exception):
    """Another process has the port or the folder that this pserver needs. It ends the start and reaches no peer."""
