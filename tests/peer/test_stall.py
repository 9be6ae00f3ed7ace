"""How long a download goes on: as long as somebody sends what nobody had of it before."""

import pytest

from daemon.swarm.piece_picker import SOURCE_IDLE_TIMEOUT
from daemon.swarm.stall import CORRUPT_ONLY_TIMEOUT, NO_PROGRESS_TIMEOUT, StallDetector


@pytest.fixture
def patience() -> StallDetector:
    made = StallDetector(0)
    made.start(100)
    return made


def test_silence_is_told_of_and_then_given_up_on(patience: StallDetector) -> None:
    assert not patience.is_waiting(100 + SOURCE_IDLE_TIMEOUT)
    assert patience.is_waiting(101 + SOURCE_IDLE_TIMEOUT)
    assert not patience.timed_out(100 + NO_PROGRESS_TIMEOUT)
    assert patience.timed_out(101 + NO_PROGRESS_TIMEOUT)


def test_more_of_a_piece_is_news(patience: StallDetector) -> None:
    for step in range(1, 100):
        patience.on_progress("ana", 7, step, 100 + step * SOURCE_IDLE_TIMEOUT)
        assert not patience.is_waiting(100 + (step + 1) * SOURCE_IDLE_TIMEOUT)


def test_the_same_beginning_again_is_none(patience: StallDetector) -> None:
    for second in range(70):
        patience.on_progress("ana", 7, 65536, 100 + second)
    assert patience.is_waiting(170)
    assert patience.timed_out(170)


def test_a_pause_of_our_own_counts_for_nothing(patience: StallDetector) -> None:
    patience.exclude(1000)
    assert not patience.timed_out(1100 + NO_PROGRESS_TIMEOUT)
    assert patience.timed_out(1101 + NO_PROGRESS_TIMEOUT)


def test_it_is_news_from_another_holder_or_of_another_piece(patience: StallDetector) -> None:
    patience.on_progress("ana", 7, 65536, 100)
    patience.on_progress("ben", 7, 65536, 150)
    assert not patience.timed_out(200)
    patience.on_progress("ben", 8, 1, 199)
    assert not patience.timed_out(250)


def test_a_piece_that_verified_may_come_again_from_its_holder(patience: StallDetector) -> None:
    patience.on_progress("ana", 7, 65536, 100)
    patience.on_verified("ana", 7)
    patience.on_progress("ana", 7, 1, 160)
    assert not patience.timed_out(200)


def test_liars_are_borne_with_for_a_while_after_the_last_lie(patience: StallDetector) -> None:
    patience.on_corrupt(105)
    assert not patience.corrupt_only_timed_out(105 + CORRUPT_ONLY_TIMEOUT)
    assert patience.corrupt_only_timed_out(106 + CORRUPT_ONLY_TIMEOUT)
