"""Translates between the pserver's errors and gRPC status codes, in both directions, by one table.

A status code says roughly what happened, for any client. The error's own code is in trailing metadata and is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import grpc
from grpc import StatusCode

from common.control_messages import HINT_KEY
from common.version import VERSION
from daemon import errors
from daemon.errors import Busy, NoHolders, PeerError

CODE_KEY = "p2p-code"
RETRY_AFTER_KEY = "p2p-retry-after"

STATUS_OF: dict[type[PeerError], StatusCode] = {
    PeerError: StatusCode.INTERNAL,
    errors.BadUsage: StatusCode.INVALID_ARGUMENT,
    errors.BadName: StatusCode.INVALID_ARGUMENT,
    errors.AmbiguousName: StatusCode.FAILED_PRECONDITION,
    errors.NoSuchFile: StatusCode.NOT_FOUND,
    errors.FileChanged: StatusCode.FAILED_PRECONDITION,
    errors.TrackerUnreachable: StatusCode.UNAVAILABLE,
    errors.RequestTooLarge: StatusCode.UNAVAILABLE,
    errors.NoActivePeer: StatusCode.UNAVAILABLE,
    errors.Incompatible: StatusCode.FAILED_PRECONDITION,
    errors.TargetExists: StatusCode.ALREADY_EXISTS,
    errors.DiskFull: StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFault: StatusCode.ABORTED,
    errors.NotWritable: StatusCode.ABORTED,
    errors.Interrupted: StatusCode.ABORTED,
    errors.BeingWritten: StatusCode.ABORTED,
    errors.NoHolders: StatusCode.UNAVAILABLE,
    errors.Busy: StatusCode.RESOURCE_EXHAUSTED,
    errors.NotVerified: StatusCode.DATA_LOSS,
    errors.LoginRefused: StatusCode.PERMISSION_DENIED,
    errors.UnknownUser: StatusCode.NOT_FOUND,
    errors.NotLoggedIn: StatusCode.FAILED_PRECONDITION,
    errors.NotAllowed: StatusCode.PERMISSION_DENIED,
}
# Several classes may have one code: the first in STATUS_OF represents it.
ERROR_OF_CODE: dict[str, type[PeerError]] = {kind.code: kind for kind in reversed(STATUS_OF)}
_ERROR_OF_STATUS: dict[StatusCode, type[PeerError]] = {
    StatusCode.UNAUTHENTICATED: errors.NotAllowed,
    StatusCode.PERMISSION_DENIED: errors.NotAllowed,
    StatusCode.NOT_FOUND: errors.NoSuchFile,
    StatusCode.RESOURCE_EXHAUSTED: errors.Busy,
    StatusCode.UNIMPLEMENTED: errors.Incompatible,
}


def trailing_metadata(error: PeerError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of an error: its code, and its hint and retry time if it has them."""
    hint = ((HINT_KEY, error.hint.value),) if error.hint is not None else ()
    retry = ((RETRY_AFTER_KEY, f"{error.retry_after:g}"),) if isinstance(error, Busy) else ()
    return ((CODE_KEY, error.code), *hint, *retry)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: PeerError) -> NoReturn:
    """End a call with an error.

    Raises:
        grpc.aio.AbortError: always; gRPC ends the call by it.
    """
    await context.abort(STATUS_OF[type(error)], one_line(error.message), trailing_metadata(error))
    raise AssertionError("abort raises")


def error_from_rpc(error: grpc.aio.AioRpcError, address: str) -> PeerError:
    """Return the error that another peer raised.

    Args:
        error: how the call failed. Without a code of ours, its status decides which error it is.
        address: the peer's `host:port`, for the message.
    """
    metadata = dict(_pairs(error.trailing_metadata()))
    kind = ERROR_OF_CODE.get(metadata.get(CODE_KEY, "")) or _ERROR_OF_STATUS.get(error.code(), NoHolders)
    if error.code() is StatusCode.RESOURCE_EXHAUSTED and kind is NoHolders:
        kind = Busy
    details = one_line(error.details() or "") or error.code().name
    if CODE_KEY not in metadata and error.code() is StatusCode.UNAVAILABLE:
        details = "does not answer"
    if kind is errors.Incompatible and CODE_KEY not in metadata:
        # Calls are only added, so the peer that does not know one is the older.
        details = f"its pserver is older than this one (release {VERSION}) and does not know this call: upgrade it"
    return kind(f"{address}: {details}")


def error_from_code(code: str, message: str) -> PeerError:
    """Return the error that a peer described in a message: `code` is one of ours, `message` is text of the peer."""
    return ERROR_OF_CODE.get(code, PeerError)(one_line(message))


def one_line(text: str) -> str:
    """Return text of another peer as one line of at most 300 characters."""
    return " ".join(text.split())[:300]


def _pairs(metadata: Iterable[tuple[str, str | bytes]] | None) -> Iterable[tuple[str, str]]:
    for key, value in metadata or ():
        if isinstance(value, str):
            yield key, value
