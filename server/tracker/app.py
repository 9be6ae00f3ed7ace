"""The Flask application: the guard, the reading of bodies, the errors. Who may call what stands in tracker.routes."""

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any

import orjson
from flask import Flask, Response, g, request
from pydantic import TypeAdapter, ValidationError
from werkzeug.exceptions import HTTPException

from tracker.addresses import Addresses
from tracker.api import Views
from tracker.entrance import Entrance
from tracker.errors import (
    BadMediaType,
    BadRequest,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    TrackerError,
)
from tracker.metrics import Metrics
from tracker.names import printable
from tracker.routes import BY_NAME, ROUTES, SMALL, Access, Route

log = logging.getLogger("tracker.app")

_FOREIGN = {404: NotFound, 405: MethodNotAllowed, 413: TooLarge, 415: BadMediaType}
# Faults of a body told in one message; the first few tell enough.
_FAULTS_TOLD = 5


def create_app(views: Views, entrance: Entrance, addresses: Addresses, metrics: Metrics) -> Flask:
    """The application, of parts made by tracker.build."""
    app = Flask("tracker", static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    for route in ROUTES:
        app.add_url_rule(route.path, route.name, _view(route, getattr(views, route.name)), methods=[route.method])

    @app.before_request
    def guard() -> None:
        g.began = perf_counter()
        if request.routing_exception is not None:
            return
        route = BY_NAME.get(request.endpoint or "")
        request.max_content_length = route.limit if route else SMALL
        access = route.access if route else Access.TOKEN
        if access is Access.PUBLIC or (access is Access.OWN_MACHINE and addresses.own(request.remote_addr or "")):
            return
        g.session = entrance.who(bearer(request.headers.get("Authorization", "")))

    @app.after_request
    def finish(response: Response) -> Response:
        headers = response.headers
        headers["Cache-Control"] = "no-store"
        headers["X-Content-Type-Options"] = "nosniff"
        # What no route knows is counted in one place: a stranger cannot make up labels.
        method, rule = (request.method, request.url_rule.rule) if request.url_rule else ("other", "other")
        metrics.request(method, rule, response.status_code, perf_counter() - g.began)
        return response

    app.register_error_handler(TrackerError, refusal)
    app.register_error_handler(HTTPException, _foreign)
    app.register_error_handler(Exception, _internal)
    return app


def bearer(authorization: str) -> str:
    """The token of an Authorization header; empty if it holds none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def refusal(error: TrackerError) -> Response:
    """The one shape of every refusal."""
    body = {"status": error.status, "message": error.message, "code": error.code}
    response = Response(orjson.dumps(body), status=error.status, mimetype="application/json")
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after + 0.5)))
    return response


def _view(route: Route, view: Callable[..., Response]) -> Callable[[], Response]:
    if route.body is None:
        return view
    adapter: TypeAdapter[Any] = TypeAdapter(route.body)

    def with_body() -> Response:
        raw = request.get_data(cache=False)
        if not raw and route.body_may_lack:
            return view(None)
        if request.mimetype != "application/json":
            raise BadMediaType("send JSON, with Content-Type: application/json")
        try:
            body = adapter.validate_json(raw)
        except ValidationError as error:
            raise BadRequest(_faults(error)) from None
        return view(body)

    return with_body


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{_where(fault['loc'])}{fault['msg']}" for fault in faults[:_FAULTS_TOLD]]
    more = f"; and {len(faults) - _FAULTS_TOLD} more" if len(faults) > _FAULTS_TOLD else ""
    return "; ".join(told) + more


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
    return refusal(TrackerError("internal error: the tracker's log says more"))
