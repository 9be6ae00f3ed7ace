"""HTTP in, JSON out: each view asks the service and writes the answer. No decisions."""

import base64
import binascii
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response, g, request

from tracker import schemas as b
from tracker.addresses import AddressPolicy
from tracker.auth import AuthService
from tracker.errors import BadRequest
from tracker.metrics import Metrics
from tracker.models import IndexEntry, Load, Session, Version
from tracker.service import HolderOffer, Tracker

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_HEX = frozenset("0123456789abcdef")
# Lists of thousands: this is twice as fast as naming the fields one by one.
_FIELDS = itemgetter("name", "id", "size", "complete")
_fromhex = bytes.fromhex


class JsonResponse(Response):
    """An answer whose body is whole: it leaves as it is, unsearched for what werkzeug might have to mend."""

    def __init__(self, body: dict[str, object], status: int = 200) -> None:
        super().__init__(orjson.dumps(body), status, content_type="application/json")

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        # The length is among the headers since the body was set.
        start_response(self.status, list(self.headers))
        return (self.get_data(),)


def success(status: int = 200, message: str = "ok", **payload: object) -> Response:
    """The one shape of every good answer."""
    return JsonResponse({"status": status, "message": message, **payload}, status)


class Views:
    """One method for each route of tracker.routes, by its name there."""

    def __init__(
        self,
        tracker: Tracker,
        entrance: AuthService,
        addresses: AddressPolicy,
        metrics: Metrics,
        openapi: Callable[[], dict[str, Any]],
        ping_interval: float,
        home: Callable[[], Response],
    ) -> None:
        self._tracker = tracker
        self._entrance = entrance
        self._addresses = addresses
        self._metrics = metrics
        self._openapi = openapi
        self._ping_interval = ping_interval
        self._home = home

    def login(self, body: b.Login) -> Response:
        asker = request.authorization
        token = asker.token if asker is not None and asker.type == "bearer" else None
        opened = self._entrance.login(
            body.username, body.password, body.url, _source(), token or "", register=body.register_unknown
        )
        return success(
            201 if opened.registered else 200,
            f"registered and logged in as {body.username}" if opened.registered else f"logged in as {body.username}",
            token=opened.token,
            epoch=self._tracker.epoch,
            peer_id=opened.session.peer_id,
            ping_interval=self._ping_interval,
            server_time=self._tracker.server_time(),
            ticket_key=opened.session.ticket_key.hex(),
            user=opened.session.user,
        )

    def logout(self, _body: b.Logout | None) -> Response:
        self._entrance.logout(_session())
        return success(message="logged out")

    def password(self, body: b.ChangePassword) -> Response:
        self._entrance.change_password(_session(), body.old, body.new, _source())
        return success(message="password changed")

    def ping(self, body: b.Ping) -> Response:
        told = body.load
        load = None
        if told is not None:
            room_told = "free_bytes" in told.model_fields_set
            load = Load(told.uploads, told.downloads, told.free_bytes, told.rate, room_told)
        pong = self._tracker.ping(_session(), body.epoch, body.index_version, load)
        return success(
            epoch=self._tracker.epoch,
            send_index=pong.send_index,
            recheck=[file_id.hex() for file_id in pong.recheck],
            server_time=self._tracker.server_time(),
        )

    def put_index(self, body: b.PutIndex) -> Response:
        self._tracker.put_index(_session(), body.version, _announced(body.files))
        return success(message=f"{len(body.files)} file{'s' * (len(body.files) != 1)}")

    def patch_index(self, body: b.PatchIndex) -> Response:
        remove = [(file["name"], bytes.fromhex(file["id"])) for file in body.remove]
        self._tracker.patch_index(_session(), body.base_version, body.version, _announced(body.add), remove)
        return success(message=f"{len(body.add)} added, {len(remove)} removed")

    def delete_index(self) -> Response:
        self._entrance.leave_index(_session())
        return success(message="left the index; the session stays")

    def query(self) -> Response:
        args = _arguments("name", "id")
        if len(args) != 1:
            raise BadRequest("ask for one: ?name=NAME or ?id=ID")
        if "name" in args:
            return _found(self._tracker.find_names(_session(), [args["name"]], self._near()))
        return _found(self._tracker.find_ids(_session(), [_id(args["id"])], self._near()))

    def query_many(self, body: b.QueryNames | b.QueryIds) -> Response:
        if isinstance(body, b.QueryNames):
            return _found(self._tracker.find_names(_session(), body.names, self._near()))
        ids = [bytes.fromhex(file_id) for file_id in body.ids]
        return _found(self._tracker.find_ids(_session(), ids, self._near()))

    def upload(self, body: b.Upload) -> Response:
        files = [(file["name"], bytes.fromhex(file["id"]), file["size"]) for file in body.files]
        targets = self._tracker.choose_targets(_session(), files, body.copies, self._near())
        return success(
            targets=[{"id": t.id.hex(), "url": t.address, "ticket": t.ticket, "why": t.why} for t in targets],
        )

    def report(self, body: b.Report) -> Response:
        noted = self._tracker.report(_session(), bytes.fromhex(body.id), body.url, body.reason)
        return success(message="noted: asked last from now on" if noted else "no such holder any more")

    def files(self) -> Response:
        args = _arguments("match", "after", "limit")
        limit = args.get("limit", str(b.DEFAULT_PAGE_SIZE))
        if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= b.MAX_PAGE_SIZE):
            raise BadRequest(f"limit is a number from 1 to {b.MAX_PAGE_SIZE}")
        match = args.get("match", "")
        if len(match) > 1000:
            raise BadRequest("match is at most 1000 characters")
        rows, place = self._tracker.page(match, _place(args["after"]) if "after" in args else None, int(limit))
        return success(
            files=[
                {"name": r.name, "id": r.id.hex(), "size": r.size, "holders": r.holders, "partial": r.partial}
                for r in rows
            ],
            next=_after(*place) if place else None,
        )

    def peers(self) -> Response:
        return success(
            peers=[
                {
                    "url": peer.session.address,
                    "user": peer.session.user,
                    "files": peer.files,
                    "last_seen": peer.last_seen,
                    "load": {
                        "uploads": peer.load.uploads,
                        "downloads": peer.load.downloads,
                        "free_bytes": peer.load.free_bytes,
                        "rate": peer.load.rate,
                    },
                }
                for peer in self._tracker.online_peers()
            ]
        )

    def home(self) -> Response:
        return self._home()

    def healthz(self) -> Response:
        return success()

    def metrics(self) -> Response:
        return Response(self._metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")

    def openapi(self) -> Response:
        return JsonResponse(self._openapi())

    def _near(self) -> bool:
        return self._addresses.is_local(_source())


def _session() -> Session:
    session: Session = g.session
    return session


def _source() -> str:
    return request.remote_addr or ""


def _arguments(*known: str) -> dict[str, str]:
    args = request.args
    for key in args:
        if key not in known:
            raise BadRequest(f"unknown parameter; this route knows {', '.join(known)}")
        if len(args.getlist(key)) > 1:
            raise BadRequest(f"parameter {key} is given more than once")
    return args.to_dict()


def _id(text: str) -> bytes:
    if len(text) != 64 or not _HEX.issuperset(text):
        raise BadRequest("an id has 64 lower-case hex digits")
    return bytes.fromhex(text)


def _announced(files: list[b.IndexFile]) -> list[IndexEntry]:
    return [(name, _fromhex(file_id), size, complete) for name, file_id, size, complete in map(_FIELDS, files)]


def _found(found: list[tuple[Version, list[HolderOffer]]]) -> Response:
    return success(
        files=[
            {
                "name": version.name,
                "id": version.id.hex(),
                "size": version.size,
                "holders": [
                    {
                        "url": offer.holder.session.address,
                        "ticket": offer.ticket,
                        "complete": offer.holder.complete,
                        "why": offer.why,
                    }
                    for offer in offers
                ],
            }
            for version, offers in found
        ]
    )


def _after(name: str, file_id: bytes) -> str:
    return base64.urlsafe_b64encode(file_id + name.encode()).decode("ascii")


def _place(after: str) -> tuple[str, bytes]:
    try:
        raw = base64.b64decode(after.encode("ascii"), altchars=b"-_", validate=True)
        if len(raw) > 32:
            return raw[32:].decode(), raw[:32]
    except (UnicodeError, binascii.Error):
        pass
    raise BadRequest("after is the `next` of the page before, as it was")
