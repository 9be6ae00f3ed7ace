"""Between the server, which is asynchronous, and the application, which is WSGI. Knows neither routes nor rules.

A body is read whole before the application sees the request, and only as much of it as the caller may send: so a slow
sender holds a few bytes, never a thread. Quick requests are answered where they are read; the others wait in lanes of
their own, so that no password hash and no long list delays a ping.
"""

import asyncio
import io
import logging
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Protocol

from tracker.account_limits import PerAccountByteLimit, PerAccountLimit
from tracker.concurrency_limits import PerSourceLimit
from tracker.errors import Busy
from tracker.routes import SMALL_BODY_LIMIT, BodyLimit, Pool

log = logging.getLogger("tracker.wsgi_bridge")

BODY_TIMEOUT = 60.0
# A body that fits SMALL is sent in one go: whoever takes longer only holds a connection.
SMALL_BODY_TIMEOUT = 10.0
# Bytes of long bodies, from their first byte until they are answered: of all senders, and of each.
MAX_BODY_BYTES, MAX_BODY_BYTES_PER_ACCOUNT = 256 << 20, 32 << 20
# Requests from their first byte until they are answered: of one source, and of all peers on the tracker's own machine.
# Of the connections that the server takes (tracker.serving) each source so fills a part only.
MAX_REQUESTS_PER_SOURCE, MAX_REQUESTS_LOCAL = 256, 2048
WORKERS = 4
# Of one account at once, whatever number of peers it has: the others' work waits behind none of it.
WORKERS_PER_ACCOUNT = 2
SEARCHERS = 2
# More than the hashes that run and wait, so that the first one too many is told to come back rather than left waiting.
LOGIN_WORKERS = 32

# Status, headers, body.
WsgiResponse = tuple[int, list[tuple[str, str]], bytes]


class RsgiScope(Protocol):
    """What the server tells of a request (RSGI)."""

    proto: str
    server: str
    client: str
    scheme: str
    method: str
    path: str
    query_string: str
    authority: str | None
    headers: Any


class StartResponse:
    """WSGI's start_response; keeps what it is told."""

    __slots__ = ("headers", "status")

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[str, str]] = []

    def __call__(
        self, status: str, headers: list[tuple[str, str]], _exc_info: object = None
    ) -> Callable[[bytes], None]:
        self.status = int(status[:3])
        self.headers = headers
        return _no_writer


