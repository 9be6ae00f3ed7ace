"""A thread cannot be cancelled: who awaits it can, and leaves nothing half done behind."""

import asyncio
import threading
from collections.abc import Callable

from daemon.runtime.executors import Threads
from eventually import eventually


def test_whoever_is_cancelled_however_often_waits_for_what_is_begun() -> None:
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
            # What wakes it has woken it before this one goes on.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not task.done()
        go_on.set()
        await asyncio.wait([task])
        assert task.cancelled()
        assert done.is_set()
        threads.shutdown()

    asyncio.run(main())


def test_what_can_be_stopped_is_stopped_and_its_failure_is_no_news() -> None:
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
