"""Limits of bytes in flight, bytes per second, streams and locks are fair, and everything acquired is released."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

import pytest

from daemon.errors import Busy, Interrupted
from daemon.peers.limits import ActiveStreams, KeyedLocks, MemoryBudget, RateLimiter, StreamSlots
from daemon.swarm.pieces import InFlightReservation


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer, so that tests of rates are exact and take no time."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        selector: Any = vars(self)["_selector"]
        select = selector.select

        def jump(timeout: float | None = None) -> Any:
            self._now += timeout or 0.0
            return select(None if timeout is None else 0)

        selector.select = jump

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test in virtual time. It may take 10 seconds of it."""

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await work

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(bounded())


async def run_tasks() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


# ---------------------------------------------------------------------------------------------------------------- bytes


def test_requests_that_do_not_fit_wait_in_order() -> None:
    async def work() -> None:
        budget = MemoryBudget(10)
        await budget.acquire(8)
        large, small = asyncio.create_task(budget.acquire(5)), asyncio.create_task(budget.acquire(1))
        await run_tasks()
        assert not large.done() and not small.done()
        assert not budget.try_acquire(1)
        budget.release(8)
        await asyncio.gather(large, small)
        assert budget.used == 6

    run(work())


def test_a_download_reserves_memory_for_all_but_its_first_piece_and_releases_it() -> None:
    async def work() -> None:
        budget = MemoryBudget(20)
        room = InFlightReservation(budget, RateLimiter(None, asyncio.get_running_loop().time), 10)
        used = []
        for in_flight in range(3):
            await room.acquire(in_flight)
            used.append(budget.used)
        assert used == [0, 10, 20]
        # Memory that was reserved and not used is there for the next download.
        await room.acquire(2)
        assert (budget.used, room.waiting) == (20, False)
        another = asyncio.create_task(room.acquire(3))
        await run_tasks()
        assert (room.waiting, another.done()) == (True, False)
        room.release_excess(2)
        await another
        assert (budget.used, room.waiting) == (20, False)
        for in_flight, needed in ((3, 20), (2, 10), (3, 10), (1, 0), (0, 0)):
            room.release_excess(in_flight)
            assert budget.used == needed

    run(work())


