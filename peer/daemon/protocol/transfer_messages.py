"""The messages of Transfer as values, the two ends of a stream of pieces, and the serialisers of each method.

In a download the requester calls the holder; in a push the holder calls the requester. Both use the same two ends, so
one downloader and one piece sender serve both directions. `frames` encodes the messages that carry blocks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

import pserver_pb2 as pb
from daemon.errors import BadUsage, NotVerified
from daemon.models import NO_ATTRIBUTES, Attributes, Version
from daemon.protocol.frames import BadFrame, Block, Frame, decoder, encode_frame
from daemon.storage.bitmap import Bitmap
from daemon.storage.manifest import Manifest

# Counted for each message beside its content, in bytes.
_MESSAGE_OVERHEAD = 1024


class Have(NamedTuple):
    """What a holder has, or has gained. A set of pieces is an integer with bit i for piece i."""

    complete: bool = False
    # The pieces that it has, in its first message; None in later ones.
    pieces: int | None = None
    # Pieces that it has gained since the last message.
    gained: Sequence[int] = ()
    # Pieces that it is sending to another requester.
    in_flight: Sequence[int] = ()


class PieceRequest(NamedTuple):
    """Pieces that a requester wants, and pieces that it no longer wants."""

    pieces: Sequence[int] = ()
    # The most bytes of one block; 0 for no change.
    block_length: int = 0
    cancel: Sequence[int] = ()


class PendingRequests:
    """Requests that wait to be sent, merged: each piece once, however often it was requested and cancelled."""

    # The most pieces of one message. A holder refuses many more.
    MAX_PIECES = 512

    def __init__(self) -> None:
        self._pieces: dict[int, None] = {}
        self._cancel: dict[int, None] = {}
        self._block_length = 0

    def __len__(self) -> int:
        return len(self._pieces) + len(self._cancel)

    def add(self, request: PieceRequest) -> None:
        """Append a request."""
        for piece in request.cancel:
            self._pieces.pop(piece, None)
            self._cancel[piece] = None
        self._pieces.update(dict.fromkeys(request.pieces))
        self._block_length = request.block_length or self._block_length

    def pop(self) -> PieceRequest:
        """Remove and return the next message."""
        cancel = tuple(islice(self._cancel, self.MAX_PIECES))
        # A piece that was cancelled and requested again must be requested after its cancellation.
        pieces = () if len(self._cancel) > self.MAX_PIECES else tuple(islice(self._pieces, self.MAX_PIECES))
        for pending, popped in ((self._pieces, pieces), (self._cancel, cancel)):
            for piece in popped:
                del pending[piece]
        return PieceRequest(pieces, self._block_length, cancel)


class PieceResponse(NamedTuple):
    """One message of a holder: blocks, and what it has."""

    blocks: Sequence[Block] = ()
    have: Have | None = None


class RequesterStream(Protocol):
    """The requester's end of a stream."""

    def request(self, request: PieceRequest) -> None:
        """Queue a request and return at once."""

    def responses(self) -> AsyncIterator[PieceResponse]:
        """Yield what the holder sends until it ends the stream. Raises PeerError if the stream fails."""

    async def close(self) -> None:
        """Close the stream."""


class HolderStream(Protocol):
    """The holder's end of a stream."""

    def requests(self) -> AsyncIterator[PieceRequest]:
        """Yield what the requester requests until it ends the stream."""

    async def send(self, response: PieceResponse) -> None:
        """Send a response; returns when the stream accepts the next one.

        Raises:
            StreamEnded: if the requester has ended the stream; `requests` raises why, or ends.
        """


class Codec(NamedTuple):
    """The path and the serialisers of one method.

    A decoder never raises: it returns a BadFrame for a malformed message, which `ensure_decoded` raises.
    """

    path: str
    encode_request: Callable[[Any], bytes]
    decode_request: Callable[[bytes], Any]
    encode_response: Callable[[Any], bytes]
    decode_response: Callable[[bytes], Any]


def size_of(message: Any) -> int:
    """Return roughly the bytes of a message that a decoder returned, malformed or not."""
    if isinstance(message, Frame):
        return _MESSAGE_OVERHEAD + sum(len(block.data) for block in message.blocks)
    return _MESSAGE_OVERHEAD + (message.ByteSize() if isinstance(message, Message) else 0)


def ensure_decoded(message: Any) -> Any:
    """Return a message that a decoder returned. Raises BadUsage if the message was malformed."""
    if isinstance(message, BadFrame):
        raise BadUsage(f"malformed message: {message}")
    return message


def codecs(service: str) -> dict[str, Codec]:
    """Return the codec of each method of a service, by the method's name in the .proto."""
    return {
        method.name: _codec(
            service, method.name, GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        )
        for method in pb.DESCRIPTOR.services_by_name[service].methods
    }


