"""Starts a pserver: python peer/pserver.py ENV_PSERVER."""

import sys

from node.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
