"""Our errors and gRPC's status codes: one table, both directions. Nobody else translates between the two.

A status code says roughly what happened, for any client; our own code travels in trailing metadata and says it exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import grpc
from grpc import StatusCode

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
    errors.NoActivePeer: StatusCode.UNAVAILABLE,
    errors.TargetExists: StatusCode.ALREADY_EXISTS,
    errors.DiskFull: StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFault: StatusCode.ABORTED,
    errors.Interrupted: StatusCode.ABORTED,
    errors.NoHolders: StatusCode.UNAVAILABLE,
    errors.Busy: StatusCode.RESOURCE_EXHAUSTED,
    errors.NotVerified: StatusCode.DATA_LOSS,
    errors.LoginRefused: StatusCode.PERMISSION_DENIED,
    errors.NotLoggedIn: StatusCode.FAILED_PRECONDITION,
    errors.NotAllowed: StatusCode.PERMISSION_DENIED,
}
# Several classes may share a code: the first of them stands for it.
ERROR_OF_CODE: dict[str, type[PeerError]] = {kind.code: kind for kind in reversed(STATUS_OF)}
_ERROR_OF_STATUS: dict[StatusCode, type[PeerError]] = {
    StatusCode.UNAUTHENTICATED: errors.NotAllowed,
    StatusCode.PERMISSION_DENIED: errors.NotAllowed,
    StatusCode.NOT_FOUND: errors.NoSuchFile,
    StatusCode.RESOURCE_EXHAUSTED: errors.Busy,
}


def trailing_metadata(error: PeerError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata that says exactly what happened."""
    retry = ((RETRY_AFTER_KEY, f"{error.retry_after:g}"),) if isinstance(error, Busy) else ()
    return ((CODE_KEY, error.code), *retry)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: PeerError) -> NoReturn:
    """End a call with an error."""
    await context.abort(STATUS_OF[type(error)], one_line(error.message), trailing_metadata(error))
    raise AssertionError("abort raises")


def error_from_rpc(error: grpc.aio.AioRpcError, address: str) -> PeerError:
    """Return the error that another peer meant, or what its silence means."""
    metadata = dict(_pairs(error.trailing_metadata()))
    kind = ERROR_OF_CODE.get(metadata.get(CODE_KEY, "")) or _ERROR_OF_STATUS.get(error.code(), NoHolders)
    if error.code() is StatusCode.RESOURCE_EXHAUSTED and kind is NoHolders:
        kind = Busy
    details = one_line(error.details() or "") or error.code().name
    if CODE_KEY not in metadata and error.code() is StatusCode.UNAVAILABLE:
        details = "does not answer"
    return kind(f"{address}: {details}")


def error_from_code(code: str, message: str) -> PeerError:
    """Return the error of a code that travelled inside a message."""
    return ERROR_OF_CODE.get(code, PeerError)(one_line(message))


def one_line(text: str) -> str:
    """Return text from elsewhere as one bounded line."""
    return " ".join(text.split())[:300]


def _pairs(metadata: Iterable[tuple[str, str | bytes]] | None) -> Iterable[tuple[str, str]]:
    for key, value in metadata or ():
        if isinstance(value, str):
            yield key, value
