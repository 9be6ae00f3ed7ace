"""Starts a pserver as a child process, waits until it is ready, and stops it. Calls none of its RPCs.

The child logs to STATE_DIR/pserver.log, and its READY line is read here.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cli.errors import EXIT_CODES, CliError

LAUNCHER = Path(__file__).resolve().parents[1] / "pserver.py"
CHILD_GUARD = Path(__file__).with_name("child_guard.py")
LOG_NAME = "pserver.log"
# Seconds.
_START_TIMEOUT = 60.0
# child_guard waits 5 s for the pserver.
_STOP_TIMEOUT = 7.0
# A larger log is rotated at a start; bytes.
_MAX_LOG_BYTES = 4 << 20


class ChildDaemon:
    """At most one pserver, which stops when this process ends in any way."""

    def __init__(
        self,
        env_pserver: Path,
        state_dir: Path,
        launcher: Path = LAUNCHER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a child that is not started.

        Args:
            env_pserver: Its env file.
            state_dir: The folder for its log.
            launcher: The program to run.
            clock: Seconds, for the timeout of the start.
        """
        self._env = env_pserver
        self._log = state_dir / LOG_NAME
        self._launcher = launcher
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    @property
    def log(self) -> Path:
        """The path of its log."""
        return self._log

    def start(self) -> int:
        """Start the pserver and wait until it is ready; return its process id.

        Raises:
            CliError: if it exits, or is not ready after a minute.
        """
        self.stop()
        try:
            self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            log = self._open_log()
        except OSError as error:
            raise CliError("io", f"{error.filename}: {error.strerror}; cannot start the pserver") from error
        try:
            # In a session of its own, so that Ctrl-C on the terminal does not stop the pserver.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(CHILD_GUARD), str(self._launcher), str(self._env)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        try:
            return self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def _open_log(self) -> int:
        # Do not truncate it: it may be the log of a running pserver, which prevents the start of ours.
        if self._log.is_file() and self._log.stat().st_size > _MAX_LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._log_offset = os.fstat(log).st_size
        return log

    def stop(self) -> None:
        """Stop it, if it runs: with SIGTERM, then SIGKILL."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> int:
        if process.stdout is None:
            raise RuntimeError("stdout is a pipe")
        deadline = self._clock() + _START_TIMEOUT
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.startswith(b"READY ") or b"\n" not in line:
                if not selector.select(max(0.0, deadline - self._clock())):
                    raise CliError("pserver_unreachable", f"the pserver is not ready after a minute; see {self._log}")
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece:
                    raise self._failure(process.wait())
                line += piece
        return int(json.loads(line.removeprefix(b"READY "))["pid"])

    def _failure(self, exit_code: int) -> CliError:
        lines = self._log.read_bytes()[self._log_offset :].decode("utf-8", "replace").strip().splitlines()
        if exit_code == EXIT_CODES["bad_env"]:
            return CliError("bad_env", "; ".join(line.strip() for line in lines) or f"{self._env}: a fault")
        # The log may also have later lines of another pserver, which prevents the start of this one.
        reasons = [line for line in lines if line.startswith("pserver: ")] or lines
        why = reasons[-1].strip() if reasons else f"exit code {exit_code}"
        return CliError("pserver_unreachable", f"the pserver did not start: {why} (its log: {self._log})")
