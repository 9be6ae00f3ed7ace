"""REST out: the only module that asks the tracker for anything, and the only one that knows what it answers.

Plain blocking calls, safe from many threads; the daemon makes them in threads of their own. Every failure is a
PeerError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from common.status_messages import ListedFile, ListedPeer, Load
from daemon.errors import (
    BadName,
    BadUsage,
    Busy,
    LoginRefused,
    NoActivePeer,
    NoSuchFile,
    NotAllowed,
    NotLoggedIn,
    PeerError,
)
from daemon.models import Holder, IndexEntry, PingResponse, PushTarget, RemoteFile, Version
from daemon.tracker_client.transport import Response, TrackerTransport

# What one request may carry (contract of the tracker).
FILES_PER_REQUEST = 5000
# Of all files of a query, or of an order for copies, an answer names 10,000 peers at most: with 30 for each nothing is
# left out. A query may have 1,000.
_PEERS_PER_ANSWER = 10_000
QUERIES_PER_REQUEST = _PEERS_PER_ANSWER // 30
_READ = 15.0
# A ping asks for little, and another follows soon: a tracker that keeps silent is to be known for it.
_PONG = 5.0
_ERRORS: dict[str, type[PeerError]] = {
    kind.code: kind for kind in (BadName, LoginRefused, NotLoggedIn, NotAllowed, NoSuchFile, NoActivePeer)
}


class SendIndex(Exception):
    """The tracker does not have the version that a change builds on."""


class LoginResponse:
    """What the tracker answers to a login."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.registered: bool = body["status"] == 201
        self.token = str(body["token"])
        self.epoch = str(body["epoch"])
        self.peer_id = bytes.fromhex(body["peer_id"]).hex()
        self.ticket_key = bytes.fromhex(body["ticket_key"])
        self.server_time = float(body["server_time"])


