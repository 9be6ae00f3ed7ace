"""Starts the tracker: python server/server.py ENV_SERVER."""

import os
import signal
import sys


def use_utf8() -> None:
    """Start this program again in UTF-8 mode if the locale has another encoding: names of files are UTF-8 in any."""
    if sys.getfilesystemencoding() != "utf-8":
        # Of several such options the first counts.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


if __name__ == "__main__":
    use_utf8()
    # The imports take a second. Until the tracker handles the signals itself there is nothing to shut down.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))

    try:
        from tracker.main import main
    except ModuleNotFoundError as error:
        from pathlib import Path

        from tracker.launch_commands import missing_package_message

        sys.exit(f"server: {missing_package_message(error, Path(__file__).resolve())}")

    sys.exit(main(sys.argv[1:]))
