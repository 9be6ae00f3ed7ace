"""The terminal of a peer: python peer/pclient.py ENV_PCLIENT [ENV_PSERVER] [COMMAND ...]; --help tells more."""

import sys

from terminal.main import launch

if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
