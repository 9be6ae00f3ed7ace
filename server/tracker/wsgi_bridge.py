"""Runs the WSGI application in granian, which is asynchronous (RSGI). Knows neither routes nor rules.

A body is read completely before the application sees the request, and only up to the caller's limit. So a slow sender
occupies a few bytes and never a thread. Short requests run in the event loop. The others run in a pool for their kind:
no password hash and no long list delays a ping.

The source of a request is decided here, once. What the application sees as REMOTE_ADDR is that source.
"""

import asyncio
import io
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Protocol

from tracker.concurrency_limits import PerAccountByteLimit, PerAccountLimit, PerSourceLimit
from tracker.errors import Busy
from tracker.models import Source
from tracker.proxies import FORWARDED_FOR, FORWARDING_HEADERS
from tracker.routes import SMALL_BODY_LIMIT, BodyLimit, Pool

log = logging.getLogger("tracker.wsgi_bridge")

# Seconds for a body to arrive. One within SMALL_BODY_LIMIT is sent at once, so it gets less.
BODY_TIMEOUT = 60.0
SMALL_BODY_TIMEOUT = 10.0
# Bytes of longer bodies in memory, from their first byte until the response: in total, and of one account.
MAX_BODY_BYTES, MAX_BODY_BYTES_PER_ACCOUNT = 256 << 20, 32 << 20
# Requests from their first byte until the response: of one source, and of all peers on the tracker's own machine. Both
# are below the connections that granian accepts (tracker.http_server), so one source cannot use them all.
MAX_REQUESTS_PER_SOURCE, MAX_REQUESTS_LOCAL = 256, 2048
# Threads for Pool.WORK, and how many of them one account may use at once, however many peers it has.
WORKERS, WORKERS_PER_ACCOUNT = 4, 2
SEARCHERS = 2
# More than the hashes that run or wait (tracker.passwords), so that the first one too many gets Busy at once.
LOGIN_WORKERS = 32

# Keys of the WSGI environment: the Source of the request; there if it runs in the event loop, where it may not wait.
SOURCE, IN_EVENT_LOOP = "tracker.source", "tracker.in_event_loop"
_FORWARDING_KEYS = frozenset("HTTP_" + name.upper().replace("-", "_") for name in FORWARDING_HEADERS)

# IP address of a connection, and values of X-Forwarded-For (None without any header of a proxy) -> source.
SourceOf = Callable[[str, Sequence[str] | None], Source]
# Status, headers, body.
WsgiResponse = tuple[int, list[tuple[str, str]], bytes]


class NeedsThread(BaseException):
    """Raised by a view in the event loop that would have to wait. The request then runs again, in Pool.LOGIN.

    A BaseException, so that no handler of the application makes a response of it.
    """


