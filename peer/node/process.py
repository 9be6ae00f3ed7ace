"""The process of a pserver: alone on its STATE_DIR, READY once it serves, gone soon after a signal."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from common.env_file import EnvFault
from node.daemon import Pserver
from node.files.disk import Disk
from node.ground.settings import Settings

log = logging.getLogger(__name__)

# After a signal the process ends within so many seconds, whatever its threads do.
_END = 3.0


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
        EnvFault: if it cannot listen where it should.
        PeerError: if the folders cannot be used.
    """
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(_signals())
        pserver = Pserver(settings, disk=disk)
        await stack.enter_async_context(pserver.running())
        ready = {"host": settings.listen_host, "port": pserver.port, "pid": os.getpid()}
        print(f"READY {json.dumps(ready)}", flush=True)  # noqa: T201  # the contract with whoever started us
        if settings.tls_cert is None and not _is_loopback(settings.listen_host):
            log.warning(
                "listening on %s without TLS: whoever is on the way can read what is transferred (README, Security)",
                settings.listen_host,
            )
        await asked.wait()
        # A thread that is stuck would keep the process; whatever is not done by then is not waited for.
        loop = asyncio.get_running_loop()
        loop.call_later(_END, os._exit, 0)
    logging.shutdown()
    os._exit(0)


def lock_state_dir(settings: Settings) -> int:
    """Make STATE_DIR, with mode 0700, and lock it for this process; return the descriptor that holds the lock.

    Raises:
        EnvFault: if another process has it, or it cannot be made.
    """
    state_dir = settings.state_dir
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_dir.chmod(0o700)
        fd = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EnvFault(f"STATE_DIR {state_dir} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise EnvFault(
            f"another pserver is running on STATE_DIR {state_dir}: stop it, or choose another folder"
        ) from None
    return fd


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
