"""Claims about manifests: only a manifest that matches its id is accepted, and a hostile one costs no memory."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import NotVerified
from daemon.storage.manifest import DIGEST_LENGTH, PIECE_LENGTH_MIN, PIECES_MAX, SIZE_MAX, Manifest, piece_length_for

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "piece_length", "pieces"),
    [
        (0, MIB, 0),
        (1, MIB, 1),
        (MIB - 1, MIB, 1),
        (MIB, MIB, 1),
        (MIB + 1, MIB, 2),
        (PIECES_MAX * MIB, MIB, PIECES_MAX),
        (PIECES_MAX * MIB + 1, 2 * MIB, PIECES_MAX // 2 + 1),
        (PIECES_MAX * 2 * MIB, 2 * MIB, PIECES_MAX),
        (SIZE_MAX, 1 << 31, PIECES_MAX),
    ],
)
def test_the_piece_length_is_the_smallest_that_fits(size: int, piece_length: int, pieces: int) -> None:
    assert piece_length_for(size) == piece_length
    assert -(-size // piece_length) == pieces


@given(st.integers(0, SIZE_MAX))
def test_the_number_of_pieces_stays_within_bounds_for_every_size(size: int) -> None:
    length = piece_length_for(size)
    assert -(-size // length) <= PIECES_MAX
    assert length == PIECE_LENGTH_MIN or -(-size // (length // 2)) > PIECES_MAX


@given(st.integers(0, 5 * MIB))
def test_pieces_cover_a_file_without_gap_or_overlap(size: int) -> None:
    manifest = Manifest(size, MIB, bytes(DIGEST_LENGTH * -(-size // MIB)))
    at = 0
    for piece in range(manifest.piece_count):
        assert manifest.offset(piece) == at
        at += manifest.length(piece)
    assert at == size


def test_the_id_is_the_digest_of_the_canonical_bytes() -> None:
    canonical = b"p2p-manifest-v1\n" + struct.pack(">QI", 5, MIB) + blake3(b"hello").digest()
    manifest = Manifest.of_bytes(b"hello")
    assert manifest.encode() == canonical
    assert manifest.id == blake3(canonical).hexdigest()
    assert Manifest.decode(canonical, manifest.id) == manifest


def test_an_empty_file_has_an_id_and_no_pieces() -> None:
    manifest = Manifest.of_bytes(b"")
    assert manifest.piece_count == 0
    assert manifest.id == blake3(b"p2p-manifest-v1\n" + struct.pack(">QI", 0, MIB)).hexdigest()


def test_a_piece_beyond_the_last_is_refused() -> None:
    manifest = Manifest.of_bytes(b"x")
    for piece in (-1, 1, 2**40):
        with pytest.raises(IndexError):
            manifest.length(piece)
        with pytest.raises(IndexError):
            manifest.digest(piece)


GOOD = Manifest(3 * MIB + 7, MIB, b"".join(blake3(bytes([n])).digest() for n in range(4)))
SIZES = [
    -1,
    -(2**63),
    0,
    1,
    GOOD.size - 1,
    GOOD.size + 1,
    2 * MIB,
    4 * MIB + 1,
    2**40,
    SIZE_MAX,
    SIZE_MAX + 1,
    2**64 - 1,
]
LENGTHS = [-MIB, -1, 0, 1, 7, 65536, MIB - 1, MIB + 1, 2 * MIB, 4 * MIB, 1 << 31, (1 << 32) - 1]
DIGESTS = [
    b"", GOOD.digests[:-1], GOOD.digests[1:], GOOD.digests + b"\0", GOOD.digests[:-32], GOOD.digests + bytes(32),
    GOOD.digests[32:] + GOOD.digests[:32], bytes(128), GOOD.digests * 2, GOOD.digests[:1], GOOD.digests[::-1],
]  # fmt: skip
IDS = [
    "",
    "0" * 64,
    GOOD.id[:-1],
    GOOD.id + "0",
    GOOD.id.upper(),
    GOOD.id[::-1],
    "g" * 64,
    GOOD.id + "\n",
    " " + GOOD.id,
]


@pytest.mark.parametrize(
    ("size", "piece_length", "digests", "id_"),
    [
        *((size, MIB, GOOD.digests, GOOD.id) for size in SIZES),
        *((size, GOOD.piece_length, b"", GOOD.id) for size in SIZES),
        *((GOOD.size, length, GOOD.digests, GOOD.id) for length in LENGTHS),
        *((GOOD.size, MIB, digests, GOOD.id) for digests in DIGESTS),
        *((GOOD.size, MIB, GOOD.digests, id_) for id_ in IDS),
    ],
)
def test_an_inconsistent_manifest_is_refused_before_it_costs_memory(
    size: int, piece_length: int, digests: bytes, id_: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(NotVerified):
            Manifest.checked(size, piece_length, digests, id_)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("size", "piece_length", "digests"),
    [
        (3 * MIB, MIB, bytes(64)),
        (3 * MIB, MIB, bytes(128)),
        (3 * MIB, MIB, bytes(95)),
        (3 * MIB, MIB, bytes(97)),
        (2**40, 16 * MIB, b""),
        (0, MIB, bytes(32)),
        (3 * MIB, 2 * MIB, bytes(64)),
        (3 * MIB, 1, b""),
        (3 * MIB, 1 << 31, bytes(32)),
        (SIZE_MAX + 1, 1 << 31, b""),
    ],
)
def test_an_inconsistent_manifest_is_refused_even_with_a_matching_id(
    size: int, piece_length: int, digests: bytes
) -> None:
    made = Manifest(size, piece_length, digests)
    with pytest.raises(NotVerified):
        Manifest.checked(size, piece_length, digests, made.id)
    with pytest.raises(NotVerified):
        Manifest.decode(made.encode(), made.id)


def test_each_piece_has_its_own_digest() -> None:
    assert [GOOD.digest(piece) for piece in range(4)] == [blake3(bytes([n])).digest() for n in range(4)]


def test_a_file_of_exactly_one_piece_has_one_piece() -> None:
    assert Manifest.of_bytes(bytes(MIB)).piece_count == 1
    with pytest.raises(ValueError, match="more than one piece"):
        Manifest.of_bytes(bytes(MIB + 1))


def test_the_bounds_are_those_of_the_protocol() -> None:
    assert piece_length_for(64 << 30) == MIB
    assert piece_length_for((64 << 30) + 1) == 2 * MIB
    assert SIZE_MAX == 1 << 47


@given(st.binary(max_size=200))
def test_bytes_that_are_not_a_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(NotVerified):
        Manifest.decode(data, GOOD.id)


@given(st.integers(0, len(GOOD.encode()) - 1), st.integers(1, 255))
def test_one_changed_byte_is_detected(at: int, change: int) -> None:
    data = bytearray(GOOD.encode())
    data[at] ^= change
    with pytest.raises(NotVerified):
        Manifest.decode(bytes(data), GOOD.id)
