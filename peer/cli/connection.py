"""Finds one's own pserver and makes sure that it is that, before it is told anything.

Whoever listens at the pserver's port has to prove that it knows the cookie in STATE_DIR; only then do cookie and
password go there.
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

Metadata = tuple[tuple[str, str | bytes], ...]

# Seconds: for the proof, and to see whether anybody listens.
_PROVES_WITHIN = 10.0
_LISTENS_WITHIN = 1.0


@dataclass(frozen=True)
class Connection:
    """A pserver that is ours, and the metadata that it wants with each call."""

    channel: grpc.Channel
    control: pserver_pb2_grpc.ControlStub
    metadata: Metadata
    # Has it prove itself once more; raises as `connect`. gRPC dials again by itself when a pserver is gone, and whoever
    # has its port by then would be told what comes next.
    prove_again: Callable[[], None]


def connect(settings: Settings, randomness: Callable[[int], bytes]) -> Connection:
    """Find the pserver that the settings mean.

    Raises:
        PserverUnreachable: if there is none.
        TerminalError: if what is there is not ours, or a file cannot be trusted.
    """
    port, secret = _find(settings)
    try:
        credentials = channels.channel_credentials(settings.tls_ca)
    except (OSError, ValueError) as error:
        raise CliError("bad_env", f"{settings.env_pclient}: TLS_CA: {error}") from error
    options = channels.channel_options()
    if credentials is None:
        channel = grpc.insecure_channel(channels.target_of_own_host(_one_of(settings.host), port), options)
    else:
        channel = grpc.secure_channel(channels.target_of_own_host(settings.host, port), credentials, options)
    control = pserver_pb2_grpc.ControlStub(channel)

    def prove() -> None:
        _have_it_proved(control, settings, secret, port, randomness(cookie.LENGTH))

    try:
        prove()
    except BaseException:
        channel.close()
        raise
    return Connection(channel, control, ((cookie.COOKIE_KEY, secret.hex()),), prove)


def address(settings: Settings, port: int) -> str:
    """Where the pserver is, as people read it."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{port}" if port else host


def _one_of(host: str) -> str:
    """The one address that localhost stands for without TLS.

    It has two, ports of their own on each: where the pserver listens on one only, whoever listens on the other could
    have it prove itself to him, and pass that on.
    """
    return "127.0.0.1" if host.rstrip(".").lower() == "localhost" else host


def _find(settings: Settings) -> tuple[int, bytes]:
    try:
        return settings.port or state_files.read_port(settings.state_dir), cookie.read_cookie(settings.state_dir)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PserverUnreachable(_nobody(settings)) from error
    except state_files.UnsafeFile as error:
        raise CliError("not_allowed", str(error)) from error
    except OSError as error:
        raise CliError("not_allowed", f"{error.filename}: {error.strerror}") from error


def _nobody(settings: Settings) -> str:
    if settings.port == 0:
        return f"no pserver runs on {settings.state_dir}"
    where = address(settings, settings.port)
    if not _listens(settings.host, settings.port):
        return f"no pserver answers at {where}"
    return f"no cookie in {settings.state_dir}: if it is your pserver that listens at {where}, it has another STATE_DIR"


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _LISTENS_WITHIN).close()
    except OSError:
        return False
    return True


def _other_manner(settings: Settings) -> str:
    if settings.tls_ca is None:
        return f"one that listens with TLS: set TLS_CA in {settings.env_pclient}"
    return f"one without TLS, or not of the TLS_CA in {settings.env_pclient}: set TLS_CERT and TLS_KEY for it"


def _have_it_proved(
    control: pserver_pb2_grpc.ControlStub, settings: Settings, secret: bytes, port: int, nonce: bytes
) -> None:
    where = address(settings, port)
    shown = ((cookie.CHALLENGE_KEY, cookie.make_challenge(secret, port, nonce)),)
    stranger = CliError(
        "not_allowed",
        f"whoever answers at {where} does not know the cookie in {settings.state_dir}: it is not the pserver of that"
        " STATE_DIR, and was told nothing",
    )
    try:
        reply = control.Prove(pb.ProveRequest(nonce=nonce), metadata=shown, timeout=_PROVES_WITHIN)
    except grpc.RpcError as error:
        if status_codes.status_code(error) in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED):
            raise stranger from error
        meant = status_codes.to_cli_error(error, where)
        if isinstance(meant, PserverUnreachable) and _listens(settings.host, port):
            raise CliError("pserver_unreachable", f"{where} is no pserver, or {_other_manner(settings)}") from error
        raise meant from error
    if not cookie.check_proof(reply.proof, secret, port, nonce):
        raise stranger
