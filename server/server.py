"""Starts the tracker: python server/server.py ENV_SERVER."""

import os
import signal
import sys

if __name__ == "__main__":
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