class TrackerClient:
    """The tracker as this peer sees it. `token` is None when nobody is logged in."""

    def __init__(self, url: str, *, verify: bool | str = True) -> None:
        self.token: str | None = None
        self._transport = TrackerTransport(url, verify)

    @property
    def fault(self) -> str:
        """Why the tracker was not reached, for people; empty since it has answered to whatever it was asked."""
        return self._transport.fault

    # -------------------------------------------------------------------------------------------------------- session

    def login(self, user: str, password: str, address: str) -> LoginResponse:
        """Log in; does not keep the token. A session that there is shows that the address may change hands."""
        body = self._call("POST", "/login", {"username": user, "password": password, "url": address})
        with self._transport.parse_errors():
            return LoginResponse(body)

    def logout(self) -> None:
        """End the session; the tracker forgets this peer's files now."""
        self._call("POST", "/logout", {})

    def change_password(self, old: str, new: str) -> None:
        """Change the password of the user who is logged in."""
        self._call("POST", "/password", {"old": old, "new": new})

    # --------------------------------------------------------------------------------------------- liveness and index

    def ping(self, epoch: str, index_version: str, load: Load) -> PingResponse:
        """Say that this peer is alive."""
        body = self._call(
            "PUT",
            "/ping",
            {
                "epoch": epoch,
                "index_version": index_version,
                "load": {
                    "uploads": load.uploads,
                    "downloads": load.downloads,
                    "free_bytes": load.free_bytes,
                    "rate": load.rate,
                },
            },
            patience=_PONG,
        )
        with self._transport.parse_errors():
            recheck = tuple(map(str, body["recheck"]))
            return PingResponse(str(body["epoch"]), bool(body["send_index"]), recheck, float(body["server_time"]))

    def put_index(self, version: str, files: Sequence[IndexEntry]) -> None:
        """Send the whole list, or its first part: at most FILES_PER_REQUEST."""
        self._call("PUT", "/index", {"version": version, "files": [_entry(file) for file in files]})

    def patch_index(
        self, base: str, version: str, add: Sequence[IndexEntry], remove: Sequence[tuple[str, str]]
    ) -> None:
        """Send a change. Raises SendIndex if the tracker does not have `base`."""
        self._call(
            "PATCH",
            "/index",
            {
                "base_version": base,
                "version": version,
                "add": [_entry(file) for file in add],
                "remove": [{"name": name, "id": id_} for name, id_ in remove],
            },
        )

    def delete_index(self) -> None:
        """Leave index and liveness now; the session stays."""
        self._call("DELETE", "/index")

    # ------------------------------------------------------------------------------------------------------ questions

    def query(self, *, names: Sequence[str] = (), ids: Sequence[str] = ()) -> list[RemoteFile]:
        """Return the versions of these names, or of these ids, with their holders; what does not exist is left out."""
        key, values = ("ids", ids) if ids else ("names", names)
        found: list[RemoteFile] = []
        for part in _parts(values, QUERIES_PER_REQUEST):
            try:
                body = self._call("POST", "/query", {key: list(part)})
            except NoSuchFile:
                continue
            with self._transport.parse_errors():
                for file in body["files"]:
                    holders = tuple(Holder(h["url"], h["ticket"], h["complete"], h["why"]) for h in file["holders"])
                    found.append(RemoteFile(Version(file["name"], file["id"], file["size"]), holders))
        return found

    def place(self, files: Sequence[Version], copies: int) -> list[PushTarget]:
        """Return the peers that should take copies, best first for each id; none is no error."""
        targets: list[PushTarget] = []
        for part in _parts(files, max(1, min(FILES_PER_REQUEST, _PEERS_PER_ANSWER // copies))):
            order = [{"name": file.name, "id": file.id, "size": file.size} for file in part]
            try:
                body = self._call("POST", "/upload", {"files": order, "copies": copies})
            except NoActivePeer:
                continue
            with self._transport.parse_errors():
                targets += [PushTarget(t["id"], t["url"], t["ticket"], t["why"]) for t in body["targets"]]
        return targets

    def report_corrupt(self, id_: str, address: str, reason: str) -> None:
        """Say that a holder served what did not verify."""
        self._call("POST", "/report", {"id": id_, "url": address, "reason": reason[:200]})

    def files(self, match: str) -> Iterator[list[ListedFile]]:
        """Yield what the network has, page by page."""
        after: str | None = None
        while True:
            query = {"match": match, "limit": "1000"} | ({"after": after} if after else {})
            body = self._call("GET", "/files", query=query)
            with self._transport.parse_errors():
                page = [ListedFile(f["name"], f["id"], f["size"], f["holders"], f["partial"]) for f in body["files"]]
                after = body["next"]
            yield page
            if after is None:
                return

    def peers(self) -> list[ListedPeer]:
        """Return who is alive."""
        body = self._call("GET", "/peers")
        with self._transport.parse_errors():
            return [
                ListedPeer(p["url"], p["user"], p["files"], p["last_seen"], Load(**p["load"])) for p in body["peers"]
            ]

    def probe(self) -> None:
        """See whether the tracker answers; needs no session."""
        body = self._call("GET", "/healthz", patience=_PONG)
        with self._transport.parse_errors():
            int(body["status"])

    # ------------------------------------------------------------------------------------------------------- the wire

    def _call(
        self,
        method: str,
        route: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        patience: float = _READ,
    ) -> dict[str, Any]:
        """Make one call, with the session's token if there is one."""
        answer = self._transport.request(method, route, body, query=query, token=self.token, timeout=patience)
        if answer.status >= 400:
            self._refuse(answer)
        return answer.body

    def _refuse(self, answer: Response) -> NoReturn:
        code, message = str(answer.body.get("code", "")), str(answer.body.get("message", answer.reason))
        if code == "send_index":
            raise SendIndex
        if code in _ERRORS:
            raise _ERRORS[code](message)
        if answer.status == 429:
            raise LoginRefused(message)
        if answer.status == 503:
            raise Busy(message)
        if code == "address_taken":
            raise LoginRefused(message)
        if answer.status == 400:
            raise BadUsage(message)
        raise PeerError(f"the tracker refused: {message}")


def _entry(file: IndexEntry) -> dict[str, Any]:
    return {"name": file.name, "id": file.id, "size": file.size, "complete": file.complete}


def _parts(values: Sequence[Any], most: int) -> Iterable[Sequence[Any]]:
    for at in range(0, len(values), most):
        yield values[at : at + most]
