"""How much is on its way from a holder of small files: a little at first, then about a second's worth."""

import pytest

from daemon.transfer.batch_requests import RequestWindow
from manual_clock import ManualUnixClock

KIB, MIB = 1 << 10, 1 << 20


def fill(pace: RequestWindow, size: int) -> int:
    """Ask for files until there is no room; return how many."""
    count = 0
    room = pace.available()
    while room > 0:
        room -= pace.on_request(size)
        count += 1
    return count


@pytest.fixture
def clock() -> ManualUnixClock:
    return ManualUnixClock()


@pytest.fixture
def pace(clock: ManualUnixClock) -> RequestWindow:
    return RequestWindow(clock)


def test_an_unknown_holder_is_asked_for_a_few(pace: RequestWindow) -> None:
    assert fill(pace, 4 * KIB) == 11
    assert not pace.should_refill()


def test_one_large_file_may_always_be_asked_for(pace: RequestWindow) -> None:
    assert fill(pace, MIB) == 1


def test_a_slow_holder_stays_at_a_few(pace: RequestWindow, clock: ManualUnixClock) -> None:
    asked = fill(pace, 4 * KIB)
    for _ in range(asked):
        clock.now += 1
        pace.on_response(1, 4 * KIB)
    assert pace.should_refill()
    assert fill(pace, 4 * KIB) == asked


def test_a_quick_holder_is_kept_busy_for_a_second(pace: RequestWindow, clock: ManualUnixClock) -> None:
    on_its_way = fill(pace, 12 * KIB)
    for _ in range(100):
        clock.now += 0.01
        pace.on_response(1, 12 * KIB)
        on_its_way += fill(pace, 12 * KIB) - 1
    # 100 files a second.
    assert 80 <= on_its_way <= 105


def test_the_quickest_has_no_more_than_a_connection_reads_ahead(pace: RequestWindow, clock: ManualUnixClock) -> None:
    on_its_way = fill(pace, 0)
    for _ in range(5000):
        clock.now += 0.0001
        pace.on_response(1, 0)
        on_its_way += fill(pace, 0) - 1
    assert on_its_way == 512