def _codec(service: str, method: str, request: type[Message], response: type[Message]) -> Codec:
    return Codec(
        f"/p2p.v1.{service}/{method}", _encoder(request), _decoder(request), _encoder(response), _decoder(response)
    )


def _encoder(kind: type[Message]) -> Callable[[Any], bytes]:
    return encode_frame if "blocks" in kind.DESCRIPTOR.fields_by_name else lambda message: message.SerializeToString()


def _decoder(kind: type[Message]) -> Callable[[bytes], Any]:
    decode: Callable[[bytes], Any] = decoder(kind) if "blocks" in kind.DESCRIPTOR.fields_by_name else kind.FromString

    def decode_safely(message: bytes) -> Any:
        try:
            return decode(message)
        except (BadFrame, DecodeError) as error:
            return BadFrame(str(error))

    return decode_safely


# A holder may name each piece twice in one message, and this many more times.
_EXTRA_PIECES = 1024

TRANSFER_CODECS = codecs("Transfer")


# ---------------------------------------------------------------------------------------------------------- manifests


def manifest_to_pb(manifest: Manifest) -> pb.Manifest:
    """Return the message of a manifest."""
    return pb.Manifest(size=manifest.size, piece_length=manifest.piece_length, digests=manifest.digests)


def manifest_from_pb(message: pb.Manifest, expected_id: str) -> Manifest:
    """Return the manifest of a message. Raises NotVerified if it does not have this id."""
    return Manifest.checked(message.size, message.piece_length, message.digests, expected_id)


# ------------------------------------------------------------------------------------------------------------ streams


def have_to_pb(have: Have, count: int) -> pb.Have:
    """Return the message of what a holder has; `count` is the number of pieces of the file."""
    bitmap = b"" if have.pieces is None or have.complete else Bitmap(count, have.pieces).to_bytes()
    return pb.Have(complete=have.complete, bitmap=bitmap, gained=have.gained, in_flight=have.in_flight)


def response_to_pb(response: PieceResponse, count: int) -> Frame[pb.PieceResponse]:
    """Return the message that a holder sends in a download; `count` is the number of pieces of the file."""
    have = have_to_pb(response.have, count) if response.have is not None else None
    return Frame(response.blocks, pb.PieceResponse(have=have))


class ResponseDecoder:
    """Decodes the messages of one holder in a download. Only the first one may contain a bitmap."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._first = True

    def decode(self, frame: Frame[pb.PieceResponse]) -> PieceResponse:
        """Return the next response. Raises BadUsage if it names pieces that the file does not have."""
        if not frame.rest.HasField("have"):
            return PieceResponse(frame.blocks)
        have = frame.rest.have
        if len(have.gained) + len(have.in_flight) > _EXTRA_PIECES + 2 * self._count:
            raise BadUsage("malformed message: it names more pieces than the file has")
        pieces = None
        if self._first and not have.complete:
            try:
                pieces = Bitmap.from_bytes(self._count, have.bitmap).mask
            except ValueError as error:
                raise BadUsage(f"malformed message: {error}") from error
        self._first = False
        return PieceResponse(frame.blocks, Have(have.complete, pieces, tuple(have.gained), tuple(have.in_flight)))


def request_to_pb(request: PieceRequest) -> pb.PieceRequest:
    """Return the message that a requester sends in a download."""
    return pb.PieceRequest(pieces=request.pieces, block_length=request.block_length, cancel=request.cancel)


def request_from_pb(message: pb.PieceRequest | pb.PushResponse) -> PieceRequest:
    """Return the request of a message, in a download or in a push."""
    cancel = tuple(message.cancel) if isinstance(message, pb.PieceRequest) else ()
    return PieceRequest(tuple(message.pieces), message.block_length, cancel)


class Offer(NamedTuple):
    """The first message of a push."""

    name: str
    manifest: Manifest
    # As received: `attributes.received` checks them.
    attributes: Attributes = NO_ATTRIBUTES


def offer_to_pb(version: Version, manifest: Manifest) -> pb.Offer:
    """Return the offer of a push."""
    return pb.Offer(
        name=version.name,
        manifest=manifest_to_pb(manifest),
        modified=version.attributes.modified,
        executable=version.attributes.executable,
    )


def attributes_from_pb(message: pb.Offer | pb.SmallFileOffer) -> Attributes:
    """Return the attributes of an offer as the sender announces them."""
    return Attributes(message.modified if message.HasField("modified") else None, message.executable)


def offer_from_pb(message: pb.PushRequest, expected_id: str) -> Offer:
    """Return the offer of a push.

    Raises:
        BadUsage: if the message is no offer.
        NotVerified: if the manifest does not have this id.
    """
    if not message.HasField("offer") or not message.offer.HasField("manifest"):
        raise BadUsage("a push must begin with an offer")
    try:
        manifest = manifest_from_pb(message.offer.manifest, expected_id)
        return Offer(message.offer.name, manifest, attributes_from_pb(message.offer))
    except NotVerified as error:
        error.name = message.offer.name
        raise
