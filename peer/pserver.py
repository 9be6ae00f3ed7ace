"""Starts a pserver: python peer/pserver.py ENV_PSERVER."""

import os
import sys

try:
    import signal
except KeyboardInterrupt:
    os._exit(0)


def leave_quietly() -> None:
    """Have a signal end us, well, while the pserver sees to none: before it is imported, and after it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


if __name__ == "__main__":
    leave_quietly()
    from daemon.main import main

    status = main(sys.argv[1:])
    leave_quietly()
    sys.exit(status)
