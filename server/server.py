"""Starts the tracker: python server/server.py ENV_SERVER."""

import sys

from tracker.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
