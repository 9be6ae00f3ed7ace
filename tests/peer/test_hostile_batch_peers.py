"""Downloads of small files from hostile holders, and pushes to hostile receivers: each file gets a result in time."""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from daemon.errors import NoHolders, NotVerified, PeerError
from daemon.library.library import HashedFile, Library
from daemon.library.manifest_cache import ManifestCache
from daemon.models import Holder, RemoteFile, Version
from daemon.peers.client import PeerClient
from daemon.peers.limits import RateLimiter
from daemon.protocol.frames import Block, encode
from daemon.runtime.concurrency import Threads
from daemon.runtime.metrics import Metrics
from daemon.runtime.transfers import TransferRegistry
from daemon.storage.manifest import Manifest
from daemon.storage.shared_folder import SharedFolder
from daemon.storage.temp_files import TempFiles
from daemon.transfer.batch_download import BatchDownloader
from daemon.transfer.batch_push import BatchPusher, Offer
from daemon.transfer.batch_store import BatchStore
from daemon.transfer.push import Pusher
from daemon.transfer.served_files import ServedFiles
from scripted_peer import Behaviour, answering
from swarm_files import manifest_of

CONTENTS = {f"file{n}.bin": os.urandom(1000 + n) for n in range(20)}
IDS = {Manifest.of_bytes(data).id: name for name, data in CONTENTS.items()}
MIB = 1 << 20
WANTED, PUBLISHED = pb.SmallFileVerdict.VERDICT_WANTED, pb.SmallFileVerdict.VERDICT_PUBLISHED


# --- downloads


async def requested(requests: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, str]]:
    """The requested numbers; the tickets of these tests are ids."""
    async for request in requests:
        for ask in pb.DownloadSmallFilesRequest.FromString(request).requests:
            yield ask.number, ask.ticket


async def honest(requests: AsyncIterator[bytes], context: Any) -> None:
    async for number, id_ in requested(requests):
        await context.write(encode([Block(number, 0, CONTENTS[IDS[id_]])]))


async def wrong_bytes(requests: AsyncIterator[bytes], context: Any) -> None:
    async for number, _ in requested(requests):
        await context.write(encode([Block(number, 0, b"wrong")]))


async def refusing(requests: AsyncIterator[bytes], context: Any) -> None:
    async for number, _ in requested(requests):
        fault = pb.SmallFileFault(number=number, code="no_such_file", message="not here")
        await context.write(encode((), pb.DownloadSmallFilesResponse(faults=[fault])))


async def endless_faults(requests: AsyncIterator[bytes], context: Any) -> None:
    """Send faults for ever, for a number that was not requested."""
    async for _ in requested(requests):
        break
    while True:
        fault = pb.SmallFileFault(number=10**6, code="no_such_file", message="not here")
        await context.write(encode((), pb.DownloadSmallFilesResponse(faults=[fault])))
        await asyncio.sleep(0.01)


async def twice(requests: AsyncIterator[bytes], context: Any) -> None:
    """Send each file twice in one message."""
    async for number, id_ in requested(requests):
        await context.write(encode([Block(number, 0, CONTENTS[IDS[id_]])] * 2))


class Download:
    """A download of all files. Its clock is `haste` times faster than real time."""

    def __init__(self, tmp_path: Path, haste: float = 1.0) -> None:
        self.results: list[tuple[str, PeerError | None]] = []
        self.corrupt: list[str] = []
        self._tmp_path = tmp_path
        self._haste = haste

    async def run(self, *behaviours: Behaviour) -> None:
        async with AsyncExitStack() as stack:
            addresses = [
                await stack.enter_async_context(answering(DownloadSmallFiles=behaviour)) for behaviour in behaviours
            ]
            files = [
                RemoteFile(
                    Version(name, id_, len(CONTENTS[name])),
                    tuple(Holder(address, id_, True, "") for address in addresses),
                )
                for id_, name in IDS.items()
            ]

            async def query(ids: Sequence[str]) -> list[RemoteFile]:
                return [file for file in files if file.version.id in ids]

            folder = SharedFolder(self._tmp_path / "shared")
            stack.callback(folder.close)
            catalog = ManifestCache(self._tmp_path / "catalog.db", 0.0)
            stack.callback(catalog.close)
            threads = Threads()
            stack.callback(threads.shutdown)
            peers = PeerClient(None)
            stack.push_async_callback(peers.close)
            loop = asyncio.get_running_loop()
            downloader = BatchDownloader(
                peers=peers,
                store=BatchStore(folder, TempFiles(folder), Library(catalog)),
                threads=threads,
                limiter=RateLimiter(None, loop.time),
                clock=lambda: self._haste * loop.time(),
                metrics=Metrics(),
            )
            async with asyncio.timeout(30):
                await downloader.download(
                    files,
                    TransferRegistry(loop.time).register("download"),
                    lambda file, holders, fault: self.results.append((file.version.name, fault)),
                    query,
                    lambda id_, holder, why: self.corrupt.append(holder.address),
                )

    @property
    def finished(self) -> Counter[str]:
        return Counter(name for name, _ in self.results)


@pytest.mark.parametrize(
    ("behaviour", "kind"), [(wrong_bytes, NotVerified), (refusing, NoHolders)], ids=["wrong_bytes", "refusing"]
)
def test_a_download_without_any_verified_file_fails_in_time(
    tmp_path: Path, behaviour: Behaviour, kind: type[PeerError]
) -> None:
    # A minute passes in a second and a half.
    download = Download(tmp_path, haste=40)
    asyncio.run(download.run(behaviour, behaviour))
    assert download.finished == Counter(CONTENTS.keys())
    assert {type(fault) for _, fault in download.results} == {kind}