class RsgiScope(Protocol):
    """A request as granian describes it (RSGI)."""

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
    """WSGI's start_response: records status and headers."""

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
    """The RSGI application that runs a WSGI application."""

    def __init__(
        self,
        app: Callable[[dict[str, Any], StartResponse], Iterable[bytes]],
        body_limit: Callable[[str, str, str], BodyLimit],
        pool: Callable[[str, str], Pool],
        source_of: SourceOf,
        *,
        body_timeout: float = BODY_TIMEOUT,
        small_body_timeout: float = SMALL_BODY_TIMEOUT,
    ) -> None:
        """Wire the bridge.

        Args:
            app: the WSGI application.
            body_limit: method, path and Authorization header of a request -> its body limit and account.
            pool: method and path of a request -> where it runs.
            source_of: decides where a request comes from.
            body_timeout: seconds for a long body to arrive.
            small_body_timeout: seconds for a body within SMALL_BODY_LIMIT to arrive.
        """
        self._app = app
        self._body_limit = body_limit
        self._pool = pool
        self._source_of = source_of
        self._body_timeout = body_timeout
        self._small_body_timeout = small_body_timeout
        self._body_bytes = PerAccountByteLimit(MAX_BODY_BYTES, MAX_BODY_BYTES_PER_ACCOUNT)
        self._executors = {
            Pool.WORK: ThreadPoolExecutor(WORKERS, thread_name_prefix="work"),
            Pool.SEARCH: ThreadPoolExecutor(SEARCHERS, thread_name_prefix="search"),
            Pool.LOGIN: ThreadPoolExecutor(LOGIN_WORKERS, thread_name_prefix="login"),
        }
        self._account_slots = PerAccountLimit(WORKERS_PER_ACCOUNT)
        self._requests = PerSourceLimit(MAX_REQUESTS_PER_SOURCE, MAX_REQUESTS_LOCAL)
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __call__(self, scope: RsgiScope, protocol: Any) -> None:
        """Serve one request; called by granian."""
        if scope.proto != "http":
            return
        status, headers, body = await self._respond(scope, protocol)
        protocol.response_bytes(status, headers, body)

    async def wait_idle(self) -> None:
        """Wait until every request that has arrived completely has its response."""
        await self._idle.wait()

    def close(self) -> None:
        """Stop the threads. Requests that wait for one are dropped."""
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)

    async def _respond(self, scope: RsgiScope, protocol: Any) -> WsgiResponse:
        environ = _environ(scope, self._source_of)
        source = environ["REMOTE_ADDR"]
        try:
            self._requests.acquire(source)
        except Busy as busy:
            return _busy(busy.message, 1)
        try:
            return await self._respond_within_limits(environ, scope, protocol)
        finally:
            self._requests.release(source)

    async def _respond_within_limits(self, environ: dict[str, Any], scope: RsgiScope, protocol: Any) -> WsgiResponse:
        limit = self._body_limit(scope.method, scope.path, environ.get("HTTP_AUTHORIZATION", ""))
        length = environ.get("CONTENT_LENGTH", "")
        size = int(length) if length.isdecimal() else limit.max_bytes
        if not SMALL_BODY_LIMIT < size <= limit.max_bytes or scope.method in ("GET", "HEAD"):
            return await self._read_and_run(environ, scope, protocol, limit)
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._body_timeout):
                    await held.enter_async_context(self._body_bytes.acquired(limit.account, size))
            except TimeoutError:
                return _busy("too many long requests: try again in some seconds", 5)
            return await self._read_and_run(environ, scope, protocol, limit)

    async def _read_and_run(
        self, environ: dict[str, Any], scope: RsgiScope, protocol: Any, limit: BodyLimit
    ) -> WsgiResponse:
        try:
            body, declared = await self._read_body(environ, scope, protocol, limit.max_bytes)
        except TimeoutError:
            close = [("Connection", "close"), ("Content-Type", "application/json")]
            return 408, close, b'{"status":408,"message":"the body did not arrive in time","code":"bad_request"}'
        # The application sees a body of known length, whether it came in chunks or not.
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(declared)
        pool = self._pool(scope.method, scope.path)
        limited = pool is Pool.WORK
        if pool is Pool.INLINE:
            environ[IN_EVENT_LOOP] = True
            try:
                return self._run(environ)
            except NeedsThread:
                del environ[IN_EVENT_LOOP]
                environ["wsgi.input"] = io.BytesIO(body)
                pool, limited = Pool.LOGIN, True
        self._running += 1
        self._idle.clear()
        try:
            async with AsyncExitStack() as held:
                if limited and limit.account:
                    await held.enter_async_context(self._account_slots.acquired(limit.account))
                return await asyncio.get_running_loop().run_in_executor(self._executors[pool], self._run, environ)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _read_body(
        self, environ: dict[str, Any], scope: RsgiScope, protocol: Any, max_bytes: int
    ) -> tuple[bytes, int]:
        """Read the body; return it and its length.

        A body over `max_bytes` is returned as empty with its length, and the application refuses it. granian never
        passes on more than a declared length; chunks without one are counted here.
        """
        length = environ.get("CONTENT_LENGTH")
        if length is None and "HTTP_TRANSFER_ENCODING" not in environ and scope.method in ("GET", "HEAD"):
            return b"", 0
        if length == "0":
            return b"", 0
        if length is not None and (not length.isdecimal() or int(length) > max_bytes):
            return b"", int(length) if length.isdecimal() else max_bytes + 1
        expected = int(length) if length is not None else max_bytes
        async with asyncio.timeout(self._body_timeout if expected > SMALL_BODY_LIMIT else self._small_body_timeout):
            if length is not None:
                # One call: the loop below costs 5 % of a ping.
                body: bytes = await protocol()
                return body, len(body)
            chunks: list[bytes] = []
            size = 0
            async for chunk in protocol:
                size += len(chunk)
                if size > expected:
                    return b"", max_bytes + 1
                chunks.append(chunk)
        return b"".join(chunks), size

    def _run(self, environ: dict[str, Any]) -> WsgiResponse:
        head = StartResponse()
        chunks = self._app(environ, head)
        try:
            return head.status, head.headers, b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()


def _environ(scope: RsgiScope, source_of: SourceOf) -> dict[str, Any]:
    host, _, port = scope.server.rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode(errors="surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        key = _USUAL_KEYS.get(name) or _environ_key(name)
        if key:
            environ[key] = value
    forwarded_for = None
    if not _FORWARDING_KEYS.isdisjoint(environ):
        # They are not read again.
        for key in _FORWARDING_KEYS:
            environ.pop(key, None)
        # A proxy may add its own header instead of extending the one it got.
        forwarded_for = [value for name, value in scope.headers.items() if name.lower() == FORWARDED_FOR]
    source = source_of(_connection_address(scope.client), forwarded_for)
    environ["REMOTE_ADDR"] = source.address
    environ[SOURCE] = source
    if "HTTP_TRANSFER_ENCODING" in environ:
        # RFC 9112, 6.3: it overrides Content-Length.
        environ.pop("CONTENT_LENGTH", None)
    if scope.authority and "HTTP_HOST" not in environ:
        environ["HTTP_HOST"] = scope.authority
    return environ


def _environ_key(header: str) -> str:
    """Return the key of a header in the WSGI environment; empty for one that is ignored."""
    # The header "Content_Length" would otherwise become the variable of the real Content-Length.
    if "_" in header:
        return ""
    key = header.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


# Headers of every ping. Their keys are looked up: to make them took 2 % of a ping's time.
_USUAL_HEADERS = (
    "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host", "user-agent",
    FORWARDED_FOR,
)  # fmt: skip
_USUAL_KEYS = {header: _environ_key(header) for header in _USUAL_HEADERS}


def _connection_address(client: str) -> str:
    """Return the IP address of `host:port`; that of an IPv4 client of an IPv6 socket is an IPv4 address."""
    host = client.rpartition(":")[0].strip("[]")
    return host.removeprefix("::ffff:") if "." in host else host


def _busy(message: str, seconds: int) -> WsgiResponse:
    headers = [("Retry-After", str(seconds)), ("Connection", "close"), ("Content-Type", "application/json")]
    return 503, headers, b'{"status":503,"message":"%s","code":"busy"}' % message.encode()


def _no_writer(_data: bytes) -> None:
    raise NotImplementedError("the application answers with bytes, not through write()")
