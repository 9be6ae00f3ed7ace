"""One file pushed to one peer: the holder's end over a call that we make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pserver_pb2 as pb
from node.errors import NoHolders
from node.ground.threads import Threads
from node.language import wire
from node.language.frames import Frame
from node.language.streams import News, Wish
from node.lines.limits import Bandwidth
from node.lines.peer_client import Call, Peers
from node.moving.piece_server import serve
from node.moving.sharing import WholeFile

# A receiver says how far it is every 2 s; one that says nothing for this long is given up.
SILENCE = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pusher:
    """Pushes files of several pieces."""

    peers: Peers
    threads: Threads
    bandwidth: Bandwidth

    async def push(self, url: str, ticket: str, name: str, source: WholeFile, on_sent: Callable[[int], None]) -> None:
        """Return when the peer has published the file, or had it before.

        Raises:
            PeerError: if it does not take it.
        """
        async with self.peers.call("UploadFile", url, ticket) as call:
            offer = pb.Offer(name=name, manifest=wire.manifest_to_wire(source.manifest))
            await call.write(Frame((), pb.UploadFileRequest(offer=offer)))
            end = _End(call)
            await serve(source, end, asker=url, disk=self.threads.payload, bandwidth=self.bandwidth, on_sent=on_sent)
            if not end.published:
                raise NoHolders(f"{url}: ended without publishing the file")


class _End:
    """HolderEnd of a push."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.published = False

    async def wishes(self) -> AsyncIterator[Wish]:
        """Yield what the receiver wants, until it has published."""
        replies = self._call.replies()
        while True:
            try:
                async with asyncio.timeout(SILENCE):
                    reply = await anext(replies, None)
            except TimeoutError:
                raise NoHolders(f"{self._call.url}: said nothing for {SILENCE:.0f} s") from None
            if reply is None:
                return
            if reply.published:
                self.published = True
                return
            yield wire.wish_from_wire(reply)

    async def send(self, news: News) -> None:
        """Send blocks; that we have all of it was said in the offer."""
        if news.blocks:
            await self._call.write(Frame(news.blocks, pb.UploadFileRequest()))
