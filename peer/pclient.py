"""The terminal of a peer: python peer/pclient.py ENV_PCLIENT [ENV_PSERVER] [COMMAND ...]; --help tells more."""

import os
import sys

try:
    import signal
except KeyboardInterrupt:
    os._exit(130)


def leave_quietly() -> None:
    """Have a signal end us without a traceback while the terminal sees to none: before it is imported, and after it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(128 + number))


def end_undisturbed() -> None:
    """All is told: a Ctrl-C while Python ends would only end us by the signal, with another status."""
    leave_quietly()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    leave_quietly()
    from cli.main import launch

    status = 130
    try:
        status = launch(sys.argv[1:])
        end_undisturbed()
    except KeyboardInterrupt:
        end_undisturbed()
    sys.exit(status)
