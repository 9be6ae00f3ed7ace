"""The process of a pserver: alone on its folders, READY once it serves, gone soon after a signal."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager

from common.env_file import EnvFault
from common.state_files import LOCK_FILE
from daemon.app import Pserver
from daemon.errors import InUse, StorageFault
from daemon.runtime import malloc
from daemon.runtime.settings import Settings
from daemon.storage.disk import Disk, storage_faults

log = logging.getLogger(__name__)

# After a signal the process ends within so many seconds, whatever its threads do.
SHUTDOWN_TIMEOUT = 3.0


@asynccontextmanager
async def _signals() -> AsyncIterator[asyncio.Event]:
    """Give an event that is set by SIGTERM and Ctrl-C. The second one ends the process at once."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            os._exit(1)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    yield asked


async def serve(settings: Settings, disk: Disk | None = None) -> None:
    """Serve until a signal comes, then leave within 4 seconds and end the process with status 0.

    Raises:
        InUse: if it cannot listen where it should.
        PeerError: if the folders cannot be used, or stdout cannot be written.
    """
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(_signals())
        pserver = Pserver(settings, disk=disk)
        await stack.enter_async_context(pserver.running())
        _print_ready({"host": settings.listen_host, "port": pserver.port, "pid": os.getpid()})
        if settings.tls_cert is None and not _is_loopback(settings.listen_host):
            log.warning(
                "listening on %s without TLS: whoever is on the way can read what is transferred (README, Security)",
                settings.listen_host,
            )
        giving_back = asyncio.create_task(malloc.trim_memory_when_idle())
        await asked.wait()
        giving_back.cancel()
        # A thread that is stuck would keep the process; whatever is not done by then is not waited for.
        loop = asyncio.get_running_loop()
        loop.call_later(SHUTDOWN_TIMEOUT, os._exit, 0)
    logging.shutdown()
    os._exit(0)


def _print_ready(ready: dict[str, object]) -> None:
    """The contract with whoever started us; without a stdout at all there is nobody to tell."""
    try:
        print(f"READY {json.dumps(ready)}", flush=True)  # noqa: T201
    except OSError as error:
        # Nothing is left for Python to flush at exit, in vain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StorageFault(f"READY cannot be written to stdout: {error.strerror}") from error


@contextmanager
def exclusive_lock(settings: Settings) -> Iterator[None]:
    """Make STATE_DIR, with mode 0700, and SHARED_DIR; have both for this process for the length of the block.

    Two pservers on one shared folder would take each other's unfinished files away.

    Raises:
        InUse: if another process has one of them.
        EnvFault: if STATE_DIR cannot be made.
        StorageFault: if SHARED_DIR cannot be.
    """
    state_dir, shared_dir = settings.state_dir, settings.shared_dir
    with ExitStack() as stack:
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            state_dir.chmod(0o700)
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
            # Some file systems lock no folders: better not locked than not shared.
            log.warning("SHARED_DIR %s cannot be locked: %s: run one pserver on it only", shared_dir, error.strerror)
        yield


def _lock(fd: int, what: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(f"another pserver is running on {what}: stop it, or choose another folder") from None


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
