"""The views of the REST routes: read the request, call the service, write the response. No decisions."""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response, g, request

from tracker import PROTOCOL, VERSION, schemas
from tracker.addresses import is_own_machine
from tracker.auth import AuthService
from tracker.compatibility import check_protocol
from tracker.errors import BadRequest, SendIndex
from tracker.metrics import Metrics
from tracker.models import IndexEntry, Load, PageCursor, Session, Source, Version
from tracker.service import HolderOffer, Tracker
from tracker.wsgi_bridge import IN_EVENT_LOOP, SOURCE, NeedsThread

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_HEX = frozenset("0123456789abcdef")
# For lists of thousands: twice as fast as six lookups by name.
_ENTRY_FIELDS = itemgetter("name", "id", "size", "complete", "modified", "executable")
_fromhex = bytes.fromhex


class JsonResponse(Response):
    """A response that is sent as it is: werkzeug's checks of headers and body are skipped."""

    def __init__(self, body: Mapping[str, object], status: int = 200) -> None:
        super().__init__(orjson.dumps(body), status, content_type="application/json")

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        # Content-Length is set since the body is.
        start_response(self.status, list(self.headers))
        return (self.get_data(),)


def json_response(body: schemas.Response) -> Response:
    """Return a body of tracker.schemas, with its `status` as the HTTP status."""
    return JsonResponse(body, body["status"])


def _ok(message: str = "ok") -> Response:
    return json_response({"status": 200, "message": message})


