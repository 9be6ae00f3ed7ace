"""Small files from, and pushes to, peers that do not play by the rules: every file is settled, and in time."""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.errors import NoHolders, NotVerified, PeerError
from daemon.library.library import Library
from daemon.library.manifest_cache import ManifestCache
from daemon.models import Holder, RemoteFile, Version
from daemon.peers.client import PeerClient
from daemon.peers.limits import RateLimiter
from daemon.protocol.frames import Block, encode
from daemon.runtime.executors import Threads
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
from swarm_files import manifest_of

CONTENTS = {f"file{n}.bin": os.urandom(1000 + n) for n in range(20)}
IDS = {Manifest.of_bytes(data).id: name for name, data in CONTENTS.items()}
MIB = 1 << 20
WANTED, PUBLISHED = pb.SmallFileVerdict.VERDICT_WANTED, pb.SmallFileVerdict.VERDICT_PUBLISHED

Way = Callable[[AsyncIterator[bytes], Any], Awaitable[None]]


@asynccontextmanager
async def answering(**ways: Way) -> AsyncIterator[str]:
    """A peer that answers each method in its own way; give its address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: Any = {name: grpc.stream_stream_rpc_method_handler(way) for name, way in ways.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("p2p.v1.Transfer", handlers),))
    url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield url
    finally:
        await server.stop(0)


# ------------------------------------------------------------------------------------------------------ fetched


async def asked(requests: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, str]]:
    """The numbers asked for; the tickets of these tests are the ids."""
    async for request in requests:
        for ask in pb.DownloadSmallFilesRequest.FromString(request).requests:
            yield ask.number, ask.ticket


async def honest(requests: AsyncIterator[bytes], context: Any) -> None:
    async for number, id_ in asked(requests):
        await context.write(encode([Block(number, 0, CONTENTS[IDS[id_]])]))


async def wrong_bytes(requests: AsyncIterator[bytes], context: Any) -> None:
    async for number, _ in asked(requests):
        await context.write(encode([Block(number, 0, b"wrong")]))


async def refusing(requests: AsyncIterator[bytes], context: Any) -> None:
    async for number, _ in asked(requests):
        fault = pb.SmallFileFault(number=number, code="no_such_file", message="not here")
        await context.write(encode((), pb.DownloadSmallFilesResponse(faults=[fault])))


async def babbling(requests: AsyncIterator[bytes], context: Any) -> None:
    """Faults without end, of what nobody asked for."""
    async for _ in asked(requests):
        break
    while True:
        fault = pb.SmallFileFault(number=10**6, code="no_such_file", message="not here")
        await context.write(encode((), pb.DownloadSmallFilesResponse(faults=[fault])))
        await asyncio.sleep(0.01)


async def twice(requests: AsyncIterator[bytes], context: Any) -> None:
    """Each file twice in one message."""
    async for number, id_ in asked(requests):
        await context.write(encode([Block(number, 0, CONTENTS[IDS[id_]])] * 2))


class Fetch:
    """An order of all files from holders that behave in these ways; a second of it lasts as long as is said."""

    def __init__(self, tmp_path: Path, haste: float = 1.0) -> None:
        self.outcomes: list[tuple[str, PeerError | None]] = []
        self.liars: list[str] = []
        self._tmp_path = tmp_path
        self._haste = haste

    async def run(self, *ways: Way) -> None:
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(answering(DownloadSmallFiles=way)) for way in ways]
            files = [
                RemoteFile(Version(name, id_, len(CONTENTS[name])), tuple(Holder(url, id_, True, "") for url in urls))
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
            fetcher = BatchDownloader(
                peers=peers,
                store=BatchStore(folder, TempFiles(folder), Library(catalog)),
                threads=threads,
                limiter=RateLimiter(None, loop.time),
                clock=lambda: self._haste * loop.time(),
                metrics=Metrics(),
            )
            async with asyncio.timeout(30):
                await fetcher.download(
                    files,
                    TransferRegistry(loop.time).register("download"),
                    lambda file, holders, fault: self.outcomes.append((file.version.name, fault)),
                    query,
                    lambda id_, url, why: self.liars.append(url),
                )

    @property
    def settled(self) -> Counter[str]:
        return Counter(name for name, _ in self.outcomes)


@pytest.mark.parametrize(
    ("way", "kind"), [(wrong_bytes, NotVerified), (refusing, NoHolders)], ids=["wrong_bytes", "refusing"]
)
def test_an_order_ends_when_nobody_sends_anything_good(tmp_path: Path, way: Way, kind: type[PeerError]) -> None:
    # A minute passes in a second and a half.
    fetch = Fetch(tmp_path, haste=40)
    asyncio.run(fetch.run(way, way))
    assert fetch.settled == Counter(CONTENTS.keys())
    assert {type(fault) for _, fault in fetch.outcomes} == {kind}


@pytest.mark.parametrize("way", [wrong_bytes, refusing, babbling, twice], ids=lambda way: way.__name__)
def test_every_file_comes_whatever_one_of_two_holders_does(tmp_path: Path, way: Way) -> None:
    fetch = Fetch(tmp_path)
    asyncio.run(fetch.run(way, honest))
    assert fetch.settled == Counter(CONTENTS.keys())
    assert [fault for _, fault in fetch.outcomes if fault] == []
    for name, content in CONTENTS.items():
        assert (tmp_path / "shared" / name).read_bytes() == content


# ------------------------------------------------------------------------------------------------------- pushed


def verdicts(*told: tuple[int, Any]) -> bytes:
    return pb.UploadSmallFilesResponse(
        verdicts=[pb.SmallFileVerdict(number=number, verdict=verdict) for number, verdict in told]
    ).SerializeToString()


async def wanting_again(requests: AsyncIterator[bytes], context: Any) -> None:
    """Want a file a thousand times, and have it published while it is still wanted."""
    offered = 0
    async for request in requests:
        for offer in pb.UploadSmallFilesRequest.FromString(request).offers:
            offered += 1
            told = [(offer.number, WANTED)] * 1000 + [(offer.number, PUBLISHED), (offer.number, WANTED)]
            await context.write(verdicts(*told))


async def wanting_for_ever(requests: AsyncIterator[bytes], context: Any) -> None:
    """Want the first file again and again."""
    await anext(requests)
    while True:
        await context.write(verdicts((0, WANTED)))
        await asyncio.sleep(0.05)


async def here_and_idle(requests: AsyncIterator[bytes], context: Any) -> None:
    """Say that it is there, and want nothing."""
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
        stamp = folder.fingerprint(name)
        assert stamp is not None
        library.register([(name, stamp, manifest_of(content))])
    yield ServedFiles(library, folder)
    catalog.close()
    folder.close()


LARGE = os.urandom(3 * MIB)


async def push_small(sharing: ServedFiles, way: Way, patience: float = 20.0) -> list[tuple[str, PeerError | None]]:
    settled: list[tuple[str, PeerError | None]] = []
    async with answering(UploadSmallFiles=way) as url, asyncio.timeout(20):
        peers, threads = PeerClient(None), Threads()
        limiter = RateLimiter(None, asyncio.get_running_loop().time)
        pusher = BatchPusher(peers=peers, served=sharing, threads=threads, limiter=limiter, progress_timeout=patience)
        offers = [Offer(Version(name, id_, len(CONTENTS[name])), "ticket") for id_, name in IDS.items()]
        try:
            await pusher.push(url, offers, lambda o, e: settled.append((o.version.name, e)), lambda size: None)
        finally:
            await peers.close()
            threads.shutdown()
    return settled


def test_a_receiver_that_wants_a_file_again_and_again_is_sent_it_once(tmp_path: Path) -> None:
    with shared(tmp_path) as sharing:
        settled = asyncio.run(push_small(sharing, wanting_again))
    assert Counter(settled) == Counter((name, None) for name in CONTENTS)


@pytest.mark.parametrize("way", [wanting_for_ever, here_and_idle], ids=lambda way: way.__name__)
def test_a_receiver_of_small_files_that_settles_nothing_is_given_up(tmp_path: Path, way: Way) -> None:
    with shared(tmp_path) as sharing, pytest.raises(NoHolders, match="accepted nothing"):
        asyncio.run(push_small(sharing, way, patience=1.0))


async def asking_again(requests: AsyncIterator[bytes], context: Any) -> None:
    """Ask for the first piece again and again."""
    await anext(requests)
    for _ in itertools.repeat(None):
        await context.write(pb.PushResponse(pieces=[0]).SerializeToString())
        await anext(requests)


async def push_large(sharing: ServedFiles, way: Way) -> None:
    async with answering(UploadFile=way) as url, asyncio.timeout(20):
        peers, threads = PeerClient(None), Threads()
        limiter = RateLimiter(None, asyncio.get_running_loop().time)
        pusher = Pusher(peers=peers, threads=threads, limiter=limiter, progress_timeout=1.0)
        try:
            source = sharing.open_complete(manifest_of(LARGE).id)
            await pusher.push(url, "ticket", "large.bin", source, lambda size: None)
        finally:
            await peers.close()
            threads.shutdown()


@pytest.mark.parametrize("way", [asking_again, here_and_idle], ids=lambda way: way.__name__)
def test_a_receiver_that_never_publishes_is_given_up(tmp_path: Path, way: Way) -> None:
    with shared(tmp_path) as sharing, pytest.raises(PeerError, match=r"again and again|nothing new"):
        asyncio.run(push_large(sharing, way))
