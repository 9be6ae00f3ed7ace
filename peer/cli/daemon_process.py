"""A pserver that lives and dies with this terminal: starts it, waits until it is ready, ends it. Never talks to it.

Its log goes to STATE_DIR/pserver.log, its one READY line to us.
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
_STARTS_WITHIN = 60.0
# The minder gives the pserver five.
_ENDS_WITHIN = 7.0
_LONGEST_LOG = 4 << 20


class ChildDaemon:
    """At most one pserver, started by `start`."""

    def __init__(
        self,
        env_pserver: Path,
        state_dir: Path,
        launcher: Path = LAUNCHER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._env = env_pserver
        self._log = state_dir / LOG_NAME
        self._launcher = launcher
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._log_began = 0

    @property
    def log(self) -> Path:
        """Where it writes what it does."""
        return self._log

    def start(self) -> int:
        """Start it and wait until it is ready; its process id.

        Raises:
            TerminalError: if it ends before, or takes more than a minute.
        """
        self.stop()
        try:
            self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            log = self._open_log()
        except OSError as error:
            raise CliError("io", f"{error.filename}: {error.strerror}; the pserver was not started") from error
        try:
            # A session of its own: Ctrl-C at the terminal stops a transfer, not the pserver.
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
        # Not emptied: it may be that of a pserver that runs already, which is why ours will not start.
        if self._log.is_file() and self._log.stat().st_size > _LONGEST_LOG:
            self._log.replace(self._log.with_suffix(".log.1"))
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._log_began = os.fstat(log).st_size
        return log

    def stop(self) -> None:
        """End it, if it runs: politely, then not."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> int:
        if process.stdout is None:
            raise RuntimeError("stdout is a pipe")
        deadline = self._clock() + _STARTS_WITHIN
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
        lines = self._log.read_bytes()[self._log_began :].decode("utf-8", "replace").strip().splitlines()
        if exit_code == EXIT_CODES["bad_env"]:
            return CliError("bad_env", "; ".join(line.strip() for line in lines) or f"{self._env}: a fault")
        why = lines[-1].strip() if lines else f"exit code {exit_code}"
        return CliError("pserver_unreachable", f"the pserver did not start: {why} (its log: {self._log})")
