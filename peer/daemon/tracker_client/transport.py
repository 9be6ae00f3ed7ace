"""HTTP requests to the tracker: one request, one JSON response, and whether the tracker can be reached.

Only this module and `http_session` know `requests`. This one says in one line why a request failed and what to check.
It never interprets the content of a response.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import requests
from requests.exceptions import ChunkedEncodingError, SSLError
from urllib3.exceptions import MaxRetryError, ProtocolError

from common.printable import printable
from daemon.errors import RequestTooLarge, TrackerUnreachable
from daemon.tracker_client.http_session import make_session, system_authorities

# Seconds; just over a multiple of 3, the first retransmission of TCP (requests' documentation advises this).
_CONNECT_TIMEOUT = 3.05
# A gateway answers with these while no tracker is behind it.
_GATEWAY_ERRORS = frozenset({502, 503, 504})
# What web servers answer that have no route of the tracker. Other errors without JSON come from a proxy.
_OTHER_SERVER = frozenset({404, 405, 501})
# The most characters of a redirect that an error shows.
_SHOWN_MAX = 200


class Response(NamedTuple):
    """An HTTP status, its phrase, and the JSON object of the body."""

    status: int
    reason: str
    body: dict[str, Any]


class TrackerTransport:
    """Makes blocking requests to one tracker. Safe to use from many threads; each thread keeps its own connection.

    `fault` says in one line for users why the tracker was not reached. It is empty after any response of the tracker.
    """

    def __init__(self, url: str, verify: bool | str) -> None:
        """Make a transport; nothing is sent.

        Args:
            url: Scheme, host, port and path of the tracker, without a slash at the end.
            verify: True for the system's certificate authorities, or the path of a file of them.
        """
        self.url = url
        self.fault = "no request yet"
        self._verify = system_authorities() if verify is True else verify
        self._responses = 0
        # The failures to connect, or to get a response, so far. A kept connection that is older may be dead, too.
        self._failures = 0
        self._thread_local = threading.local()

    def request(
        self,
        method: str,
        route: str,
        body: str | None,
        *,
        params: Mapping[str, str] | None,
        token: str | None,
        timeout: float,
    ) -> Response:
        """Make one request.

        Args:
            method: The HTTP method.
            route: The path, from `/` on.
            body: A JSON text of ASCII characters, or None.
            params: The query string.
            token: The session's token, if there is one.
            timeout: Seconds without a byte of the response.

        Returns:
            The response, of any status.

        Raises:
            TrackerUnreachable: There was no response, or it is not a JSON object.
        """
        with self._recording_fault():
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            if body is not None:
                headers["Content-Type"] = "application/json"
            try:
                response = self._session().request(
                    method,
                    self.url + route,
                    params=params,
                    data=body,
                    headers=headers,
                    timeout=(_CONNECT_TIMEOUT, timeout),
                    # A redirect would turn a POST into a GET, and could send the password elsewhere.
                    allow_redirects=False,
                )
            except (requests.ConnectionError, requests.Timeout, ChunkedEncodingError) as error:
                self._failures += 1
                raise self._connection_failed(error) from error
            except (requests.RequestException, ValueError) as error:
                raise self._not_a_tracker() from error
            except OSError as error:
                # Not from the network: requests opens the file of TLS_CA for each request.
                raise TrackerUnreachable("the certificates of TLS_CA cannot be read: check TLS_CA") from error
            try:
                return Response(response.status_code, response.reason, {**response.json()})
            except (ValueError, TypeError) as error:
                raise self._no_tracker_response(response, len(body or "")) from error

    @contextmanager
    def parse_errors(self) -> Iterator[None]:
        """Context manager for code that reads a response: a malformed one does not come from a tracker.

        Raises:
            TrackerUnreachable: The block raised KeyError, TypeError or ValueError.
        """
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            unreachable = self._not_a_tracker()
            self.fault = unreachable.message
            raise unreachable from error

    @contextmanager
    def _recording_fault(self) -> Iterator[None]:
        responses = self._responses
        try:
            yield
        except TrackerUnreachable as error:
            # If a later request got its response meanwhile, this failure is outdated.
            if self._responses == responses:
                self.fault = error.message
            raise
        self._responses += 1
        self.fault = ""

    def _connection_failed(self, error: requests.RequestException) -> TrackerUnreachable:
        """Return why there was no response: nothing listens there, or only one side uses TLS."""
        cause = error.args[0] if error.args else None
        if isinstance(cause, MaxRetryError):
            cause = cause.reason
        # A server without TLS that closes the connection at the ClientHello looks like this, too.
        closed_early = isinstance(cause, ProtocolError) or _is_tls_end_of_file(cause)
        if isinstance(error, SSLError) and not closed_early:
            return TrackerUnreachable(
                f"the tracker at {self.url} is not trusted: its certificate is for another address or not signed by "
                "TLS_CA, or it does not use TLS: check SERVER_URL and TLS_CA"
            )
        if not closed_early:
            return self._no_response()
        return self._no_response(
            "if it uses TLS, set TLS_CA or put https:// before SERVER_URL"
            if self.url.startswith("http:")
            else "if it does not use TLS, remove TLS_CA or put http:// before SERVER_URL"
        )

    def _no_response(self, advice: str = "") -> TrackerUnreachable:
        checks = "; ".join(filter(None, ("check that it runs", advice)))
        return TrackerUnreachable(f"the tracker at {self.url} does not answer: {checks}")

    def _no_tracker_response(self, response: requests.Response, sent: int) -> TrackerUnreachable:
        """Return what a response without a JSON object means. `sent` is the bytes of the request's body."""
        status, location = response.status_code, response.headers.get("Location")
        if response.is_redirect and location:
            where = printable(location)[:_SHOWN_MAX]
            return TrackerUnreachable(
                f"the server at {self.url} redirects to {where}: set SERVER_URL to where it leads"
            )
        if status < 400 or status in _OTHER_SERVER:
            return self._not_a_tracker()
        page = " with a web page" if response.headers.get("Content-Type", "").startswith("text/html") else ""
        answered = f"a proxy at {self.url} answered {status}{page}"
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return RequestTooLarge(
                f"{answered} to a request of {sent} bytes: raise its body limit "
                "(client_max_body_size in nginx) to 1 MiB or more"
            )
        if status in _GATEWAY_ERRORS:
            return TrackerUnreachable(f"{answered}: the tracker behind it does not answer: check that it runs")
        if status == HTTPStatus.BAD_REQUEST and self.url.startswith("http:"):
            return TrackerUnreachable(f"{answered}: if it uses TLS, set SERVER_URL to https://...")
        return TrackerUnreachable(f"{answered}: check its settings, and SERVER_URL")

    def _not_a_tracker(self) -> TrackerUnreachable:
        return TrackerUnreachable(f"the server at {self.url} is not a tracker: check SERVER_URL and SERVER_PORT")

    def _session(self) -> requests.Session:
        """Return this thread's session. Each failure of any thread makes new ones, which dial again.

        After a change of network each kept connection would otherwise cost a timeout of its own.
        """
        failures = self._failures
        session, since = getattr(self._thread_local, "session", (None, 0))
        if session is None or since != failures:
            if session is not None:
                session.close()
            session = make_session(self.url, self._verify)
            self._thread_local.session = (session, failures)
        return cast("requests.Session", session)


def _is_tls_end_of_file(error: object) -> bool:
    """Return whether urllib3 reports a connection that was closed during TLS."""
    return isinstance(error, Exception) and bool(error.args) and isinstance(error.args[0], ssl.SSLEOFError)
