"""A tracker and peers as real processes on free ports, each in its own folders, with the means to hurt and watch them.

Everything is driven as a user would: env files, commands, the menu. Only `status` and `enter` ask a pserver over gRPC
itself, since a terminal takes longer to start than some transfers last.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pexpect

import pserver_pb2 as pb
from eventually import eventually
from ports import reserve_port
from programs import PCLIENT, PSERVER, SERVER, Program, write_env
from pserver_pb2_grpc import ControlStub
from system.certificates import Certificates

LOOPBACK = "127.0.0.1"
PING_INTERVAL = 0.5
COMMAND_TIMEOUT = 90.0
PASSWORD = "correct horse"

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Result:
    """How a pclient command ended."""

    code: int
    objects: list[dict[str, Any]]
    stdout: str
    stderr: str

    @property
    def one(self) -> dict[str, Any]:
        """The only object; the command must have gone well."""
        assert self.code == 0, self
        [only] = self.objects
        return only

    @property
    def error(self) -> str:
        """The code of the only error."""
        [only] = [each["error"]["code"] for each in self.objects if "error" in each]
        return str(only)


@dataclass(frozen=True)
class RunningCommand:
    """A pclient command that is under way."""

    process: "subprocess.Popen[str]"

    def wait(self, seconds: float = COMMAND_TIMEOUT) -> Result:
        """Wait for its end, by force after `seconds`."""
        try:
            stdout, stderr = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            stdout, stderr = self.process.communicate()
            raise AssertionError(f"no end within {seconds} s: {stdout}\n{stderr}") from None
        objects = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
        return Result(self.process.returncode, objects, stdout, stderr)


class ClusterProgram:
    """A program of the cluster, with the means to hurt it."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.program.signal(signal.SIGKILL)
        self.program.wait()

    def terminate(self) -> int:
        """SIGTERM; return the exit status."""
        self.program.signal(signal.SIGTERM)
        return self.program.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.program.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.program.signal(signal.SIGCONT)

    def start(self, **environment: str) -> None:
        """Start again, with the port and the folders it had."""
        self.program.start(environment)

    def peak_memory(self) -> int:
        """Most bytes of resident memory so far."""
        status = Path(f"/proc/{self.program.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024


class Peer(ClusterProgram):
    """A pserver, and the terminals that drive it."""

    def __init__(
        self, program: Program, home: Path, env: Path, env_terminal: Path, certificates: Certificates | None
    ) -> None:
        super().__init__(program)
        self.shared = home / "shared"
        self.state = home / "state"
        self.home = home
        self.env = env
        self.pclient_env = env_terminal
        self._certificates = certificates

    @property
    def address(self) -> str:
        """host:port that it announces."""
        return f"{LOOPBACK}:{self.program.port}"

    def command(self, *words: str) -> list[str]:
        """The command line of pclient for this peer."""
        return [sys.executable, str(PCLIENT), str(self.pclient_env), *words]

    def start_command(self, *words: str, typed: str | None = None, json_output: bool = True) -> RunningCommand:
        """Start a pclient command, in this peer's home folder."""
        process = subprocess.Popen(
            self.command(*(["--json"] if json_output else []), *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=self.home,
        )
        if process.stdin is None:
            raise RuntimeError("stdin is a pipe")
        process.stdin.write(typed or "")
        process.stdin.flush()
        return RunningCommand(process)

    def pclient(
        self, *words: str, typed: str | None = None, json_output: bool = True, seconds: float = COMMAND_TIMEOUT
    ) -> Result:
        """Run a pclient command to its end."""
        return self.start_command(*words, typed=typed, json_output=json_output).wait(seconds)

    def pclient_until_success(self, *words: str, seconds: float = 30.0) -> dict[str, Any]:
        """Run a pclient command again and again until it goes well; return its one object."""

        def objects() -> list[dict[str, Any]]:
            result = self.pclient(*words)
            return result.objects if result.code == 0 else []

        return eventually(objects, seconds)[0]

    def login(self, user: str, password: str = PASSWORD) -> Result:
        """Log in; must go well."""
        result = self.pclient("login", user, "--password-stdin", typed=password + "\n")
        assert result.code == 0, result
        return result

    def login_over_grpc(self, user: str) -> None:
        """Log in without a terminal, which takes longer to start than this does."""
        with self.control() as (control, metadata):
            control.Login(pb.LoginRequest(user=user, password=PASSWORD), metadata=metadata, timeout=20)

    def menu(self, *arguments: str, seconds: float = 20.0, **environment: str) -> "pexpect.spawn[str]":
        """The menu in a pseudo-terminal of 100 columns."""
        [program, *rest] = [*self.command(), *arguments]
        return pexpect.spawn(
            program,
            rest,
            cwd=str(self.home),
            timeout=seconds,
            encoding="utf-8",
            dimensions=(40, 100),
            env={**os.environ, "TERM": "xterm", **environment},
        )

    @contextmanager
    def control(self) -> Iterator[tuple[ControlStub, Metadata]]:
        """Its Control service on a connection of its own, and the metadata that opens it."""
        cookie = (self.state / "cookie").read_text().strip()
        target = f"{LOOPBACK}:{self.program.port}"
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        with (
            grpc.secure_channel(target, self._certificates.channel_credentials(), options)
            if self._certificates
            else grpc.insecure_channel(target, options)
        ) as channel:
            yield ControlStub(channel), (("p2p-cookie", cookie),)

    def status(self) -> pb.StatusResponse:
        """What `status` shows, asked without a terminal."""
        with self.control() as (control, metadata):
            return control.Status(pb.StatusRequest(), metadata=metadata, timeout=10)

    def progress(self, kind: str = "download") -> float:
        """Share of the bytes that the transfers of this kind have moved, over all of them; 0 if there is none."""
        moving = [each.progress for each in self.status().transfers if each.kind == kind]
        moving = [each for each in moving if each.phase == pb.Progress.PHASE_MOVING]
        total = sum(each.total for each in moving)
        return sum(each.done for each in moving) / total if total else 0.0

    def at_progress(
        self, share: float, action: Callable[[], object], kind: str = "download", seconds: float = 60.0
    ) -> None:
        """Do `action` once a transfer of this kind has moved `share` of its bytes."""
        eventually(lambda: self.progress(kind) >= share, seconds, every=0.005)
        action()


@dataclass
class Cluster:
    """Starts programs and ends them all. Every env key that a test names overrides the cluster's own."""

    folder: Path
    certificates: Certificates | None = None
    tracker: ClusterProgram = field(init=False)
    peers: dict[str, Peer] = field(default_factory=dict)
    _programs: list[Program] = field(default_factory=list)

    def start_tracker(self, **keys: object) -> ClusterProgram:
        """Start the tracker, on a port that it keeps when started again."""
        state = self.folder / "tracker"
        values = {
            "SERVER_URL": LOOPBACK,
            "SERVER_PORT": reserve_port(),
            "STATE_DIR": state,
            **self._listen_keys(),
            **keys,
        }
        self.tracker = ClusterProgram(self._start("tracker", SERVER, values))
        return self.tracker

    def peer(self, name: str, *, login: bool = True, script: Path = PSERVER, **keys: object) -> Peer:
        """Start a pserver, on a port that it keeps when started again; log `name` in unless told not to.

        `script` is what runs in its place.
        """
        home = self.folder / name
        home.mkdir(exist_ok=True)
        values = {
            "PSERVER_URL": LOOPBACK,
            "PSERVER_LOCAL_URL": LOOPBACK,
            "PSERVER_PORT": reserve_port(),
            "SERVER_URL": LOOPBACK,
            "SERVER_PORT": self.tracker.program.port,
            "SHARED_DIR": home / "shared",
            "STATE_DIR": home / "state",
            "PING_INTERVAL": PING_INTERVAL,
            **self._listen_keys(),
            **self._dial_keys(),
            **keys,
        }
        program = self._start(name, script, values)
        terminal = {"PSERVER_URL": LOOPBACK, "PSERVER_PORT": program.port, "STATE_DIR": home / "state"}
        env_terminal = write_env(self.folder / f".env_{name}_terminal", {**terminal, **self._dial_keys()})
        peer = Peer(program, home, self.folder / f".env_{name}", env_terminal, self.certificates)
        self.peers[name] = peer
        if login:
            peer.login_over_grpc(name)
        return peer

    def close(self) -> None:
        """End everything and print the logs' last lines, for pytest to show beside a failure."""
        with ThreadPoolExecutor(max(1, len(self._programs))) as pool:
            list(pool.map(lambda program: program.stop(grace=5), self._programs))
        for program in self._programs:
            print(f"--- log of {program.name}\n{program.tail(60)}")

    def _start(self, name: str, script: Path, values: dict[str, object]) -> Program:
        env = write_env(self.folder / f".env_{name}", values)
        program = Program(name, script, [env], self.folder / f"{name}.log")
        self._programs.append(program)
        program.start()
        return program

    def _listen_keys(self) -> dict[str, object]:
        if self.certificates is None:
            return {}
        return {"TLS_CERT": self.certificates.certificate, "TLS_KEY": self.certificates.key}

    def _dial_keys(self) -> dict[str, object]:
        return {} if self.certificates is None else {"TLS_CA": self.certificates.authority}