class WsgiBridge:
    """The RSGI application that answers with a WSGI one."""

    def __init__(
        self,
        app: Callable[[dict[str, Any], StartResponse], Iterable[bytes]],
        allowance: Callable[[str, str, str], BodyLimit],
        lane: Callable[[str, str], Pool],
        *,
        body_timeout: float = BODY_TIMEOUT,
        small_body_timeout: float = SMALL_BODY_TIMEOUT,
    ) -> None:
        self._app = app
        self._allowance = allowance
        self._lane = lane
        self._body_time = body_timeout
        self._small_body_time = small_body_timeout
        self._long_bodies = PerAccountByteLimit(MAX_BODY_BYTES, MAX_BODY_BYTES_PER_ACCOUNT)
        self._pools = {
            Pool.WORK: ThreadPoolExecutor(WORKERS, thread_name_prefix="work"),
            Pool.SEARCH: ThreadPoolExecutor(SEARCHERS, thread_name_prefix="search"),
            Pool.LOGIN: ThreadPoolExecutor(LOGIN_WORKERS, thread_name_prefix="login"),
        }
        self._turns = PerAccountLimit(WORKERS_PER_ACCOUNT)
        self._requests = PerSourceLimit(MAX_REQUESTS_PER_SOURCE, MAX_REQUESTS_LOCAL)
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __call__(self, scope: RsgiScope, protocol: Any) -> None:
        """Answer one request."""
        if scope.proto != "http":
            return
        status, headers, body = await self._answer(scope, protocol)
        protocol.response_bytes(status, headers, body)

    async def wait_idle(self) -> None:
        """Until every request that has arrived whole is answered."""
        await self._idle.wait()

    def close(self) -> None:
        """Give the threads back."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, scope: RsgiScope, protocol: Any) -> WsgiResponse:
        environ = _environ(scope)
        source = environ["REMOTE_ADDR"]
        try:
            self._requests.acquire(source)
        except Busy as busy:
            return _busy(busy.message, 1)
        try:
            return await self._answer_one(environ, scope, protocol)
        finally:
            self._requests.release(source)

    async def _answer_one(self, environ: dict[str, Any], scope: RsgiScope, protocol: Any) -> WsgiResponse:
        allowed = self._allowance(scope.method, scope.path, environ.get("HTTP_AUTHORIZATION", ""))
        length = environ.get("CONTENT_LENGTH", "")
        size = int(length) if length.isdecimal() else allowed.max_bytes
        if not SMALL_BODY_LIMIT < size <= allowed.max_bytes or scope.method in ("GET", "HEAD"):
            return await self._answer_when_read(environ, scope, protocol, allowed)
        async with AsyncExitStack() as room:
            try:
                async with asyncio.timeout(self._body_time):
                    await room.enter_async_context(self._long_bodies.acquired(allowed.account, size))
            except TimeoutError:
                return _busy("too many long requests: try again soon", 5)
            return await self._answer_when_read(environ, scope, protocol, allowed)

    async def _answer_when_read(
        self, environ: dict[str, Any], scope: RsgiScope, protocol: Any, allowed: BodyLimit
    ) -> WsgiResponse:
        try:
            body, declared = await self._body(environ, scope, protocol, allowed.max_bytes)
        except TimeoutError:
            close = [("Connection", "close"), ("Content-Type", "application/json")]
            return 408, close, b'{"status":408,"message":"the body did not arrive in time","code":"bad_request"}'
        # However it was sent, it lies here whole.
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(declared)
        lane = self._lane(scope.method, scope.path)
        if lane is Pool.INLINE:
            return self._call(environ)
        pool = self._pools[lane]
        self._running += 1
        self._idle.clear()
        try:
            async with AsyncExitStack() as turn:
                if lane is Pool.WORK and allowed.account:
                    await turn.enter_async_context(self._turns.acquired(allowed.account))
                return await asyncio.get_running_loop().run_in_executor(pool, self._call, environ)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _body(self, environ: dict[str, Any], scope: RsgiScope, protocol: Any, allowed: int) -> tuple[bytes, int]:
        """The body and its length; nothing of one that is too long, which the application then refuses.

        Of a declared length granian hands over just that; what comes in chunks is counted.
        """
        length = environ.get("CONTENT_LENGTH")
        if length is None and "HTTP_TRANSFER_ENCODING" not in environ and scope.method in ("GET", "HEAD"):
            return b"", 0
        if length == "0":
            return b"", 0
        if length is not None and (not length.isdecimal() or int(length) > allowed):
            return b"", int(length) if length.isdecimal() else allowed + 1
        most = int(length) if length is not None else allowed
        async with asyncio.timeout(self._body_time if most > SMALL_BODY_LIMIT else self._small_body_time):
            if length is not None:
                # At once: the loop below costs a twentieth of a ping.
                body: bytes = await protocol()
                return body, len(body)
            chunks: list[bytes] = []
            size = 0
            async for chunk in protocol:
                size += len(chunk)
                if size > most:
                    return b"", allowed + 1
                chunks.append(chunk)
        return b"".join(chunks), size

    def _call(self, environ: dict[str, Any]) -> WsgiResponse:
        reply = StartResponse()
        answer = self._app(environ, reply)
        try:
            return reply.status, reply.headers, b"".join(answer)
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()


def _environ(scope: RsgiScope) -> dict[str, Any]:
    host, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode(errors="surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        # The connection's own: a header that claims another source is never believed.
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        # As a variable "Content_Length" would pass for the length by which the server reads the body.
        if "_" in name:
            continue
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    if "HTTP_TRANSFER_ENCODING" in environ:
        # It overrides a length that is declared beside it (RFC 9112, 6.3).
        environ.pop("CONTENT_LENGTH", None)
    if scope.authority and "HTTP_HOST" not in environ:
        environ["HTTP_HOST"] = scope.authority
    return environ


def _busy(message: str, seconds: int) -> WsgiResponse:
    again = [("Retry-After", str(seconds)), ("Connection", "close"), ("Content-Type", "application/json")]
    return 503, again, b'{"status":503,"message":"%s","code":"busy"}' % message.encode()


def _no_writer(_data: bytes) -> None:
    raise NotImplementedError("the application answers with bytes, not through write()")
