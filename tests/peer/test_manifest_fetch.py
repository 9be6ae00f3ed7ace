"""Manifests come from any holder whose answer matches the id; silent and hostile holders cost little time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.errors import NotVerified
from daemon.models import Holder, RemoteFile, Version
from daemon.peers.client import PeerClient
from daemon.runtime.concurrency import Threads
from daemon.storage.manifest import Manifest
from daemon.storage.part_file import PartStore
from daemon.storage.shared_folder import SharedFolder
from daemon.tracker_client.client import TrackerClient
from daemon.transfer.file_download import ManifestFetcher

GOOD = Manifest(5, 1 << 20, os.urandom(32))
Answer = Callable[[], Any]


async def good() -> pb.Manifest:
    return pb.Manifest(size=GOOD.size, piece_length=GOOD.piece_length, digests=GOOD.digests)


async def corrupt() -> pb.Manifest:
    return pb.Manifest(size=GOOD.size, piece_length=GOOD.piece_length, digests=bytes(32))


async def silence() -> pb.Manifest:
    await asyncio.Event().wait()
    raise AssertionError("it is never set")


@asynccontextmanager
async def holder(answer: Answer) -> AsyncIterator[Holder]:
    """A peer that answers GetManifest with `answer`."""

    async def get_manifest(request: bytes, context: Any) -> bytes:
        message: pb.Manifest = await answer()
        return message.SerializeToString()

    server = grpc.aio.server()
    method: Any = grpc.unary_unary_rpc_method_handler(get_manifest)
    handler = grpc.method_handlers_generic_handler("p2p.v1.Transfer", {"GetManifest": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Holder(f"127.0.0.1:{port}", "a-ticket", complete=True, reason="")
    finally:
        await server.stop(0)


async def found(tmp_path: Path, answers: list[Answer], clock: Callable[[], float] = time.monotonic) -> Manifest:
    threads = Threads()
    async with AsyncExitStack() as stack:
        holders = tuple([await stack.enter_async_context(holder(answer)) for answer in answers])
        peers = PeerClient(None)
        stack.push_async_callback(peers.close)
        folder = SharedFolder(tmp_path)
        stack.callback(folder.close)
        manifests = ManifestFetcher(
            # A tracker that never answers: the known holders must suffice.
            tracker=TrackerClient("http://127.0.0.1:1", threads.tracker),
            part_store=PartStore(folder),
            peers=peers,
            threads=threads,
            clock=clock,
        )
        item = RemoteFile(Version("a.txt", GOOD.id, GOOD.size), holders)
        async with asyncio.timeout(20):
            return await manifests.fetch(item, lambda: None)


def test_a_silent_holder_does_not_delay_the_manifest(tmp_path: Path) -> None:
    assert asyncio.run(found(tmp_path, [silence, good])) == GOOD


def test_a_corrupt_manifest_is_ignored_if_another_holder_has_the_right_one(tmp_path: Path) -> None:
    assert asyncio.run(found(tmp_path, [corrupt, good])) == GOOD


def test_corrupt_manifests_from_all_holders_end_with_not_verified(tmp_path: Path) -> None:
    # The second time is after every timeout.
    moments = iter([0.0, 1e6])
    with pytest.raises(NotVerified):
        asyncio.run(found(tmp_path, [corrupt, corrupt], clock=lambda: next(moments)))
