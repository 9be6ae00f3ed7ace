"""Serves small files to a requester, and receives small files from a sender: the called side of batch streams.

Knows no gRPC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from daemon.errors import BadUsage, FileChanged, NoSuchFile, NotAllowed, PeerError
from daemon.library.library import Library
from daemon.models import NO_ATTRIBUTES, Attributes, Version
from daemon.peers.limits import RateLimiter
from daemon.protocol.frames import Block
from daemon.protocol.tickets import Grant, Right, require_right
from daemon.runtime.batches import batched
from daemon.runtime.concurrency import Threads
from daemon.transfer import batch_store
from daemon.transfer.batch_store import BATCH_MAX_BYTES, BATCH_MAX_FILES, SMALL_FILE_MAX, BatchStore, SmallFile
from daemon.transfer.push_receiver import Need, PushReceiver
from daemon.transfer.replica_quota import ReplicaQuota
from daemon.transfer.served_files import FileFault, FileRequest, ServedFiles

# Files that one message may name.
MAX_FILES_PER_MESSAGE = 1024
# Files of one stream that may be accepted and not yet published.
_MAX_ACCEPTED = 2 * MAX_FILES_PER_MESSAGE
_RESPONSE_MAX_BYTES = 1 << 20
_RESPONSE_MAX_FILES = 256
# Bytes of all streams that wait for their batches. A sender that never sends the last offered file would otherwise hold
# a batch in memory on each of its streams.
MAX_UNPUBLISHED_BYTES = 64 << 20
# Memory of a file beside its bytes: its manifest, its name, and the message that contains the bytes.
_FILE_OVERHEAD = 4096

_OTHER_SIZE = "the file has another size than was offered"

# Returns the grant of a ticket. Raises NotAllowed.
CheckTicket = Callable[[str], Grant]


class TicketRequest(NamedTuple):
    """A small file that a requester asks for, by its ticket."""

    # Chosen by the requester; the answer has it too.
    number: int
    ticket: str


class FileOffer(NamedTuple):
    """A small file that a sender offers."""

    # Chosen by the sender; verdict and block have it too.
    number: int
    name: str
    size: int
    ticket: str
    attributes: Attributes = NO_ATTRIBUTES


class Decision(Enum):
    """What a receiver does with an offered file."""

    # The sender should send it.
    WANTED = "wanted"
    # It is published, or existed before.
    PUBLISHED = "published"
    REFUSED = "refused"


class Verdict(NamedTuple):
    """The decision about one offered file."""

    number: int
    decision: Decision
    # Why it is refused.
    error: PeerError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchServer:
    """Serves small files."""

    served_files: ServedFiles
    threads: Threads
    limiter: RateLimiter
    check_ticket: CheckTicket
    library: Library

    async def read(
        self, opener: Grant, requests: Sequence[TicketRequest]
    ) -> AsyncIterator[tuple[list[Block], list[FileFault]]]:
        """Read requested files in messages of about 1 MiB, or less if the upload limit would make one slow.

        Args:
            opener: The grant that opened the stream.
            requests: At most MAX_FILES_PER_MESSAGE requests.

        Yields:
            The files and the faults of one message.
        """
        allowed: list[FileRequest] = []
        refused: list[FileFault] = []
        for number, ticket in requests:
            try:
                grant = check_same_requester(opener, self.check_ticket(ticket), Right.READ)
                allowed.append(FileRequest(number, grant.id))
            except PeerError as error:
                refused.append(FileFault(number, error))
        if refused:
            yield [], refused
        for batch in batched(allowed, _RESPONSE_MAX_FILES, self.limiter.max_block(_RESPONSE_MAX_BYTES), self._size_of):
            blocks, faults = await self.threads.run(self.threads.payload, self.served_files.read_small_files, batch)
            await self.limiter.acquire(sum(len(block.data) for block in blocks), opener.requester)
            yield blocks, faults

    def _size_of(self, request: FileRequest) -> int:
        local = self.library.any_by_id(request.id)
        return local.size if local else 0


class BatchReceiver:
    """Receives small files that are pushed. It bounds the memory of all its streams together."""

    def __init__(
        self,
        *,
        push_receiver: PushReceiver,
        replica_quota: ReplicaQuota,
        store: BatchStore,
        threads: Threads,
        check_ticket: CheckTicket,
        announce: Callable[[], Awaitable[None]],
    ) -> None:
        self.push_receiver = push_receiver
        self.replica_quota = replica_quota
        self._store = store
        self._threads = threads
        self._check_ticket = check_ticket
        self._announce = announce
        # Bytes of all streams that arrived and are not published yet.
        self.unpublished_bytes = 0

    @contextmanager
    def stream(self, opener: Grant) -> Iterator[BatchStream]:
        """Receive the files of one sender inside the `with` block. `opener` is the grant that opened the stream."""
        stream = BatchStream(self, opener)
        try:
            yield stream
        finally:
            stream.close()

    def check_offer(self, opener: Grant, offer: FileOffer) -> tuple[str, Need]:
        """Return the id of an offer, and what this peer needs to have the file.

        Raises:
            PeerError: if it is refused.
        """
        if offer.size > SMALL_FILE_MAX:
            raise BadUsage("the file has more than one piece: push its pieces")
        id_ = check_same_requester(opener, self._check_ticket(offer.ticket), Right.WRITE).id
        need = self.push_receiver.need(offer.name, id_)
        same = self.push_receiver.library.any_by_id(id_) if need is Need.NAME else None
        if same is not None and same.size != offer.size:
            raise BadUsage(_OTHER_SIZE, name=offer.name)
        return id_, need

    async def verify(self, version: Version, data: bytes | memoryview) -> SmallFile:
        """Return a received file.

        Raises:
            NotVerified: if the data is not that of the id.
        """
        manifest = await self._threads.run(self._threads.payload, batch_store.verify, version.id, data)
        return SmallFile(version.name, manifest, data, version.attributes)

    async def copy(self, files: Sequence[Version]) -> list[PeerError | None]:
        """Store names of content that is here, and announce them; as LocalCopier.copy_small."""
        errors = await self.push_receiver.copier.copy_small(files, replica=True)
        await self._announce()
        return errors

    async def publish(self, files: Sequence[SmallFile]) -> list[PeerError | None]:
        """Publish and announce files; return the error of each, or None.

        Raises:
            DiskFull, StorageFault: if the disk failed for all of them.
        """
        errors = await self._threads.run_uncancellable(self._threads.disk, self._store.publish, files, replica=True)
        await self._announce()
        return errors


class BatchStream:
    """The stream of one sender: the offers that it should send, and the files that wait for their batch."""

    def __init__(self, receiver: BatchReceiver, opener: Grant) -> None:
        self._receiver = receiver
        self._opener = opener
        # Number -> reservation of an accepted file, until it is published or refused.
        self._reservations: dict[int, ExitStack] = {}
        # Number -> accepted file that has not arrived.
        self._accepted: dict[int, Version] = {}
        self._arrived: list[tuple[int, SmallFile]] = []
        self._arrived_bytes = 0

    async def on_offers(self, offers: Sequence[FileOffer]) -> list[Verdict]:
        """Return a verdict for each offer.

        Raises:
            BadUsage: if too many files are accepted, or two have the same number.
        """
        if not offers:
            # The message has files only: the quota need not be queried.
            return []
        verdicts: list[Verdict] = []
        # Files whose content is here under another name.
        copies: list[tuple[int, Version]] = []
        faults = await self._receiver.push_receiver.target_faults([offer.name for offer in offers])
        async with self._receiver.replica_quota.lock_usage() as stored:
            for offer, fault in zip(offers, faults, strict=True):
                number = offer.number
                if len(self._reservations) >= _MAX_ACCEPTED:
                    raise BadUsage(f"more than {_MAX_ACCEPTED} files were offered and not sent")
                if number in self._reservations:
                    raise BadUsage("two files were offered under one number")
                try:
                    id_, need = self._receiver.check_offer(self._opener, offer)
                    if need is Need.NOTHING:
                        verdicts.append(Verdict(number, Decision.PUBLISHED))
                        continue
                    if fault is not None:
                        raise fault
                    with ExitStack() as reservation:
                        reservation.enter_context(self._receiver.replica_quota.reserve(offer.name, offer.size, stored))
                        self._reservations[number] = reservation.pop_all()
                    attributes = self._receiver.push_receiver.check_attributes(offer.attributes)
                    accepted = Version(offer.name, id_, offer.size, attributes)
                    if need is Need.NAME:
                        copies.append((number, accepted))
                    else:
                        verdicts.append(self._request(number, accepted))
                except PeerError as error:
                    verdicts.append(Verdict(number, Decision.REFUSED, error))
        await self._receiver.push_receiver.evict_parts()
        verdicts += await self._copy(copies)
        return verdicts

    async def on_blocks(self, blocks: Sequence[Block]) -> list[Verdict]:
        """Verify files that arrived, and publish the batch if it is full, or ends, or all streams use much memory.

        Returns:
            Verdicts for the files that are published or refused now.

        Raises:
            BadUsage: if a file was not requested.
            DiskFull, StorageFault: if the disk failed for all files of the batch.
        """
        verdicts: list[Verdict] = []
        for block in blocks:
            accepted = self._accepted.pop(block.number, None)
            if accepted is None:
                raise BadUsage("a file was sent that was not requested")
            try:
                if len(block.data) != accepted.size:
                    raise BadUsage(_OTHER_SIZE, name=accepted.name)
                self._arrived.append((block.number, await self._receiver.verify(accepted, block.data)))
                self._arrived_bytes += accepted.size + _FILE_OVERHEAD
                self._receiver.unpublished_bytes += accepted.size + _FILE_OVERHEAD
            except PeerError as error:
                verdicts.append(Verdict(block.number, Decision.REFUSED, error))
        full = len(self._arrived) >= BATCH_MAX_FILES or self._arrived_bytes >= BATCH_MAX_BYTES
        if full or not self._accepted or self._receiver.unpublished_bytes > MAX_UNPUBLISHED_BYTES:
            verdicts += await self._publish()
        for number, _, _ in verdicts:
            self._reservations.pop(number).close()
        return verdicts

    def close(self) -> None:
        """Release the reservations of files that did not arrive, and discard files that were not published."""
        self._release_memory()
        for reservation in self._reservations.values():
            reservation.close()
        self._reservations.clear()

    def _request(self, number: int, accepted: Version) -> Verdict:
        self._accepted[number] = accepted
        return Verdict(number, Decision.WANTED)

    async def _copy(self, copies: Sequence[tuple[int, Version]]) -> list[Verdict]:
        """Store the names of content that is here. Content that turns out not to be here is requested."""
        verdicts: list[Verdict] = []
        for batch in batched(copies, BATCH_MAX_FILES, BATCH_MAX_BYTES, lambda copy: copy[1].size):
            errors = await self._receiver.copy([accepted for _, accepted in batch])
            for (number, accepted), error in zip(batch, errors, strict=True):
                if isinstance(error, (FileChanged, NoSuchFile)):
                    verdicts.append(self._request(number, accepted))
                    continue
                self._reservations.pop(number).close()
                verdicts.append(Verdict(number, Decision.REFUSED if error else Decision.PUBLISHED, error))
        return verdicts

    async def _publish(self) -> list[Verdict]:
        arrived, self._arrived = self._arrived, []
        if not arrived:
            return []
        try:
            errors = await self._receiver.publish([file for _, file in arrived])
        finally:
            self._release_memory()
        return [
            Verdict(number, Decision.REFUSED if error else Decision.PUBLISHED, error)
            for (number, _), error in zip(arrived, errors, strict=True)
        ]

    def _release_memory(self) -> None:
        self._receiver.unpublished_bytes -= self._arrived_bytes
        self._arrived_bytes = 0


def check_same_requester(opener: Grant, grant: Grant, right: Right) -> Grant:
    """Return `grant` if it gives `right` to the requester of `opener`.

    Raises:
        NotAllowed: if it does not.
    """
    require_right(grant, right)
    if grant.requester != opener.requester:
        raise NotAllowed("the ticket is another peer's: ask the tracker for a new one")
    return grant
