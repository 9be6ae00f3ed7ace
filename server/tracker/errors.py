"""The errors of the tracker. Each has its HTTP status and code; one handler in tracker.app makes the response.

TrackerError
├── Internal
├── BadRequest, BadName, Incompatible
├── NotLoggedIn, LoginRefused, NotAllowed
├── UnknownUser, NoSuchFile, NoActivePeer, NotFound, MethodNotAllowed
├── AddressTaken, SendIndex
├── TooLarge, BadMediaType
├── DiskFull, StorageFault
└── TooMany, Busy
"""

from collections.abc import Iterator


class TrackerError(Exception):
    """An error for the client, with one line that ends with what to do next."""

    code: str
    status: int
    # Seconds after which the client may retry; None if a retry does not help.
    retry_after: float | None = None

    @property
    def message(self) -> str:
        """The line for the client."""
        return str(self)


class Internal(TrackerError):
    """The tracker failed; its log says why."""

    code = "internal"
    status = 500


class BadRequest(TrackerError):
    """The body, a query parameter or a value in it is invalid."""

    code = "bad_request"
    status = 400


class BadName(TrackerError):
    """A file name breaks a rule; the message says which."""

    code = "bad_name"
    status = 400


class Incompatible(TrackerError):
    """The releases of both sides do not fit together; the message says which side to upgrade."""

    code = "incompatible"
    status = 400


class NotLoggedIn(TrackerError):
    """No token, an unknown one, or one of an ended session."""

    code = "not_logged_in"
    status = 401


class LoginRefused(TrackerError):
    """Wrong user name or password."""

    code = "login_refused"
    status = 401


class UnknownUser(TrackerError):
    """No such account, the tracker would register it, and the request says not to."""

    code = "unknown_user"
    status = 404


class NotAllowed(TrackerError):
    """Logged in, but without the right to do this."""

    code = "not_allowed"
    status = 403


class NoSuchFile(TrackerError):
    """No online peer has the file."""

    code = "no_such_file"
    status = 404


class NoActivePeer(TrackerError):
    """No online peer can store a copy."""

    code = "no_active_peer"
    status = 404


class NotFound(TrackerError):
    """No such route."""

    code = "not_found"
    status = 404


class MethodNotAllowed(TrackerError):
    """The route exists for another method."""

    code = "method_not_allowed"
    status = 405


class AddressTaken(TrackerError):
    """An online peer of another user has the address."""

    code = "address_taken"
    status = 409


class SendIndex(TrackerError):
    """The change does not apply to the index of the peer: the complete index is needed."""

    code = "send_index"
    status = 409


class TooLarge(TrackerError):
    """Too many bytes for one request, or too many files for one account."""

    code = "too_large"
    status = 413


class BadMediaType(TrackerError):
    """The body is not declared as JSON."""

    code = "bad_media_type"
    status = 415


class DiskFull(TrackerError):
    """The disk of the tracker's STATE_DIR is full."""

    code = "disk_full"
    status = 507


class StorageFault(TrackerError):
    """The tracker cannot read or write its accounts for another reason."""

    code = "io"
    status = 500


class TooMany(TrackerError):
    """Too many failed logins, or too many sessions of one account."""

    code = "too_many"
    status = 429

    def __init__(self, message: str, retry_after: float) -> None:
        """Create the error; `retry_after` is in seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class Busy(TrackerError):
    """Too many requests of this kind at once."""

    code = "busy"
    status = 503
    retry_after = 1.0


def all_errors() -> Iterator[type[TrackerError]]:
    """Yield all error classes, for the table of codes in the OpenAPI document."""
    yield from TrackerError.__subclasses__()
