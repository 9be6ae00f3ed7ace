"""The HTTP session of one thread with the tracker: kept connections, retries, authorities. Knows no request."""

from __future__ import annotations

import random
import socket
import ssl
from typing import Any, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ReadTimeoutError
from urllib3.util.retry import Retry

from daemon.tracker_client.dialing import dial

# A busy tracker (503 with Retry-After) gets this many retries, after at most this many seconds each. Thirty peers
# behind one address that log in at once need that long.
_BUSY_RETRIES, _BUSY_DELAY_MAX = 4, 2.0


def make_session(url: str, verify: bool | str) -> requests.Session:
    """Return a session that keeps connections open, and ignores proxies of the environment.

    Args:
        url: What all its requests begin with.
        verify: False to check no certificate; True or the path of certificate authorities to check them.
    """
    session = requests.Session()
    session.trust_env = False
    session.verify = verify
    # One more try for a kept connection that the tracker has closed meanwhile. All routes are idempotent.
    retry = _BusyRetry(
        total=1 + _BUSY_RETRIES,
        connect=0,
        read=1,
        other=0,
        status=_BUSY_RETRIES,
        allowed_methods=None,
        raise_on_status=False,
    )
    session.mount(url, _DialingAdapter(max_retries=retry))
    return session


def system_authorities() -> bool | str:
    """Return the path of the system's certificate authorities: requests would use those that it ships."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


class _BusyRetry(Retry):
    """Retries closed connections and 503 with Retry-After. Never retries a timeout."""

    # 429 (too many failed logins) goes to the user, who decides when to try again.
    RETRY_AFTER_STATUS_CODES = frozenset({503})

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        seconds = super().get_retry_after(response)
        # The random part keeps many peers from retrying at the same moment.
        return None if seconds is None else min(seconds, _BUSY_DELAY_MAX) + random.random()  # noqa: S311

    def increment(self, method: str | None = None, url: str | None = None, *args: Any, **kwargs: Any) -> Self:
        error = kwargs.get("error")
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, *args, **kwargs)


class _Dialing:
    """A connection to the first address of its host that answers; urllib3 tries one after the other."""

    def _new_conn(self: Any) -> socket.socket:
        try:
            return dial(self._dns_host.strip("[]"), self.port, self.timeout, self.socket_options or ())
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"connecting to {self.host} took over {self.timeout} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"cannot connect: {error}") from error


class _DialingConnection(_Dialing, HTTPConnection):
    pass


class _DialingTlsConnection(_Dialing, HTTPSConnection):
    pass


class _DialingPool(HTTPConnectionPool):
    ConnectionCls = _DialingConnection


class _DialingTlsPool(HTTPSConnectionPool):
    ConnectionCls = _DialingTlsConnection


class _DialingAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _DialingPool, "https": _DialingTlsPool}
