"""Runs this checkout's programs as processes: starts them, waits for READY, stops them. For the demo and the tests.

Ports and folders come from the env files that the callers write.
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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
SERVER = TOP / "server" / "server.py"
PSERVER = TOP / "peer" / "pserver.py"
PCLIENT = TOP / "peer" / "pclient.py"

# Seconds.
READY_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0


class NotReady(Exception):
    """A program exited or timed out before it printed READY. The message ends with the last lines of its log."""


def write_env(path: Path, values: Mapping[str, object]) -> Path:
    """Write an env file with one KEY=value a line; return `path`."""
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return path


def die_with_parent(mask: Collection[int] = ()) -> Callable[[], object]:
    """Return a `preexec_fn` by which the kernel sends a child SIGTERM when its parent dies, on Linux.

    Args:
        mask: the signals that the child blocks, on every system.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        if prctl is not None:
            prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG
        # The parent may have deferred signals: a child that inherits that could not be stopped.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return prepare


@contextlib.contextmanager
def defer_signals() -> Iterator[Collection[int]]:
    """Defer signals to the end of the block, and yield the signals that were blocked before it.

    The handler of a signal may raise an exception. Inside Popen, that would lose a process that has just started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Program:
    """A tracker or pserver as a process, with its stderr in a log file.

    A program that was stopped or killed may be started again; it appends to the same log.

    Attributes:
        script: the launcher; the next start runs this one.
        host, port: the address of its READY line, once started.
    """

    def __init__(self, name: str, script: Path, arguments: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self.log = log
        self.script = script
        self._arguments = list(map(str, arguments))
        self._process: subprocess.Popen[bytes] | None = None
        self.host = ""
        self.port = 0

    @property
    def pid(self) -> int:
        """Process id; valid once started."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the process and wait for READY.

        Args:
            environment: variables in addition to those of this process.

        Raises:
            NotReady: if the process exits or prints nothing within READY_TIMEOUT.
        """
        try:
            with self.log.open("ab") as log, defer_signals() as mask:
                self._process = subprocess.Popen(
                    self._command(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=None if environment is None else {**os.environ, **environment},
                    start_new_session=True,
                    preexec_fn=die_with_parent(mask),  # noqa: PLW1509 - it only makes two system calls
                )
            ready = self._wait_ready()
        except BaseException:
            self.stop(0)
            raise
        self.host, self.port = ready["host"], ready["port"]

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        self._started().send_signal(number)

    def wait(self, seconds: float = STOP_TIMEOUT) -> int:
        """Wait for the process to exit; return its exit status, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: if it is alive after `seconds`.
        """
        process = self._started()
        status = process.wait(seconds)
        if process.stdout:
            process.stdout.close()
        return status

    def stop(self, grace: float = STOP_TIMEOUT) -> int | None:
        """Send SIGTERM, and SIGKILL after `grace` seconds; return the exit status, None if it was never started."""
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
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _command(self) -> list[str]:
        return [sys.executable, str(self.script), *self._arguments]

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
                raise NotReady(f"{self.name} did not print READY within {READY_TIMEOUT:.0f} s\n{self.tail()}")
            some = os.read(stdout.fileno(), 4096)
            if not some:
                raise NotReady(f"{self.name} ended with exit status {self._started().wait()}\n{self.tail()}")
            said += some
        word, _, rest = said.partition(b"\n")[0].partition(b" ")
        if word != b"READY":
            raise NotReady(f"{self.name} said {said!r} instead of READY")
        ready: dict[str, Any] = json.loads(rest)
        return ready
