"""Messages that carry payload, written and read by hand: the wire format of the .proto, without its copies.

A generated message copies its bytes field when it is built, serialised, parsed and read. Here a block's data goes
into the message once, and comes out as a view of what gRPC handed over. All four streams of Transfer carry their
payload as `repeated Block blocks = 1`; every other field of such a message is left to the generated class. Never does
I/O.

The figures behind it: 480 MB/s through generated messages, 1,240 MB/s through these (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_BLOCKS_TAG = 1 << 3 | _LENGTH
_NUMBER_TAG = 1 << 3 | _VARINT
_OFFSET_TAG = 2 << 3 | _VARINT
_DATA_TAG = 3 << 3 | _LENGTH
_UINT32_MAX = (1 << 32) - 1
# Fields of one message, and of one block: a message of 2 MiB could have a million, and reading them would take seconds.
MAX_FIELDS = 8192
MAX_BLOCK_FIELDS = 16
# A view keeps its whole message in memory: data that are a small part of theirs are copied out of it.
_SLACK = 4096

M = TypeVar("M", bound=Message)


class BadFrame(ValueError):
    """Bytes that are not the message they should be."""


class Block(NamedTuple):
    """Part of a piece, or a whole one."""

    # The piece, or the asker's number for a small file.
    number: int
    # Where in the piece the data begins, in bytes.
    offset: int
    data: bytes | memoryview


class Frame(NamedTuple, Generic[M]):
    """A message of one of the four streams: its blocks, and the rest of it."""

    blocks: Sequence[Block]
    rest: M


def encode(blocks: Sequence[Block], rest: Message | None = None) -> bytes:
    """Return the wire format of a message with these blocks and the fields of `rest`, whose own blocks are empty."""
    parts: list[bytes | memoryview] = []
    for number, offset, data in blocks:
        head = bytearray()
        if number:
            head.append(_NUMBER_TAG)
            _put_varint(head, number)
        if offset:
            head.append(_OFFSET_TAG)
            _put_varint(head, offset)
        if data:
            head.append(_DATA_TAG)
            _put_varint(head, len(data))
        front = bytearray((_BLOCKS_TAG,))
        _put_varint(front, len(head) + len(data))
        parts.append(bytes(front + head))
        parts.append(data)
    if rest is not None:
        parts.append(rest.SerializeToString())
    return b"".join(parts)


def decoder(kind: type[M]) -> Callable[[bytes], Frame[M]]:
    """Return the deserialiser of a stream whose messages are of `kind`. It raises BadFrame on anything malformed."""

    def decode(message: bytes) -> Frame[M]:
        view = memoryview(message)
        blocks: list[Block] = []
        rest: list[memoryview] = []
        at, end = 0, len(view)
        fields = 0
        while at < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise BadFrame(f"a message has more than {MAX_FIELDS} fields")
            start = at
            tag, at = _varint(view, at, end)
            if tag == _BLOCKS_TAG:
                length, at = _varint(view, at, end)
                if length > end - at:
                    raise BadFrame("a block is longer than its message")
                blocks.append(_block(view, at, at + length))
                at += length
            else:
                at = _skip(view, tag, at, end)
                rest.append(view[start:at])
        payload = sum(len(block.data) for block in blocks)
        if end > 2 * payload + _SLACK:
            blocks = [block._replace(data=bytes(block.data)) for block in blocks]
        try:
            return Frame(blocks, kind.FromString(b"".join(rest)))
        except DecodeError as error:
            raise BadFrame(str(error)) from error

    return decode


def encode_frame(frame: Frame[Message]) -> bytes:
    """Serialise a frame: the serialiser of the streams."""
    return encode(frame.blocks, frame.rest)


def _block(view: memoryview, at: int, end: int) -> Block:
    number = offset = fields = 0
    data = view[at:at]
    while at < end:
        fields += 1
        if fields > MAX_BLOCK_FIELDS:
            raise BadFrame(f"a block has more than {MAX_BLOCK_FIELDS} fields")
        tag, at = _varint(view, at, end)
        if tag == _DATA_TAG:
            length, at = _varint(view, at, end)
            if length > end - at:
                raise BadFrame("data is longer than its block")
            data = view[at : at + length]
            at += length
        elif tag == _NUMBER_TAG:
            number, at = _varint(view, at, end)
            number &= _UINT32_MAX
        elif tag == _OFFSET_TAG:
            offset, at = _varint(view, at, end)
            offset &= _UINT32_MAX
        else:
            at = _skip(view, tag, at, end)
    return Block(number, offset, data)


def _skip(view: memoryview, tag: int, at: int, end: int) -> int:
    """Return where the field with this tag ends."""
    kind = tag & 7
    if not 0 < tag >> 3 < 1 << 29:
        raise BadFrame("a field has no number")
    if kind == _VARINT:
        return _varint(view, at, end)[1]
    if kind == _LENGTH:
        length, at = _varint(view, at, end)
    elif kind == _FIXED64:
        length = 8
    elif kind == _FIXED32:
        length = 4
    else:
        raise BadFrame(f"wire type {kind} is not used in this protocol")
    if length > end - at:
        raise BadFrame("a field is longer than its message")
    return at + length


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise BadFrame("a number has more than ten bytes")
    raise BadFrame("a number is cut off")


def _put_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
