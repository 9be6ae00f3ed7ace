"""A holder that sends corrupt data is reported with the ticket that proves that the tracker offered it."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import pserver_pb2 as pb
from common.status_messages import Load
from daemon.models import Holder, IndexEntry
from daemon.protocol.frames import Block, encode
from daemon.storage.manifest import Manifest
from eventually import eventually
from live_pserver import live_pserver
from live_tracker import LiveTracker
from scripted_peer import Behaviour, answering
from scripted_tracker import scripted_tracker
from swarm_files import manifest_of
from tracker_requests import logged_in, tracker_client

SMALL, LARGE = os.urandom(1000), os.urandom(3 << 20)


def sending(manifest: Manifest) -> Behaviour:
    async def get_manifest(_: AsyncIterator[bytes], context: Any) -> None:
        message = pb.Manifest(size=manifest.size, piece_length=manifest.piece_length, digests=manifest.digests)
        await context.write(message.SerializeToString())

    return get_manifest


async def wrong_pieces(requests: AsyncIterator[bytes], context: Any) -> None:
    await context.write(encode((), pb.PieceResponse(have=pb.Have(complete=True))))
    async for request in requests:
        for piece in pb.PieceRequest.FromString(request).pieces:
            await context.write(encode([Block(piece, 0, bytes(1 << 20))], pb.PieceResponse()))


async def wrong_files(requests: AsyncIterator[bytes], context: Any) -> None:
    async for request in requests:
        for each in pb.DownloadSmallFilesRequest.FromString(request).requests:
            await context.write(encode([Block(each.number, 0, b"wrong")]))


@pytest.mark.parametrize("corrupt", ["manifest", "piece", "small file"])
def test_the_tracker_accepts_the_report_and_has_the_holder_hash_the_file(
    tmp_path: Path, tracker: LiveTracker, corrupt: str
) -> None:
    manifest = manifest_of(SMALL if corrupt == "small file" else LARGE)
    other = Manifest(manifest.size, manifest.piece_length, os.urandom(len(manifest.digests)))

    async def story() -> None:
        behaviours = {
            "GetManifest": sending(other if corrupt == "manifest" else manifest),
            "DownloadFile": wrong_pieces,
            "DownloadSmallFiles": wrong_files,
        }
        async with answering(**behaviours) as address:
            await asyncio.to_thread(download_from, address)

    def download_from(address: str) -> None:
        evil = logged_in(tracker.url, "evil", address)
        name = f"{corrupt}.bin"
        asyncio.run(evil.put_index("1", [IndexEntry(name, manifest.id, manifest.size, True)]))
        with live_pserver(tmp_path / "victim", tracker, "victim") as victim, victim.control() as control:
            command = pb.DownloadCommand(names=[name])
            call = control.DownloadFileRequest(iter([command]), metadata=victim.cookie, timeout=60)

            def rechecks() -> tuple[str, ...]:
                answer = asyncio.run(evil.ping(tracker.parts.tracker.epoch, "1", Load()))
                return answer.recheck

            assert eventually(rechecks, 20) == (manifest.id,)
            call.cancel()

    asyncio.run(story())


def test_a_tracker_of_the_release_before_gets_no_ticket() -> None:
    """It would refuse the field, and the report with it."""
    with scripted_tracker() as old:
        client = tracker_client(old.url)

        async def story() -> None:
            client.token = (await client.login("ana", "pw", "127.0.0.1:9")).token
            client.report_corrupt("a" * 64, Holder("127.0.0.1:10", "a-ticket", True, ""), "piece 3 did not verify")
            await asyncio.to_thread(eventually, lambda: "/report" in [path for _, path, _ in old.requests])

        asyncio.run(story())
        (body,) = (body for _, path, body in old.requests if path == "/report")
        assert body == {"id": "a" * 64, "url": "127.0.0.1:10", "reason": "piece 3 did not verify"}