def test_the_first_piece_of_a_download_does_not_wait_for_memory() -> None:
    async def work() -> None:
        budget = MemoryBudget(10)
        await budget.acquire(10)
        room = InFlightReservation(budget, RateLimiter(None, asyncio.get_running_loop().time), 10)
        await room.acquire(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await room.acquire(1)
        assert not room.waiting and budget.used == 10

    run(work())


def test_an_amount_larger_than_the_budget_is_granted_alone() -> None:
    async def work() -> None:
        budget = MemoryBudget(10)
        await budget.acquire(100)
        later = asyncio.create_task(budget.acquire(1))
        await run_tasks()
        assert not later.done()
        budget.release(100)
        await later

    run(work())


@pytest.mark.parametrize("already_served", [False, True])
def test_a_cancelled_request_for_memory_acquires_nothing(already_served: bool) -> None:
    async def work() -> None:
        budget = MemoryBudget(10)
        await budget.acquire(10)
        first, second = asyncio.create_task(budget.acquire(10)), asyncio.create_task(budget.acquire(4))
        await run_tasks()
        if already_served:
            budget.release(10)
        first.cancel()
        await run_tasks()
        assert first.cancelled()
        if not already_served:
            budget.release(10)
        await second
        assert budget.used == 4

    run(work())


def test_the_rate_is_not_exceeded() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        bandwidth = RateLimiter(1_000_000, loop.time)
        began = loop.time()
        for _ in range(10):
            await bandwidth.acquire(75_000)
        # 750,000 bytes: those of the first quarter second passed at once.
        assert loop.time() - began == pytest.approx(0.5)

    run(work())


def test_without_a_rate_nothing_waits() -> None:
    async def work() -> None:
        bandwidth = RateLimiter(None, lambda: 0.0)
        await bandwidth.acquire(1 << 40)
        assert bandwidth.max_block(1 << 20) == 1 << 20

    run(work())


def test_many_streams_of_one_requester_get_no_more_than_one_stream_of_another() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        bandwidth = RateLimiter(4_000_000, loop.time)
        got: Counter[str] = Counter()

        async def stream(requester: str) -> None:
            while True:
                await bandwidth.acquire(10_000, requester)
                got[requester] += 10_000

        streams = [asyncio.create_task(stream("greedy")) for _ in range(8)]
        streams.append(asyncio.create_task(stream("modest")))
        await asyncio.sleep(0.5)
        for each in streams:
            each.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        # The bytes that passed at once at the beginning went to the first requester.
        assert got["modest"] >= 0.4 * got.total()

    run(work())


def test_block_sizes_shrink_so_that_no_requester_waits_long() -> None:
    async def work() -> None:
        bandwidth = RateLimiter(1_000_000, lambda: 0.0)
        assert bandwidth.max_block(1 << 20) == 500_000
        waiting = [asyncio.create_task(bandwidth.acquire(1 << 30, requester)) for requester in "abcde"]
        await run_tasks()
        assert bandwidth.max_block(1 << 20) <= 125_000
        assert bandwidth.max_block(1) == 1 or bandwidth.max_block(1) == 4096
        for each in waiting:
            each.cancel()

    run(work())


def test_a_turn_that_is_not_charged_costs_nothing() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        bandwidth, budget = RateLimiter(4_000_000, loop.time), MemoryBudget()
        rooms = [InFlightReservation(budget, bandwidth, 1_000_000) for _ in range(4)]

        async def idle(room: InFlightReservation) -> None:
            while True:
                await room.acquire(0)
                await asyncio.sleep(0.05)

        idlers = [asyncio.create_task(idle(room)) for room in rooms[1:]]
        began = loop.time()
        for _ in range(8):
            await rooms[0].acquire(0)
            rooms[0].charge()
        # The first two passed at once, the last is owed: six quarters of a second.
        assert 1.4 < loop.time() - began < 1.6
        for each in idlers:
            each.cancel()

    run(work())


def test_a_cancelled_request_leaves_its_bytes_to_the_next() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        bandwidth = RateLimiter(100_000, loop.time)
        await bandwidth.acquire(25_000)
        began = loop.time()
        hasty = asyncio.create_task(bandwidth.acquire(1_000_000, "hasty"))
        await run_tasks()
        hasty.cancel()
        await run_tasks()
        patient = asyncio.create_task(bandwidth.acquire(10_000, "patient"))
        # Ten seconds of the rate were requested and cancelled.
        await patient
        assert loop.time() - began == pytest.approx(0.1)

    run(work())


# -------------------------------------------------------------------------------------------------------------- streams


def test_slots_are_limited_in_total_per_peer_and_per_ticket() -> None:
    slots = StreamSlots(total=4, per_peer=3, per_ticket=2)
    with slots.acquire("ana", "x", "ana"), slots.acquire("ana", "x", "ana"):
        with pytest.raises(Busy) as busy, slots.acquire("ana", "x", "ana"):
            pass
        assert busy.value.retry_after > 0
        with slots.acquire("ana", "y", "ana"):
            with pytest.raises(Busy), slots.acquire("ana", "z", "ana"):
                pass
            with slots.acquire("ben", "x", "ben"):
                with pytest.raises(Busy), slots.acquire("cia", "x", "cia"):
                    pass
                assert slots.in_use == 4
    assert slots.in_use == 0
    with slots.acquire("ana", "x", "ana"):
        pass


def test_a_stream_that_fails_releases_its_slot() -> None:
    slots = StreamSlots(total=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), slots.acquire("ana", "x", "ana"):
            raise ZeroDivisionError
    assert slots.in_use == 0


def test_closing_all_streams_does_not_close_later_ones() -> None:
    async def work() -> None:
        streams = ActiveStreams()

        async def stream() -> None:
            async with streams.register():
                await asyncio.Event().wait()

        under_way = [asyncio.create_task(stream()) for _ in range(3)]
        await run_tasks()
        await streams.close_all()
        for ended in await asyncio.gather(*under_way, return_exceptions=True):
            assert isinstance(ended, Interrupted)
        async with streams.register():
            await run_tasks()
        await streams.close_all()

    run(work())


def test_a_stream_that_closes_slowly_does_not_delay_the_others() -> None:
    async def work() -> None:
        streams = ActiveStreams()
        done = asyncio.Event()

        async def stream() -> None:
            async with streams.register():
                try:
                    await asyncio.Event().wait()
                finally:
                    await done.wait()

        slow = asyncio.create_task(stream())
        await run_tasks()
        await streams.close_all()
        await streams.close_all()
        assert not slow.done()
        done.set()
        with pytest.raises(Interrupted):
            await slow

    run(work())


# ---------------------------------------------------------------------------------------------------------------- locks


def test_one_transfer_at_a_time_has_the_lock_of_an_id() -> None:
    async def work() -> None:
        locks = KeyedLocks()
        log: list[str] = []

        async def transfer(key: str, name: str) -> None:
            async with locks.acquire(key):
                log.append(f"{name} begins")
                await run_tasks()
                log.append(f"{name} ends")

        await asyncio.gather(transfer("x", "a"), transfer("x", "b"), transfer("y", "c"))
        assert log.index("a ends") < log.index("b begins")
        assert log.index("c begins") < log.index("a ends")
        assert not locks.in_use("x")

    run(work())


def test_a_cancelled_wait_for_a_lock_leaves_nothing_behind() -> None:
    async def work() -> None:
        locks = KeyedLocks()
        async with locks.acquire("x"):
            waiting = asyncio.create_task(locks.acquire("x").__aenter__())
            await run_tasks()
            waiting.cancel()
            await run_tasks()
            assert locks.in_use("x")
        assert not locks.in_use("x")

    run(work())


def test_a_lock_that_is_not_free_in_time_is_busy() -> None:
    async def story() -> None:
        locks = KeyedLocks()
        async with locks.acquire("id"):
            with pytest.raises(Busy):
                async with locks.acquire("id", within=0.05):
                    pytest.fail("another task has the lock")
        async with locks.acquire("id", within=0.05):
            assert locks.in_use("id")
        assert not locks.in_use("id")

    asyncio.run(story())


def test_peers_of_one_account_leave_slots_to_other_accounts() -> None:
    slots = StreamSlots(total=4, per_user=3)
    with ExitStack() as stack:
        for number in range(3):
            stack.enter_context(slots.acquire(f"peer{number}", "x", "ana"))
        with pytest.raises(Busy, match="your account"), slots.acquire("peer3", "x", "ana"):
            pass
        with slots.acquire("peer4", "x", "ben"):
            assert slots.in_use == 4
    with slots.acquire("peer3", "x", "ana"):
        pass
