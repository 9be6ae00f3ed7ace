"""Many files of one piece over one stream, the called side: served to an asker, or taken from a pusher.

Knows no gRPC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from daemon.errors import BadUsage, NotAllowed, PeerError
from daemon.library.library import Library
from daemon.peers.limits import RateLimiter
from daemon.protocol.frames import Block
from daemon.runtime.executors import Threads
from daemon.tracker_client.tickets import Grant, Right, require_right
from daemon.transfer import batch_store
from daemon.transfer.batch_store import BATCH_MAX_BYTES, BATCH_MAX_FILES, SMALL_FILE_MAX, BatchStore, SmallFile
from daemon.transfer.push_receiver import PushReceiver
from daemon.transfer.replica_quota import ReplicaQuota
from daemon.transfer.sources import ServedFiles

# Files that one request may name.
MAX_FILES_PER_MESSAGE = 1024
_RESPONSE_MAX_BYTES = 1 << 20
_RESPONSE_MAX_FILES = 256
# Bytes that wait for their batches on all streams together: a pusher that never sends the last of what it offered would
# keep a batch in memory on each of its streams.
MAX_UNPUBLISHED_BYTES = 64 << 20
# What a file takes beside its bytes: its manifest, its name, and the message that its bytes are a view of.
_FILE_OVERHEAD = 4096

Verdict = tuple[int, str, PeerError | None]
CheckTicket = Callable[[str], Grant]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchServer:
    """Serves small files."""

    served: ServedFiles
    threads: Threads
    bandwidth: RateLimiter
    check_ticket: CheckTicket
    library: Library

    async def read(
        self, opener: Grant, asks: Sequence[tuple[int, str]]
    ) -> AsyncIterator[tuple[list[Block], list[tuple[int, PeerError]]]]:
        """Yield the files that (number, ticket) name, in replies of about 1 MiB; smaller where an upload limit would
        have the asker wait long for one.

        `opener` is the ticket that opened the stream.
        """
        wanted: list[tuple[int, str]] = []
        refused: list[tuple[int, PeerError]] = []
        for number, ticket in asks:
            try:
                wanted.append((number, check_same_requester(opener, self.check_ticket(ticket), Right.READ).id))
            except PeerError as error:
                refused.append((number, error))
        if refused:
            yield [], refused
        for group in self._groups(wanted):
            blocks, faults = await self.threads.run(self.threads.payload, self.served.read_small_files, group)
            await self.bandwidth.acquire(sum(len(block.data) for block in blocks), opener.requester)
            yield blocks, faults

    def _groups(self, wanted: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
        group: list[tuple[int, str]] = []
        size = 0
        most = self.bandwidth.max_block(_RESPONSE_MAX_BYTES)
        for number, id_ in wanted:
            held = self.library.by_id(id_)
            length = held[0].size if held else 0
            if group and (len(group) >= _RESPONSE_MAX_FILES or size + length > most):
                yield group
                group, size = [], 0
            group.append((number, id_))
            size += length
        if group:
            yield group


@dataclass(slots=True)
class Waiting:
    """What arrived on all streams and waits for its batch, or is being published."""

    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReceiver:
    """Takes small files that are pushed."""

    receiver: PushReceiver
    quota: ReplicaQuota
    store: BatchStore
    threads: Threads
    check_ticket: CheckTicket
    announce: Callable[[], Awaitable[None]]
    waiting: Waiting = field(default_factory=Waiting)

    @contextmanager
    def stream(self, opener: Grant) -> Iterator[BatchStream]:
        """Begin to take what one pusher offers."""
        stream = BatchStream(self, opener)
        try:
            yield stream
        finally:
            stream.close()

    def check_offer(self, opener: Grant, name: str, size: int, ticket: str) -> tuple[str, bool]:
        """Return the id of an offer, and whether it is wanted. Raises PeerError if it is refused."""
        if size > SMALL_FILE_MAX:
            raise BadUsage("the file has more than one piece: push its pieces")
        id_ = check_same_requester(opener, self.check_ticket(ticket), Right.WRITE).id
        return id_, self.receiver.wants(name, id_)

    async def verify(self, id_: str, name: str, data: bytes | memoryview) -> SmallFile:
        """Return a file that arrived. Raises NotVerified if it is another."""
        return SmallFile(name, await self.threads.run(self.threads.payload, batch_store.verify, id_, data), data)

    async def publish(self, files: Sequence[SmallFile]) -> list[PeerError | None]:
        """Publish and announce files; one outcome for each."""
        outcomes = await self.threads.run_uncancellable(self.threads.disk, self.store.publish, files, replica=True)
        await self.announce()
        return outcomes


class BatchStream:
    """One pusher's stream: what it offered and was told to send, and what has arrived and waits for its batch."""

    def __init__(self, receiver: BatchReceiver, opener: Grant) -> None:
        self._receiver = receiver
        self._opener = opener
        # Room for what was asked for, by number, until it is published or refused.
        self._reservations: dict[int, ExitStack] = {}
        # Number -> (id, name, size) of files that were asked for.
        self._wanted: dict[int, tuple[str, str, int]] = {}
        self._arrived: list[tuple[int, SmallFile]] = []
        self._bytes = 0

    async def on_offers(self, offers: Sequence[tuple[int, str, int, str]]) -> list[Verdict]:
        """Judge offers of (number, name, size, ticket)."""
        if not offers:
            # A message that brings files only: the catalog need not be asked.
            return []
        verdicts: list[Verdict] = []
        async with self._receiver.quota.lock_usage() as kept:
            for number, name, size, ticket in offers:
                if len(self._reservations) >= 2 * MAX_FILES_PER_MESSAGE:
                    raise BadUsage(f"more than {2 * MAX_FILES_PER_MESSAGE} files were offered and not sent")
                if number in self._reservations:
                    raise BadUsage("two files were offered under one number")
                try:
                    id_, wanted = self._receiver.check_offer(self._opener, name, size, ticket)
                    if wanted:
                        with ExitStack() as room:
                            room.enter_context(self._receiver.quota.reserve(name, size, kept))
                            self._reservations[number] = room.pop_all()
                        self._wanted[number] = (id_, name, size)
                    verdicts.append((number, "wanted" if wanted else "published", None))
                except PeerError as error:
                    verdicts.append((number, "refused", error))
        await self._receiver.receiver.evict_parts()
        return verdicts

    async def on_blocks(self, blocks: Sequence[Block]) -> list[Verdict]:
        """Take files that were asked for; those of a full batch, or of the last one, are published now, and any while
        too much waits on all streams.
        """
        verdicts: list[Verdict] = []
        for block in blocks:
            if block.number not in self._wanted:
                raise BadUsage("a file was sent that nobody asked for")
            id_, name, size = self._wanted.pop(block.number)
            try:
                if len(block.data) != size:
                    raise BadUsage("the file has another size than was offered", name=name)
                self._arrived.append((block.number, await self._receiver.verify(id_, name, block.data)))
                self._bytes += size + _FILE_OVERHEAD
                self._receiver.waiting.bytes += size + _FILE_OVERHEAD
            except PeerError as error:
                verdicts.append((block.number, "refused", error))
        full = len(self._arrived) >= BATCH_MAX_FILES or self._bytes >= BATCH_MAX_BYTES
        if full or not self._wanted or self._receiver.waiting.bytes > MAX_UNPUBLISHED_BYTES:
            verdicts += await self._publish()
        for number, _, _ in verdicts:
            self._reservations.pop(number).close()
        return verdicts

    def close(self) -> None:
        """Give back the room of what did not come, and let go of what was not published."""
        self._receiver.waiting.bytes -= self._bytes
        self._bytes = 0
        for room in self._reservations.values():
            room.close()
        self._reservations.clear()

    async def _publish(self) -> list[Verdict]:
        arrived, self._arrived = self._arrived, []
        if not arrived:
            return []
        try:
            outcomes = await self._receiver.publish([small for _, small in arrived])
        finally:
            self._receiver.waiting.bytes -= self._bytes
            self._bytes = 0
        return [
            (number, "published" if fault is None else "refused", fault)
            for (number, _), fault in zip(arrived, outcomes, strict=True)
        ]


def check_same_requester(opener: Grant, grant: Grant, right: Right) -> Grant:
    """Return a ticket of a stream, if it is the opener's and gives this right."""
    require_right(grant, right)
    if grant.requester != opener.requester:
        raise NotAllowed("the ticket is another peer's")
    return grant
