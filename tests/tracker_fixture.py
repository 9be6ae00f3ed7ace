"""The tracker's application without a socket, peers that call it, and a clock that tests advance."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

from tracker.app_factory import TrackerParts
from tracker.models import Source
from tracker.openapi import openapi_document
from tracker.wsgi_bridge import SOURCE


class ManualClock:
    """A clock that only `advance` moves."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Peer:
    """A pserver as the tracker sees it, with a method for each call."""

    world: "TrackerFixture"
    user: str
    address: str
    login: dict[str, Any] = field(default_factory=dict)
    source: str = "127.0.0.1"

    def call(self, method: str, path: str, json: Any = None, **kwargs: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.login['token']}"}
        return self.world.call(method, path, json=json, headers=headers, source=self.source, **kwargs)

    def ping(self, version: str = "1", **load: float) -> dict[str, Any]:
        answer = self.call("PUT", "/ping", {"epoch": self.login["epoch"], "index_version": version, "load": load})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json or {}
        return body

    def share(self, *names: str, version: str = "1", size: int = 10, complete: bool = True) -> TestResponse:
        files = [{"name": name, "id": id_of(name), "size": size, "complete": complete} for name in names]
        answer = self.call("PUT", "/index", {"version": version, "files": files})
        assert answer.status_code == 200, answer.text
        return answer

    def holders(self, name: str) -> list[str]:
        answer = self.call("GET", "/query", query_string={"name": name})
        return [h["url"] for f in (answer.json or {}).get("files", []) for h in f["holders"]]

    def tickets(self, name: str) -> dict[str, str]:
        """Query a name that has one version: the ticket for each holder, by url."""
        (file,) = (self.call("GET", "/query", query_string={"name": name}).json or {})["files"]
        return {holder["url"]: holder["ticket"] for holder in file["holders"]}

    def targets(self, name: str, copies: int = 1, size: int = 10) -> list[str]:
        body = {"files": [{"name": name, "id": id_of(name), "size": size}], "copies": copies}
        return [target["url"] for target in (self.call("POST", "/upload", body).json or {}).get("targets", [])]


def id_of(contents: str) -> str:
    """The id of the content that a test calls by this name."""
    return contents.encode().hex()[:64].ljust(64, "0")


class TrackerFixture:
    """The application, its parts and its clock. Every response is checked against the OpenAPI document."""

    def __init__(self, parts: TrackerParts, clock: ManualClock) -> None:
        self.parts = parts
        self.clock = clock
        self.client: FlaskClient = parts.app.test_client()
        self.client.environ_base |= _environ("127.0.0.1")

    def call(self, method: str, path: str, source: str = "127.0.0.1", **kwargs: Any) -> TestResponse:
        answer = self.client.open(path, method=method, environ_base=_environ(source), **kwargs)
        check_against_openapi(method, path, answer)
        return answer

    def peer(self, user: str = "ana", address: str = "127.0.0.1:5001", source: str = "127.0.0.1") -> Peer:
        answer = self.call(
            "POST", "/login", json={"username": user, "password": f"{user}'s", "url": address}, source=source
        )
        assert answer.status_code in (200, 201), answer.text
        return Peer(self, user, address, answer.json or {}, source)


def _strict(schema: Any) -> Any:
    """Return a JSON schema that allows no property beyond those it names: responses have no undocumented field."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if schema.get("type") == "object" and "properties" in schema else {}
    return {key: _strict(value) for key, value in schema.items()} | closed


def _environ(source: str) -> dict[str, Any]:
    """What the bridge adds to the WSGI environment of a request from this address."""
    return {"REMOTE_ADDR": source, SOURCE: Source(source)}


_DOCUMENT = openapi_document()
_COMPONENTS = _strict(_DOCUMENT["components"])


def check_against_openapi(method: str, path: str, answer: TestResponse) -> None:
    """Check that the OpenAPI document describes a response."""
    operation = _DOCUMENT["paths"].get(path.split("?", maxsplit=1)[0], {}).get(method.lower())
    if operation is None:
        return
    assert str(answer.status_code) in operation["responses"], f"{method} {path} answers {answer.status_code}"
    content = operation["responses"][str(answer.status_code)]["content"]
    assert answer.mimetype in content
    if answer.mimetype == "application/json":
        schema = content["application/json"]["schema"] | {"components": _COMPONENTS}
        Draft202012Validator(schema).validate(answer.json)
        assert answer.json is not None
        assert path == "/openapi.json" or answer.json["status"] == answer.status_code
        assert path == "/openapi.json" or "\n" not in answer.json["message"]


MakeTracker = Callable[..., TrackerFixture]
