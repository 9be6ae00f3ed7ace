"""A cancelled task waits for its thread, so that no change is left incomplete."""

import asyncio
import threading
from collections.abc import Callable

from daemon.runtime.concurrency import Threads
from eventually import eventually


def test_a_task_that_is_cancelled_repeatedly_waits_for_its_thread() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(10)
        done.set()

    async def main() -> None:
        threads = Threads()
        task = asyncio.create_task(threads.run_uncancellable(threads.disk, work))
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(3):
            task.cancel()
            # The waiting task wakes before this one continues.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not task.done()
        go_on.set()
        await asyncio.wait([task])
        assert task.cancelled()
        assert done.is_set()
        threads.shutdown()

    asyncio.run(main())


def test_cancelling_stops_work_that_can_stop_and_ignores_its_failure() -> None:
    begun = threading.Event()

    def work(stop: Callable[[], bool]) -> None:
        begun.set()
        eventually(stop)
        raise OSError("stopped")

    async def main() -> None:
        threads = Threads()
        task = asyncio.create_task(threads.run_cancellable(threads.disk, work))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        threads.shutdown()

    asyncio.run(main())
