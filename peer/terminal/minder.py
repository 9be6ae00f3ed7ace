"""Stands between a terminal and the pserver it started, so that the pserver ends when the terminal does, in any way.

    python minder.py TERMINAL_PID PSERVER.PY ENV_PSERVER

On Linux it asks the kernel for a SIGTERM at the terminal's death and becomes the pserver. Elsewhere it stays, holds a
pipe from the terminal as its stdin, and ends the pserver when that pipe ends. Imports nothing of ours: it is a program
of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1
_ENDS_WITHIN = 5.0


def become(parent: int, command: list[str]) -> int:
    """Turn into `command`, which gets a SIGTERM when `parent` dies; returns only if that is not to be. Linux only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        return watch(command)
    # It may have died before we asked.
    if os.getppid() != parent:
        return 0
    # stdin is the terminal's pipe: the pserver has no use for it.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return os.execv(command[0], command)  # noqa: S606 - that is what it is for


def watch(command: list[str]) -> int:
    """Run `command` until it ends, our stdin ends, or we are told to; its exit code."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())

    def end_with_stdin() -> None:
        while os.read(0, 1):
            pass
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()

    threading.Thread(target=end_with_stdin, daemon=True).start()
    return process.wait()


def main(argv: list[str]) -> int:
    """Mind one pserver."""
    parent, *program = argv
    command = [sys.executable, *program]
    return become(int(parent), command) if sys.platform == "linux" else watch(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
