"""Starts a pserver: python peer/pserver.py ENV_PSERVER."""

import os
import sys

try:
    import signal
except KeyboardInterrupt:
    os._exit(0)


def use_utf8() -> None:
    """Start this program again in UTF-8 mode if the locale has another encoding: names of files are UTF-8 in any."""
    if sys.getfilesystemencoding() != "utf-8":
        # Of several such options the first counts.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def exit_on_signal() -> None:
    """Exit with status 0 on a signal while the pserver handles none: before it is imported, and after it returns."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


if __name__ == "__main__":
    use_utf8()
    exit_on_signal()
    try:
        from daemon.main import main
    except ModuleNotFoundError as error:
        from pathlib import Path

        from common.launch_commands import missing_package_message

        sys.exit(f"pserver: {missing_package_message(error, Path(__file__).resolve())}")

    status = main(sys.argv[1:])
    exit_on_signal()
    sys.exit(status)
