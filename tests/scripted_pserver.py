"""ScriptedDaemon as a program in place of pserver.py: STATE_DIR of its env file, a free port, READY, SIGTERM."""

import json
import os
import signal
import sys
from pathlib import Path

from common.env_file import EnvReader
from scripted_daemon import ScriptedDaemon


def main() -> int:
    """Serve until SIGTERM."""
    env = EnvReader(Path(sys.argv[1]), "pserver")
    if env.has("FAILS"):
        print("pserver: STATE_DIR is in use", file=sys.stderr)
        return env.port("FAILS")
    state_dir = env.path_to("STATE_DIR")
    stubborn = env.has("STUBBORN")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    daemon = ScriptedDaemon(state_dir, env.port("PSERVER_PORT", 0))
    (state_dir / "pid").write_text(str(os.getpid()))
    print("READY", json.dumps({"host": "127.0.0.1", "port": daemon.port, "pid": os.getpid()}), flush=True)
    signal.sigwait({signal.SIGTERM})
    while stubborn:
        signal.sigwait({signal.SIGTERM})
    second = signal.sigtimedwait({signal.SIGTERM}, 0.5)
    (state_dir / "ended").write_text("one SIGTERM" if second is None else "two SIGTERM")
    daemon.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
