"""An idle process returns free memory to the system, and a closed stream frees its memory."""

import ctypes
import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import grpc.aio
import pytest

import pserver_pb2 as pb
from daemon.peers.client import PeerClient
from eventually import eventually
from live_pserver import LivePserver
from programs import TOP

# Buffers of 38 MiB come and go between small ones that stay, so malloc by itself keeps all memory.
CHILD = """
import asyncio, os
from daemon.runtime import malloc

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

async def main():
    malloc.tune()
    trimming = asyncio.create_task(malloc.trim_memory_when_idle(0.2))
    before = resident()
    buffers, stay = [], []
    for _ in range(300):
        buffers.append(b"x" * (128 << 10))
        stay.append(bytes(1000))
    held = resident()
    buffers.clear()
    freed = resident()
    print(held - before >= 35, held - freed <= 3, flush=True)
    while held - resident() < 30:
        await asyncio.sleep(0.01)
    print("trimmed", flush=True)
    trimming.cancel()

asyncio.run(main())
"""


# A collection of as many objects takes about the default of `long_collection`, more or less.
GROWING_CHILD = """
import asyncio, gc
from daemon.runtime import malloc

async def main():
    trimming = asyncio.create_task(malloc.trim_memory_when_idle(0.2, long_collection=0.001))
    await asyncio.sleep(0)
    at_start = gc.get_freeze_count()
    files = [[] for _ in range(2_000_000)]
    while gc.get_freeze_count() < at_start + len(files):
        await asyncio.sleep(0.01)
    print("frozen", flush=True)
    trimming.cancel()

asyncio.run(main())
"""


def test_millions_of_objects_are_collected_once_and_then_skipped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWING_CHILD],
        env={"PYTHONPATH": str(TOP / "peer")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("frozen\n", "")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="malloc is not glibc's")
def test_an_idle_process_returns_free_memory_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        env={"PYTHONPATH": str(TOP / "peer")},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.stdout.splitlines(), done.stderr) == (["True True", "trimmed"], "")


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_stream_that_is_cancelled_early_frees_its_last_message(ana: LivePserver) -> None:
    id_ = ana.share("small.bin", b"small").id
    [(_, ticket)] = ana.ticket(id_)
    left: list[weakref.ref[object]] = []

    async def ask() -> None:
        peers = PeerClient(None)
        async with peers.open_call("DownloadSmallFiles", ana.address, ticket) as call:
            left.extend(weakref.ref(each) for each in gc.get_objects() if isinstance(each, grpc.aio.StreamStreamCall))
            await call.write(pb.DownloadSmallFilesRequest(requests=[pb.SmallFileRequest(number=1, ticket=ticket)]))
            assert [block.data for block in (await anext(call.responses())).blocks] == [b"small"]
        await peers.close()

    with no_search_for_cycles():
        ana.call(ask())
        assert left
        eventually(lambda: all(stream() is None for stream in left))
