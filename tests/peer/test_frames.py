"""The frames module reads and writes what generated classes do, and raises only BadFrame for any bytes."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given
from hypothesis import strategies as st

import pserver_pb2 as pb
from daemon.protocol.frames import MAX_BLOCK_FIELDS, MAX_FIELDS, BadFrame, Block, Frame, decoder, encode

UINT32 = st.integers(0, (1 << 32) - 1)
UINT64 = st.integers(0, (1 << 64) - 1)
BLOCKS = st.lists(st.builds(Block, UINT32, UINT32, st.binary(max_size=300)), max_size=5)
TEXT = st.text(max_size=20)
MANIFESTS = st.builds(pb.Manifest, size=UINT64, piece_length=UINT32, digests=st.binary(max_size=100))
RESTS: dict[type[Message], st.SearchStrategy[Message]] = {
    pb.PieceResponse: st.builds(
        lambda have: pb.PieceResponse(have=have),
        st.none()
        | st.builds(
            pb.Have,
            complete=st.booleans(),
            bitmap=st.binary(max_size=9),
            gained=st.lists(UINT32),
            in_flight=st.lists(UINT32),
        ),
    ),
    pb.DownloadSmallFilesResponse: st.builds(
        lambda faults: pb.DownloadSmallFilesResponse(faults=faults),
        st.lists(st.builds(pb.SmallFileFault, number=UINT32, code=TEXT, message=TEXT), max_size=4),
    ),
    pb.PushRequest: st.builds(
        lambda offer: pb.PushRequest(offer=offer),
        st.none() | st.builds(pb.Offer, name=TEXT, manifest=MANIFESTS),
    ),
    pb.UploadSmallFilesRequest: st.builds(
        lambda offers: pb.UploadSmallFilesRequest(offers=offers),
        st.lists(st.builds(pb.SmallFileOffer, number=UINT32, name=TEXT, size=UINT64, ticket=TEXT), max_size=4),
    ),
}
Kind: TypeAlias = Any
kinds = pytest.mark.parametrize("kind", list(RESTS), ids=lambda kind: str(kind.DESCRIPTOR.name))
# A field of each wire type that a later version may have. It must be ignored.
UNKNOWN = [b"\xf8\x07\x05", b"\xf9\x07" + bytes(8), b"\xfa\x07\x03abc", b"\xfd\x07" + bytes(4)]


def generated(kind: Kind, blocks: list[Block], rest: Message) -> Any:
    """Return the same message of the generated class."""
    message = kind()
    message.CopyFrom(rest)
    message.blocks.extend(pb.Block(number=b.number, offset=b.offset, data=bytes(b.data)) for b in blocks)
    return message


def plain(frame: Frame[Any]) -> tuple[list[tuple[int, int, bytes]], Message]:
    return [(b.number, b.offset, bytes(b.data)) for b in frame.blocks], frame.rest


def message_cases(test: Callable[..., None]) -> Callable[..., None]:
    return given(data=st.data(), blocks=BLOCKS)(test)


@kinds
@message_cases
def test_generated_code_reads_what_is_written(kind: Kind, data: st.DataObject, blocks: list[Block]) -> None:
    rest = data.draw(RESTS[kind])
    assert kind.FromString(encode(blocks, rest)) == generated(kind, blocks, rest)


@kinds
@message_cases
def test_what_generated_code_writes_is_read(kind: Kind, data: st.DataObject, blocks: list[Block]) -> None:
    rest = data.draw(RESTS[kind])
    read = decoder(kind)(generated(kind, blocks, rest).SerializeToString())
    assert plain(read) == ([tuple(block) for block in blocks], rest)


@kinds
@given(block=BLOCKS.filter(bool), unknown=st.permutations(UNKNOWN))
def test_unknown_fields_are_ignored(kind: Kind, block: list[Block], unknown: list[bytes]) -> None:
    wire = encode(block)
    read = decoder(kind)(unknown[0] + wire + unknown[1] + unknown[2])
    assert plain(read)[0] == [tuple(each) for each in block]
    # Inside a block, too.
    inner = pb.Block(number=7, data=b"abc").SerializeToString() + unknown[3]
    [only], _ = plain(decoder(kind)(b"\x0a" + bytes([len(inner)]) + inner))
    assert only == (7, 0, b"abc")


@kinds
@given(noise=st.binary(max_size=200))
@example(b"\x0a")
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x0a\x03\x1a\xff\x01")
@example(b"\x0b\x0c")
@example(b"\x00")
# A number and an offset of more than 32 bits.
@example(b"\x0a\x06\x08\xff\xff\xff\xff\x7f")
@example(b"\x0a\x06\x10\xff\xff\xff\xff\x7f")
def test_random_bytes_decode_as_in_generated_code_or_are_a_bad_frame(kind: Kind, noise: bytes) -> None:
    try:
        read = plain(decoder(kind)(noise))
    except BadFrame:
        return
    # What frames accepts, generated code decodes to the same value.
    expected = kind.FromString(noise)
    assert read[0] == [(b.number, b.offset, b.data) for b in expected.blocks]


@kinds
@given(data=st.data(), blocks=BLOCKS)
def test_a_corrupt_message_raises_only_bad_frame(kind: Kind, data: st.DataObject, blocks: list[Block]) -> None:
    wire = bytearray(encode(blocks, data.draw(RESTS[kind])))
    if wire:
        wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoder(kind)(bytes(wire[: data.draw(st.integers(0, len(wire)))]))
    except BadFrame:
        return


@kinds
def test_a_message_of_a_million_tiny_fields_is_refused_at_once(kind: Kind) -> None:
    for hostile in (b"\x0a\x00" * (MAX_FIELDS + 1), b"\xf8\x07\x00" * (MAX_FIELDS + 1)):
        with pytest.raises(BadFrame, match="fields"):
            decoder(kind)(hostile)
    inner = b"\x08\x01" * (MAX_BLOCK_FIELDS + 1)
    with pytest.raises(BadFrame, match="fields"):
        decoder(kind)(b"\x0a" + bytes([len(inner)]) + inner)


@kinds
def test_a_small_block_does_not_keep_a_large_message_in_memory(kind: Kind) -> None:
    wire = encode([Block(1, 0, b"x")]) + b"\xfa\x07\x80\x80\x40" + bytes(1 << 20)
    [block], _ = decoder(kind)(wire)
    assert isinstance(block.data, bytes)
    [view], _ = decoder(kind)(encode([Block(1, 0, bytes(1 << 20))]))
    assert isinstance(view.data, memoryview)


def test_generated_code_and_frames_agree_on_malformed_messages() -> None:
    for wire in (b"\x0a\x02\x1a\x05", b"\x0a\x05abc", b"\x80"):
        with pytest.raises(DecodeError):
            pb.PushRequest.FromString(wire)
        with pytest.raises(BadFrame):
            decoder(pb.PushRequest)(wire)
