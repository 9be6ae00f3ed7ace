"""What a failed call to the pserver means: the one place that translates gRPC's errors; their inside is not shown."""

from __future__ import annotations

from typing import cast

import grpc

from cli.errors import CliError, PserverUnreachable

_INTERNAL = "internal error; the pserver's log has more"


def status_code(error: grpc.RpcError) -> grpc.StatusCode:
    """gRPC's own code."""
    return cast("grpc.Call", error).code()


def to_cli_error(error: grpc.RpcError, address: str) -> CliError:
    """The error that the pserver meant by p2p-code and its line, or what gRPC says of a silent `address`."""
    details = cast("grpc.Call", error).details() or ""
    if own := _own_code(error):
        return CliError(own, details or _INTERNAL)
    match status_code(error):
        case grpc.StatusCode.UNAVAILABLE:
            return PserverUnreachable(f"no pserver answers at {address}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return CliError("pserver_unreachable", f"the pserver at {address} does not answer; is it stopped?")
        case grpc.StatusCode.CANCELLED:
            return CliError("interrupted", "stopped; what was verified is kept: run it again to resume")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return CliError("not_allowed", f"the pserver at {address} refuses: {details}")
        case _:
            return CliError("internal", _INTERNAL)


def _own_code(error: grpc.RpcError) -> str:
    for key, value in cast("grpc.Call", error).trailing_metadata() or ():
        if key == "p2p-code":
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return ""
