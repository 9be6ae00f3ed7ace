"""The record of pieces in flight elsewhere: it expires when the piece should have arrived."""

import pytest

from daemon.swarm.source import InFlightElsewhere

MIB = 1 << 20


def lifetime(record: InFlightElsewhere) -> float:
    """Seconds, to a tenth, after which the record is empty."""
    for tenths in range(1000):
        record.expire(tenths / 10)
        if not record.pieces:
            return tenths / 10
    raise AssertionError("it never expires")


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [(MIB, 1.6), (MIB / 4, 6.1), (100 * MIB, 0.2), (1.0, 30.0), (0.0, 0.3)],
    ids=["a second", "four seconds", "at once", "very long", "unknown rate"],
)
def test_a_record_lasts_for_the_time_of_one_and_a_half_pieces_but_at_most_30_seconds(
    rate: float, seconds: float
) -> None:
    record = InFlightElsewhere()
    record.add(0b1, MIB, rate, 0.0)
    assert lifetime(record) == seconds


def test_a_piece_in_a_newer_record_stays_when_the_older_one_expires() -> None:
    record = InFlightElsewhere()
    record.add(0b011, MIB, MIB, 0.0)
    record.add(0b110, MIB, MIB, 1.0)
    record.expire(1.5)
    assert record.pieces == 0b111
    record.expire(2.0)
    assert record.pieces == 0b110
    record.expire(3.0)
    assert record.pieces == 0


def test_a_hostile_source_cannot_make_the_record_grow() -> None:
    record = InFlightElsewhere()
    for piece in range(10_000):
        record.add(1 << piece % 50, MIB, MIB, 0.0)
    assert len(record) < 5_000
    assert record.pieces == (1 << 50) - 1
    record.expire(2.0)
    assert record.pieces == 0
