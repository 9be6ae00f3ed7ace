"""The pserver that pclients start as their child: at most one for each STATE_DIR, which ends with the last of them.

Calls none of its RPCs. The child logs to STATE_DIR/pserver.log, and its READY line is read here.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cli import child_locks
from cli.errors import EXIT_CODES, CliError

LAUNCHER = Path(__file__).resolve().parents[1] / "pserver.py"
CHILD_GUARD = Path(__file__).with_name("child_guard.py")
LOG_NAME = "pserver.log"
# Seconds.
_START_TIMEOUT = 60.0
# child_guard waits 5 s for the pserver.
_STOP_TIMEOUT = 7.0
_POLL = 0.05
# A larger log is rotated at a start; bytes.
_MAX_LOG_BYTES = 4 << 20


class ChildDaemon:
    """This pclient's use of a pserver on STATE_DIR. The child that pclients started runs while one of them uses it."""

    def __init__(
        self,
        env_pserver: Path | None,
        state_dir: Path,
        launcher: Path = LAUNCHER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an object that uses nothing.

        Args:
            env_pserver: The env file of a pserver to start; None to start none.
            state_dir: Its folder, for locks and log.
            launcher: The program to run.
            clock: Seconds, for the timeout of the start.
        """
        self._env = env_pserver
        self._state_dir = state_dir
        self._log = state_dir / LOG_NAME
        self._launcher = launcher
        self._clock = clock
        self._users: int | None = None
        # The guard, if this pclient started it.
        self._guard: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    @property
    def log(self) -> Path:
        """The path of its log."""
        return self._log

    def use(self) -> None:
        """Use the pserver until `release`: a child of another pclient does not end before. Waits for one that stops.

        Without a STATE_DIR that can be written there is no child; `start` then says why.
        """
        with suppress(OSError):
            if self._env is not None:
                self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._users = child_locks.open_lock(self._state_dir / child_locks.USERS_LOCK)
            child_locks.share(self._users)

    def release(self) -> None:
        """Stop using the pserver. If no other pclient uses it, wait until the child has stopped."""
        if self._users is None:
            return
        users, self._users = self._users, None
        child_locks.release(users)
        try:
            if self._env is not None:
                self._wait_until_stopped(users)
        finally:
            os.close(users)

    def is_shared(self) -> bool:
        """Return whether the pserver on STATE_DIR is a child that another pclient started."""
        return self._guard is None and not self._child_lock_is_free()

    def start(self, answers: Callable[[], bool]) -> int | None:
        """Start a pserver and wait until it is ready, or wait for the one that another pclient starts.

        Args:
            answers: Returns whether a pserver answers.

        Returns:
            The process id of the pserver, or None if another pclient started it.

        Raises:
            CliError: if it exits, or is not ready after a minute.
        """
        deadline = self._clock() + _START_TIMEOUT
        try:
            lock = child_locks.open_lock(self._state_dir / child_locks.CHILD_LOCK)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            while not child_locks.try_acquire(lock):
                if answers():
                    return None
                if self._clock() > deadline:
                    raise self._not_ready()
                time.sleep(_POLL)
            # One may have become ready meanwhile.
            if answers():
                return None
            return self._start(lock, deadline)
        finally:
            # The guard has inherited the lock.
            os.close(lock)

    def _start(self, lock: int, deadline: float) -> int:
        try:
            log = self._open_log()
        except OSError as error:
            raise self._unusable(error) from error
        users_lock = self._state_dir / child_locks.USERS_LOCK
        try:
            # In a session of its own, so that Ctrl-C on the terminal does not stop the pserver.
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", *map(str, (CHILD_GUARD, users_lock, lock, self._launcher, self._env))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
            )
        finally:
            os.close(log)
        try:
            return self._wait_until_ready(self._guard, deadline)
        except BaseException:
            # Others wait for this start. They start another one.
            self._guard.terminate()
            self._guard.wait(_STOP_TIMEOUT)
            raise
        finally:
            if self._guard.stdout is not None:
                self._guard.stdout.close()

    def _wait_until_stopped(self, users: int) -> None:
        """Wait until the child has stopped, or another pclient turns out to use it."""
        deadline = self._clock() + _STOP_TIMEOUT
        while not self._child_lock_is_free() and self._clock() < deadline:
            # The guard, which waits for it, gets it now; or it has it already, and stops the child.
            unused = child_locks.try_acquire(users)
            if not unused and child_locks.try_share(users):
                return
            child_locks.release(users)
            time.sleep(_POLL)
        if self._guard is not None:
            self._guard.poll()

    def _child_lock_is_free(self) -> bool:
        try:
            lock = child_locks.open_lock(self._state_dir / child_locks.CHILD_LOCK)
        except OSError:
            return True
        try:
            return child_locks.try_share(lock)
        finally:
            os.close(lock)

    def _unusable(self, error: OSError) -> CliError:
        where = error.filename or self._state_dir
        return CliError("io", f"{where}: {error.strerror}; cannot start the pserver")

    def _not_ready(self) -> CliError:
        return CliError("pserver_unreachable", f"the pserver is not ready after a minute; see {self._log}")

    def _open_log(self) -> int:
        # Do not truncate it: it may be the log of a running pserver, which prevents the start of ours.
        if self._log.is_file() and self._log.stat().st_size > _MAX_LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._log_offset = os.fstat(log).st_size
        return log

    def _wait_until_ready(self, process: subprocess.Popen[bytes], deadline: float) -> int:
        if process.stdout is None:
            raise RuntimeError("stdout is a pipe")
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.startswith(b"READY ") or b"\n" not in line:
                if not selector.select(max(0.0, deadline - self._clock())):
                    raise self._not_ready()
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
