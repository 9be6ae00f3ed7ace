"""Claims about the endgame: who takes over what from whom, and who leaves it alone."""

from dataclasses import replace

import pytest

from daemon.swarm.endgame import Takeover, find_takeover
from daemon.swarm.source import SourceState, SourceStatus

MIB = 1 << 20


def holder(rate: float, *asked: int) -> SourceState:
    """One that has four pieces, sends so many bytes per second, and was asked for some at 0 s."""
    known = SourceState(pieces=0b1111, complete=True, rate_bytes=rate, rate_seconds=1.0 if rate else 0.0)
    for piece in asked:
        known.on_request(piece, 0.0)
    return known


def found(late: SourceState, idle: SourceState, *, free: int = 0, now: float = 0.0) -> Takeover | None:
    return find_takeover({"late": late, "idle": idle}, free, lambda piece: MIB, now)


def test_an_idle_holder_takes_over_the_piece_that_would_come_last() -> None:
    assert found(holder(MIB, 2, 0, 1), holder(10 * MIB)) == Takeover("idle", 1, "late", started=False)
    for last in range(4):
        assert found(holder(MIB, last), holder(10 * MIB)) == Takeover("idle", last, "late", started=False)


@pytest.mark.parametrize(
    ("late", "idle", "taken"),
    [
        (1.0, 2.0, True),
        (1.0, 1.5, False),
        # A tenth of a second is not worth it, be it all that there is to save or not.
        (12.0, 1000.0, False),
        (9.0, 1000.0, True),
        (5.0, 9.0, False),
        (5.0, 11.0, True),
        # One that was never tried is thought to be twice as fast.
        (1.0, 0.0, True),
        (20.0, 0.0, False),
    ],
)
def test_nothing_is_taken_over_for_little(late: float, idle: float, taken: bool) -> None:
    assert (found(holder(late * MIB, 0), holder(idle * MIB)) is not None) == taken


def test_a_piece_on_its_way_is_asked_for_twice_only_when_nothing_else_is_left() -> None:
    late = holder(MIB, 0)
    late.partial_bytes = 1000
    assert found(late, holder(10 * MIB), free=0b10000) is None
    assert found(late, holder(10 * MIB)) == Takeover("idle", 0, "late", started=True)


def test_one_that_could_be_asked_for_a_free_piece_is_not_idle() -> None:
    late, idle = holder(MIB, 0, 1), holder(10 * MIB)
    assert found(late, idle, free=0b1000) is None
    assert found(late, replace(idle, pieces=0b0011), free=0b1000) == Takeover("idle", 1, "late", started=False)


@pytest.mark.parametrize("state", [SourceStatus.STALLED, SourceStatus.WAITING, SourceStatus.DROPPED])
def test_one_that_is_not_good_takes_nothing_over_and_what_it_owes_is_late_at_once(state: SourceStatus) -> None:
    late, idle = holder(10 * MIB, 0), holder(10 * MIB)
    assert found(late, replace(idle, state=state)) is None
    assert found(late, idle) is None
    assert found(replace(late, state=state), idle) == Takeover("idle", 0, "late", started=False)


def test_one_takes_over_only_what_it_has() -> None:
    late, idle = holder(MIB, 0, 1), holder(10 * MIB)
    assert found(late, replace(idle, pieces=0b1100)) is None
    assert found(late, replace(idle, pieces=0b1101)) == Takeover("idle", 0, "late", started=False)


def test_one_that_a_piece_was_taken_from_takes_none_until_it_sends() -> None:
    relieved = replace(holder(10 * MIB), was_preempted=True)
    assert found(holder(MIB, 0), relieved) is None
    relieved.on_data(1, 1.0)
    assert found(holder(MIB, 0), relieved, now=1.0) is not None


@pytest.mark.parametrize("verifying", [False, True])
def test_a_piece_that_comes_from_two_is_asked_of_no_third(verifying: bool) -> None:
    second = holder(MIB, *(() if verifying else (0,)))
    second.verifying = {0} if verifying else set()
    holders = {"late": holder(MIB, 0), "second": second, "idle": holder(10 * MIB)}
    assert find_takeover(holders, 0, lambda piece: MIB, 0.0) is None


def test_silence_makes_a_fast_holder_late() -> None:
    assert found(holder(100 * MIB, 0), holder(100 * MIB), now=0.05) is None
    assert found(holder(100 * MIB, 0), holder(100 * MIB), now=0.5) == Takeover("idle", 0, "late", started=False)
