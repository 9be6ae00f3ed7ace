"""Between protobuf messages and our own values: nothing above this module has heard of pserver_pb2, nothing below of
our values.

Also the serialisers of the four streams of Transfer, whose payload is written and read by hand (frames).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

import pserver_pb2 as pb
from daemon.errors import BadUsage, NotVerified
from daemon.protocol.frames import BadFrame, Frame, decoder, encode_frame
from daemon.protocol.piece_streams import Have, PieceRequest, PieceResponse
from daemon.storage.bitmap import Bitmap
from daemon.storage.manifest import Manifest


class Codec(NamedTuple):
    """How the messages of one method are written and read.

    A reader never raises: what cannot be read comes back as BadFrame.
    """

    path: str
    encode_request: Callable[[Any], bytes]
    decode_request: Callable[[bytes], Any]
    encode_response: Callable[[Any], bytes]
    decode_response: Callable[[bytes], Any]


def ensure_decoded(message: Any) -> Any:
    """Return a message that a reader has read. Raises BadUsage if it could not."""
    if isinstance(message, BadFrame):
        raise BadUsage(f"malformed message: {message}")
    return message


def codecs(service: str) -> dict[str, Codec]:
    """Return how each method of a service is spoken, by its name in the .proto."""
    return {
        method.name: _codec(
            service, method.name, GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        )
        for method in pb.DESCRIPTOR.services_by_name[service].methods
    }


def _codec(service: str, method: str, request: type[Message], reply: type[Message]) -> Codec:
    return Codec(f"/p2p.v1.{service}/{method}", _writer(request), _reader(request), _writer(reply), _reader(reply))


def _writer(kind: type[Message]) -> Callable[[Any], bytes]:
    return encode_frame if "blocks" in kind.DESCRIPTOR.fields_by_name else lambda message: message.SerializeToString()


def _reader(kind: type[Message]) -> Callable[[bytes], Any]:
    read: Callable[[bytes], Any] = decoder(kind) if "blocks" in kind.DESCRIPTOR.fields_by_name else kind.FromString

    def reader(message: bytes) -> Any:
        try:
            return read(message)
        except (BadFrame, DecodeError) as error:
            return BadFrame(str(error))

    return reader


# Beside what there is to tell of each piece.
_EXTRA_PIECES = 1024

TRANSFER_CODECS = codecs("Transfer")


# ---------------------------------------------------------------------------------------------------------- manifests


def manifest_to_pb(manifest: Manifest) -> pb.Manifest:
    """Return a manifest as it is sent."""
    return pb.Manifest(size=manifest.size, piece_length=manifest.piece_length, digests=manifest.digests)


def manifest_from_pb(message: pb.Manifest, expected_id: str) -> Manifest:
    """Return a manifest that somebody sent. Raises NotVerified if it is not the one of this id."""
    return Manifest.checked(message.size, message.piece_length, message.digests, expected_id)


# ------------------------------------------------------------------------------------------------------------ streams


def have_to_pb(have: Have, count: int) -> pb.Have:
    """Return news of what a holder has; `count` is the number of pieces of the file."""
    bitmap = b"" if have.pieces is None or have.complete else Bitmap(count, have.pieces).to_bytes()
    return pb.Have(complete=have.complete, bitmap=bitmap, gained=have.gained, in_flight=have.in_flight)


def response_to_pb(news: PieceResponse, count: int) -> Frame[pb.PieceResponse]:
    """Return what a holder sends in a download."""
    have = have_to_pb(news.have, count) if news.have is not None else None
    return Frame(news.blocks, pb.PieceResponse(have=have))


class ResponseDecoder:
    """Reads what a holder sends in a download: only the first word of what it has is a bitmap."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._first = True

    def decode(self, frame: Frame[pb.PieceResponse]) -> PieceResponse:
        """Return the next of its news."""
        if not frame.rest.HasField("have"):
            return PieceResponse(frame.blocks)
        have = frame.rest.have
        if len(have.gained) + len(have.in_flight) > _EXTRA_PIECES + 2 * self._count:
            raise BadUsage("malformed message: more pieces are named than there are")
        pieces = None
        if self._first and not have.complete:
            try:
                pieces = Bitmap.from_bytes(self._count, have.bitmap).mask
            except ValueError as error:
                raise BadUsage(f"malformed message: {error}") from error
        self._first = False
        return PieceResponse(frame.blocks, Have(have.complete, pieces, tuple(have.gained), tuple(have.in_flight)))


def request_to_pb(wish: PieceRequest) -> pb.PieceRequest:
    """Return what an asker wants in a download."""
    return pb.PieceRequest(pieces=wish.pieces, block_length=wish.block_length, cancel=wish.cancel)


def request_from_pb(message: pb.PieceRequest | pb.PushResponse) -> PieceRequest:
    """Return what an asker wants, in a download or in a push."""
    cancel = tuple(message.cancel) if isinstance(message, pb.PieceRequest) else ()
    return PieceRequest(tuple(message.pieces), message.block_length, cancel)


def offer_from_pb(message: pb.PushRequest, expected_id: str) -> tuple[str, Manifest]:
    """Return name and manifest of a push.

    Raises BadUsage if it is no offer, NotVerified if the manifest is another's.
    """
    if not message.HasField("offer") or not message.offer.HasField("manifest"):
        raise BadUsage("a push begins with an offer")
    try:
        return message.offer.name, manifest_from_pb(message.offer.manifest, expected_id)
    except NotVerified as error:
        error.name = message.offer.name
        raise
