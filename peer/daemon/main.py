"""The pserver's command line: env file, settings, lock, serve; one line and an exit code for whatever is wrong."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

# gRPC's own lines on stderr say what our log says better. Read when grpc is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from common.env_file import EnvFault
from daemon.errors import InUse, PeerError
from daemon.process import exclusive_lock, serve
from daemon.runtime import logs, malloc
from daemon.runtime.settings import Settings
from daemon.storage.disk import Disk

_USAGE = "usage: python peer/pserver.py ENV_PSERVER"
_EXIT_USAGE, _EXIT_FAILED, _EXIT_ENV = 2, 1, 78


def main(argv: Sequence[str], disk: Disk | None = None) -> int:
    """Serve until interrupted; return the exit status. `disk` stands in for the machine's own."""
    asked = bool(argv) and argv[0] in ("-h", "--help")
    if asked or len(argv) != 1:
        (sys.stdout if asked else sys.stderr).write(_USAGE + "\n")
        return 0 if asked else _EXIT_USAGE
    try:
        settings = Settings.from_env_file(argv[0])
        logs.configure(settings.log_format)
        malloc.tune()
        with exclusive_lock(settings):
            asyncio.run(serve(settings, disk))
    except EnvFault as fault:
        for line in fault.lines:
            sys.stderr.write(f"pserver: {line}\n")
        return _EXIT_ENV
    except InUse as error:
        sys.stderr.write(f"pserver: {error}\n")
        return _EXIT_FAILED
    except PeerError as error:
        sys.stderr.write(f"pserver: {error.message}\n")
        return 74 if error.code in ("io", "disk_full") else _EXIT_FAILED
    return 0
