"""A scripted pserver, and pclient run against it in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripted_node import ScriptedNode
from terminal.main import main


@dataclass(frozen=True)
class Run:
    """How a run of pclient ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """stdout as JSON, line by line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The one error."""
        [only] = [each["error"] for each in self.objects if "error" in each]
        assert isinstance(only, dict)
        return only


Pclient = Callable[..., Run]


def run(*words: str, typed: str = "") -> Run:
    """Run pclient with pipes."""
    out, err = io.StringIO(), io.StringIO()
    code = main(words, io.StringIO(typed), out, err)
    return Run(code, out.getvalue(), err.getvalue())


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
