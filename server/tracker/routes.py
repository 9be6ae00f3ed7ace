"""The table of all REST routes: access, bodies, responses, errors. The application, the server and OpenAPI read it."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from tracker import schemas
from tracker.errors import (
    AddressTaken,
    BadMediaType,
    BadName,
    BadRequest,
    Busy,
    DiskFull,
    Incompatible,
    LoginRefused,
    NoActivePeer,
    NoSuchFile,
    NotAllowed,
    NotLoggedIn,
    SendIndex,
    StorageFault,
    TooLarge,
    TooMany,
    TrackerError,
    UnknownUser,
)


class Access(Enum):
    """Who may call a route. A path outside the table needs a token."""

    PUBLIC = "everyone"
    OWN_MACHINE = "with a token, or from the tracker's own machine while no proxy is trusted"
    TOKEN = "with a token"  # noqa: S105


class Pool(Enum):
    """Where a request runs, so that a slow request of one kind never delays another kind."""

    INLINE = "in the event loop, without waiting"
    WORK = "in a small thread pool"
    SEARCH = "in a small thread pool for scans of all names"
    LOGIN = "in a pool for requests that wait for a password hash or a DNS lookup; a ping with a new address too"


SMALL_BODY_LIMIT = 16 * 1024
# 5,000 files with names of a thousand bytes, or 5,000 to add and 5,000 to remove with ordinary names.
LARGE_BODY_LIMIT = 16 * 1024 * 1024


class BodyLimit(NamedTuple):
    """Bytes that a request's body may have, and the account that sends it; empty without a session."""

    max_bytes: int
    account: str = ""


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Attributes:
        method: HTTP method.
        path: path, without variables.
        name: name of the view in tracker.api, and operationId.
        summary: one line for OpenAPI.
        response: type of the body in tracker.schemas; None if OpenAPI does not describe it.
        body: type of the request's body; None if it has none.
        body_optional: whether the body may be missing.
        errors: errors of this route, beside those in `all_errors`.
        access: who may call it.
        pool: where it runs.
        body_limit: bytes that the body may have.
        success_statuses: HTTP statuses of successful responses.
        parameters: names of query parameters.
        media_type: of successful responses.
    """

    method: str
    path: str
    name: str
    summary: str
    response: Any = schemas.Response
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
        """Return the route's errors, with those of its body, its parameters and its access."""
        with_body = [BadRequest, TooLarge, BadMediaType] if self.body else []
        with_long_body = [Busy] if self.body_limit > SMALL_BODY_LIMIT else []
        with_parameters = [BadRequest] if self.parameters else []
        with_token = [NotLoggedIn] if self.access is not Access.PUBLIC else []
        return list(dict.fromkeys([*self.errors, *with_body, *with_long_body, *with_parameters, *with_token]))


# Errors of routes that change accounts or sessions.
_STORES = (DiskFull, StorageFault)
ROUTES = (
    Route(
        "POST", "/login", "login", "Open a session for a pserver; while registration is open, create unknown users",
        schemas.LoginResponse, schemas.Login,
        errors=(LoginRefused, UnknownUser, AddressTaken, Incompatible, TooMany, Busy, *_STORES),
        access=Access.PUBLIC, pool=Pool.LOGIN, success_statuses=(200, 201),
    ),
    Route(
        "POST", "/logout", "logout", "End the session and remove the peer's files",
        body=schemas.Logout, body_optional=True, errors=(Busy, *_STORES),
    ),
    Route(
        "POST", "/password", "password", "Change the password",
        body=schemas.ChangePassword, errors=(LoginRefused, TooMany, Busy, *_STORES), pool=Pool.LOGIN,
    ),
    Route(
        "PUT", "/ping", "ping", "Sign of life, with the peer's load",
        schemas.PingResponse, schemas.Ping, errors=(AddressTaken, Busy, *_STORES), pool=Pool.INLINE,
    ),
    Route(
        "PUT", "/index", "put_index", "Replace all files of the peer, or send the first part",
        body=schemas.PutIndex, errors=(BadName, SendIndex), body_limit=LARGE_BODY_LIMIT,
    ),
    Route(
        "PATCH", "/index", "patch_index", "Change the files of the peer",
        body=schemas.PatchIndex, errors=(BadName, SendIndex), body_limit=LARGE_BODY_LIMIT,
    ),
    Route("DELETE", "/index", "delete_index", "Remove the peer from the index; the session stays"),
    Route(
        "GET", "/query", "query", "Versions of a name, or names of an id, with their holders",
        schemas.QueryResponse, parameters=("name", "id"), errors=(BadName, NoSuchFile), pool=Pool.INLINE,
    ),
    Route(
        "POST", "/query", "query_many", "Versions of many names or ids",
        schemas.QueryResponse, schemas.QueryNames | schemas.QueryIds, errors=(BadName, NoSuchFile),
        body_limit=LARGE_BODY_LIMIT,
    ),
    Route(
        "POST", "/upload", "upload", "Online peers that should store copies",
        schemas.UploadResponse, schemas.Upload, errors=(BadName, NoActivePeer), body_limit=LARGE_BODY_LIMIT,
    ),
    Route(
        "POST", "/report", "report", "Report that a holder served corrupt data",
        body=schemas.Report, errors=(NotAllowed,),
    ),
    Route(
        "GET", "/files", "files", "Files in the network, in pages",
        schemas.FilesResponse, parameters=("match", "after", "limit"), pool=Pool.SEARCH,
    ),
    Route("GET", "/peers", "peers", "Online peers", schemas.PeersResponse),
    Route("GET", "/", "home", "The dashboard", access=Access.PUBLIC, pool=Pool.SEARCH, media_type="text/html"),
    Route(
        "GET", "/healthz", "healthz", "Whether the tracker answers, and which release it is",
        schemas.HealthResponse, access=Access.PUBLIC, pool=Pool.INLINE,
    ),
    Route("GET", "/metrics", "metrics", "Metrics for Prometheus", access=Access.OWN_MACHINE, media_type="text/plain"),
    Route("GET", "/openapi.json", "openapi", "This document", None, access=Access.OWN_MACHINE),
)  # fmt: skip

ROUTES_BY_NAME = {route.name: route for route in ROUTES}
