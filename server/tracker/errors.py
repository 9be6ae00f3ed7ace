"""Every way in which the tracker refuses. Each error knows its own status and code; one handler writes them.

TrackerError
├── Internal
├── BadRequest, BadName
├── NotLoggedIn, LoginRefused, NotAllowed
├── UnknownUser, NoSuchFile, NoActivePeer, NotFound, MethodNotAllowed
├── AddressTaken, SendIndex
├── TooLarge, BadMediaType
└── TooMany, Busy
"""

from collections.abc import Iterator


class TrackerError(Exception):
    """A refusal with one line that says what to do next."""

    code: str
    status: int
    # Seconds after which it is worth trying again; None where trying again does not help.
    retry_after: float | None = None

    @property
    def message(self) -> str:
        return str(self)


class Internal(TrackerError):
    """The tracker failed; its log says why."""

    code = "internal"
    status = 500


class BadRequest(TrackerError):
    """The body, the query or a value in it is not what the route takes."""

    code = "bad_request"
    status = 400


class BadName(TrackerError):
    """A file's name breaks a rule; the message says which."""

    code = "bad_name"
    status = 400


class NotLoggedIn(TrackerError):
    """No token, an unknown one, or one whose session has ended."""

    code = "not_logged_in"
    status = 401


class LoginRefused(TrackerError):
    """User name and password do not go together."""

    code = "login_refused"
    status = 401


class UnknownUser(TrackerError):
    """No such account, the tracker would register it, and the request says not to."""

    code = "unknown_user"
    status = 404


class NotAllowed(TrackerError):
    """Known, but not entitled to this."""

    code = "not_allowed"
    status = 403


class NoSuchFile(TrackerError):
    """Nobody alive holds what was asked for."""

    code = "no_such_file"
    status = 404


class NoActivePeer(TrackerError):
    """Nobody alive can take a copy."""

    code = "no_active_peer"
    status = 404


class NotFound(TrackerError):
    """No such route."""

    code = "not_found"
    status = 404


class MethodNotAllowed(TrackerError):
    """The route is there, for another method."""

    code = "method_not_allowed"
    status = 405


class AddressTaken(TrackerError):
    """Another user's live peer has the address."""

    code = "address_taken"
    status = 409


class SendIndex(TrackerError):
    """The change does not follow on what the tracker has: send the whole list."""

    code = "send_index"
    status = 409


class TooLarge(TrackerError):
    """More bytes, or more files, than one request or one account may send."""

    code = "too_large"
    status = 413


class BadMediaType(TrackerError):
    """The body is not declared as JSON."""

    code = "bad_media_type"
    status = 415


class TooMany(TrackerError):
    """Too many failed logins."""

    code = "too_many"
    status = 429

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(TrackerError):
    """More passwords to check than the queue holds."""

    code = "busy"
    status = 503
    retry_after = 1.0


def all_errors() -> Iterator[type[TrackerError]]:
    """All errors: the table of codes in docs/cli.md and in the OpenAPI document."""
    yield from TrackerError.__subclasses__()
