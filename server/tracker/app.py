"""The Flask application: the guard, the reading of bodies, the errors. Who may call what stands in tracker.routes."""

import logging
from collections.abc import Callable
from math import ceil
from time import perf_counter
from typing import Any, cast

from flask import Blueprint, Flask, Request, Response, g, request
from flask.sessions import NullSession, SessionInterface
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import MapAdapter, Rule

from tracker.addresses import Addresses
from tracker.api import Json, Views
from tracker.auth import Entrance
from tracker.errors import (
    BadMediaType,
    BadRequest,
    Internal,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    TrackerError,
)
from tracker.events import Events
from tracker.metrics import Metrics
from tracker.names import printable
from tracker.routes import BY_NAME, ROUTES, SMALL, Access, Route
from tracker.schemas import IN_WORDS

log = logging.getLogger("tracker.app")

_FOREIGN = {404: NotFound, 405: MethodNotAllowed, 413: TooLarge, 415: BadMediaType}
_HEADERS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
# Faults of a body told in one message; the first few tell enough.
_FAULTS_TOLD = 5
_JSON = "application/json"


class _Known:
    """What the URL map would say of a request whose route is known already; asks it for anything else."""

    def __init__(self, rule: Rule, ask_map: Callable[[], MapAdapter | None]) -> None:
        self._rule = rule
        self._ask_map = ask_map

    def match(self, **_kwargs: object) -> tuple[Rule, dict[str, object]]:
        return self._rule, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ask_map(), name)


class _NoSessions(SessionInterface):
    """Flask's own cookie is not used."""

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return _NO_SESSION


_NO_SESSION = NullSession()


class Application(Flask):
    """Flask without the questions whose answers are known here: asked at every ping, they are a third of its time."""

    session_interface = _NoSessions()

    def __init__(self) -> None:
        super().__init__("tracker", static_folder=None)
        self._known: dict[tuple[str, str], Rule] = {}

    def know_routes(self) -> None:
        """Look up from now on, rather than match, every route without variables."""
        for rule in self.url_map.iter_rules():
            if not rule.arguments:
                self._known |= {(method, rule.rule): rule for method in rule.methods or ()}

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """No view and no hook is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        if request is not None:
            rule = self._known.get((request.environ["REQUEST_METHOD"], request.environ["PATH_INFO"]))
            if rule is not None:
                # A closure, not super() within: most requests never ask.
                ask = super().create_url_adapter
                return cast("MapAdapter", _Known(rule, lambda: ask(request)))
        return super().create_url_adapter(request)


def create_app(
    views: Views, entrance: Entrance, addresses: Addresses, metrics: Metrics, events: Events, pages: Blueprint
) -> Flask:
    """The application, of parts made by tracker.build. `pages` guards its own routes, and refuses by default too."""
    app = Application()
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    for route in ROUTES:
        app.add_url_rule(route.path, route.name, _view(route, getattr(views, route.name)), methods=[route.method])
    app.register_blueprint(pages)

    @app.before_request
    def guard() -> None:
        asked = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - a proxy's every access costs
        asked.began = perf_counter()
        if asked.routing_exception is not None:
            return
        route = BY_NAME.get(asked.endpoint or "")
        asked.max_content_length = route.limit if route else SMALL
        if asked.blueprint == pages.name:
            return
        access = route.access if route else Access.TOKEN
        if access is Access.PUBLIC or (access is Access.OWN_MACHINE and addresses.own(asked.remote_addr or "")):
            return
        g.session = entrance.who(bearer(asked.environ.get("HTTP_AUTHORIZATION", "")))

    @app.after_request
    def finish(response: Response) -> Response:
        asked = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
        response.headers.extend(_HEADERS)
        # What no route knows is counted in one place: a stranger cannot make up labels.
        method, rule = (asked.method, asked.url_rule.rule) if asked.url_rule else ("other", "other")
        metrics.request(method, rule, response.status_code, perf_counter() - asked.began)
        return response

    def internal(error: Exception) -> Response:
        events("failed", logging.ERROR, route=str(request.url_rule))
        return _internal(error)

    app.know_routes()
    app.register_error_handler(TrackerError, refusal)
    app.register_error_handler(HTTPException, _foreign)
    app.register_error_handler(Exception, internal)
    return app


def bearer(authorization: str) -> str:
    """The token of an Authorization header; empty if it holds none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def refusal(error: TrackerError) -> Response:
    """The one shape of every refusal."""
    response = Json({"status": error.status, "message": error.message, "code": error.code}, error.status)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(ceil(error.retry_after))
    return response


def _view(route: Route, view: Callable[..., Response]) -> Callable[[], Response]:
    if route.body is None:
        return view
    adapter: TypeAdapter[Any] = TypeAdapter(route.body)

    def with_body() -> Response:
        asked = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
        raw = _body(asked)
        if not raw and route.body_may_lack:
            return view(None)
        # Nearly all send this and nothing else; parameters are looked for where there may be some.
        if asked.content_type != _JSON and asked.mimetype != _JSON:  # noqa: PLR1714 - the second costs
            raise BadMediaType("send JSON, with Content-Type: application/json")
        try:
            body = adapter.validate_json(raw)
        except ValidationError as error:
            raise BadRequest(_faults(error)) from None
        return view(body)

    return with_body


def _body(asked: Request) -> bytes:
    """The body, of which the gateway has read all that may be: no stream that counts it once more."""
    length = asked.content_length or 0
    if length > (asked.max_content_length or 0):
        raise RequestEntityTooLarge
    read: bytes = asked.environ["wsgi.input"].read(length)
    return read


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    told = [f"{_where(fault['loc'])}{_in_words(fault)}" for fault in faults[:_FAULTS_TOLD]]
    more = f"; and {len(faults) - _FAULTS_TOLD} more" if len(faults) > _FAULTS_TOLD else ""
    return "; ".join(told) + more


def _in_words(fault: ErrorDetails) -> str:
    pattern = fault.get("ctx", {}).get("pattern")
    said = fault["msg"].removeprefix("Value error, ")
    return IN_WORDS.get(pattern, said) if isinstance(pattern, str) else said


def _where(place: tuple[int | str, ...]) -> str:
    # Unknown keys are the sender's words: shown printable.
    return (
        ".".join(str(part) if isinstance(part, int) else printable(part)[1:-1] for part in place) + ": "
        if place
        else ""
    )


def _foreign(error: HTTPException) -> Response:
    status = error.code or 500
    if status >= 500:
        return _internal(error)
    known = _FOREIGN.get(status, BadRequest)
    texts = {
        NotFound: "no such route: see README for those there are",
        MethodNotAllowed: f"{printable(request.method)[1:-1]} is not what this route takes",
        TooLarge: f"the body is over {request.max_content_length} bytes: send it in several requests",
        BadRequest: "the request could not be read",
    }
    response = refusal(known(texts.get(known, error.name)))
    allow = dict(error.get_headers()).get("Allow")
    if allow:
        response.headers["Allow"] = allow
    return response


def _internal(error: Exception) -> Response:
    log.error("unhandled error at %s", request.path, exc_info=error)
    return refusal(Internal("internal error: the tracker's log says more"))
