"""The Flask application: access checks, bodies, errors. tracker.routes says who may call what."""

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

from tracker.addresses import is_own_machine
from tracker.api import Views, json_response
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
from tracker.schemas import PATTERN_DESCRIPTIONS, ErrorResponse
from tracker.wsgi_bridge import SOURCE

log = logging.getLogger("tracker.app")

_HTTP_ERRORS = {404: NotFound, 405: MethodNotAllowed, 413: TooLarge, 415: BadMediaType}
_HEADERS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
# Validation errors listed in one message.
_MAX_LISTED_ERRORS = 5
_JSON = "application/json"


class _CachedRule:
    """A URL adapter whose match is known. It asks the URL map for everything else."""

    def __init__(self, rule: Rule, make_adapter: Callable[[], MapAdapter | None]) -> None:
        self._rule = rule
        self._make_adapter = make_adapter

    def match(self, **_kwargs: object) -> tuple[Rule, dict[str, object]]:
        return self._rule, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make_adapter(), name)


class _NoSessions(SessionInterface):
    """Flask's session cookie is not used."""

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return _NO_SESSION


_NO_SESSION = NullSession()


class Application(Flask):
    """Flask without per-request work whose result never changes here: it took a third of a ping's time."""

    session_interface = _NoSessions()

    def __init__(self) -> None:
        super().__init__("tracker", static_folder=None)
        self._rules: dict[tuple[str, str], Rule] = {}

    def cache_routes(self) -> None:
        """Find routes without variables by a lookup from now on, instead of a match."""
        for rule in self.url_map.iter_rules():
            if not rule.arguments:
                self._rules |= {(method, rule.rule): rule for method in rule.methods or ()}

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func` as it is: no view is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        if request is not None:
            rule = self._rules.get((request.environ["REQUEST_METHOD"], request.environ["PATH_INFO"]))
            if rule is not None:
                # super() is bound here, because most requests never need the adapter.
                create = super().create_url_adapter
                return cast("MapAdapter", _CachedRule(rule, lambda: create(request)))
        return super().create_url_adapter(request)


def create_app(
    views: Views, auth: AuthService, metrics: Metrics, events: Events, dashboard: Blueprint, *, behind_proxy: bool
) -> Flask:
    """Create the application from parts made by tracker.app_factory.

    `dashboard` checks access to its own routes, and denies by default. With `behind_proxy` every client might come from
    this machine's proxy, so no route is open to the own machine.
    """
    app = Application()
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    for route in ROUTES:
        app.add_url_rule(route.path, route.name, _view(route, getattr(views, route.name)), methods=[route.method])
    app.register_blueprint(dashboard)

    @app.before_request
    def check_access() -> None:
        current = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - a proxy's every access costs
        current.began = perf_counter()
        if current.routing_exception is not None:
            return
        route = ROUTES_BY_NAME.get(current.endpoint or "")
        current.max_content_length = route.body_limit if route else SMALL_BODY_LIMIT
        if current.blueprint == dashboard.name:
            return
        access = route.access if route else Access.TOKEN
        if access is Access.PUBLIC:
            return
        if access is Access.OWN_MACHINE and not behind_proxy and is_own_machine(current.environ[SOURCE]):
            return
        g.session = auth.authenticate(bearer_token(current.environ.get("HTTP_AUTHORIZATION", "")))

    @app.after_request
    def finish(response: Response) -> Response:
        current = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
        response.headers.extend(_HEADERS)
        # Requests without a route share one label, so that clients cannot create labels.
        method, rule = (current.method, current.url_rule.rule) if current.url_rule else ("other", "other")
        metrics.observe_request(method, rule, response.status_code, perf_counter() - current.began)
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
    """Return the token of an Authorization header, or an empty string."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def error_response(error: TrackerError) -> Response:
    """Return the response for an error."""
    response = json_response(ErrorResponse(status=error.status, message=error.message, code=error.code))
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
        current = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
        raw = _body(current)
        if not raw and route.body_optional:
            return view(None)
        # The exact value first: parsing parameters of the media type costs time at every ping.
        if current.content_type != _JSON and current.mimetype != _JSON:  # noqa: PLR1714 - mimetype costs
            raise BadMediaType("send JSON with Content-Type: application/json")
        try:
            body = adapter.validate_json(raw)
        except ValidationError as error:
            raise BadRequest(_validation_message(error)) from None
        return view(body)

    return with_body


def _body(current: Request) -> bytes:
    """Return the body. tracker.wsgi_bridge has read it already, so Flask's counting stream is not needed."""
    length = current.content_length or 0
    if length > (current.max_content_length or 0):
        raise RequestEntityTooLarge
    read: bytes = current.environ["wsgi.input"].read(length)
    return read


def _validation_message(error: ValidationError) -> str:
    errors = error.errors(include_url=False, include_input=False)
    listed = [f"{_location(each['loc'])}{_description(each)}" for each in errors[:_MAX_LISTED_ERRORS]]
    more = f"; and {len(errors) - _MAX_LISTED_ERRORS} more" if len(errors) > _MAX_LISTED_ERRORS else ""
    return "; ".join(listed) + more


def _description(error: ErrorDetails) -> str:
    pattern = error.get("ctx", {}).get("pattern")
    message = error["msg"].removeprefix("Value error, ")
    return PATTERN_DESCRIPTIONS.get(pattern, message) if isinstance(pattern, str) else message


def _location(path: tuple[int | str, ...]) -> str:
    # Unknown keys come from the client, so they are made printable.
    parts = [str(part) if isinstance(part, int) else printable(part)[1:-1] for part in path]
    return ".".join(parts) + ": " if parts else ""


def _http_exception_response(error: HTTPException) -> Response:
    status = error.code or 500
    if status >= 500:
        return _internal(error)
    kind = _HTTP_ERRORS.get(status, BadRequest)
    # Without a route the request has no limit, and no TooLarge.
    messages = {
        NotFound: "no such route: /openapi.json lists the routes",
        MethodNotAllowed: f"{printable(request.method)[1:-1]} is not a method of this route",
        TooLarge: f"the body is over {request.max_content_length or 0:,} bytes: send it in several requests",
        BadRequest: "the request cannot be read",
    }
    response = error_response(kind(messages.get(kind, error.name)))
    allow = dict(error.get_headers()).get("Allow")
    if allow:
        response.headers["Allow"] = allow
    return response


def _internal(error: Exception) -> Response:
    log.error("unhandled error at %s", request.path, exc_info=error)
    return error_response(Internal("internal error: see the tracker's log"))
