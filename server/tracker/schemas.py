"""The shapes of requests and answers: what is checked, and what OpenAPI is made from. No rules beyond shape."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

MAX_FILES_PER_REQUEST = 5000
MAX_NAMES_PER_QUERY = 1000
MAX_COPIES = 30
DEFAULT_PAGE_SIZE = 500
MAX_PAGE_SIZE = 1000

# Strict: a number in quotes is no number. Unknown keys are refused. NaN and infinity are no numbers.
_REQUEST = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

MAX_INT64 = 2**63 - 1


def _password(value: str) -> str:
    if not 1 <= len(value.encode()) <= 1024:
        raise ValueError("should have 1 to 1024 bytes")
    return value


# Patterns in words, for whoever sent something else.
_ID, _USER = "^[0-9a-f]{64}$", "^[A-Za-z0-9._-]{1,64}$"
PATTERN_DESCRIPTIONS = {
    _ID: "should be 64 lower-case hex digits",
    _USER: "should be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'",
}
Id = Annotated[str, Field(pattern=_ID, description="64 lower-case hex digits")]
Opaque = Annotated[str, Field(max_length=64)]
User = Annotated[str, Field(pattern=_USER)]
# The lengths are for readers of the document; the validator says it in words, and counts bytes.
Password = Annotated[str, AfterValidator(_password), Field(json_schema_extra={"minLength": 1, "maxLength": 1024})]
Url = Annotated[str, Field(max_length=300, description="host:port")]
# Judged in full by tracker.names; longer ones need no judge.
Name = Annotated[str, Field(max_length=4000)]
Size = Annotated[int, Field(ge=0, le=MAX_INT64)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Request(BaseModel):
    model_config = _REQUEST


class Login(Request):
    username: User
    password: Password
    url: Url
    # False: an unknown user is refused with unknown_user instead of getting an account.
    register_unknown: Annotated[bool, Field(alias="register")] = True


class Logout(Request):
    """Nothing needs to be sent."""


class ChangePassword(Request):
    old: Password
    new: Password


class PingLoad(Request):
    uploads: Count = 0
    downloads: Count = 0
    free_bytes: Size = 0
    rate: Annotated[float, Field(ge=0, le=1e18)] = 0.0


class Ping(Request):
    epoch: Opaque
    index_version: Opaque
    load: PingLoad | None = None


# Dicts rather than models: lists of them are long, and this halves the time to check one.
class IndexFile(TypedDict):
    __pydantic_config__ = _REQUEST  # type: ignore[misc]
    name: Name
    id: Id
    size: Size
    complete: bool


class NamedId(TypedDict):
    __pydantic_config__ = _REQUEST  # type: ignore[misc]
    name: Name
    id: Id


class SizedFile(TypedDict):
    __pydantic_config__ = _REQUEST  # type: ignore[misc]
    name: Name
    id: Id
    size: Size


class PutIndex(Request):
    version: Opaque
    files: Annotated[list[IndexFile], Field(max_length=MAX_FILES_PER_REQUEST)]


class PatchIndex(Request):
    base_version: Opaque
    version: Opaque
    add: Annotated[list[IndexFile], Field(max_length=MAX_FILES_PER_REQUEST)] = []
    remove: Annotated[list[NamedId], Field(max_length=MAX_FILES_PER_REQUEST)] = []


class QueryNames(Request):
    names: Annotated[list[Name], Field(min_length=1, max_length=MAX_NAMES_PER_QUERY)]


class QueryIds(Request):
    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_NAMES_PER_QUERY)]


class Upload(Request):
    files: Annotated[list[SizedFile], Field(min_length=1, max_length=MAX_FILES_PER_REQUEST)]
    copies: Annotated[int, Field(ge=1, le=MAX_COPIES)] = 1


class Report(Request):
    id: Id
    url: Url
    reason: Annotated[str, Field(max_length=500)]


QUERY: TypeAdapter[QueryNames | QueryIds] = TypeAdapter(QueryNames | QueryIds)


class Answer(BaseModel):
    """What every answer has."""

    model_config = ConfigDict(extra="forbid")
    status: int
    message: str


class Refusal(Answer):
    code: str


class LoggedIn(Answer):
    token: str
    epoch: str
    peer_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    ping_interval: float
    server_time: float
    ticket_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    user: str


class Pinged(Answer):
    epoch: str
    send_index: bool
    recheck: list[Id]
    server_time: float


class HolderOut(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str
    ticket: str
    complete: bool
    why: str


class VersionOut(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    id: Id
    size: int
    holders: Annotated[list[HolderOut], Field(max_length=30)]


class Found(Answer):
    files: list[VersionOut]


class TargetOut(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: Id
    url: str
    ticket: str
    why: str


class Targets(Answer):
    targets: list[TargetOut]


class ListedOut(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    id: Id
    size: int
    holders: int
    partial: int


class Page(Answer):
    files: list[ListedOut]
    next: str | None


class LoadOut(BaseModel):
    model_config = ConfigDict(extra="forbid")
    uploads: int
    downloads: int
    free_bytes: int
    rate: float


class PeerOut(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str
    user: str
    files: int
    last_seen: float
    load: LoadOut


class Peers(Answer):
    peers: list[PeerOut]
