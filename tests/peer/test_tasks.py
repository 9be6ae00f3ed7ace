"""Background tasks: repeated steps that can be woken and stopped, and sets that keep their tasks."""

import asyncio

from daemon.runtime.concurrency import PeriodicTask, TaskSet, paced

FOREVER = 3600.0


class Steps:
    """A step that counts its runs, and says what its next pauses are."""

    def __init__(self, *pauses: float | None) -> None:
        self._pauses = list(pauses)
        self.count = 0
        self.ran = asyncio.Event()

    async def __call__(self) -> float | None:
        self.count += 1
        self.ran.set()
        return self._pauses.pop(0) if self._pauses else FOREVER

    async def next(self) -> None:
        """Wait until the step has run once more."""
        await self.ran.wait()
        self.ran.clear()


def test_the_first_step_runs_at_once_and_the_next_after_its_pause() -> None:
    async def run() -> None:
        steps = Steps(0.0, 0.001)
        task = PeriodicTask(steps)
        task.start()
        while steps.count < 3:
            await steps.next()
        assert task.running
        await task.stop()
        assert not task.running

    asyncio.run(run())


def test_a_task_that_is_woken_does_not_wait_for_its_pause() -> None:
    async def run() -> None:
        steps = Steps()
        task = PeriodicTask(steps)
        task.start()
        await steps.next()
        task.wake()
        await steps.next()
        assert steps.count == 2
        await task.stop()

    asyncio.run(run())


def test_a_wake_during_a_step_is_not_lost() -> None:
    async def run() -> None:
        task: PeriodicTask
        count = 0

        async def step() -> float | None:
            nonlocal count
            count += 1
            if count == 1:
                task.wake()
                await asyncio.sleep(0)
            return FOREVER if count == 1 else None

        task = PeriodicTask(step)
        await task.run()
        assert count == 2

    asyncio.run(run())


def test_a_step_without_a_next_time_ends_the_task_and_it_can_start_again() -> None:
    async def run() -> None:
        steps = Steps(None, None)
        task = PeriodicTask(steps)
        for expected in (1, 2):
            task.start()
            await steps.next()
            while task.running:
                await asyncio.sleep(0)
            assert steps.count == expected

    asyncio.run(run())


def test_starting_twice_runs_one_task() -> None:
    async def run() -> None:
        steps = Steps()
        task = PeriodicTask(steps)
        task.start()
        task.start()
        await steps.next()
        await asyncio.sleep(0)
        assert steps.count == 1
        await task.stop()
        await task.stop()

    asyncio.run(run())


def test_a_set_forgets_the_tasks_that_are_done() -> None:
    async def run() -> None:
        tasks = TaskSet()
        done = []

        async def work() -> None:
            await asyncio.sleep(0)
            done.append(True)

        task = tasks.start(work())
        assert len(tasks) == 1
        await task
        await asyncio.sleep(0)
        assert len(tasks) == 0
        assert done == [True]

    asyncio.run(run())


def test_cancelling_a_set_waits_until_its_tasks_are_done() -> None:
    async def run() -> None:
        tasks = TaskSet()
        cleaned = []

        async def work() -> None:
            try:
                await asyncio.sleep(FOREVER)
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

        tasks.start(work())
        await asyncio.sleep(0)
        await tasks.cancel()
        assert cleaned == [True]
        assert len(tasks) == 0

    asyncio.run(run())


def test_a_long_loop_lets_other_tasks_run() -> None:
    async def run() -> tuple[list[int], int]:
        others = 0

        async def count() -> None:
            nonlocal others
            while True:
                await asyncio.sleep(0)
                others += 1

        counting = asyncio.create_task(count())
        seen = [item async for item in paced(range(300_000))]
        counting.cancel()
        return seen, others

    seen, others = asyncio.run(run())
    assert seen == list(range(300_000))
    assert others > 1
