"""Authenticates every call before its request is read. Denies by default.

method                      needs
/grpc.health.v1.Health/*    nothing
/p2p.v1.Control/Prove       the cookie, or a challenge made with it; from loopback only, unless over TLS
/p2p.v1.Control/*           the cookie; from loopback only, unless over TLS
/p2p.v1.Transfer/Upload*    a ticket of the tracker for this login session, with the right to write
/p2p.v1.Transfer/*          such a ticket, with the right to read
anything else               is refused
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc

from common import cookie
from daemon.errors import NotAllowed, PeerError
from daemon.peers.addresses import is_loopback_caller
from daemon.protocol import status_codes
from daemon.protocol.tickets import METADATA_KEY, Grant, Right, require_right

CONTROL = "/p2p.v1.Control/"
TRANSFER = "/p2p.v1.Transfer/"
HEALTH = "/grpc.health.v1.Health/"
PROVE = CONTROL + "Prove"
_WRITES = frozenset({TRANSFER + "UploadFile", TRANSFER + "UploadSmallFiles"})

# The grant of the current call: the interceptor sets it, the handler reads it.
CURRENT_GRANT: ContextVar[Grant] = ContextVar("grant")

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Continuation = Callable[[grpc.HandlerCallDetails], "Awaitable[Handler]"]


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Checks the cookie or the ticket of every call."""

    def __init__(self, pserver_cookie: cookie.PserverCookie, check_ticket: Callable[[str], Grant]) -> None:
        """Make the interceptor.

        Args:
            pserver_cookie: the cookie that a caller of Control must know.
            check_ticket: returns the grant of a ticket; raises PeerError if the ticket is not valid here.
        """
        self._cookie = pserver_cookie
        self._check_ticket = check_ticket

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the handler of the call, or one that refuses it."""
        method: str = handler_call_details.method
        metadata = {
            key: value for key, value in handler_call_details.invocation_metadata or () if isinstance(value, str)
        }
        if method.startswith(HEALTH):
            return await continuation(handler_call_details)
        if method.startswith(CONTROL):
            if not self._knows_cookie(method, metadata):
                return _refusal(
                    grpc.StatusCode.UNAUTHENTICATED, NotAllowed("the cookie of this pserver is needed (p2p-cookie)")
                )
            return await continuation(handler_call_details)
        if method.startswith(TRANSFER):
            ticket = metadata.get(METADATA_KEY)
            if ticket is None:
                return _refusal(grpc.StatusCode.UNAUTHENTICATED, NotAllowed("a ticket is needed (p2p-ticket)"))
            try:
                grant = self._check_ticket(ticket)
                require_right(grant, Right.WRITE if method in _WRITES else Right.READ)
            except PeerError as error:
                return _refusal(grpc.StatusCode.PERMISSION_DENIED, error)
            CURRENT_GRANT.set(grant)
            return await continuation(handler_call_details)
        return _refusal(grpc.StatusCode.PERMISSION_DENIED, NotAllowed("no such method"))

    def _knows_cookie(self, method: str, metadata: dict[str, str]) -> bool:
        if cookie.cookie_matches(metadata.get(cookie.COOKIE_KEY, ""), self._cookie.secret):
            return True
        challenge = metadata.get(cookie.CHALLENGE_KEY)
        if method != PROVE or challenge is None:
            return False
        return cookie.check_challenge(challenge, self._cookie.secret, self._cookie.port) is not None


async def require_loopback_or_tls(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Abort a call of Control that comes neither from loopback nor over TLS."""
    if is_loopback_caller(context.peer()):
        return
    if context.auth_context().get("transport_security_type") == [b"ssl"]:
        return
    await status_codes.abort(
        context,
        NotAllowed(
            "Control is available on loopback or over TLS only: set PSERVER_URL in the pclient env file to 127.0.0.1"
        ),
    )


def _refusal(status: grpc.StatusCode, error: PeerError) -> Handler:
    """Return a handler that aborts a call of any kind without reading its request."""

    async def refuse(requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(status, error.message, status_codes.trailing_metadata(error))

    return grpc.stream_stream_rpc_method_handler(refuse)
