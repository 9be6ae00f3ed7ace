"""A gRPC operation is freed when its call ends, even if the task that awaited it was cancelled."""

import asyncio
import ctypes
import gc
import itertools
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.peers.call import Call
from daemon.peers.client import PeerClient
from daemon.protocol import stream_io
from daemon.protocol.frames import Frame
from daemon.protocol.transfer_messages import PieceRequest
from daemon.rpc.methods import wrap_method
from daemon.rpc.transfer_service import PushEndpoint


class Mallinfo(ctypes.Structure):
    """The heap statistics of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


LIBC = ctypes.CDLL(None)
pytestmark = pytest.mark.skipif(not hasattr(LIBC, "mallinfo2"), reason="malloc has no mallinfo2")


def in_use() -> int:
    """Return the bytes that malloc has allocated: those of gRPC are included, small Python objects are not."""
    gc.collect()
    LIBC.mallinfo2.restype = Mallinfo
    heap = LIBC.mallinfo2()
    return int(heap.uordblks) + int(heap.hblkhd)


async def left_by_each(work: Callable[[], Awaitable[None]], times: int) -> float:
    """Return the bytes that one call of `work` leaks: the median of five measurements of `times` calls each."""
    measured = []
    for _ in range(6):
        for _ in range(times):
            await work()
        measured.append(in_use())
    return statistics.median(after - before for before, after in itertools.pairwise(measured)) / times


@asynccontextmanager
async def holder(
    answer: Callable[[Any, Any], Awaitable[None]],
    write: Callable[[Any], bytes] | None = None,
    name: str = "DownloadFile",
) -> AsyncIterator[Callable[[], Any]]:
    """A server whose method is `answer`; yields a function that opens a stream to it."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    method: Any = grpc.stream_stream_rpc_method_handler(answer, None, write)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("p2p.v1.Transfer", {name: method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    peers = PeerClient(None)
    try:
        yield lambda: peers.open_call(name, f"127.0.0.1:{port}", "ticket")
    finally:
        await peers.close()
        await server.stop(0)


async def cancel_soon(waiting: Awaitable[Any]) -> None:
    """Await for 5 ms, then cancel."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.005):
            await waiting


def test_the_last_write_of_a_receiver_waits_for_a_request_that_is_being_written() -> None:
    # The write of the request may be at any point by then, so each delay is tried several times.
    moments = iter([*range(1, 6)] * 10)

    async def answer(requests: Any, context: Any) -> None:
        endpoint = PushEndpoint(requests, context)
        async with endpoint.sending_requests():
            endpoint.request(PieceRequest(pieces=(7,)))
            for _ in range(next(moments)):
                await asyncio.sleep(0)
        await context.write(pb.PushResponse(published=True))

    async def run() -> None:
        served = wrap_method(answer, streams=True)
        async with holder(served, pb.PushResponse.SerializeToString, "UploadFile") as dial:
            for _ in range(50):
                async with dial() as call:
                    replies = [(list(reply.pieces), reply.published) async for reply in call.responses()]
                assert replies == [([7], False), ([], True)]

    asyncio.run(run())


async def silent(_requests: Any, context: Any) -> None:
    """A holder that sends one message, and then neither reads nor writes."""
    await stream_io.write(context, b"")
    await asyncio.Event().wait()


async def attentive(requests: Any, context: Any) -> None:
    """A holder that reads all requests."""
    await stream_io.write(context, b"")
    async for _ in stream_io.MessageReader(requests).messages():
        pass


def test_a_cancelled_read_leaks_nothing_at_either_end() -> None:
    async def run() -> float:
        async with holder(attentive) as dial:

            async def read() -> None:
                async with dial() as call:
                    replies = call.responses()
                    await anext(replies)
                    await cancel_soon(anext(replies))

            return await left_by_each(read, 150)

    # Without stream_io a cancelled read leaks 98 bytes at each end.
    assert asyncio.run(run()) < 80


def test_a_write_to_a_silent_server_ends_with_its_call() -> None:
    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        listening = await asyncio.start_server(never, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        peers = PeerClient(None)
        async with peers.open_call("UploadFile", f"127.0.0.1:{port}", "ticket") as call:
            await cancel_soon(call.write(Frame((), pb.PushRequest())))
        async with asyncio.timeout(10):
            while stream_io.unawaited_operations():
                await asyncio.sleep(0.01)
        await peers.close()
        listening.close()

    asyncio.run(run())


def test_a_cancelled_write_ends_with_its_call() -> None:
    long = pb.PieceRequest(pieces=range(300_000))

    async def write_on(call: Call) -> None:
        while True:
            await call.write(long)

    async def run() -> None:
        async with holder(silent) as dial:
            async with dial() as call:
                await anext(call.responses())
                await cancel_soon(write_on(call))
                assert stream_io.unawaited_operations() == 1
            async with asyncio.timeout(10):
                while stream_io.unawaited_operations():
                    await asyncio.sleep(0.01)

    asyncio.run(run())
