"""A pserver and pclient on a machine of its own: a namespace."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from programs import PCLIENT, PSERVER, Program, write_env
from system.cluster import LOOPBACK
from system.faults.namespaces import Machine, command_in_namespace

MIB = 1 << 20


class RemotePeer:
    """A pserver in one of two namespaces, with pclient beside it."""

    def __init__(
        self,
        machine: Machine,
        folder: Path,
        tracker: tuple[str, int],
        *,
        environment: Mapping[str, str] | None = None,
        **keys: object,
    ) -> None:
        folder.mkdir()
        self.machine = machine
        self.home = folder
        self.shared = folder / "shared"
        values = {
            "PSERVER_URL": machine.address,
            "PSERVER_LOCAL_URL": "0.0.0.0",
            "PSERVER_PORT": 5001,
            "SERVER_URL": tracker[0],
            "SERVER_PORT": tracker[1],
            "SHARED_DIR": self.shared,
            "STATE_DIR": folder / "state",
            "PING_INTERVAL": 1,
            **keys,
        }
        env = write_env(folder / ".env_pserver", values)
        self.env = write_env(
            folder / ".env_pclient", {"PSERVER_URL": LOOPBACK, "PSERVER_PORT": 5001, "STATE_DIR": folder / "state"}
        )
        self.program = start_on(machine, PSERVER, env, environment)

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start a pclient command."""
        pclient = (sys.executable, str(PCLIENT), str(self.env), "--json", *words)
        command = command_in_namespace(self.machine.pid, *pclient, folder=self.home)
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def pclient(self, *words: str, typed: str = "") -> list[dict[str, Any]]:
        """Run a pclient command; must succeed."""
        process = self.begin(*words)
        out, err = process.communicate(typed, timeout=100)
        assert process.returncode == 0, (out, err)
        return [json.loads(line) for line in out.splitlines()]

    def verified_bytes(self, size: int) -> int:
        """Return the bytes of a file of `size` that the resume data counts as verified, in pieces of 1 MiB."""
        return MIB * sum(_verified_pieces(path.read_bytes(), size // MIB) for path in self.resume_files())

    def resume_files(self) -> list[Path]:
        """Return the resume data files of unfinished downloads."""
        return list((self.shared / ".p2p").glob("*.have"))


def _verified_pieces(resume_data: bytes, pieces: int) -> int:
    """Return how many bits are set in the bitmap, which follows magic word, length of the manifest, and manifest."""
    start = 16 + int.from_bytes(resume_data[12:16])
    return int.from_bytes(resume_data[start : start + (pieces + 7) // 8]).bit_count()


def start_on(machine: Machine, script: Path, env: Path, environment: Mapping[str, str] | None = None) -> Program:
    """Start a program in a namespace, with variables in addition to those of this process."""
    launcher = Path(__file__).with_name("namespaces.py")
    program = Program(script.stem, launcher, [str(machine.pid), script, env], env.parent / "log")
    program.start(environment)
    return program
