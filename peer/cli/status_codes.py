"""What a failed call to the pserver means: the one place that translates gRPC's errors; their inside is not shown."""

from __future__ import annotations

from typing import cast

import grpc

from cli.errors import PserverUnreachable, TerminalError

_INTERNAL = "internal error; the pserver's log has more"


def status(error: grpc.RpcError) -> grpc.StatusCode:
    """gRPC's own code."""
    return cast("grpc.Call", error).code()


def meaning(error: grpc.RpcError, address: str) -> TerminalError:
    """The error that the pserver meant by p2p-code and its line, or what gRPC says of a silent `address`."""
    details = cast("grpc.Call", error).details() or ""
    if own := _own_code(error):
        return TerminalError(own, details or _INTERNAL)
    match status(error):
        case grpc.StatusCode.UNAVAILABLE:
            return PserverUnreachable(f"no pserver answers at {address}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TerminalError("pserver_unreachable", f"the pserver at {address} does not answer; is it stopped?")
        case grpc.StatusCode.CANCELLED:
            return TerminalError("interrupted", "stopped; what was verified is kept: run it again to resume")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return TerminalError("not_allowed", f"the pserver at {address} refuses: {details}")
        case _:
            return TerminalError("internal", _INTERNAL)


def _own_code(error: grpc.RpcError) -> str:
    for key, value in cast("grpc.Call", error).trailing_metadata() or ():
        if key == "p2p-code":
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return ""
