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

from tracker.addresses import AddressPolicy
from tracker.api import JsonResponse, Views
from tracker.auth import AuthService
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
from tracker.routes import ROUTES, ROUTES_BY_NAME, SMALL_BODY_LIMIT, Access, Route
from tracker.schemas import PATTERN_DESCRIPTIONS

log = logging.getLogger("tracker.app")

_FOREIGN = {404: NotFound, 405: MethodNotAllowed, 413: TooLarge, 415: BadMediaType}
_HEADERS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
# Faults of a body told in one message; the first few tell enough.
_FAULTS_TOLD = 5
_JSON = "application/json"


class CachedRule:
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

    def cache_routes(self) -> None:
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
                return cast("MapAdapter", CachedRule(rule, lambda: ask(request)))
        return super().create_url_adapter(request)


def create_app(
    views: Views, auth: AuthService, addresses: AddressPolicy, metrics: Metrics, events: Events, dashboard: Blueprint
) -> Flask:
    """The application, of parts made by tracker.build. `pages` guards its own routes, and refuses by default too."""
    app = Application()
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    for route in ROUTES:
        app.add_url_rule(route.path, route.name, _view(route, getattr(views, route.name)), methods=[route.method])
    app.register_blueprint(dashboard)

    @app.before_request
    def guard() -> None:
        asked = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - a proxy's every access costs
        asked.began = perf_counter()
        if asked.routing_exception is not None:
            return
        route = ROUTES_BY_NAME.get(asked.endpoint or "")
        asked.max_content_length = route.body_limit if route else SMALL_BODY_LIMIT
        if asked.blueprint == dashboard.name:
            return
        access = route.access if route else Access.TOKEN
        if access is Access.PUBLIC or (access is Access.OWN_MACHINE and addresses.is_local(asked.remote_addr or "")):
            return
        g.session = auth.authenticate(bearer_token(asked.environ.get("HTTP_AUTHORIZATION", "")))

    @app.after_request
    def finish(response: Response) -> Response:
        asked = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
        response.headers.extend(_HEADERS)
        # What no route knows is counted in one place: a stranger cannot make up labels.
        method, rule = (asked.method, asked.url_rule.rule) if asked.url_rule else ("other", "other")
        metrics.observe_request(method, rule, response.status_code, perf_counter() - asked.began)
        return response

    def internal(error: Exception) -> Response:
        events("failed", logging.ERROR, route=str(request.url_rule))
        return _internal(error)

    app.cache_routes()
    app.register_error_handler(TrackerError, error_response)
    app.register_error_handler(HTTPException, _http_exception_response)
    app.register_error_handler(Exception, internal)
    return app


def bearer_token(authorization: str) -> str:
    """The token of an Authorization header; empty if it holds none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def error_response(error: TrackerError) -> Response:
    """The one shape of every refusal."""
    response = JsonResponse({"status": error.status, "message": error.message, "code": error.code}, error.status)
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
        if not raw and route.body_optional:
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
    return PATTERN_DESCRIPTIONS.get(pattern, said) if isinstance(pattern, str) else said


def _where(place: tuple[int | str, ...]) -> str:
    # Unknown keys are the sender's words: shown printable.
    return (
        ".".join(str(part) if isinstance(part, int) else printable(part)[1:-1] for part in place) + ": "
        if place
        else ""
    )


def _http_exception_response(error: HTTPException) -> Response:
    status = error.code or 500
    if status >= 500:
        return _internal(error)
    known = _FOREIGN.get(status, BadRequest)
    texts = {
        NotFound: "no such route: /openapi.json lists the routes",
        MethodNotAllowed: f"{printable(request.method)[1:-1]} is not what this route takes",
        TooLarge: f"the body is over {request.max_content_length} bytes: send it in several requests",
        BadRequest: "the request could not be read",
    }
    response = error_response(known(texts.get(known, error.name)))
    allow = dict(error.get_headers()).get("Allow")
    if allow:
        response.headers["Allow"] = allow
    return response


def _internal(error: Exception) -> Response:
    log.error("unhandled error at %s", request.path, exc_info=error)
    return error_response(Internal("internal error: the tracker's log says more"))
