"""Claims about promises: they keep an asker off for as long as a piece takes, and no longer."""

import pytest

from daemon.swarm.source import InFlightElsewhere

MIB = 1 << 20


def lasts(promises: InFlightElsewhere) -> float:
    """Seconds, to a tenth, after which nothing is promised any more."""
    for tenths in range(1000):
        promises.expire(tenths / 10)
        if not promises.pieces:
            return tenths / 10
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [(MIB, 1.6), (MIB / 4, 6.1), (100 * MIB, 0.2), (1.0, 30.0), (0.0, 0.3)],
    ids=["a second", "four", "at once", "for ever", "unknown"],
)
def test_a_promise_lasts_as_long_as_a_piece_and_a_half_but_half_a_minute_at_most(rate: float, seconds: float) -> None:
    promises = InFlightElsewhere()
    promises.add(0b1, MIB, rate, 0.0)
    assert lasts(promises) == seconds


def test_a_piece_that_was_promised_anew_is_kept_when_the_first_promise_ends() -> None:
    promises = InFlightElsewhere()
    promises.add(0b011, MIB, MIB, 0.0)
    promises.add(0b110, MIB, MIB, 1.0)
    promises.expire(1.5)
    assert promises.pieces == 0b111
    promises.expire(2.0)
    assert promises.pieces == 0b110
    promises.expire(3.0)
    assert promises.pieces == 0


def test_a_talkative_holder_cannot_make_them_grow() -> None:
    promises = InFlightElsewhere()
    for piece in range(10_000):
        promises.add(1 << piece % 50, MIB, MIB, 0.0)
    assert len(promises) < 5_000
    assert promises.pieces == (1 << 50) - 1
    promises.expire(2.0)
    assert promises.pieces == 0
