"""When a download counts as stalled: only new data of a piece is progress."""

import pytest

from daemon.swarm.piece_picker import SOURCE_IDLE_TIMEOUT
from daemon.swarm.stall import CORRUPT_ONLY_TIMEOUT, NO_PROGRESS_TIMEOUT, StallDetector


@pytest.fixture
def detector() -> StallDetector:
    made = StallDetector(0)
    made.start(100)
    return made


def test_silence_is_shown_and_later_fails_the_download(detector: StallDetector) -> None:
    assert not detector.is_waiting(100 + SOURCE_IDLE_TIMEOUT)
    assert detector.is_waiting(101 + SOURCE_IDLE_TIMEOUT)
    assert not detector.timed_out(100 + NO_PROGRESS_TIMEOUT)
    assert detector.timed_out(101 + NO_PROGRESS_TIMEOUT)


def test_more_data_of_a_piece_is_progress(detector: StallDetector) -> None:
    for step in range(1, 100):
        detector.on_progress("ana", 7, step, 100 + step * SOURCE_IDLE_TIMEOUT)
        assert not detector.is_waiting(100 + (step + 1) * SOURCE_IDLE_TIMEOUT)


def test_repeated_data_is_no_progress(detector: StallDetector) -> None:
    for second in range(70):
        detector.on_progress("ana", 7, 65536, 100 + second)
    assert detector.is_waiting(170)
    assert detector.timed_out(170)


def test_an_excluded_time_does_not_count(detector: StallDetector) -> None:
    detector.exclude(1000)
    assert not detector.timed_out(1100 + NO_PROGRESS_TIMEOUT)
    assert detector.timed_out(1101 + NO_PROGRESS_TIMEOUT)


def test_the_same_data_is_progress_from_another_source_or_for_another_piece(detector: StallDetector) -> None:
    detector.on_progress("ana", 7, 65536, 100)
    detector.on_progress("ben", 7, 65536, 150)
    assert not detector.timed_out(200)
    detector.on_progress("ben", 8, 1, 199)
    assert not detector.timed_out(250)


def test_data_of_a_verified_piece_is_progress_again(detector: StallDetector) -> None:
    detector.on_progress("ana", 7, 65536, 100)
    detector.on_verified("ana", 7)
    detector.on_progress("ana", 7, 1, 160)
    assert not detector.timed_out(200)


def test_corrupt_sources_fail_the_download_only_after_a_timeout(detector: StallDetector) -> None:
    detector.on_corrupt(105)
    assert not detector.corrupt_only_timed_out(105 + CORRUPT_ONLY_TIMEOUT)
    assert detector.corrupt_only_timed_out(106 + CORRUPT_ONLY_TIMEOUT)
