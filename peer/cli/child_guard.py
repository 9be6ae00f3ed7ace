"""Stands between a terminal and the pserver it started, so that the pserver ends when the terminal does, in any way.

    python minder.py PSERVER.PY ENV_PSERVER

Its stdin is a pipe from the terminal: it ends when the terminal does. Then, or when told to, the pserver gets one
SIGTERM, and a SIGKILL if that does not help. Should the minder itself be killed, Linux tells the pserver. (Linux could
tell it of the terminal's death as well, but does so once for each thread of it, and a second SIGTERM means "at once".)

Imports nothing of ours: it is a program of its own, with one thread.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
_ENDS_WITHIN = 5.0


def main(command: list[str]) -> int:
    """Run `command` until it ends, our stdin ends or we are told to end; its exit code."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler that does nothing, so that the signal is written to the pipe.
        signal.signal(number, lambda *_: None)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)  # noqa: PLW1509
    while process.poll() is None:
        ready, _, _ = select.select([0, woken], [], [])
        told = set(os.read(woken, 64)) if woken in ready else set()
        if told - {signal.SIGCHLD} or (0 in ready and not os.read(0, 64)):
            _end(process)
    return process.returncode


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main([sys.executable, *sys.argv[1:]]))
