"""Runs a pserver as a child of pclient and stops it when pclient ends in any way, also by SIGKILL.

    python child_guard.py PSERVER.PY ENV_PSERVER

stdin is a pipe from pclient, which closes when pclient ends. At its end, or on a signal, the pserver gets one SIGTERM,
and SIGKILL after 5 s. If this process is killed, Linux sends SIGTERM to the pserver (PR_SET_PDEATHSIG). pclient does
not use that signal itself: Linux sends it once for each thread of the parent, and a second SIGTERM makes a pserver exit
at once.

It imports nothing of ours: it is a program of its own, with one thread.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
_STOP_TIMEOUT = 5.0


def main(command: list[str]) -> int:
    """Run `command` until it exits, stdin ends, or a signal arrives; return its exit code."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # An empty handler: the signal number is written to the pipe.
        signal.signal(number, lambda *_: None)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)  # noqa: PLW1509
    while process.poll() is None:
        ready, _, _ = select.select([0, woken], [], [])
        signals = set(os.read(woken, 64)) if woken in ready else set()
        if signals - {signal.SIGCHLD} or (0 in ready and not os.read(0, 64)):
            _stop(process)
    return process.returncode


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
    sys.exit(main([sys.executable, *sys.argv[1:]]))
