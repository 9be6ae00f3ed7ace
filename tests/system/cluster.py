"""A tracker and peers as real processes, with means to kill, freeze and watch them.

Tests use env files, commands and the menu as a user does. Only `status`, `progress` and `login_over_grpc` call a
pserver directly, since pclient takes longer to start than some transfers take.
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
from programs import Program, write_env
from pserver_pb2_grpc import ControlStub
from system.certificates import Certificates
from system.releases import THIS_RELEASE, Release

LOOPBACK = "127.0.0.1"
# Seconds.
PING_INTERVAL = 0.5
COMMAND_TIMEOUT = 120.0
CALL_TIMEOUT = 30.0
PASSWORD = "correct horse"
# Parts of log lines of a pserver. Some tests assert that they occur, so that others can assert that they do not.
SOURCE_FAILED = "source failed"
TRACKER_UNREACHABLE = "does not answer"

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Result:
    """Result of a pclient command; `objects` are the JSON lines of its stdout."""

    code: int
    objects: list[dict[str, Any]]
    stdout: str
    stderr: str

    @property
    def one(self) -> dict[str, Any]:
        """The only object of a command that succeeded."""
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
    """A running pclient command."""

    process: "subprocess.Popen[str]"

    def wait(self, seconds: float = COMMAND_TIMEOUT) -> Result:
        """Wait for it to exit; kill it after `seconds`.

        Raises:
            AssertionError: if it had to be killed.
        """
        try:
            stdout, stderr = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            stdout, stderr = self.process.communicate()
            raise AssertionError(f"still running after {seconds} s: {stdout}\n{stderr}") from None
        objects = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
        return Result(self.process.returncode, objects, stdout, stderr)


class ClusterProgram:
    """A program of the cluster."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def kill(self) -> None:
        """Send SIGKILL and wait until the process has exited."""
        self.program.signal(signal.SIGKILL)
        self.program.wait()

    def terminate(self) -> int:
        """Send SIGTERM and return the exit status.

        Raises:
            subprocess.TimeoutExpired: if it is still alive after STOP_TIMEOUT.
        """
        self.program.signal(signal.SIGTERM)
        return self.program.wait()

    def freeze(self) -> None:
        """Send SIGSTOP."""
        self.program.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT."""
        self.program.signal(signal.SIGCONT)

    def start(self, **environment: str) -> None:
        """Start again with the same port and folders; `environment` adds variables."""
        self.program.start(environment)

    def restart_as(self, script: Path) -> None:
        """Stop it if it runs, and start another launcher with the same env file: that of another release."""
        if self.program.running:
            assert self.terminate() == 0
        self.program.script = script
        self.start()

    def peak_memory(self) -> int:
        """Return the highest resident memory so far, in bytes."""
        status = Path(f"/proc/{self.program.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024


class Peer(ClusterProgram):
    """A pserver and its pclient.

    Attributes:
        home: its folder, in which pclient commands run.
        shared, state: SHARED_DIR and STATE_DIR.
        pclient_script: the pclient of its commands; of this release unless a test sets another one.
        env, pclient_env: the env files.
    """

    def __init__(
        self, program: Program, home: Path, env: Path, env_terminal: Path, certificates: Certificates | None
    ) -> None:
        super().__init__(program)
        self.shared = home / "shared"
        self.state = home / "state"
        self.home = home
        self.env = env
        self.pclient_env = env_terminal
        self.pclient_script = THIS_RELEASE.pclient
        self._certificates = certificates

    @property
    def address(self) -> str:
        """The host:port that it announces."""
        return f"{LOOPBACK}:{self.program.port}"

    def command(self, *words: str) -> list[str]:
        """Return the command line of pclient for this peer."""
        return [sys.executable, str(self.pclient_script), str(self.pclient_env), *words]

    def start_command(self, *words: str, typed: str | None = None, json_output: bool = True) -> RunningCommand:
        """Start a pclient command in this peer's home folder.

        Args:
            typed: text for its stdin, which stays open.
            json_output: add --json.
        """
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
        """Run a pclient command and return its result."""
        return self.start_command(*words, typed=typed, json_output=json_output).wait(seconds)

    def pclient_until_success(self, *words: str, seconds: float = 30.0) -> dict[str, Any]:
        """Repeat a pclient command until it succeeds; return its first object."""

        def objects() -> list[dict[str, Any]]:
            result = self.pclient(*words)
            return result.objects if result.code == 0 else []

        return eventually(objects, seconds)[0]

    def login(self, user: str, password: str = PASSWORD) -> Result:
        """Log in with pclient; must succeed."""
        result = self.pclient("login", user, "--password-stdin", typed=password + "\n")
        assert result.code == 0, result
        return result

    def login_over_grpc(self, user: str) -> None:
        """Log in without pclient, which takes a second to start."""
        with self.control() as (control, metadata):
            control.Login(pb.LoginRequest(user=user, password=PASSWORD), metadata=metadata, timeout=CALL_TIMEOUT)

    def menu(self, *arguments: str, seconds: float = 60.0, **environment: str) -> "pexpect.spawn[str]":
        """Start the menu in a pseudo-terminal of 40 lines and 100 columns.

        Args:
            arguments: words after ENV_PCLIENT.
            seconds: timeout of each `expect`.
            environment: additional variables.
        """
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
        """Yield a stub of its Control service and the metadata that authenticates a call."""
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
        """Return its status."""
        with self.control() as (control, metadata):
            return control.Status(pb.StatusRequest(), metadata=metadata, timeout=CALL_TIMEOUT)

    def progress(self, kind: str = "download") -> float:
        """Return the fraction of bytes that its moving transfers of this kind have done; 0 without any."""
        moving = [each.progress for each in self.status().transfers if each.kind == kind]
        moving = [each for each in moving if each.phase == pb.Progress.PHASE_MOVING]
        total = sum(each.total for each in moving)
        return sum(each.done for each in moving) / total if total else 0.0

    def at_progress(
        self, share: float, action: Callable[[], object], kind: str = "download", seconds: float = 60.0
    ) -> None:
        """Call `action` once the transfers of this kind have done `share` of their bytes, 0 to 1."""
        eventually(lambda: self.progress(kind) >= share, seconds, every=0.005)
        action()


@dataclass
class Cluster:
    """Starts programs and stops all of them. Env keys that a test passes replace those of the cluster."""

    folder: Path
    certificates: Certificates | None = None
    tracker: ClusterProgram = field(init=False)
    peers: dict[str, Peer] = field(default_factory=dict)
    _programs: list[Program] = field(default_factory=list)

    def start_tracker(self, release: Release = THIS_RELEASE, **keys: object) -> ClusterProgram:
        """Start the tracker of a release on a reserved port, which it keeps when started again."""
        state = self.folder / "tracker"
        values = {
            "SERVER_URL": LOOPBACK,
            "SERVER_PORT": reserve_port(),
            "STATE_DIR": state,
            **self._listen_keys(),
            **keys,
        }
        self.tracker = ClusterProgram(self._start("tracker", release.server, values))
        return self.tracker

    def peer(
        self,
        name: str,
        *,
        login: bool = True,
        release: Release = THIS_RELEASE,
        script: Path | None = None,
        **keys: object,
    ) -> Peer:
        """Start a pserver on a reserved port, which it keeps when started again.

        Args:
            name: name of its folder and its user.
            login: log `name` in.
            release: whose pserver and pclient run.
            script: run in place of its pserver.py.
            keys: additional or different env keys.
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
        program = self._start(name, script or release.pserver, values)
        terminal = {"PSERVER_URL": LOOPBACK, "PSERVER_PORT": program.port, "STATE_DIR": home / "state"}
        env_terminal = write_env(self.folder / f".env_{name}_terminal", {**terminal, **self._dial_keys()})
        peer = Peer(program, home, self.folder / f".env_{name}", env_terminal, self.certificates)
        peer.shared = Path(str(values["SHARED_DIR"]))
        peer.pclient_script = release.pclient
        self.peers[name] = peer
        if login:
            peer.login_over_grpc(name)
        return peer

    def close(self) -> None:
        """Stop all programs and print the ends of their logs, which pytest shows with a failure."""
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
