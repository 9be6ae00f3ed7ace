"""Runs commands on one pserver from inside its network namespace: reads lines of JSON, writes one for each.

python driver.py HOST:PORT STATE_DIR
{"login": USER}   {"share": PATH}   {"remove": NAME}   {"download": NAME}
Each response has the times at which the command began and ended.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.ours import DaemonClient


def main(target: str, state: str) -> None:
    """Run commands until stdin ends."""
    client = DaemonClient(target, Path(state))
    for command in map(json.loads, sys.stdin):
        began = time.monotonic()
        if "login" in command:
            client.login(command["login"])
        elif "share" in command:
            client.share(Path(command["share"]))
        elif "remove" in command:
            client.remove(command["remove"])
        elif "download" in command:
            client.download(command["download"])
        print(json.dumps({"began": began, "ended": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
