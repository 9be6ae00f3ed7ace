"""The request window of a holder of small files: little at first, then about a second of its rate."""

import pytest

from daemon.transfer.batch_requests import RequestWindow
from manual_clock import ManualUnixClock

KIB, MIB = 1 << 10, 1 << 20


def fill(window: RequestWindow, size: int) -> int:
    """Request files until the window is full; return how many."""
    count = 0
    available = window.available()
    while available > 0:
        available -= window.on_request(size)
        count += 1
    return count


@pytest.fixture
def clock() -> ManualUnixClock:
    return ManualUnixClock()


@pytest.fixture
def window(clock: ManualUnixClock) -> RequestWindow:
    return RequestWindow(clock)


def test_a_holder_of_unknown_rate_gets_few_requests(window: RequestWindow) -> None:
    assert fill(window, 4 * KIB) == 11
    assert not window.should_refill()


def test_one_large_file_may_always_be_requested(window: RequestWindow) -> None:
    assert fill(window, MIB) == 1


def test_a_slow_holder_keeps_few_requests(window: RequestWindow, clock: ManualUnixClock) -> None:
    requested = fill(window, 4 * KIB)
    for _ in range(requested):
        clock.now += 1
        window.on_response(1, 4 * KIB)
    assert window.should_refill()
    assert fill(window, 4 * KIB) == requested


def test_a_fast_holder_gets_requests_for_a_second(window: RequestWindow, clock: ManualUnixClock) -> None:
    in_flight = fill(window, 12 * KIB)
    for _ in range(100):
        clock.now += 0.01
        window.on_response(1, 12 * KIB)
        in_flight += fill(window, 12 * KIB) - 1
    # 100 files a second.
    assert 80 <= in_flight <= 105


def test_the_fastest_holder_gets_no_more_than_a_connection_reads_ahead(
    window: RequestWindow, clock: ManualUnixClock
) -> None:
    in_flight = fill(window, 0)
    for _ in range(5000):
        clock.now += 0.0001
        window.on_response(1, 0)
        in_flight += fill(window, 0) - 1
    assert in_flight == 512
