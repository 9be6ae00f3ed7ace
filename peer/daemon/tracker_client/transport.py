"""The line to the tracker: one request, one answer in JSON, and what is known of whether it answers.

The only module that knows requests. It says in one line what is wrong with the line and what to do about it; what an
answer means is the tracker client's affair.
"""

from __future__ import annotations

import random
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, SSLError
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import MaxRetryError, ProtocolError, ReadTimeoutError
from urllib3.util.retry import Retry

from daemon.errors import TrackerUnreachable

_CONNECT = 3.05
# What the tracker is too busy for is tried again so often, after at most so many seconds each: thirty peers of one
# address that log in at once take that long.
_BUSY_RETRIES, _BUSY_PAUSE = 4, 2.0
# What a gateway says of a tracker that is not behind it.
_NOBODY_BEHIND = frozenset({502, 503, 504})


class Response(NamedTuple):
    """What came back: the HTTP status, its phrase, and the JSON object."""

    status: int
    reason: str
    body: dict[str, Any]


class TrackerTransport:
    """Makes requests of one tracker. Safe from many threads.

    `fault` is why the tracker was not reached, for people; empty since it has answered, whatever it answered.
    """

    def __init__(self, url: str, verify: bool | str) -> None:
        self.url = url
        self.fault = "not asked yet"
        self._verify = verify
        self._answers = 0
        self._threads = threading.local()

    def request(
        self,
        method: str,
        route: str,
        body: Mapping[str, Any] | None,
        *,
        query: Mapping[str, str] | None,
        token: str | None,
        timeout: float,
    ) -> Response:
        """Make one request; `patience` is how many seconds the tracker may be silent.

        Raises:
            TrackerUnreachable: if what comes back is no object in JSON, or nothing does.
        """
        with self._noted():
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            try:
                answer = self._session().request(
                    method, self.url + route, params=query, json=body, headers=headers, timeout=(_CONNECT, timeout)
                )
            except (requests.ConnectionError, requests.Timeout, ChunkedEncodingError) as error:
                raise self._no_answer(error) from error
            except (requests.RequestException, ValueError) as error:
                raise self._no_tracker() from error
            except OSError as error:
                # Not of the network: requests looks for the file at each request.
                raise TrackerUnreachable("the certificates of TLS_CA cannot be read: look at TLS_CA") from error
            try:
                return Response(answer.status_code, answer.reason, {**answer.json()})
            except (ValueError, TypeError) as error:
                if answer.status_code in _NOBODY_BEHIND:
                    raise self._not_there() from error
                raise self._no_tracker() from error

    @contextmanager
    def parse_errors(self) -> Iterator[None]:
        """Take an answer apart; whatever it lacks, it is not the tracker's.

        Raises:
            TrackerUnreachable: for a KeyError, TypeError or ValueError of the block.
        """
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            unreachable = self._no_tracker()
            self.fault = unreachable.message
            raise unreachable from error

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Keep what a request says of the line."""
        answers = self._answers
        try:
            yield
        except TrackerUnreachable as error:
            # What was asked before another was answered, and is given up only now, is no news.
            if self._answers == answers:
                self.fault = error.message
            raise
        self._answers += 1
        self.fault = ""

    def _no_answer(self, error: requests.RequestException) -> TrackerUnreachable:
        """Say why a request came to nothing: it is not running, or the two do not agree on TLS."""
        cause = error.args[0] if error.args else None
        if isinstance(cause, MaxRetryError):
            cause = cause.reason
        # Also a server without TLS that hangs up at the first word of it.
        broken_off = isinstance(cause, ProtocolError) or _is_end_of_file(cause)
        if isinstance(error, SSLError) and not broken_off:
            return TrackerUnreachable(
                f"the tracker at {self.url} is not trusted: its certificate is not for this address, or not from "
                "TLS_CA, or it speaks no TLS: look at SERVER_URL and TLS_CA"
            )
        if not broken_off:
            return self._not_there()
        return self._not_there(
            "if it has TLS, set TLS_CA" if self.url.startswith("http:") else "if it has no TLS, leave out TLS_CA"
        )

    def _not_there(self, hint: str = "") -> TrackerUnreachable:
        question = f"is it running? {hint}".rstrip()
        return TrackerUnreachable(f"the tracker at {self.url} does not answer: {question}")

    def _no_tracker(self) -> TrackerUnreachable:
        return TrackerUnreachable(f"what answers at {self.url} is no tracker: look at SERVER_URL and SERVER_PORT")

    def _session(self) -> requests.Session:
        """Return this thread's session: connections are kept, proxies of the environment are not asked."""
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            session.verify = self._verify
            # A kept connection that the tracker has closed meanwhile is tried once more; every route bears it.
            retry = _BusyRetry(
                total=1 + _BUSY_RETRIES,
                connect=0,
                read=1,
                other=0,
                status=_BUSY_RETRIES,
                allowed_methods=None,
                raise_on_status=False,
            )
            session.mount(self.url, HTTPAdapter(max_retries=retry))
            self._threads.session = session
        return session


class _BusyRetry(Retry):
    """Tries again what was cut off, and what the tracker is too busy for; not what took too long."""

    # Who has failed too often (429) is told so, and does not wait unasked.
    RETRY_AFTER_STATUS_CODES = frozenset({503})

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        seconds = super().get_retry_after(response)
        # Not all at once again.
        return None if seconds is None else min(seconds, _BUSY_PAUSE) + random.random()  # noqa: S311

    def increment(self, method: str | None = None, url: str | None = None, *args: Any, **kwargs: Any) -> Self:
        error = kwargs.get("error")
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, *args, **kwargs)


def _is_end_of_file(error: object) -> bool:
    """Whether urllib3 tells of a line that ended in the middle of TLS."""
    return isinstance(error, Exception) and bool(error.args) and isinstance(error.args[0], ssl.SSLEOFError)
