"""A tracker of another release: a server that answers each route as a test says, and keeps what it was sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ScriptedTracker:
    """What the server answers, and the requests so far.

    Attributes:
        url: its address.
        release: fields of the response to GET /healthz, beside `status` and `message`.
        known_fields: the fields that POST /login knows. Any other one is refused, as a tracker before 0.2.0 does it.
        requests: method, path and body of each request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.release: dict[str, Any] = {}
        self.known_fields = {"username", "password", "url", "register"}
        self.requests: list[tuple[str, str, dict[str, Any]]] = []

    def respond(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body of a response."""
        self.requests.append((method, path, body))
        if path == "/healthz":
            return {"status": 200, "message": "ok", **self.release}
        if path != "/login":
            return {"status": 404, "message": "no such route", "code": "not_found"}
        if not self.known_fields.issuperset(body):
            return {"status": 400, "message": "Extra inputs are not permitted", "code": "bad_request"}
        session = {"token": "t", "epoch": "e", "peer_id": "0" * 32, "ticket_key": "0" * 64, "server_time": 1.0}
        return {"status": 200, "message": "logged in", **session}


@contextmanager
def scripted_tracker() -> Iterator[ScriptedTracker]:
    """Serve a scripted tracker on a free port of 127.0.0.1 while the block runs."""
    tracker = ScriptedTracker()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = tracker.respond(self.command, self.path.partition("?")[0], json.loads(sent or b"{}"))
            raw = json.dumps(body).encode()
            self.send_response(body["status"])
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, *_: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tracker.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield tracker
    finally:
        server.shutdown()
        server.server_close()
