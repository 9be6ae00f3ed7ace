"""ENV_PCLIENT, and the little of ENV_PSERVER that a terminal needs to find its pserver, as one value."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path

from common.env_file import EnvFault, EnvReader, find_env_file
from common.state_files import default_state_dir


@dataclass(frozen=True)
class Settings:
    """Where the pserver answers, and where it keeps its cookie. Port 0: the one in STATE_DIR/port."""

    host: str
    port: int
    state_dir: Path
    tls_ca: Path | str | None
    env_pclient: Path
    env_pserver: Path | None


def read_settings(
    env_pclient: str, env_pserver: str | None, environment: Mapping[str, str] = os.environ, home: Path | None = None
) -> Settings:
    """The settings that two arguments of the command line mean.

    Raises:
        EnvFault: with all faults of both files.
    """
    faults: list[str] = []
    own = _Own.read(env_pclient, faults)
    other = _Other.read(env_pserver, faults) if env_pserver is not None else None
    if own and other:
        faults.extend(
            f"{own.path}: {key}: '{mine}' should be the same as in {other.path}, which has '{theirs}'"
            for key, mine, theirs in _misfits(own, other)
        )
    if faults or own is None:
        raise EnvFault(*faults)
    port = own.port or (other.port if other else 0)
    state_dir = own.state_dir or (other.state_dir if other else None)
    if state_dir is None:
        if port == 0:
            raise EnvFault(f"{own.path}: STATE_DIR: missing; PSERVER_PORT 0 needs it to find the pserver's port")
        state_dir = default_state_dir(port, environment, home or Path.home())
    return Settings(own.host, port, state_dir, own.tls_ca, own.path, other.path if other else None)


def _misfits(own: _Own, other: _Other) -> Iterator[tuple[str, object, object]]:
    """The keys by which the terminal would look for the pserver of `other` where it is not, and both values."""
    # Port 0 of ours takes theirs; theirs is any free one, and no port of ours is that.
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
    """The pserver judges its own file when it starts; only what leads to it is read here."""

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
