"""A scripted pserver, and pclient run against it in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pclient_runs import Pclient, Run, run
from scripted_daemon import ScriptedNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ScriptedNode]:
    """A pserver that runs on tmp_path/state."""
    state = tmp_path / "state"
    state.mkdir(0o700)
    scripted = ScriptedNode(state)
    yield scripted
    scripted.stop()


@pytest.fixture
def env(node: ScriptedNode, tmp_path: Path) -> str:
    """ENV_PCLIENT for it."""
    path = tmp_path / ".env_pclient"
    path.write_text(f"PSERVER_URL=127.0.0.1\nPSERVER_PORT={node.port}\nSTATE_DIR=state\n")
    return str(path)


@pytest.fixture
def pclient(env: str) -> Pclient:
    """pclient on that file."""

    def on_env(*words: str, typed: str = "") -> Run:
        return run(env, *words, typed=typed)

    return on_env
