"""The scripted pserver as a program in the place of pserver.py: its env file's STATE_DIR, free port, READY, SIGTERM."""

import json
import os
import signal
import sys
from pathlib import Path

from common.env_file import EnvReader
from scripted_daemon import ScriptedNode


def main() -> int:
    """Serve until told to end."""
    env = EnvReader(Path(sys.argv[1]), "pserver")
    if env.has("FAILS"):
        print("pserver: STATE_DIR is in use", file=sys.stderr)
        return env.port("FAILS")
    state_dir = env.path_to("STATE_DIR")
    stubborn = env.has("STUBBORN")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    node = ScriptedNode(state_dir, env.port("PSERVER_PORT", 0))
    (state_dir / "pid").write_text(str(os.getpid()))
    print("READY", json.dumps({"host": "127.0.0.1", "port": node.port, "pid": os.getpid()}), flush=True)
    signal.sigwait({signal.SIGTERM})
    while stubborn:
        signal.sigwait({signal.SIGTERM})
    told_again = signal.sigtimedwait({signal.SIGTERM}, 0.5)
    (state_dir / "ended").write_text("told once" if told_again is None else "told twice")
    node.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
