"""What crosses the wire comes back the same, and what makes no sense is refused in our own words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pserver_pb2 as pb
from daemon.errors import BadUsage, NotVerified
from daemon.protocol import transfer_messages
from daemon.protocol.frames import BadFrame, Block, Frame
from daemon.protocol.piece_streams import Have, News, Wish
from daemon.storage.manifest import Manifest

PIECES = 20
UINT32 = st.integers(0, (1 << 32) - 1)
SOME = st.lists(st.integers(0, PIECES - 1), max_size=5).map(tuple)
MASKS = st.integers(0, (1 << PIECES) - 1)


def crossed(news: News, reader: transfer_messages.NewsReader) -> News:
    codec = transfer_messages.TRANSFER["DownloadFile"]
    return reader.read(
        transfer_messages.good(codec.read_reply(codec.write_reply(transfer_messages.news_to_wire(news, PIECES))))
    )


@given(pieces=MASKS, gained=SOME, given_=SOME)
def test_what_a_holder_has_crosses(pieces: int, gained: tuple[int, ...], given_: tuple[int, ...]) -> None:
    reader = transfer_messages.NewsReader(PIECES)
    assert crossed(News(have=Have(pieces=pieces)), reader).have == Have(False, pieces)
    later = Have(gained=gained, given=given_)
    assert crossed(News(have=later), reader).have == later
    assert crossed(News(have=Have(whole=True)), transfer_messages.NewsReader(PIECES)).have == Have(whole=True)


@given(number=UINT32, offset=UINT32, data=st.binary(max_size=50))
def test_blocks_cross(number: int, offset: int, data: bytes) -> None:
    [block] = crossed(News((Block(number, offset, data),)), transfer_messages.NewsReader(PIECES)).blocks
    assert (block.number, block.offset, bytes(block.data)) == (number, offset, data)


@given(pieces=st.lists(UINT32).map(tuple), length=UINT32, cancel=st.lists(UINT32).map(tuple))
def test_a_wish_crosses(pieces: tuple[int, ...], length: int, cancel: tuple[int, ...]) -> None:
    codec = transfer_messages.TRANSFER["DownloadFile"]
    wish = Wish(pieces, length, cancel)
    assert (
        transfer_messages.wish_from_wire(codec.read_request(codec.write_request(transfer_messages.wish_to_wire(wish))))
        == wish
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
def test_a_holder_that_says_what_cannot_be_is_refused(have: pb.Have) -> None:
    with pytest.raises(BadUsage, match="malformed"):
        transfer_messages.NewsReader(PIECES).read(Frame((), pb.PieceResponse(have=have)))


def test_a_manifest_is_believed_only_if_it_is_the_ids() -> None:
    manifest = Manifest(3 << 20, 1 << 20, b"d" * 96)
    assert transfer_messages.manifest_from_wire(transfer_messages.manifest_to_wire(manifest), manifest.id) == manifest
    with pytest.raises(NotVerified):
        transfer_messages.manifest_from_wire(transfer_messages.manifest_to_wire(manifest), "ab" * 32)


def test_an_offer_that_offers_nothing_is_refused() -> None:
    for message in (pb.PushRequest(), pb.PushRequest(offer=pb.Offer(name="x"))):
        with pytest.raises(BadUsage):
            transfer_messages.offer_from_wire(message, "ab" * 32)


@pytest.mark.parametrize(
    "codec",
    [*transfer_messages.codecs("Control").values(), *transfer_messages.TRANSFER.values()],
    ids=lambda codec: codec.path,
)
def test_a_reader_never_raises(codec: transfer_messages.Codec) -> None:
    for read in (codec.read_request, codec.read_reply):
        malformed = read(b"\xff\xff\xff")
        assert isinstance(malformed, BadFrame)
        with pytest.raises(BadUsage):
            transfer_messages.good(malformed)
        assert not isinstance(read(b""), BadFrame)
