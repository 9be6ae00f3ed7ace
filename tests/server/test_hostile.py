"""Requests meant to break the tracker, generated from its OpenAPI document: none may get a 5xx response."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from werkzeug.test import Client

from live_tracker import CHEAP_HASHES, LENIENT_LIMITS
from tracker.app_factory import build
from tracker.models import Source
from tracker.openapi import openapi_document
from tracker.routes import ROUTES
from tracker.wsgi_bridge import SOURCE
from tracker_fixture import TrackerFixture, check_against_openapi

# Requests for each operation: about 1,000 and 50,000 in total.
CASES = [60, pytest.param(3_500, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
OPERATIONS = [(route.path, route.method) for route in ROUTES if route.name not in ("home", "metrics")]


@pytest.fixture
def hostile_app(tmp_path: Path) -> Any:
    parts = build(tmp_path, cost=CHEAP_HASHES, limits=LENIENT_LIMITS, advertise_check=False)
    yield lambda environ, reply: parts.app(environ | {SOURCE: Source("127.0.0.1")}, reply)
    parts.close()


def token(app: Any, last: str) -> str:
    """The last token while its session is open, else that of a new session: the sessions of an account are limited."""
    if Client(app).get("/peers", headers={"Authorization": f"Bearer {last}"}).status_code == 200:
        return last
    body = {"username": "hostile", "password": "x", "url": "127.0.0.1:5001"}
    return str(Client(app).post("/login", json=body).json["token"])  # type: ignore[index]


@pytest.mark.parametrize("cases", CASES)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_requests_generated_from_openapi_never_cause_an_internal_error(
    hostile_app: Any, path: str, method: str, cases: int
) -> None:
    schema = schemathesis.openapi.from_dict(openapi_document())
    operation = schema[path][method]
    mixed = st.one_of(
        operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE),
    )

    held = ""

    @given(case=mixed)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(case: Any) -> None:
        nonlocal held
        held = token(hostile_app, held)
        sent: dict[str, Any] = {"headers": {"Authorization": f"Bearer {held}"}}
        if isinstance(case.body, bytes | str):
            sent |= {"data": case.body, "content_type": "application/json"}
        elif not isinstance(case.body, schemathesis.core.NotSet):
            try:
                sent |= {"data": orjson.dumps(case.body), "content_type": "application/json"}
            except (TypeError, orjson.JSONEncodeError):
                sent |= {"data": repr(case.body).encode(errors="replace"), "content_type": "application/json"}
        query = {k: v for k, v in (case.query or {}).items() if isinstance(v, str | int | float)}
        answer = Client(hostile_app).open(path, method=method, query_string=query, **sent)
        assert answer.status_code < 500, answer.text
        check_against_openapi(method, path, answer)

    run()


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(names=st.lists(st.text(max_size=30), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_announced_name_is_listed_unchanged_or_refused_with_a_rule(world: TrackerFixture, names: list[str]) -> None:
    ana = world.peer()
    files = [{"name": n, "id": f"{at:064x}", "size": 1, "complete": True} for at, n in enumerate(names)]
    answer = ana.call("PUT", "/index", {"version": "1", "files": files})
    if answer.status_code == 200:
        listed = {f["name"] for f in ana.call("GET", "/files").json["files"]}  # type: ignore[index]
        assert listed <= set(names) and listed
    else:
        assert (answer.status_code, answer.json["code"]) == (400, "bad_name")  # type: ignore[index]
        assert answer.json["message"].isprintable()  # type: ignore[index]


@given(value=VALUES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_of_a_wrong_shape_is_refused_in_one_line(world: TrackerFixture, value: Any) -> None:
    try:
        body = orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return
    for method, path in (("PUT", "/ping"), ("PUT", "/index"), ("POST", "/upload"), ("POST", "/query")):
        headers = {"Authorization": f"Bearer {world.peer().login['token']}"}
        answer = world.call(method, path, data=body, content_type="application/json", headers=headers)
        assert answer.status_code == 400, answer.text
        assert answer.json is not None and answer.json["message"].isprintable()


def test_a_random_authorization_header_is_refused(tmp_path: Path, world: TrackerFixture) -> None:
    for number in range(500):
        claim = os.urandom(number % 60).decode("latin-1").replace("\r", "").replace("\n", "")
        answer = world.client.get("/peers", environ_overrides={"HTTP_AUTHORIZATION": f"Bearer {claim}"})
        assert answer.status_code == 401
