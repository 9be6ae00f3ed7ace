"""The JSON bodies of requests and responses. Requests are validated with them; OpenAPI is made from all of them.

Only shape is checked here. Responses are TypedDicts: mypy checks what the views build, at no cost at run time.
"""

from typing import Annotated, NotRequired

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator, with_config
from typing_extensions import TypedDict

from tracker.compatibility import UNNUMBERED
from tracker.tickets import MAX_TICKET_LENGTH

MAX_FILES_PER_REQUEST = 5000
MAX_NAMES_PER_QUERY = 1000
MAX_COPIES = 30
DEFAULT_PAGE_SIZE = 500
MAX_PAGE_SIZE = 1000
MAX_INT64 = 2**63 - 1

# Strict: a number in quotes is not a number, and NaN and infinity are refused. Unknown keys are ignored on both sides,
# so that a newer release may add some.
_REQUEST = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)
_RESPONSE = ConfigDict(extra="ignore")


def _password(value: str) -> str:
    if not 1 <= len(value.encode()) <= 1024:
        raise ValueError("should have 1 to 1024 bytes")
    return value


_ID, _USER, _RELEASE = "^[0-9a-f]{64}$", "^[A-Za-z0-9._-]{1,64}$", "^[A-Za-z0-9.+-]{0,32}$"
# What error messages say in place of a pattern.
PATTERN_DESCRIPTIONS = {
    _ID: "should be 64 lower-case hex digits",
    _USER: "should be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'",
    _RELEASE: "should be at most 32 of A-Z, a-z, 0-9, '.', '+' and '-'",
}
Id = Annotated[str, Field(pattern=_ID, description="64 lower-case hex digits")]
Opaque = Annotated[str, Field(max_length=64)]
User = Annotated[str, Field(pattern=_USER)]
Release = Annotated[str, Field(pattern=_RELEASE)]
# The lengths are for readers of the document; the validator counts bytes and has the better message.
Password = Annotated[str, AfterValidator(_password), Field(json_schema_extra={"minLength": 1, "maxLength": 1024})]
Url = Annotated[str, Field(max_length=300, description="host:port")]
AnnouncedUrl = Annotated[str, Field(max_length=300, description="host:port, or auto:port for the host that is seen")]
# tracker.names checks the rules; a longer name cannot pass them.
Name = Annotated[str, Field(max_length=4000)]
ProtocolNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
Size = Annotated[int, Field(ge=0, le=MAX_INT64)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Protocol = Annotated[tuple[ProtocolNumber, ProtocolNumber], Field(description="the oldest and the newest one spoken")]


class Request(BaseModel):
    """What all request bodies have in common: strict validation."""

    model_config = _REQUEST


class Login(Request):
    """The body of POST /login."""

    username: User
    password: Password
    url: AnnouncedUrl
    # False: an unknown user is refused with unknown_user instead of getting an account.
    register_unknown: Annotated[bool, Field(alias="register")] = True
    # The pserver's release; one before 0.2.0 sends neither, and speaks protocol 1.
    version: Release = ""
    protocol: Protocol = UNNUMBERED


class Logout(Request):
    """POST /logout: an empty object, or no body."""


class ChangePassword(Request):
    """The body of POST /password."""

    old: Password
    new: Password


class PingLoad(Request):
    """Load of a peer; `free_bytes` in bytes, `rate` in bytes per second."""

    uploads: Count = 0
    downloads: Count = 0
    free_bytes: Size = 0
    rate: Annotated[float, Field(ge=0, le=1e18)] = 0.0


class Ping(Request):
    """The body of PUT /ping."""

    epoch: Opaque
    index_version: Opaque
    load: PingLoad | None = None
    # The peer's address; the session follows it.
    url: AnnouncedUrl | None = None


# Items of long lists are dicts rather than models, which halves the time to validate a list.
@with_config(_REQUEST)
class IndexFile(TypedDict):
    """An announced file; `size` is in bytes, `modified` in Unix seconds. The optional fields belong to the name."""

    name: Name
    id: Id
    size: Size
    complete: bool
    modified: NotRequired[Annotated[float | None, Field(default=None)]]
    executable: NotRequired[Annotated[bool | None, Field(default=None)]]


@with_config(_REQUEST)
class NamedId(TypedDict):
    """An entry to remove."""

    name: Name
    id: Id


@with_config(_REQUEST)
class SizedFile(TypedDict):
    """A file to place; `size` is in bytes."""

    name: Name
    id: Id
    size: Size


class PutIndex(Request):
    """The body of PUT /index: all files, or the first part."""

    version: Opaque
    files: Annotated[list[IndexFile], Field(max_length=MAX_FILES_PER_REQUEST)]


class PatchIndex(Request):
    """The body of PATCH /index."""

    base_version: Opaque
    version: Opaque
    add: Annotated[list[IndexFile], Field(max_length=MAX_FILES_PER_REQUEST)] = []
    remove: Annotated[list[NamedId], Field(max_length=MAX_FILES_PER_REQUEST)] = []


class _Query(Request):
    @model_validator(mode="before")
    @classmethod
    def _check_kind(cls, body: object) -> object:
        if isinstance(body, dict) and "names" in body and "ids" in body:
            raise ValueError("send one of names and ids")
        return body


class QueryNames(_Query):
    """The body of POST /query, by name."""

    names: Annotated[list[Name], Field(min_length=1, max_length=MAX_NAMES_PER_QUERY)]


class QueryIds(_Query):
    """The body of POST /query, by id."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_NAMES_PER_QUERY)]


class Upload(Request):
    """The body of POST /upload: the files to place, and the copies wanted of each."""

    files: Annotated[list[SizedFile], Field(min_length=1, max_length=MAX_FILES_PER_REQUEST)]
    copies: Annotated[int, Field(ge=1, le=MAX_COPIES)] = 1


class Report(Request):
    """The body of POST /report: the id, the holder and what was wrong.

    `ticket` is the one for this holder and id. It proves that the tracker offered the holder to the reporter.
    """

    id: Id
    url: Url
    reason: Annotated[str, Field(max_length=500)]
    ticket: Annotated[str, Field(max_length=MAX_TICKET_LENGTH)] | None = None


@with_config(_RESPONSE)
class Response(TypedDict):
    """What every response has; `status` is the HTTP status."""

    status: int
    message: str


@with_config(_RESPONSE)
class ErrorResponse(Response):
    """Any error; `code` is stable, `message` is for people."""

    code: str


@with_config(_RESPONSE)
class HealthResponse(Response):
    """GET /healthz. A pserver reads here what it may send."""

    version: str
    protocol: Protocol


@with_config(_RESPONSE)
class LoginResponse(Response):
    """POST /login. `ping_interval` is in seconds, `server_time` in Unix seconds, `ticket_key` in hex.

    `url` is the address of the session, as announced or as seen.
    """

    token: str
    epoch: str
    peer_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    ping_interval: float
    server_time: float
    ticket_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    user: str
    version: str
    protocol: Protocol
    url: Url


@with_config(_RESPONSE)
class PingResponse(Response):
    """PUT /ping. `recheck` has the ids that the peer should hash again; the rest is as in LoginResponse.

    `url` is there if the request has one.
    """

    epoch: str
    send_index: bool
    recheck: list[Id]
    ping_interval: float
    server_time: float
    url: NotRequired[Url]


@with_config(_RESPONSE)
class OfferedHolder(TypedDict):
    """A holder of the id with a ticket for it; `why` explains its place in the order.

    `complete` is about the content, under any name; `has_name` says whether the holder has it under this one too.
    """

    url: str
    ticket: str
    complete: bool
    has_name: bool
    why: str


@with_config(_RESPONSE)
class FoundVersion(TypedDict):
    """A version of a name with its holders, best first; `size` is in bytes, `modified` in Unix seconds."""

    name: str
    id: Id
    size: int
    modified: float | None
    executable: bool
    holders: Annotated[list[OfferedHolder], Field(max_length=30)]


@with_config(_RESPONSE)
class QueryResponse(Response):
    """GET and POST /query."""

    files: list[FoundVersion]


@with_config(_RESPONSE)
class ChosenTarget(TypedDict):
    """A receiver for the content `id` under `name`, with a ticket for the id; `why` explains the choice."""

    name: str
    id: Id
    url: str
    ticket: str
    why: str


@with_config(_RESPONSE)
class UploadResponse(Response):
    """POST /upload."""

    targets: list[ChosenTarget]


@with_config(_RESPONSE)
class ListedFile(TypedDict):
    """A version of a name with the numbers of its complete and partial holders; `modified` is in Unix seconds."""

    name: str
    id: Id
    size: int
    holders: int
    partial: int
    modified: float | None
    executable: bool


@with_config(_RESPONSE)
class FilesResponse(Response):
    """GET /files. `next` is the parameter `after` of the next page; null at the end."""

    files: list[ListedFile]
    next: str | None


@with_config(_RESPONSE)
class ListedLoad(TypedDict):
    """Load of a peer; `free_bytes` in bytes, `rate` in bytes per second."""

    uploads: int
    downloads: int
    free_bytes: int
    rate: float


@with_config(_RESPONSE)
class ListedPeer(TypedDict):
    """An online peer; `last_seen` is seconds since its last ping."""

    url: str
    user: str
    files: int
    last_seen: float
    load: ListedLoad


@with_config(_RESPONSE)
class PeersResponse(Response):
    """GET /peers."""

    peers: list[ListedPeer]
