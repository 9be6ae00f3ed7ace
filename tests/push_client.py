"""Peers that push files over real streams, message by message."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import pserver_pb2 as pb
from daemon.storage.manifest import Manifest
from live_pserver import LivePserver, code_of
from ticket_signer import WRITE


def offer(name: str, manifest: Manifest) -> bytes:
    """Return the first message of a push."""
    message = pb.Manifest(size=manifest.size, piece_length=manifest.piece_length, digests=manifest.digests)
    return pb.PushRequest(offer=pb.Offer(name=name, manifest=message)).SerializeToString()


class Push:
    """One push, driven by its test."""

    def __init__(self, receiver: LivePserver, id_: str, stack: contextlib.ExitStack, requester: str = "a" * 32) -> None:
        self._messages: list[bytes] = []
        self._more = threading.Semaphore(0)
        channel = stack.enter_context(receiver.channel())
        self.call: Any = channel.stream_stream("/p2p.v1.Transfer/UploadFile")(
            self._requests(), metadata=receiver.ticket(id_, WRITE, requester=requester), timeout=30
        )
        stack.callback(self._more.release)
        stack.callback(self.call.cancel)

    def _requests(self) -> Iterator[bytes]:
        while self._more.acquire() and self._messages:
            yield self._messages.pop(0)

    def send(self, message: bytes) -> None:
        self._messages.append(message)
        self._more.release()

    def receive(self) -> Any:
        """Return the next response that requests pieces or reports the publication."""
        for message in self.call:
            response = pb.PushResponse.FromString(message)
            if response.pieces or response.published:
                return response
        raise AssertionError("the stream was closed")

    def error(self) -> tuple[grpc.StatusCode, str]:
        """Return the status and the code with which the receiver aborts the push."""
        with pytest.raises(grpc.RpcError) as error:
            for _ in self.call:
                pass
        return code_of(error.value)


def parts(peer: LivePserver) -> list[Path]:
    """Return the part files of a peer."""
    return [path for path in peer.shared.rglob("*.part") if path.is_file()]


def push_small(peer: LivePserver, *messages: bytes, requester: str = "a" * 32) -> list[Any]:
    """Push small files; return the verdicts.

    Raises:
        grpc.RpcError: if the receiver aborts the stream.
    """
    with peer.channel() as channel:
        call = channel.stream_stream("/p2p.v1.Transfer/UploadSmallFiles")(
            iter(messages), metadata=peer.ticket("ab" * 32, WRITE, requester=requester), timeout=20
        )
        return [verdict for message in call for verdict in pb.UploadSmallFilesResponse.FromString(message).verdicts]


def small_offers(peer: LivePserver, *files: tuple[int, str, bytes], requester: str = "a" * 32) -> bytes:
    """Return the message that offers files of (number, name, content)."""
    return pb.UploadSmallFilesRequest(
        offers=[
            pb.SmallFileOffer(
                number=number,
                name=name,
                size=len(content),
                ticket=peer.ticket(Manifest.of_bytes(content).id, WRITE, requester=requester)[0][1],
            )
            for number, name, content in files
        ]
    ).SerializeToString()
