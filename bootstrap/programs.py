"""Runs this checkout's programs as processes, for the demo and the system tests: start, wait for READY, end.

Never chooses a port or a folder: that is in the env files that its callers write.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
SERVER = TOP / "server" / "server.py"
PSERVER = TOP / "peer" / "pserver.py"
PCLIENT = TOP / "peer" / "pclient.py"

READY_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0


class NotReady(Exception):
    """A program ended, or kept silent, instead of saying READY. The message ends with its log's last lines."""


def write_env(path: Path, values: Mapping[str, object]) -> Path:
    """Write an env file; return its path."""
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return path


def die_with_parent() -> Callable[[], object] | None:
    """What a child runs first so that the kernel ends it when its parent is gone, however that went; Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG


class Program:
    """A server or pserver in a process of its own, its log in a file.

    A program that was stopped or killed may be started again: the log goes on.
    """

    def __init__(self, name: str, script: Path, arguments: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = [sys.executable, str(script), *map(str, arguments)]
        self._process: subprocess.Popen[bytes] | None = None
        self.host = ""
        self.port = 0

    @property
    def pid(self) -> int:
        """Process id; the program must have been started."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start, and return once it says READY.

        Raises:
            NotReady: if it does not.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - the starter has one thread of its own
            )
        try:
            ready = self._wait_ready()
        except BaseException:
            self.stop(0)
            raise
        self.host, self.port = ready["host"], ready["port"]

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        self._started().send_signal(number)

    def wait(self, seconds: float = STOP_TIMEOUT) -> int:
        """Wait for the process to end; return its exit status, negative for a signal."""
        process = self._started()
        status = process.wait(seconds)
        if process.stdout:
            process.stdout.close()
        return status

    def stop(self, grace: float = STOP_TIMEOUT) -> int | None:
        """End the process, by force after `grace` seconds; return its exit status, None if it was never started."""
        if self._process is None:
            return None
        if self.running:
            self.signal(signal.SIGCONT)
            if grace:
                self.signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return self.wait(grace)
            self.signal(signal.SIGKILL)
        return self.wait()

    def tail(self, lines: int = 20) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    def _wait_ready(self) -> dict[str, Any]:
        stdout = self._started().stdout
        if stdout is None:
            raise RuntimeError("stdout is a pipe")
        deadline = time.monotonic() + READY_TIMEOUT
        said = b""
        while b"\n" not in said:
            if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise NotReady(f"{self.name} did not say READY within {READY_TIMEOUT:.0f} s\n{self.tail()}")
            some = os.read(stdout.fileno(), 4096)
            if not some:
                raise NotReady(f"{self.name} ended with exit status {self._started().wait()}\n{self.tail()}")
            said += some
        word, _, rest = said.partition(b"\n")[0].partition(b" ")
        if word != b"READY":
            raise NotReady(f"{self.name} said {said!r} instead of READY")
        ready: dict[str, Any] = json.loads(rest)
        return ready
