"""Pieces of one download that are here: verified and written in threads, a few at a time.

A piece that does not verify is never written.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future
from typing import Protocol

from blake3 import blake3

from daemon.storage.manifest import Manifest
from daemon.swarm.piece_assembler import PieceData

# A third thread gains nothing on two cores, but overlaps with the other two when a write waits for the disk.
_MAX_CONCURRENT = 3


class PieceStore(Protocol):
    """Where pieces go: a part file."""

    def store(self, piece: int, data: PieceData) -> None:
        """Write a verified piece at its place and note that it is there. Called in a thread."""


class PieceVerifier:
    """The pieces on their way to the disk."""

    def __init__(self, manifest: Manifest, store: PieceStore, threads: Executor) -> None:
        self._manifest = manifest
        self._store = store
        self._threads = threads
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._writes: dict[int, Future[bool]] = {}
        # Marked by the thread, before its future is done: whoever finds no write under way finds the mark.
        self._written = bytearray(manifest.piece_count)
        self._pending = 0

    @property
    def busy(self) -> bool:
        """There are pieces of which nobody knows yet whether they verify."""
        return self._pending > 0

    async def acquire(self) -> None:
        """Wait until one more piece may be settled; then `settle` it. Who has to wait hears no more meanwhile."""
        await self._slots.acquire()
        self._pending += 1

    async def verify_and_write(self, piece: int, data: PieceData) -> bool:
        """Verify a piece and write it; False if it does not verify. The turn is over then.

        One that came from several holders is written once.

        Raises:
            DiskFull, StorageFault: if it cannot be written.
        """
        try:
            while (other := self._writes.get(piece)) is not None:
                await asyncio.wrap_future(other)
            if self._written[piece]:
                return True
            write = self._writes[piece] = self._threads.submit(self._verify_and_store, piece, data)
            # Not when we are done: we may be cancelled, and the thread still writes.
            write.add_done_callback(lambda _: self._writes.pop(piece, None))
            return await asyncio.wrap_future(write)
        finally:
            self._slots.release()
            self._pending -= 1

    async def close(self) -> None:
        """Wait for what is being written: a thread cannot be cancelled, and must not write into a file that is
        published or closed.
        """
        writes = [asyncio.wrap_future(write) for write in list(self._writes.values()) if not write.cancel()]
        await asyncio.gather(*writes, return_exceptions=True)

    def _verify_and_store(self, piece: int, data: PieceData) -> bool:
        digest = blake3()
        for view in data:
            digest.update(view)
        if digest.digest() != self._manifest.digest(piece):
            return False
        self._store.store(piece, data)
        self._written[piece] = True
        return True
