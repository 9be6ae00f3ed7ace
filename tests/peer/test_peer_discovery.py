"""When the tracker is queried for holders: at once only if none is known, then at growing intervals, or on demand."""

import asyncio
from collections.abc import Awaitable, Callable

from daemon.errors import TrackerUnreachable
from daemon.models import Holder
from daemon.swarm.peer_discovery import PeerDiscovery

ANA = Holder("127.0.0.1:5001", "ticket", complete=True, reason="")


class Tracker:
    """Counts queries; the first ones fail."""

    def __init__(self, failures: int = 0) -> None:
        self.queries = 0
        self._failures = failures

    async def find(self) -> list[Holder]:
        self.queries += 1
        if self.queries <= self._failures:
            raise TrackerUnreachable("the tracker does not answer")
        return [ANA]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def discover(
    tracker: Tracker,
    known: dict[str, Holder],
    story: Callable[[PeerDiscovery], Awaitable[None]],
    clock: Callable[[], float] = lambda: 0.0,
) -> None:
    """Run a discovery while `story` runs."""
    discovery = PeerDiscovery(tracker.find, known, clock)
    task = asyncio.create_task(discovery.run(lambda: None))
    # The first step runs as far as it can without waiting.
    for _ in range(10):
        await asyncio.sleep(0)
    try:
        await story(discovery)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_the_tracker_is_queried_at_once_if_no_holder_is_known() -> None:
    tracker, known = Tracker(), dict[str, Holder]()

    async def story(discovery: PeerDiscovery) -> None:
        assert (tracker.queries, known) == (1, {ANA.address: ANA})

    asyncio.run(discover(tracker, known, story))


def test_the_tracker_is_not_queried_at_once_if_holders_are_known() -> None:
    tracker = Tracker()

    async def story(discovery: PeerDiscovery) -> None:
        assert tracker.queries == 0
        await until(lambda: tracker.queries == 1)

    asyncio.run(discover(tracker, {ANA.address: ANA}, story))


def test_a_query_on_demand_does_not_wait_for_the_interval() -> None:
    tracker = Tracker()
    # The download is old, so the next query is 10 s away.
    times = iter([0.0, 0.0])

    async def story(discovery: PeerDiscovery) -> None:
        discovery.query_soon()
        async with asyncio.timeout(5):
            await until(lambda: tracker.queries == 1)

    asyncio.run(discover(tracker, {ANA.address: ANA}, story, lambda: next(times, 100.0)))


def test_queries_go_on_after_the_tracker_did_not_answer() -> None:
    tracker, known = Tracker(failures=2), dict[str, Holder]()

    async def story(discovery: PeerDiscovery) -> None:
        await until(lambda: known == {ANA.address: ANA})
        assert tracker.queries == 3

    asyncio.run(discover(tracker, known, story))
