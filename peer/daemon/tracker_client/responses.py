"""What the tracker's responses mean: values and errors. Sends nothing.

The parsers raise KeyError, TypeError or ValueError for a body that is not the tracker's. They read only the keys that
they know: a newer tracker may send more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common.printable import printable
from common.status_messages import ListedFile, ListedPeer, Load
from common.version import Release
from daemon.errors import (
    BadName,
    BadUsage,
    Busy,
    DiskFull,
    Incompatible,
    LoginRefused,
    NoActivePeer,
    NoSuchFile,
    NotAllowed,
    NotLoggedIn,
    PeerError,
    RequestTooLarge,
    StorageFault,
    TrackerUnreachable,
    UnknownUser,
)
from daemon.models import NO_ATTRIBUTES, Attributes, Holder, PingResponse, PushTarget, RemoteFile, Version
from daemon.storage.attributes import known_modified
from daemon.tracker_client.transport import Response

_KINDS: tuple[type[PeerError], ...] = (
    BadName,
    LoginRefused,
    UnknownUser,
    NotLoggedIn,
    NotAllowed,
    NoSuchFile,
    NoActivePeer,
    Incompatible,
    DiskFull,
    StorageFault,
)
# The most characters of a release's name; the tracker has the same limit.
_VERSION_MAX = 32
_ERRORS = {kind.code: kind for kind in _KINDS} | {"address_taken": LoginRefused}


class SendIndex(Exception):
    """The tracker does not have the index version that a change builds on."""


@dataclass(frozen=True, slots=True)
class LoginResponse:
    """The tracker's response to a login."""

    registered: bool
    token: str = field(repr=False)
    epoch: str
    # 32 hexadecimal digits.
    peer_id: str
    ticket_key: bytes = field(repr=False)
    # Unix seconds of the tracker's clock.
    server_time: float
    # What the tracker asks for, in seconds between two pings.
    ping_interval: float | None
    # The session's `host:port`; empty from a tracker of the first protocol: it is what was announced.
    address: str


def error_of(response: Response) -> PeerError | SendIndex:
    """Return the error that a response of status 400 or above means."""
    code = str(response.body.get("code", ""))
    message = str(response.body.get("message", response.reason))
    if code == "send_index":
        return SendIndex()
    if code in _ERRORS:
        return _ERRORS[code](message)
    if response.status == 429:
        return LoginRefused(message)
    if response.status == 503:
        return Busy(message)
    # These come from a proxy that answers with JSON of its own.
    if response.status == 413 and code != "too_large":
        return RequestTooLarge(f"a proxy in front of the tracker refused the request for its size: {message}")
    if response.status in (502, 504):
        return TrackerUnreachable(f"a proxy reports that the tracker behind it does not answer: {message}")
    if response.status == 400:
        return BadUsage(message)
    return PeerError(f"the tracker refused: {message}")


def release(body: dict[str, Any]) -> Release:
    """Read the release of the tracker in the response to GET /healthz."""
    if body["status"] != 200:
        raise ValueError("a tracker that answers has the status 200")
    if "protocol" not in body:
        return Release()
    oldest, newest = body["protocol"]
    if not (isinstance(oldest, int) and isinstance(newest, int)):
        raise TypeError("protocols are numbers")
    return Release(printable(str(body["version"]))[:_VERSION_MAX], oldest, newest)


def nothing(body: dict[str, Any]) -> None:
    """Check nothing: the status says everything."""


def login_response(body: dict[str, Any]) -> LoginResponse:
    """Read the response to POST /login."""
    return LoginResponse(
        registered=body["status"] == 201,
        token=str(body["token"]),
        epoch=str(body["epoch"]),
        peer_id=bytes.fromhex(body["peer_id"]).hex(),
        ticket_key=bytes.fromhex(body["ticket_key"]),
        server_time=float(body["server_time"]),
        ping_interval=_ping_interval(body),
        address=str(body.get("url", "")),
    )


def pong(body: dict[str, Any]) -> PingResponse:
    """Read the response to PUT /ping."""
    recheck = tuple(map(str, body["recheck"]))
    return PingResponse(
        epoch=str(body["epoch"]),
        send_index=bool(body["send_index"]),
        recheck=recheck,
        server_time=float(body["server_time"]),
        ping_interval=_ping_interval(body),
        address=str(body.get("url", "")),
    )


def _ping_interval(body: dict[str, Any]) -> float | None:
    seconds = body.get("ping_interval")
    return None if seconds is None else float(seconds)


def versions(body: dict[str, Any]) -> list[RemoteFile]:
    """Read the response to POST /query."""
    return [
        RemoteFile(
            Version(file["name"], file["id"], file["size"], _attributes(file)),
            tuple(
                Holder(h["url"], h["ticket"], h["complete"], h["why"], h.get("has_name", True)) for h in file["holders"]
            ),
        )
        for file in body["files"]
    ]


def targets(body: dict[str, Any]) -> list[PushTarget]:
    """Read the response to POST /upload."""
    return [
        PushTarget(id=t["id"], address=t["url"], ticket=t["ticket"], reason=t["why"], name=str(t.get("name", "")))
        for t in body["targets"]
    ]


def page(body: dict[str, Any]) -> tuple[list[ListedFile], str | None]:
    """Read a page of GET /files, and the parameter `after` of the next one; None at the end."""
    page = []
    for f in body["files"]:
        modified, executable = _attributes(f)
        page.append(ListedFile(f["name"], f["id"], f["size"], f["holders"], f["partial"], modified, executable is True))
    return page, body["next"]


def _attributes(file: dict[str, Any]) -> Attributes:
    """Read the attributes of a version; a tracker of protocol 1 knows none."""
    if "modified" not in file:
        return NO_ATTRIBUTES
    return Attributes(known_modified(file["modified"]), file.get("executable") is True)


def peers(body: dict[str, Any]) -> list[ListedPeer]:
    """Read the response to GET /peers."""
    return [ListedPeer(p["url"], p["user"], p["files"], p["last_seen"], _load(p["load"])) for p in body["peers"]]


def _load(fields: dict[str, Any]) -> Load:
    return Load(fields["uploads"], fields["downloads"], fields["free_bytes"], fields["rate"])