@pytest.mark.parametrize(
    "behaviour", [wrong_bytes, refusing, endless_faults, twice], ids=lambda behaviour: behaviour.__name__
)
def test_every_file_arrives_despite_one_hostile_holder_of_two(tmp_path: Path, behaviour: Behaviour) -> None:
    download = Download(tmp_path)
    asyncio.run(download.run(behaviour, honest))
    assert download.finished == Counter(CONTENTS.keys())
    assert [fault for _, fault in download.results if fault] == []
    for name, content in CONTENTS.items():
        assert (tmp_path / "shared" / name).read_bytes() == content


# --- pushes


def verdicts(*decisions: tuple[int, Any]) -> bytes:
    return pb.UploadSmallFilesResponse(
        verdicts=[pb.SmallFileVerdict(number=number, verdict=verdict) for number, verdict in decisions]
    ).SerializeToString()


async def requesting_again(requests: AsyncIterator[bytes], context: Any) -> None:
    """Request a file a thousand times, report it as published, and request it again."""
    offered = 0
    async for request in requests:
        for offer in pb.UploadSmallFilesRequest.FromString(request).offers:
            offered += 1
            decisions = [(offer.number, WANTED)] * 1000 + [(offer.number, PUBLISHED), (offer.number, WANTED)]
            await context.write(verdicts(*decisions))


async def requesting_for_ever(requests: AsyncIterator[bytes], context: Any) -> None:
    """Request the first file for ever."""
    await anext(requests)
    while True:
        await context.write(verdicts((0, WANTED)))
        await asyncio.sleep(0.05)


async def idle(requests: AsyncIterator[bytes], context: Any) -> None:
    """Send empty messages, and request nothing."""
    while True:
        await context.write(b"")
        await asyncio.sleep(0.05)


@contextmanager
def shared(tmp_path: Path) -> Iterator[ServedFiles]:
    folder = SharedFolder(tmp_path / "shared")
    catalog = ManifestCache(tmp_path / "catalog.db", 0.0)
    library = Library(catalog)
    for name, content in {**CONTENTS, "large.bin": LARGE}.items():
        (folder.root / name).write_bytes(content)
        fingerprint = folder.fingerprint(name)
        assert fingerprint is not None
        library.register([HashedFile(name, fingerprint, manifest_of(content))])
    yield ServedFiles(library, folder)
    catalog.close()
    folder.close()


LARGE = os.urandom(3 * MIB)


async def push_small(
    served: ServedFiles, behaviour: Behaviour, timeout: float = 20.0
) -> list[tuple[str, PeerError | None]]:
    results: list[tuple[str, PeerError | None]] = []
    async with answering(UploadSmallFiles=behaviour) as address, asyncio.timeout(20):
        peers, threads = PeerClient(None), Threads()
        limiter = RateLimiter(None, asyncio.get_running_loop().time)
        pusher = BatchPusher(
            peers=peers, served_files=served, threads=threads, limiter=limiter, progress_timeout=timeout
        )
        offers = [Offer(Version(name, id_, len(CONTENTS[name])), "ticket") for id_, name in IDS.items()]
        try:
            await pusher.push(address, offers, lambda o, e: results.append((o.version.name, e)), lambda size: None)
        finally:
            await peers.close()
            threads.shutdown()
    return results


def test_a_file_requested_many_times_is_sent_once(tmp_path: Path) -> None:
    with shared(tmp_path) as served:
        results = asyncio.run(push_small(served, requesting_again))
    assert Counter(results) == Counter((name, None) for name in CONTENTS)


@pytest.mark.parametrize("behaviour", [requesting_for_ever, idle], ids=lambda behaviour: behaviour.__name__)
def test_a_push_to_a_receiver_without_progress_fails(tmp_path: Path, behaviour: Behaviour) -> None:
    with shared(tmp_path) as served, pytest.raises(NoHolders, match="accepted nothing"):
        asyncio.run(push_small(served, behaviour, timeout=1.0))


async def requesting_piece_again(requests: AsyncIterator[bytes], context: Any) -> None:
    """Request the first piece for ever."""
    await anext(requests)
    for _ in itertools.repeat(None):
        await context.write(pb.PushResponse(pieces=[0]).SerializeToString())
        await anext(requests)


async def push_large(served: ServedFiles, behaviour: Behaviour) -> None:
    async with answering(UploadFile=behaviour) as address, asyncio.timeout(20):
        peers, threads = PeerClient(None), Threads()
        limiter = RateLimiter(None, asyncio.get_running_loop().time)
        pusher = Pusher(peers=peers, threads=threads, limiter=limiter, progress_timeout=1.0)
        try:
            file = served.open_complete(manifest_of(LARGE).id)
            version = Version("large.bin", file.manifest.id, file.manifest.size)
            await pusher.push(address, "ticket", version, file, lambda size: None)
        finally:
            await peers.close()
            threads.shutdown()


@pytest.mark.parametrize("behaviour", [requesting_piece_again, idle], ids=lambda behaviour: behaviour.__name__)
def test_a_push_to_a_receiver_that_never_publishes_fails(tmp_path: Path, behaviour: Behaviour) -> None:
    with shared(tmp_path) as served, pytest.raises(PeerError, match=r"again and again|nothing new"):
        asyncio.run(push_large(served, behaviour))
