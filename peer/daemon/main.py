"""The pserver's process: command line, settings, locks, READY line, signals and exit status."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager

# grpc reads this when it is imported. Its own lines on stderr repeat what the pserver's log says better.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from common.env_file import EnvFault
from common.state_files import LOCK_FILE
from common.version import PROTOCOL, VERSION
from daemon.app import Pserver
from daemon.errors import InUse, PeerError, StorageFault
from daemon.runtime import logs, malloc
from daemon.runtime.settings import Settings
from daemon.storage.disk import Disk, storage_faults

log = logging.getLogger(__name__)

_USAGE = "usage: python peer/pserver.py ENV_PSERVER"
_EXIT_USAGE, _EXIT_FAILED, _EXIT_ENV = 2, 1, 78
# The exit status of a start that failed, by the code of the error.
_EXIT_STATUS = {"io": 74, "disk_full": 74, "incompatible": 69}
# Seconds after a signal until the process exits, even if its threads are still busy.
SHUTDOWN_TIMEOUT = 3.0


def main(argv: Sequence[str], disk: Disk | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C. A clean stop ends the process here, with status 0.

    Args:
        argv: the command line without the program.
        disk: the disk operations for shared and part files; None for the machine's own.

    Returns:
        The exit status of a start that failed; 0 after `--help` and `--version`.
    """
    if argv[:1] == ["--version"]:
        sys.stdout.write(f"{VERSION}\n")
        return 0
    help_wanted = bool(argv) and argv[0] in ("-h", "--help")
    if help_wanted or len(argv) != 1:
        (sys.stdout if help_wanted else sys.stderr).write(_USAGE + "\n")
        return 0 if help_wanted else _EXIT_USAGE
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
        return _EXIT_STATUS.get(error.code, _EXIT_FAILED)
    return 0


async def serve(settings: Settings, disk: Disk | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then stop within 4 seconds and exit the process with status 0.

    Raises:
        InUse: if the port or METRICS_PORT is in use.
        PeerError: if the folders cannot be used, or stdout cannot be written.
    """
    async with AsyncExitStack() as stack:
        stop_requested = await stack.enter_async_context(_signals())
        pserver = Pserver(settings, disk=disk)
        await stack.enter_async_context(pserver.running())
        ready = {"host": settings.listen_host, "port": pserver.port, "pid": os.getpid()}
        _print_ready({**ready, "version": VERSION, "protocol": PROTOCOL})
        if settings.tls_cert is None and not _is_loopback(settings.listen_host):
            log.warning(
                "listening on %s without TLS: the network can read what is transferred (docs/security.md)",
                settings.listen_host,
            )
        trimming = asyncio.create_task(malloc.trim_memory_when_idle())
        await stop_requested.wait()
        trimming.cancel()
        # A blocked thread would keep the process alive.
        asyncio.get_running_loop().call_later(SHUTDOWN_TIMEOUT, os._exit, 0)
    logging.shutdown()
    os._exit(0)


@contextmanager
def exclusive_lock(settings: Settings) -> Iterator[None]:
    """Create STATE_DIR, with mode 0700, and SHARED_DIR, and lock both while the block runs.

    Two pservers on one shared folder would delete each other's part files.

    Raises:
        InUse: if another process has one of the locks.
        EnvFault: if STATE_DIR cannot be used.
        StorageFault: if SHARED_DIR cannot be used.
    """
    state_dir, shared_dir = settings.state_dir, settings.shared_dir
    with ExitStack() as stack:
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            state_dir.chmod(0o700)
            if stat.S_IMODE(state_dir.stat().st_mode) & 0o077:
                fault = "is on a file system without permissions, and other users could read the cookie"
                raise EnvFault(f"STATE_DIR {state_dir} {fault}; choose another folder")
            fd = os.open(state_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise EnvFault(f"STATE_DIR {state_dir} cannot be used: {error.strerror}") from error
        stack.callback(os.close, fd)
        try:
            _lock(fd, f"STATE_DIR {state_dir}")
        except OSError as error:
            raise EnvFault(f"STATE_DIR {state_dir} cannot be locked: {error.strerror}") from error
        with storage_faults(f"opening the shared folder {shared_dir}"):
            shared_dir.mkdir(parents=True, exist_ok=True)
            fd = os.open(shared_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        try:
            _lock(fd, f"SHARED_DIR {shared_dir}")
        except OSError as error:
            # Some file systems cannot lock folders. Sharing without a lock is better than not sharing.
            log.warning(
                "SHARED_DIR %s cannot be locked: %s; make sure that only one pserver uses it",
                shared_dir,
                error.strerror,
            )
        yield


def _lock(fd: int, what: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(f"another pserver is running on {what}: stop it, or choose another folder") from None


@asynccontextmanager
async def _signals() -> AsyncIterator[asyncio.Event]:
    """Yield an event that SIGTERM or Ctrl-C sets. A second signal exits the process at once."""
    loop = asyncio.get_running_loop()
    stop_requested = asyncio.Event()

    def on_signal() -> None:
        if stop_requested.is_set():
            os._exit(1)
        stop_requested.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    yield stop_requested


def _print_ready(ready: dict[str, object]) -> None:
    """Print the READY line of the contract.

    Raises:
        StorageFault: if stdout cannot be written.
    """
    try:
        print(f"READY {json.dumps(ready)}", flush=True)  # noqa: T201
    except OSError as error:
        # Otherwise Python would try to flush stdout again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StorageFault(f"READY cannot be written to stdout: {error.strerror}") from error


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
