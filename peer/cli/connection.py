"""Connects to the pserver and authenticates it. Sends no cookie and no password before that.

The program that listens at the pserver's port must prove that it knows the cookie in STATE_DIR.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import grpc

import pserver_pb2 as pb
import pserver_pb2_grpc
from cli import status_codes
from cli.errors import CliError, PserverUnreachable
from cli.settings import Settings
from common import channels, cookie, state_files
from common.status_messages import release_from_pb, release_to_pb
from common.version import OWN_RELEASE, Release, incompatible_message, newest_common_protocol

Metadata = tuple[tuple[str, str | bytes], ...]

# Seconds for the proof, and for the check that the port is open.
_PROVE_TIMEOUT = 10.0
_CONNECT_TIMEOUT = 1.0


@dataclass(frozen=True)
class Connection:
    """An authenticated pserver of a release that fits, and the metadata of each call."""

    channel: grpc.Channel
    control: pserver_pb2_grpc.ControlStub
    metadata: Metadata
    release: Release
    # Authenticates the pserver again; raises as `connect`. gRPC reconnects by itself after a pserver stopped, and
    # another program may have its port by then.
    verify_again: Callable[[], object]


def connect(settings: Settings, randomness: Callable[[int], bytes]) -> Connection:
    """Connect to the pserver of the settings and authenticate it.

    Args:
        settings: Where the pserver is.
        randomness: Returns random bytes, for the nonce.

    Raises:
        PserverUnreachable: if no pserver answers.
        CliError: if another program or an incompatible release answers, or a file in STATE_DIR has unsafe permissions.
    """
    port, secret = _find(settings)
    try:
        credentials = channels.channel_credentials(settings.tls_ca)
    except (OSError, ValueError) as error:
        raise CliError("bad_env", f"{settings.env_pclient}: TLS_CA: {error}") from error
    options = channels.channel_options()
    host = settings.host if credentials is not None else _resolve_localhost(settings)
    target = channels.target_of_own_host(host, port)
    if credentials is None:
        channel = grpc.insecure_channel(target, options)
    else:
        channel = grpc.secure_channel(target, credentials, options)
    control = pserver_pb2_grpc.ControlStub(channel)

    def verify() -> Release:
        release = _verify_daemon(control, settings, secret, port, randomness(cookie.LENGTH))
        # The pserver wrote its addresses before it could prove anything.
        if credentials is None and _resolve_localhost(settings) != host:
            raise _not_ours(settings, address(settings, port))
        return release

    try:
        release = verify()
    except BaseException:
        channel.close()
        raise
    return Connection(channel, control, ((cookie.COOKIE_KEY, secret.hex()),), release, verify)


def address(settings: Settings, port: int) -> str:
    """The pserver's `host:port`, as the user reads it; without a port if that is 0."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{port}" if port else host


def _resolve_localhost(settings: Settings) -> str:
    """The one address that is used for localhost without TLS: one that the pserver says it listens on.

    localhost has an IPv4 and an IPv6 address. If the pserver listens on one of them only, another program on the other
    could pass our challenge on to it, and its proof back to us.
    """
    if settings.host.rstrip(".").lower() != "localhost":
        return settings.host
    try:
        listening = state_files.read_addresses(settings.state_dir)
    except state_files.UnsafeFile as error:
        raise CliError("not_allowed", str(error)) from error
    only_ipv6 = "::1" in listening and "127.0.0.1" not in listening
    return "::1" if only_ipv6 else "127.0.0.1"


def _find(settings: Settings) -> tuple[int, bytes]:
    try:
        return settings.port or state_files.read_port(settings.state_dir), cookie.read_cookie(settings.state_dir)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PserverUnreachable(_not_running_message(settings)) from error
    except state_files.UnsafeFile as error:
        raise CliError("not_allowed", str(error)) from error
    except OSError as error:
        raise CliError("not_allowed", f"{error.filename}: {error.strerror}") from error


def _not_running_message(settings: Settings) -> str:
    if settings.port == 0:
        return f"no pserver runs on {settings.state_dir}"
    where = address(settings, settings.port)
    if not _port_is_open(settings.host, settings.port):
        return f"no pserver answers at {where}"
    return f"no cookie in {settings.state_dir}: if your pserver listens at {where}, it has another STATE_DIR"


def _port_is_open(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True


def _tls_mismatch_message(settings: Settings) -> str:
    if settings.tls_ca is None:
        return f"it listens with TLS: set TLS_CA in {settings.env_pclient}"
    return f"it has no TLS, or no certificate of the TLS_CA in {settings.env_pclient}: set TLS_CERT and TLS_KEY for it"


def _not_ours(settings: Settings, where: str) -> CliError:
    return CliError(
        "not_allowed",
        f"the program at {where} does not know the cookie in {settings.state_dir}: it is not the pserver of that"
        " STATE_DIR, and got neither cookie nor password",
    )


def _verify_daemon(
    control: pserver_pb2_grpc.ControlStub, settings: Settings, secret: bytes, port: int, nonce: bytes
) -> Release:
    """Authenticate the pserver; return its release, which fits."""
    where = address(settings, port)
    metadata = ((cookie.CHALLENGE_KEY, cookie.make_challenge(secret, port, nonce)),)
    try:
        request = pb.ProveRequest(nonce=nonce, release=release_to_pb(OWN_RELEASE))
        reply = control.Prove(request, metadata=metadata, timeout=_PROVE_TIMEOUT)
    except grpc.RpcError as error:
        if status_codes.status_code(error) in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED):
            raise _not_ours(settings, where) from error
        translated = status_codes.to_cli_error(error, where)
        if isinstance(translated, PserverUnreachable) and _port_is_open(settings.host, port):
            raise CliError(
                "pserver_unreachable", f"{where} is not a pserver, or {_tls_mismatch_message(settings)}"
            ) from error
        raise translated from error
    if not cookie.check_proof(reply.proof, secret, port, nonce):
        raise _not_ours(settings, where)
    release = release_from_pb(reply.release)
    if not newest_common_protocol(release):
        raise CliError("incompatible", incompatible_message(f"the pserver at {where}", release, "this pclient"))
    return release
