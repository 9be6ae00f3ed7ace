"""The settings of a run of pclient: ENV_PCLIENT, and from ENV_PSERVER the keys that locate the pserver."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path

from common.env_file import EnvFault, EnvReader, find_env_file
from common.home_folder import NO_HOME
from common.state_files import default_state_dir


@dataclass(frozen=True)
class Settings:
    """Where the pserver listens, and where its cookie is. Port 0 means the port in STATE_DIR/port."""

    host: str
    port: int
    state_dir: Path
    tls_ca: Path | str | None
    env_pclient: Path
    env_pserver: Path | None


def read_settings(env_pclient: str, env_pserver: str | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read both env files.

    Args:
        env_pclient: The argument ENV_PCLIENT.
        env_pserver: The argument ENV_PSERVER, or None.
        environment: For HOME and the XDG variables of the default STATE_DIR.

    Raises:
        EnvFault: with all faults of both files.
    """
    faults: list[str] = []
    own = _Own.read(env_pclient, faults)
    other = _Other.read(env_pserver, faults) if env_pserver is not None else None
    if own and other:
        faults.extend(
            f"{own.path}: {key}: '{mine}' should be the same as in {other.path}, which has '{theirs}'"
            for key, mine, theirs in _mismatches(own, other)
        )
    if faults or own is None:
        raise EnvFault(*faults)
    port = own.port or (other.port if other else 0)
    state_dir = own.state_dir or (other.state_dir if other else None)
    if state_dir is None:
        if port == 0:
            raise EnvFault(f"{own.path}: STATE_DIR: missing; PSERVER_PORT 0 needs it to find the pserver's port")
        state_dir = default_state_dir(port, environment)
        if state_dir is None:
            raise EnvFault(f"{own.path}: STATE_DIR: should be given, because {NO_HOME}")
    return Settings(own.host, port, state_dir, own.tls_ca, own.path, other.path if other else None)


def _mismatches(own: _Own, other: _Other) -> Iterator[tuple[str, object, object]]:
    """Yield the keys of `own` that do not lead to the pserver of `other`, with both values."""
    # Port 0 in ENV_PCLIENT means the port of ENV_PSERVER. Port 0 in ENV_PSERVER means any free port.
    if own.port and own.port != other.port:
        yield "PSERVER_PORT", own.port, other.port
    if own.state_dir and other.state_dir and realpath(own.state_dir) != realpath(other.state_dir):
        yield "STATE_DIR", own.state_dir, other.state_dir


@dataclass(frozen=True)
class _Own:
    path: Path
    host: str
    port: int
    state_dir: Path | None
    tls_ca: Path | str | None

    @staticmethod
    def read(argument: str, faults: list[str]) -> _Own | None:
        try:
            env = EnvReader(find_env_file(argument), "pclient")
            found = _Own(
                path=env.path,
                host=env.host("PSERVER_URL"),
                port=env.port("PSERVER_PORT"),
                state_dir=env.path_to("STATE_DIR", None),
                tls_ca=env.tls_ca(),
            )
            env.finish()
        except EnvFault as fault:
            faults.extend(fault.lines)
            return None
        return found


@dataclass(frozen=True)
class _Other:
    """The keys of ENV_PSERVER that locate the pserver. The pserver checks its other keys when it starts."""

    path: Path
    port: int
    state_dir: Path | None

    @staticmethod
    def read(argument: str, faults: list[str]) -> _Other | None:
        try:
            env = EnvReader(find_env_file(argument), "pserver")
            found = _Other(env.path, env.port("PSERVER_PORT"), env.path_to("STATE_DIR", None))
            env.finish(unknown_keys_allowed=True)
        except EnvFault as fault:
            faults.extend(fault.lines)
            return None
        return found
