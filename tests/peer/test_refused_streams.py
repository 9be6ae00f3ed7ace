"""A peer that refuses while the other side still writes: its code and its sentence arrive, whoever calls."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.errors import DiskFull, Interrupted, NotVerified, PeerError, QuotaExceeded, StorageFault, TargetExists
from daemon.models import Version
from daemon.peers.client import PeerClient
from daemon.peers.limits import RateLimiter
from daemon.protocol import status_codes
from daemon.protocol.frames import Block, Frame, encode
from daemon.protocol.stream_io import StreamEnded
from daemon.protocol.transfer_messages import Have, PieceRequest
from daemon.rpc.methods import DRAIN_MAX_BYTES
from daemon.runtime.concurrency import Threads
from daemon.storage.manifest import Manifest
from daemon.transfer.batch_push import BatchPusher, Offer
from daemon.transfer.push import Pusher
from eventually import eventually
from failing_disk import CountingDisk
from live_pserver import OPTIONS, LivePserver, live_pserver
from live_tracker import live_tracker
from push_client import offer
from scripted_peer import answering
from swarm_files import manifest_of
from system.certificates import Certificates
from ticket_signer import WRITE
from tracker.http_server import TlsFiles

MIB = 1 << 20
CONTENT = os.urandom(12 * MIB)
# More than half of the refused pushes lost their code in this many tries.
TRIES = 12


class FillingDisk(CountingDisk):
    """A disk that is full after `room` more writes."""

    room = 10**9

    def before_operation(self, number: int, operation: str) -> None:
        if operation == "pwrite":
            self.room -= 1
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class MemoryFile:
    """A file to push: `content`, with zeros in place of the pieces `corrupt`."""

    name = "memory"

    def __init__(self, content: bytes, corrupt: frozenset[int] = frozenset()) -> None:
        self.manifest = manifest_of(content)
        self._content = content
        self._corrupt = corrupt

    def have(self) -> Have:
        return Have(complete=True)

    def read(self, piece: int, offset: int, length: int) -> bytes:
        at = self.manifest.offset(piece) + offset
        return bytes(length) if piece in self._corrupt else self._content[at : at + length]

    def subscribe(self, listener: object) -> Any:
        return lambda: None

    def begin_send(self, piece: int, listener: object) -> None:
        """Do nothing."""

    end_send = begin_send

    def is_being_sent(self, piece: int, listener: object) -> bool:
        return False


@pytest.fixture(scope="module")
def disk() -> FillingDisk:
    disk = FillingDisk()
    disk.arm()
    return disk


@pytest.fixture(scope="module", params=["plain", "tls"])
def certificates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Certificates | None:
    return Certificates.make(tmp_path_factory.mktemp("certificates")) if request.param == "tls" else None


@pytest.fixture(scope="module")
def receiver(folder: Path, disk: FillingDisk, certificates: Certificates | None) -> Iterator[LivePserver]:
    """A peer, with TLS or without, that has a file mine.bin."""
    home, tls = folder / f"receiver{certificates is not None}", None
    keys: dict[str, Any] = {}
    if certificates is not None:
        files = certificates.certificate, certificates.key
        keys, tls = {"tls_cert": files[0], "tls_key": files[1], "tls_ca": certificates.authority}, TlsFiles(*files)
    with (
        live_tracker(home / "tracker", tls=tls) as tracker,
        live_pserver(home, tracker, "ben", disk=disk, quota=4 << 30, **keys) as live,
    ):
        live.share("mine.bin", b"mine")
        yield live


@asynccontextmanager
async def sender(certificates: Certificates | None) -> AsyncIterator[tuple[Pusher, BatchPusher]]:
    """What pushes to a peer. The batch pusher sends files of 100,000 zeros, whatever their id."""
    peers = PeerClient(certificates.channel_credentials() if certificates else None)
    threads, limiter = Threads(), RateLimiter(None, asyncio.get_running_loop().time)
    zeros: Any = ZeroFiles()
    try:
        yield (
            Pusher(peers=peers, threads=threads, limiter=limiter),
            BatchPusher(peers=peers, served_files=zeros, threads=threads, limiter=limiter),
        )
    finally:
        await peers.close()
        threads.shutdown()


def ignore(size: int) -> None:
    """Count no sent bytes."""


class ZeroFiles:
    """Serves 100,000 zeros for each id."""

    def read_small_files(self, requests: Any) -> Any:
        return [Block(number, 0, bytes(100_000)) for number, _ in requests], []


def ticket(receiver: LivePserver, id_: str, number: int) -> str:
    return receiver.ticket(id_, WRITE, requester=f"{number:032x}")[0][1]


def test_a_disk_that_fills_up_is_reported_to_the_sender(
    receiver: LivePserver, disk: FillingDisk, certificates: Certificates | None
) -> None:
    async def push_all() -> list[PeerError]:
        errors = []
        async with sender(certificates) as (pusher, _):
            for number in range(TRIES):
                file: Any = MemoryFile(os.urandom(16) + CONTENT[16:])
                disk.room = number % 10
                with pytest.raises(PeerError) as error:
                    await pusher.push(
                        receiver.address,
                        ticket(receiver, file.manifest.id, number),
                        Version(f"full{number}", file.manifest.id, len(CONTENT)),
                        file,
                        ignore,
                    )
                errors.append(error.value)
        return errors

    try:
        errors = asyncio.run(push_all())
    finally:
        disk.room = 10**9
    assert {type(error) for error in errors} == {DiskFull}
    assert all("disk full" in error.message for error in errors)


def test_a_corrupt_piece_is_reported_to_the_sender(receiver: LivePserver, certificates: Certificates | None) -> None:
    async def push_all() -> set[type[PeerError]]:
        kinds = set()
        async with sender(certificates) as (pusher, _):
            for number in range(TRIES):
                file: Any = MemoryFile(os.urandom(16) + CONTENT[16:], frozenset({number % 10}))
                with pytest.raises(PeerError) as error:
                    await pusher.push(
                        receiver.address,
                        ticket(receiver, file.manifest.id, number),
                        Version(f"corrupt{number}", file.manifest.id, len(CONTENT)),
                        file,
                        ignore,
                    )
                kinds.add(type(error.value))
        return kinds

    assert asyncio.run(push_all()) == {NotVerified}


def test_a_logout_during_a_push_of_small_files_is_reported_to_the_sender(
    receiver: LivePserver, certificates: Certificates | None
) -> None:
    ids = [f"{number:064x}" for number in range(60)]

    async def push_all() -> set[str]:
        messages = set()
        async with sender(certificates) as (_, pusher):
            for number in range(TRIES):
                sent = iter(range(100))

                def on_sent(size: int, sent: Iterator[int] = sent, close_at: int = number % 5) -> None:
                    if next(sent) == close_at:
                        closing = receiver.pserver.active_streams.close_all()
                        asyncio.run_coroutine_threadsafe(closing, receiver.loop)

                offers = [Offer(Version(f"{number}/{id_}", id_, 100_000), ticket(receiver, id_, number)) for id_ in ids]
                with pytest.raises(PeerError) as error:
                    await pusher.push(receiver.address, offers, lambda offer, error: None, on_sent)
                messages.add(error.value.message)
                assert isinstance(error.value, Interrupted)
        return messages

    assert asyncio.run(push_all()) == {f"{receiver.address}: this peer has logged out"}


async def write_on(receiver: LivePserver, certificates: Certificates | None, blocks: int, number: int) -> Any:
    """Push mine.bin with other content, by a program that sends all blocks unasked; return the status."""
    credentials = certificates.channel_credentials() if certificates else None
    manifest = Manifest(blocks * MIB, MIB, os.urandom(32 * blocks))

    async def messages() -> AsyncIterator[bytes]:
        yield offer("mine.bin", manifest)
        for piece in range(blocks):
            yield encode([Block(piece, 0, bytes(MIB))])

    async with (
        grpc.aio.secure_channel(receiver.address, credentials, OPTIONS)
        if credentials
        else grpc.aio.insecure_channel(receiver.address, OPTIONS)
    ) as channel:
        metadata = (("p2p-ticket", ticket(receiver, manifest.id, number)),)
        method: Any = channel.stream_stream("/p2p.v1.Transfer/UploadFile")
        call = method(messages(), metadata=metadata, timeout=30)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            async for _ in call:
                pass
        return error.value


def test_a_program_that_sends_unasked_gets_the_code_too(
    receiver: LivePserver, certificates: Certificates | None
) -> None:
    async def push_all() -> set[Any]:
        found = [await write_on(receiver, certificates, 8, number) for number in range(TRIES)]
        return {(status.code(), dict(status.trailing_metadata())["p2p-code"]) for status in found}

    assert asyncio.run(push_all()) == {(grpc.StatusCode.ALREADY_EXISTS, "target_exists")}


def test_a_refused_program_that_never_stops_sending_is_read_no_further_than_the_limit(
    receiver: LivePserver, certificates: Certificates | None
) -> None:
    sent = 0

    async def push() -> None:
        nonlocal sent
        peers = PeerClient(certificates.channel_credentials() if certificates else None)
        manifest = Manifest(MIB, MIB, os.urandom(32))
        async with (
            asyncio.timeout(60),
            peers.open_call("UploadFile", receiver.address, ticket(receiver, manifest.id, 0)) as call,
        ):
            await call.write(Frame((), pb.PushRequest.FromString(offer("mine.bin", manifest))))
            with suppress(StreamEnded):
                while True:
                    await call.write(Frame((Block(0, 0, bytes(MIB)),), pb.PushRequest()))
                    sent += MIB
            with pytest.raises(TargetExists, match="another file of that name"):
                await anext(call.responses())
        await peers.close()

    asyncio.run(push())
    # What is read, and what gRPC buffers at both ends.
    assert sent < 4 * DRAIN_MAX_BYTES
    eventually(lambda: receiver.pserver.stream_slots.in_use == 0)


def test_verdicts_that_a_receiver_sent_before_it_refused_count() -> None:
    async def refusing(requests: Any, context: Any) -> None:
        """Request all files, report the first as published, and refuse the others while they are sent."""
        await anext(requests)
        wanted = [
            pb.SmallFileVerdict(number=number, verdict=pb.SmallFileVerdict.VERDICT_WANTED) for number in range(99)
        ]
        await context.write(pb.UploadSmallFilesResponse(verdicts=wanted).SerializeToString())
        await anext(requests)
        published = pb.SmallFileVerdict(number=0, verdict=pb.SmallFileVerdict.VERDICT_PUBLISHED)
        await context.write(pb.UploadSmallFilesResponse(verdicts=[published]).SerializeToString())
        await status_codes.abort(context, QuotaExceeded("nothing fits"))

    async def push_all() -> None:
        async with answering(UploadSmallFiles=refusing) as address, sender(None) as (_, pusher):
            for _ in range(TRIES):
                results: list[str] = []

                def on_result(offer: Offer, error: PeerError | None, results: list[str] = results) -> None:
                    results.append(offer.version.name)

                offers = [Offer(Version(f"{number}", f"{number:064x}", 100_000), "ticket") for number in range(99)]
                with pytest.raises(QuotaExceeded, match="nothing fits"):
                    await pusher.push(address, offers, on_result, ignore)
                assert results == ["0"]

    asyncio.run(push_all())


def test_a_holder_that_ends_while_pieces_are_requested_says_why() -> None:
    async def failing(requests: Any, context: Any) -> None:
        await context.write(encode((), pb.PieceResponse(have=pb.Have(complete=True))))
        await anext(requests)
        await status_codes.abort(context, StorageFault("the disk failed"))

    async def download() -> None:
        peers = PeerClient(None)
        async with answering(DownloadFile=failing) as address:
            for _ in range(5 * TRIES):
                stream = peers.open_download(address, "ticket", 1000)
                responses = stream.responses()
                await anext(responses)
                for piece in range(1000):
                    stream.request(PieceRequest(pieces=(piece,), block_length=1 << 16))
                    if piece % 10 == 0:
                        await asyncio.sleep(0)
                with pytest.raises(StorageFault, match="the disk failed"):
                    await anext(responses)
        await peers.close()

    asyncio.run(download())


@pytest.mark.parametrize("method", ["UploadFileRequest", "DownloadFileRequest", "RemoveFiles"])
def test_a_command_that_is_refused_while_it_is_sent_gets_the_code(
    receiver: LivePserver, certificates: Certificates | None, method: str
) -> None:
    async def messages() -> AsyncIterator[bytes]:
        # The first message is malformed.
        yield b"\xff"
        for _ in range(200):
            yield pb.RemoveCommand(names=["x" * 60_000], more=True).SerializeToString()

    async def call_all() -> set[Any]:
        found = set()
        async with (
            grpc.aio.secure_channel(receiver.address, certificates.channel_credentials(), OPTIONS)
            if certificates
            else grpc.aio.insecure_channel(receiver.address, OPTIONS)
        ) as channel:
            for _ in range(TRIES):
                open_call: Any = channel.stream_stream(f"/p2p.v1.Control/{method}")
                call = open_call(messages(), metadata=receiver.cookie, timeout=30)
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    async for _ in call:
                        pass
                found.add((error.value.code(), dict(error.value.trailing_metadata() or ()).get("p2p-code")))
        return found

    assert asyncio.run(call_all()) == {(grpc.StatusCode.INVALID_ARGUMENT, "bad_usage")}
