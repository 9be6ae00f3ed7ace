"""Command-line client for a pserver: python peer/pclient.py ENV_PCLIENT [ENV_PSERVER] [COMMAND ...]; see --help."""

import os
import sys

try:
    import signal
except KeyboardInterrupt:
    os._exit(130)


def exit_on_signals() -> None:
    """Make SIGINT and SIGTERM exit at once, without a traceback: before `cli` is imported and after it returned."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(128 + number))


def ignore_interrupts() -> None:
    """Ignore Ctrl-C from here on: while Python exits it would only change the exit code."""
    exit_on_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    exit_on_signals()
    from cli.main import launch

    status = 130
    try:
        status = launch(sys.argv[1:])
        ignore_interrupts()
    except KeyboardInterrupt:
        ignore_interrupts()
    sys.exit(status)
