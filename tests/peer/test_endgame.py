"""The endgame: which idle source takes over which late piece."""

from dataclasses import replace

import pytest

from daemon.swarm.endgame import Takeover, find_takeover
from daemon.swarm.source import SourceState, SourceStatus

MIB = 1 << 20


def source(rate: float, *requested: int) -> SourceState:
    """A source with four pieces and a rate in bytes per second, which got requests at 0 s."""
    state = SourceState(pieces=0b1111, complete=True, rate_bytes=rate, rate_seconds=1.0 if rate else 0.0)
    for piece in requested:
        state.on_request(piece, 0.0)
    return state


def found(late: SourceState, idle: SourceState, *, free: int = 0, now: float = 0.0) -> Takeover | None:
    return find_takeover({"late": late, "idle": idle}, free, lambda piece: MIB, now)


def test_an_idle_source_takes_over_the_piece_that_would_arrive_last() -> None:
    assert found(source(MIB, 2, 0, 1), source(10 * MIB)) == Takeover("idle", 1, "late", started=False)
    for last in range(4):
        assert found(source(MIB, last), source(10 * MIB)) == Takeover("idle", last, "late", started=False)


@pytest.mark.parametrize(
    ("late", "idle", "expected"),
    [
        (1.0, 2.0, True),
        (1.0, 1.5, False),
        # Saving a tenth of a second is not worth a takeover.
        (12.0, 1000.0, False),
        (9.0, 1000.0, True),
        (5.0, 9.0, False),
        (5.0, 11.0, True),
        # A source of unknown rate is assumed to be twice as fast.
        (1.0, 0.0, True),
        (20.0, 0.0, False),
    ],
)
def test_a_takeover_saves_time(late: float, idle: float, expected: bool) -> None:
    assert (found(source(late * MIB, 0), source(idle * MIB)) is not None) == expected


def test_a_started_piece_is_requested_twice_only_if_no_piece_is_free() -> None:
    late = source(MIB, 0)
    late.partial_bytes = 1000
    assert found(late, source(10 * MIB), free=0b10000) is None
    assert found(late, source(10 * MIB)) == Takeover("idle", 0, "late", started=True)


def test_a_source_of_a_free_piece_is_not_idle() -> None:
    late, idle = source(MIB, 0, 1), source(10 * MIB)
    assert found(late, idle, free=0b1000) is None
    assert found(late, replace(idle, pieces=0b0011), free=0b1000) == Takeover("idle", 1, "late", started=False)


@pytest.mark.parametrize("state", [SourceStatus.STALLED, SourceStatus.WAITING, SourceStatus.DROPPED])
def test_an_inactive_source_takes_nothing_over_and_its_requests_are_late_at_once(state: SourceStatus) -> None:
    late, idle = source(10 * MIB, 0), source(10 * MIB)
    assert found(late, replace(idle, state=state)) is None
    assert found(late, idle) is None
    assert found(replace(late, state=state), idle) == Takeover("idle", 0, "late", started=False)


def test_a_source_takes_over_only_pieces_that_it_has() -> None:
    late, idle = source(MIB, 0, 1), source(10 * MIB)
    assert found(late, replace(idle, pieces=0b1100)) is None
    assert found(late, replace(idle, pieces=0b1101)) == Takeover("idle", 0, "late", started=False)


def test_a_preempted_source_takes_nothing_over_until_it_sends_data() -> None:
    preempted = replace(source(10 * MIB), was_preempted=True)
    assert found(source(MIB, 0), preempted) is None
    preempted.on_data(1, 1.0)
    assert found(source(MIB, 0), preempted, now=1.0) is not None


@pytest.mark.parametrize("verifying", [False, True])
def test_a_piece_requested_from_two_sources_is_not_requested_from_a_third(verifying: bool) -> None:
    second = source(MIB, *(() if verifying else (0,)))
    second.verifying = {0} if verifying else set()
    sources = {"late": source(MIB, 0), "second": second, "idle": source(10 * MIB)}
    assert find_takeover(sources, 0, lambda piece: MIB, 0.0) is None


def test_a_silent_fast_source_is_late() -> None:
    assert found(source(100 * MIB, 0), source(100 * MIB), now=0.05) is None
    assert found(source(100 * MIB, 0), source(100 * MIB), now=0.5) == Takeover("idle", 0, "late", started=False)
