"""Runs a pserver as a child of pclients and stops it when no pclient uses it, however they ended, also by SIGKILL.

    python child_guard.py USERS_LOCK CHILD_LOCK PSERVER.PY ENV_PSERVER

USERS_LOCK is the path of the lock that each pclient shares. If this process has it alone, no pclient uses the pserver.
CHILD_LOCK is the descriptor of a lock that the first pclient acquired. This process has it until it ends
(cli/child_locks.py). At the end, or on a signal, the pserver gets one SIGTERM, and SIGKILL after 5 s. What it prints is
passed on to the pclient that started it, if that still lives.

If this process is killed, Linux sends SIGTERM to the pserver (PR_SET_PDEATHSIG). pclient does not use that signal
itself: Linux sends it once for each thread of the parent, and a second SIGTERM makes a pserver exit at once.

It imports nothing of ours: it is a program of its own. Its main thread starts the pserver and lives as long as it.
"""

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_STOP_TIMEOUT = 5.0
# What the thread writes to the pipe of the signals: no signal has this number.
_UNUSED = 0


def main(users_lock: str, command: list[str]) -> int:
    """Run `command` until it exits, no pclient uses it, or a signal arrives; return its exit code."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # An empty handler: the signal number is written to the pipe.
        signal.signal(number, lambda *_: None)
    printed, print_to = os.pipe()
    # There is no other thread yet, so preexec_fn is safe.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=print_to, preexec_fn=_die_with_parent)  # noqa: PLW1509
    os.close(print_to)
    threading.Thread(target=_wait_until_unused, args=(users_lock, wake), daemon=True).start()
    inputs = [woken, printed]
    while process.poll() is None:
        ready, _, _ = select.select(inputs, [], [])
        if printed in ready and not _pass_on(printed):
            inputs.remove(printed)
        if woken in ready and set(os.read(woken, 64)) - {signal.SIGCHLD}:
            _stop(process)
    return process.returncode


def _wait_until_unused(users_lock: str, wake: int) -> None:
    # Open until this process ends: a pclient that starts now waits until the pserver has stopped.
    lock = os.open(users_lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.write(wake, bytes([_UNUSED]))


def _pass_on(printed: int) -> bool:
    """Pass on what the pserver printed; return whether it may print more."""
    output = os.read(printed, 4096)
    # It fails if the pclient that started the pserver has ended.
    with suppress(OSError):
        os.write(1, output)
    return bool(output)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    # The lock of the child, sys.argv[2], is an inherited descriptor: it only has to stay open.
    sys.exit(main(sys.argv[1], [sys.executable, *sys.argv[3:]]))