class Views:
    """One method for each route of tracker.routes, under the route's name."""

    def __init__(
        self,
        tracker: Tracker,
        auth: AuthService,
        metrics: Metrics,
        openapi: Callable[[], dict[str, Any]],
        ping_interval: float,
        home: Callable[[], Response],
    ) -> None:
        """Wire the views; `ping_interval` is in seconds, `home` is the dashboard's page."""
        self._tracker = tracker
        self._auth = auth
        self._metrics = metrics
        self._openapi = openapi
        self._ping_interval = ping_interval
        self._home = home

    def login(self, body: schemas.Login) -> Response:
        check_protocol(body.version, body.protocol)
        authorization = request.authorization
        token = authorization.token if authorization is not None and authorization.type == "bearer" else None
        login = self._auth.login(
            body.username, body.password, body.url, _source(), token or "", register=body.register_unknown
        )
        done = "registered and logged in" if login.registered else "logged in"
        return json_response(
            schemas.LoginResponse(
                status=201 if login.registered else 200,
                message=f"{done} as {body.username}",
                token=login.token,
                epoch=self._tracker.epoch,
                peer_id=login.session.peer_id,
                ping_interval=self._ping_interval,
                server_time=self._tracker.server_time(),
                ticket_key=login.session.ticket_key.hex(),
                user=login.session.user,
                version=VERSION,
                protocol=PROTOCOL,
                url=login.session.address,
            )
        )

    def logout(self, _body: schemas.Logout | None) -> Response:
        self._auth.logout(_session())
        return _ok("logged out")

    def password(self, body: schemas.ChangePassword) -> Response:
        self._auth.change_password(_session(), body.old, body.new, _source().address)
        return _ok("password changed")

    def ping(self, body: schemas.Ping) -> Response:
        sent = body.load
        load = None
        if sent is not None:
            known = "free_bytes" in sent.model_fields_set
            load = Load(sent.uploads, sent.downloads, sent.free_bytes, sent.rate, known)
        session = _session() if body.url is None else self._session_at(body.url)
        result = self._tracker.ping(session, body.epoch, body.index_version, load)
        response = schemas.PingResponse(
            status=200,
            message="ok",
            epoch=self._tracker.epoch,
            send_index=result.send_index,
            recheck=[file_id.hex() for file_id in result.recheck],
            ping_interval=self._ping_interval,
            server_time=self._tracker.server_time(),
        )
        if body.url is not None:
            response["url"] = session.address
        return json_response(response)

    def _session_at(self, url: str) -> Session:
        """Return the session after it has followed its peer to an announced address."""
        session = _session()
        if self._auth.is_at(session, url, _source()):
            return session
        if request.environ.get(IN_EVENT_LOOP):
            # A host name may need DNS, and the change is written to disk.
            raise NeedsThread
        try:
            return self._auth.move(session, url, _source())
        except SendIndex:
            # The pserver has stopped or moved since: the response to this ping asks for the index.
            return session

    def put_index(self, body: schemas.PutIndex) -> Response:
        self._tracker.put_index(_session(), body.version, _index_entries(body.files))
        return _ok(f"{len(body.files)} file{'s' * (len(body.files) != 1)}")

    def patch_index(self, body: schemas.PatchIndex) -> Response:
        remove = [(file["name"], bytes.fromhex(file["id"])) for file in body.remove]
        self._tracker.patch_index(_session(), body.base_version, body.version, _index_entries(body.add), remove)
        return _ok(f"{len(body.add)} added, {len(remove)} removed")

    def delete_index(self) -> Response:
        self._auth.leave_index(_session())
        return _ok("removed from the index; the session stays open")

    def query(self) -> Response:
        args = _arguments("name", "id")
        if len(args) != 1:
            raise BadRequest("send one of ?name=NAME and ?id=ID")
        if "name" in args:
            return _query_response(self._tracker.find_names(_session(), [args["name"]], _is_own_machine()))
        return _query_response(self._tracker.find_ids(_session(), [_id(args["id"])], _is_own_machine()))

    def query_many(self, body: schemas.QueryNames | schemas.QueryIds) -> Response:
        if isinstance(body, schemas.QueryNames):
            return _query_response(self._tracker.find_names(_session(), body.names, _is_own_machine()))
        ids = [bytes.fromhex(file_id) for file_id in body.ids]
        return _query_response(self._tracker.find_ids(_session(), ids, _is_own_machine()))

    def upload(self, body: schemas.Upload) -> Response:
        files = [(file["name"], bytes.fromhex(file["id"]), file["size"]) for file in body.files]
        targets = self._tracker.choose_targets(_session(), files, body.copies, _is_own_machine())
        return json_response(
            schemas.UploadResponse(
                status=200,
                message="ok",
                targets=[
                    {"name": t.name, "id": t.id.hex(), "url": t.address, "ticket": t.ticket, "why": t.why}
                    for t in targets
                ],
            )
        )

    def report(self, body: schemas.Report) -> Response:
        recorded = self._tracker.report(_session(), bytes.fromhex(body.id), body.url, body.reason, body.ticket)
        return _ok("recorded: this holder now comes last" if recorded else "no online peer at this url has the id")

    def files(self) -> Response:
        args = _arguments("match", "after", "limit")
        limit = args.get("limit", str(schemas.DEFAULT_PAGE_SIZE))
        if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= schemas.MAX_PAGE_SIZE):
            raise BadRequest(f"limit should be a number from 1 to {schemas.MAX_PAGE_SIZE}")
        match = args.get("match", "")
        if len(match) > 1000:
            raise BadRequest("match should be at most 1000 characters")
        after = _decode_cursor(args["after"]) if "after" in args else None
        rows, cursor = self._tracker.page(match, after, int(limit))
        return json_response(
            schemas.FilesResponse(
                status=200,
                message="ok",
                files=[
                    {
                        "name": row.name,
                        "id": row.id.hex(),
                        "size": row.size,
                        "holders": row.holders,
                        "partial": row.partial,
                        "modified": row.modified,
                        "executable": row.executable,
                    }
                    for row in rows
                ],
                next=_encode_cursor(cursor) if cursor else None,
            )
        )

    def peers(self) -> Response:
        return json_response(
            schemas.PeersResponse(
                status=200,
                message="ok",
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
                ],
            )
        )

    def home(self) -> Response:
        return self._home()

    def healthz(self) -> Response:
        return json_response(schemas.HealthResponse(status=200, message="ok", version=VERSION, protocol=PROTOCOL))

    def metrics(self) -> Response:
        return Response(self._metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")

    def openapi(self) -> Response:
        return JsonResponse(self._openapi())


def _session() -> Session:
    session: Session = g.session
    return session


def _source() -> Source:
    source: Source = request.environ[SOURCE]
    return source


def _is_own_machine() -> bool:
    return is_own_machine(_source())


def _arguments(*known: str) -> dict[str, str]:
    """Return the known parameters of the query string. Unknown ones are ignored, as unknown fields of a body are."""
    args = request.args
    for key in known:
        if len(args.getlist(key)) > 1:
            raise BadRequest(f"parameter {key} should be given once only")
    return {key: args[key] for key in known if key in args}


def _id(text: str) -> bytes:
    if len(text) != 64 or not _HEX.issuperset(text):
        raise BadRequest("id should be 64 lower-case hex digits")
    return bytes.fromhex(text)


def _index_entries(files: list[schemas.IndexFile]) -> list[IndexEntry]:
    return [
        (name, _fromhex(file_id), size, complete, modified, executable)
        for name, file_id, size, complete, modified, executable in map(_ENTRY_FIELDS, files)
    ]


def _query_response(found: list[tuple[Version, list[HolderOffer]]]) -> Response:
    return json_response(
        schemas.QueryResponse(
            status=200,
            message="ok",
            files=[
                {
                    "name": version.name,
                    "id": version.id.hex(),
                    "size": version.size,
                    "modified": version.modified,
                    "executable": version.executable,
                    "holders": [
                        {
                            "url": offer.holder.session.address,
                            "ticket": offer.ticket,
                            "complete": offer.holder.complete,
                            "has_name": offer.holder.has_name,
                            "why": offer.why,
                        }
                        for offer in offers
                    ],
                }
                for version, offers in found
            ],
        )
    )


def _encode_cursor(cursor: PageCursor) -> str:
    name, file_id = cursor
    return base64.urlsafe_b64encode(file_id + name.encode()).decode("ascii")


def _decode_cursor(after: str) -> PageCursor:
    try:
        raw = base64.b64decode(after.encode("ascii"), altchars=b"-_", validate=True)
        if len(raw) > 32:
            return raw[32:].decode(), raw[:32]
    except (UnicodeError, binascii.Error):
        pass
    raise BadRequest("after should be `next` of the page before, unchanged")
