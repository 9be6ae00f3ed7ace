"""Drives one pserver from inside its network namespace: lines of JSON in, one line out for each.

python driver.py HOST:PORT STATE_DIR
{"login": USER}   {"share": PATH}   {"remove": NAME}   {"download": NAME}: answers when it began and ended
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.ours import Line


def main(target: str, state: str) -> None:
    """Answer orders until stdin ends."""
    line = Line(target, Path(state))
    for order in map(json.loads, sys.stdin):
        began = time.monotonic()
        if "login" in order:
            line.login(order["login"])
        elif "share" in order:
            line.share(Path(order["share"]))
        elif "remove" in order:
            line.remove(order["remove"])
        elif "download" in order:
            line.download(order["download"])
        print(json.dumps({"began": began, "ended": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
