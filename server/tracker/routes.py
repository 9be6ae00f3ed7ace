"""Every route in one table: who may call it, what it takes, what it answers. Guard, server and OpenAPI read it."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from tracker import schemas as b
from tracker.errors import (
    AddressTaken,
    BadMediaType,
    BadName,
    BadRequest,
    Busy,
    LoginRefused,
    NoActivePeer,
    NoSuchFile,
    NotAllowed,
    NotLoggedIn,
    SendIndex,
    TooLarge,
    TooMany,
    TrackerError,
    UnknownUser,
)


class Access(Enum):
    """Who may call a route. What is not in the table needs a token."""

    PUBLIC = "anybody"
    OWN_MACHINE = "with a token, or from the tracker's own machine"
    TOKEN = "with a token"  # noqa: S105


class Pool(Enum):
    """Where a request waits: so that nobody's slow one holds up anybody's ping."""

    INLINE = "never waits: answered where it is read"
    WORK = "a few at a time"
    SEARCH = "looks through all names, a few at a time: searches wait for each other only"
    LOGIN = "waits for a password hash or a resolver"


SMALL_BODY_LIMIT = 16 * 1024
# 5,000 files with names of a thousand bytes, or 5,000 to add and as many to remove with ordinary ones.
LARGE_BODY_LIMIT = 16 * 1024 * 1024


class BodyLimit(NamedTuple):
    """How long a body may be, and whose it is: empty for a stranger's."""

    max_bytes: int
    account: str = ""


@dataclass(frozen=True)
class Route:
    """One method of one path. `name` is the view's in tracker.api."""

    method: str
    path: str
    name: str
    summary: str
    response: Any = b.Answer
    body: Any = None
    body_optional: bool = False
    errors: tuple[type[TrackerError], ...] = ()
    access: Access = Access.TOKEN
    pool: Pool = Pool.WORK
    body_limit: int = SMALL_BODY_LIMIT
    success_statuses: tuple[int, ...] = (200,)
    parameters: tuple[str, ...] = ()
    media_type: str = "application/json"

    def all_errors(self) -> list[type[TrackerError]]:
        """The route's own refusals, and those that come with having a body or a guard."""
        with_body = [BadRequest, TooLarge, BadMediaType] if self.body else []
        with_long_body = [Busy] if self.body_limit > SMALL_BODY_LIMIT else []
        with_parameters = [BadRequest] if self.parameters else []
        guarded = [NotLoggedIn] if self.access is not Access.PUBLIC else []
        return list(dict.fromkeys([*self.errors, *with_body, *with_long_body, *with_parameters, *guarded]))


ROUTES = (
    Route(
        "POST", "/login", "login", "Open a session for a pserver; an unknown user is registered while that is allowed",
        b.LoggedIn, b.Login, errors=(LoginRefused, UnknownUser, AddressTaken, TooMany, Busy),
        access=Access.PUBLIC, pool=Pool.LOGIN, success_statuses=(200, 201),
    ),
    Route(
        "POST", "/logout", "logout", "End the session and forget the peer's files", body=b.Logout, body_optional=True
    ),
    Route(
        "POST", "/password", "password", "Change the password",
        body=b.ChangePassword, errors=(LoginRefused, TooMany, Busy), pool=Pool.LOGIN,
    ),
    Route("PUT", "/ping", "ping", "Say that the peer is alive, and how loaded", b.Pinged, b.Ping, pool=Pool.INLINE),
    Route(
        "PUT", "/index", "put_index", "Replace the peer's whole list, or send its first part",
        body=b.PutIndex, errors=(BadName, SendIndex), body_limit=LARGE_BODY_LIMIT,
    ),
    Route(
        "PATCH", "/index", "patch_index", "Change the peer's list",
        body=b.PatchIndex, errors=(BadName, SendIndex), body_limit=LARGE_BODY_LIMIT,
    ),
    Route("DELETE", "/index", "delete_index", "Leave index and liveness; the session stays"),
    Route(
        "GET", "/query", "query", "Versions of a name, or names of an id, with their holders",
        b.Found, parameters=("name", "id"), errors=(BadName, NoSuchFile), pool=Pool.INLINE,
    ),
    Route(
        "POST", "/query", "query_many", "The same for many names or ids",
        b.Found, b.QueryNames | b.QueryIds, errors=(BadName, NoSuchFile), body_limit=LARGE_BODY_LIMIT,
    ),
    Route(
        "POST", "/upload", "upload", "Live peers that should take copies",
        b.Targets, b.Upload, errors=(BadName, NoActivePeer), body_limit=LARGE_BODY_LIMIT,
    ),
    Route(
        "POST", "/report", "report", "Tell that a holder served what did not verify",
        body=b.Report, errors=(NotAllowed,),
    ),
    Route(
        "GET", "/files", "files", "What there is, in pages", b.Page, parameters=("match", "after", "limit"),
        pool=Pool.SEARCH,
    ),
    Route("GET", "/peers", "peers", "Who is alive", b.Peers),
    Route("GET", "/", "home", "A page for people", access=Access.PUBLIC, pool=Pool.SEARCH, media_type="text/html"),
    Route("GET", "/healthz", "healthz", "Whether the tracker answers", access=Access.PUBLIC, pool=Pool.INLINE),
    Route("GET", "/metrics", "metrics", "Figures for Prometheus", access=Access.OWN_MACHINE, media_type="text/plain"),
    Route("GET", "/openapi.json", "openapi", "This document", None, access=Access.OWN_MACHINE),
)  # fmt: skip

ROUTES_BY_NAME = {route.name: route for route in ROUTES}
