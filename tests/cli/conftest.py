"""A scripted pserver, and pclient in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pclient_runs import Pclient, Run, run
from scripted_daemon import ScriptedDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    """A pserver with the STATE_DIR tmp_path/state."""
    state = tmp_path / "state"
    state.mkdir(0o700)
    scripted = ScriptedDaemon(state)
    yield scripted
    scripted.stop()


@pytest.fixture
def env(daemon: ScriptedDaemon, tmp_path: Path) -> str:
    """The ENV_PCLIENT of that pserver."""
    path = tmp_path / ".env_pclient"
    path.write_text(f"PSERVER_URL=127.0.0.1\nPSERVER_PORT={daemon.port}\nSTATE_DIR=state\n")
    return str(path)


@pytest.fixture
def pclient(env: str) -> Pclient:
    """pclient with that env file."""

    def on_env(*words: str, typed: str = "") -> Run:
        return run(env, *words, typed=typed)

    return on_env
