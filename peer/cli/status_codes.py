"""Translates a failed call to the pserver into an error of ours: the only place that reads gRPC errors."""

from __future__ import annotations

from typing import cast

import grpc

from cli.errors import CliError, PserverUnreachable
from common.control_messages import HINT_KEY, Hint, hint_of
from common.version import Release, both_releases

_CODE_KEY = "p2p-code"
_INTERNAL = "internal error; see the pserver's log"


def status_code(error: grpc.RpcError) -> grpc.StatusCode:
    """The status code of a failed call."""
    return cast("grpc.Call", error).code()


def to_cli_error(error: grpc.RpcError, address: str, release: Release | None = None) -> CliError:
    """The error that a failed call means.

    Args:
        error: The failed call: its `p2p-code` and details, or gRPC's own status if the pserver did not set a code.
        address: The pserver that was called, for the message.
        release: Its release, if it has said it.
    """
    details = cast("grpc.Call", error).details() or ""
    if code := _trailer(error, _CODE_KEY):
        return CliError(code, details or _INTERNAL, hint=hint_of(_trailer(error, HINT_KEY)))
    match status_code(error):
        case grpc.StatusCode.UNAVAILABLE:
            return PserverUnreachable(f"no pserver answers at {address}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return CliError("pserver_unreachable", f"the pserver at {address} does not answer; is it stopped?")
        case grpc.StatusCode.CANCELLED:
            return CliError("interrupted", "cancelled; verified data is kept", hint=Hint.RESUME)
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return CliError("not_allowed", f"the pserver at {address} refused: {details}")
        case grpc.StatusCode.UNIMPLEMENTED:
            # Calls are only added, so the program that does not know one is the older.
            releases = both_releases(f"the pserver at {address}", release or Release(), "this pclient")
            return CliError("incompatible", f"{releases}: restart the pserver with the newer release")
        case _:
            return CliError("internal", _INTERNAL)


def _trailer(error: grpc.RpcError, name: str) -> str:
    for key, value in cast("grpc.Call", error).trailing_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return ""
