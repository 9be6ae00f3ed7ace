"""Command-line client for a pserver: python peer/pclient.py ENV_PCLIENT [ENV_PSERVER] [COMMAND ...]; see --help."""

import os
import sys

try:
    import signal
except KeyboardInterrupt:
    os._exit(130)


def use_utf8() -> None:
    """Start this program again in UTF-8 mode if the locale has another encoding: names of files are UTF-8 in any."""
    if sys.getfilesystemencoding() != "utf-8":
        # Of several such options the first counts.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def exit_on_signals() -> None:
    """Make SIGINT and SIGTERM exit at once, without a traceback: before `cli` is imported and after it returned."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(128 + number))


def ignore_interrupts() -> None:
    """Ignore Ctrl-C from here on: while Python exits it would only change the exit code."""
    exit_on_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def report_missing_package(error: ModuleNotFoundError) -> int:
    """Report in one line, or as JSON, that this Python lacks a package; return the exit code."""
    import json
    from pathlib import Path

    from cli.arguments import has_global_option
    from common.launch_commands import missing_package_message

    message = missing_package_message(error, Path(__file__).resolve())
    if has_global_option(sys.argv[1:], "json"):
        print(json.dumps({"error": {"code": "internal", "message": message, "name": None}}))
    else:
        print(f"error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    use_utf8()
    exit_on_signals()
    status = 130
    try:
        from cli.main import launch

        status = launch(sys.argv[1:])
        ignore_interrupts()
    except KeyboardInterrupt:
        ignore_interrupts()
    except ModuleNotFoundError as error:
        # At the start, or later: `cli` imports some packages only when it needs them.
        status = report_missing_package(error)
    sys.exit(status)
