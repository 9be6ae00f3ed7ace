"""Values survive encoding and decoding, and malformed messages raise the pserver's own errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pserver_pb2 as pb
from daemon.errors import BadUsage, NotVerified
from daemon.protocol import transfer_messages
from daemon.protocol.frames import BadFrame, Block, Frame
from daemon.protocol.transfer_messages import Have, PieceRequest, PieceResponse
from daemon.storage.manifest import Manifest

PIECES = 20
UINT32 = st.integers(0, (1 << 32) - 1)
SOME = st.lists(st.integers(0, PIECES - 1), max_size=5).map(tuple)
MASKS = st.integers(0, (1 << PIECES) - 1)


def round_trip(response: PieceResponse, decoder: transfer_messages.ResponseDecoder) -> PieceResponse:
    codec = transfer_messages.TRANSFER_CODECS["DownloadFile"]
    return decoder.decode(
        transfer_messages.ensure_decoded(
            codec.decode_response(codec.encode_response(transfer_messages.response_to_pb(response, PIECES)))
        )
    )


@given(pieces=MASKS, gained=SOME, in_flight=SOME)
def test_what_a_holder_has_survives_the_wire(pieces: int, gained: tuple[int, ...], in_flight: tuple[int, ...]) -> None:
    decoder = transfer_messages.ResponseDecoder(PIECES)
    assert round_trip(PieceResponse(have=Have(pieces=pieces)), decoder).have == Have(False, pieces)
    later = Have(gained=gained, in_flight=in_flight)
    assert round_trip(PieceResponse(have=later), decoder).have == later
    assert round_trip(PieceResponse(have=Have(complete=True)), transfer_messages.ResponseDecoder(PIECES)).have == Have(
        complete=True
    )


@given(number=UINT32, offset=UINT32, data=st.binary(max_size=50))
def test_blocks_survive_the_wire(number: int, offset: int, data: bytes) -> None:
    decoder = transfer_messages.ResponseDecoder(PIECES)
    [block] = round_trip(PieceResponse((Block(number, offset, data),)), decoder).blocks
    assert (block.number, block.offset, bytes(block.data)) == (number, offset, data)


@given(pieces=st.lists(UINT32).map(tuple), length=UINT32, cancel=st.lists(UINT32).map(tuple))
def test_a_request_survives_the_wire(pieces: tuple[int, ...], length: int, cancel: tuple[int, ...]) -> None:
    codec = transfer_messages.TRANSFER_CODECS["DownloadFile"]
    request = PieceRequest(pieces, length, cancel)
    assert (
        transfer_messages.request_from_pb(
            codec.decode_request(codec.encode_request(transfer_messages.request_to_pb(request)))
        )
        == request
    )


@pytest.mark.parametrize(
    "have",
    [
        pb.Have(),
        pb.Have(bitmap=b"\xff" * 2),
        pb.Have(bitmap=b"\xff" * 4),
        pb.Have(bitmap=b"\xff" * 3),
        pb.Have(complete=True, in_flight=[0] * 5000),
        pb.Have(complete=True, gained=[0] * 5000),
    ],
)
def test_an_impossible_set_of_pieces_is_refused(have: pb.Have) -> None:
    with pytest.raises(BadUsage, match="malformed"):
        transfer_messages.ResponseDecoder(PIECES).decode(Frame((), pb.PieceResponse(have=have)))


def test_a_manifest_of_another_id_is_refused() -> None:
    manifest = Manifest(3 << 20, 1 << 20, b"d" * 96)
    assert transfer_messages.manifest_from_pb(transfer_messages.manifest_to_pb(manifest), manifest.id) == manifest
    with pytest.raises(NotVerified):
        transfer_messages.manifest_from_pb(transfer_messages.manifest_to_pb(manifest), "ab" * 32)


def test_an_offer_without_a_manifest_is_refused() -> None:
    for message in (pb.PushRequest(), pb.PushRequest(offer=pb.Offer(name="x"))):
        with pytest.raises(BadUsage):
            transfer_messages.offer_from_pb(message, "ab" * 32)


@pytest.mark.parametrize(
    "codec",
    [*transfer_messages.codecs("Control").values(), *transfer_messages.TRANSFER_CODECS.values()],
    ids=lambda codec: codec.path,
)
def test_a_decoder_never_raises(codec: transfer_messages.Codec) -> None:
    for read in (codec.decode_request, codec.decode_response):
        malformed = read(b"\xff\xff\xff")
        assert isinstance(malformed, BadFrame)
        with pytest.raises(BadUsage):
            transfer_messages.ensure_decoded(malformed)
        assert not isinstance(read(b""), BadFrame)
