"""Requests to the tracker: threads, token, protocol, and lists in parts. Knows no route but that of the release.

Every failure of a request is a PeerError.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, wait
from typing import Any, TypeVar

from daemon.errors import RequestTooLarge
from daemon.tracker_client import responses
from daemon.tracker_client.list_parts import REQUEST_BYTES_MAX, ListParts, Part
from daemon.tracker_client.negotiation import Negotiation
from daemon.tracker_client.ping_interval import PING_TIMEOUT
from daemon.tracker_client.transport import TrackerTransport

T = TypeVar("T")

# Where the tracker says its release, to anyone.
_RELEASE_ROUTE = "/healthz"
# Seconds without a byte of the response.
_READ_TIMEOUT = 15.0
# Seconds to wait for announcements under way.
_LAST_ANNOUNCEMENT_TIMEOUT = 0.5


class Requester:
    """Makes requests in threads, with the session's token. TrackerClient knows the routes.

    `token` is None while this peer is logged out.
    """

    def __init__(self, url: str, executor: Executor, *, verify: bool | str = True) -> None:
        """Connect lazily: the first request opens a connection.

        Args:
            url: What the tracker's routes are below, for example `http://127.0.0.1:5000`.
            executor: Its threads make the requests; each keeps a connection.
            verify: True for the system's certificate authorities, or the path of a file of them.
        """
        self.token: str | None = None
        self._executor = executor
        self._transport = TrackerTransport(url, verify)
        # The most bytes of a request with a list. Half of what a proxy has refused.
        self._request_bytes = REQUEST_BYTES_MAX
        self._negotiation = Negotiation(url)
        # Pings and changes of the index that a thread sends now, also those whose caller was cancelled.
        self._announcements: set[Future[Any]] = set()

    @property
    def fault(self) -> str:
        """Why the tracker was not reached or is incompatible, one line for users; empty after any other response."""
        return self._transport.fault or self._negotiation.fault

    @property
    def protocol(self) -> int:
        """The newest protocol that this pserver and the tracker speak; 1 until it is known.

        A method that sends a field of a newer one has the decorator `renegotiating`.
        """
        return self._negotiation.protocol

    async def negotiate(self) -> None:
        """Ask the tracker for its release. Needs no session.

        Raises:
            TrackerUnreachable: The tracker does not answer.
            Incompatible: It speaks no protocol of this pserver. All other requests fail alike until it does.
        """
        self._negotiation.forget()
        release = await self._request("GET", _RELEASE_ROUTE, parse=responses.release, read_timeout=PING_TIMEOUT)
        self._negotiation.learn(release)

    async def ensure_negotiated(self) -> None:
        """Ask for the tracker's release if it is unknown; raises as `negotiate`."""
        if not self._negotiation.known:
            await self.negotiate()

    def forget_protocol(self) -> None:
        """Note that another release of the tracker may run from now on."""
        self._negotiation.forget()

    async def _send_part(
        self,
        route: str,
        parts: ListParts[Any],
        request: Callable[[Part], tuple[str, str]],
        parse: Callable[[dict[str, Any]], T],
    ) -> T:
        """Send the next part of a list; a proxy that refuses it for its size gets half of it, and so on.

        Args:
            route: The path.
            parts: The list. The part is taken from it.
            request: Returns method and body of the request for a part.
            parse: As for `_request`.

        Raises:
            RequestTooLarge: The proxy refuses a single item.
        """
        while True:
            part = parts.take(self._request_bytes)
            method, body = request(part)
            try:
                return await self._request(method, route, body, parse=parse)
            except RequestTooLarge:
                if len(part.texts) < 2:
                    raise
                self._request_bytes = min(self._request_bytes, len(body) // 2)
                parts.put_back(part)

    async def _request(
        self,
        method: str,
        route: str,
        body: Mapping[str, Any] | str | None = None,
        *,
        parse: Callable[[dict[str, Any]], T],
        params: Mapping[str, str] | None = None,
        read_timeout: float = _READ_TIMEOUT,
    ) -> T:
        """Make one request with the session's token, and return what `parse` makes of the response.

        The body is a JSON text, or an object that becomes one.
        """
        if route != _RELEASE_ROUTE:
            self._negotiation.require_compatible()
        token = self.token
        text = body if isinstance(body, str | None) else json.dumps(body)

        def request() -> T:
            response = self._transport.request(method, route, text, params=params, token=token, timeout=read_timeout)
            if response.status >= 400:
                raise responses.error_of(response)
            with self._transport.parse_errors():
                return parse(response.body)

        work = self._executor.submit(request)
        if method in ("PUT", "PATCH"):
            self._announcements.add(work)
            work.add_done_callback(self._announcements.discard)
        return await asyncio.wrap_future(work)

    async def _wait_for_announcements(self) -> None:
        """Wait for the pings and changes of the index that a thread sends now, but not for long."""
        running = tuple(self._announcements)
        if running:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._executor, wait, running, _LAST_ANNOUNCEMENT_TIMEOUT)
