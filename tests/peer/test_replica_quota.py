"""The quota of replicas: bytes and entries, of stored and incoming files."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import QuotaExceeded
from daemon.library.manifest_cache import ManifestCache, ReplicaUsage
from daemon.runtime.concurrency import Threads
from daemon.transfer.replica_quota import MIN_ENTRIES, ReplicaQuota


class BusyCache(ManifestCache):
    """A manifest cache whose query of the usage waits while `idle` is cleared."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 0.0)
        self.idle = threading.Event()
        self.idle.set()

    def replica_usage(self) -> ReplicaUsage:
        assert self.idle.wait(20)
        return super().replica_usage()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[BusyCache]:
    cache = BusyCache(tmp_path / "catalog.db")
    yield cache
    cache.close()


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads()
    yield threads
    threads.shutdown()


def test_the_number_of_stored_files_is_limited(cache: BusyCache, threads: Threads) -> None:
    quota = ReplicaQuota(cache, MIN_ENTRIES, threads)
    cache.record_replicas([(f"{number}", f"{number:064x}", 0) for number in range(MIN_ENTRIES - 1)])
    stored = cache.replica_usage()
    with quota.reserve("x", 0, stored), pytest.raises(QuotaExceeded, match="files"), quota.reserve("x", 0, stored):
        pytest.fail("one file too many was accepted")
    with quota.reserve("x", 0, stored):
        assert quota.used == 0


def test_the_folders_of_stored_files_count_as_entries(cache: BusyCache, threads: Threads) -> None:
    quota = ReplicaQuota(cache, MIN_ENTRIES, threads)
    cache.record_replicas([(f"{number}/a/b", f"{number:064x}", 0) for number in range((MIN_ENTRIES - 4) // 3)])
    stored = cache.replica_usage()
    with quota.reserve("one/more", 0, stored), quota.reserve("and/another", 0, stored):
        pass
    with quota.reserve("one/more/there", 0, stored), pytest.raises(QuotaExceeded), quota.reserve("a/b", 0, stored):
        pytest.fail("one entry too many was accepted")


def test_a_file_published_during_the_query_of_the_usage_still_counts(cache: BusyCache, threads: Threads) -> None:
    quota = ReplicaQuota(cache, 10, threads)

    async def story() -> None:
        async with quota.lock_usage() as stored:
            incoming = contextlib.ExitStack()
            incoming.enter_context(quota.reserve("x", 6, stored))
        # The file is published after the cache was read, and before its usage is compared.
        usage = quota.lock_usage()
        query = asyncio.create_task(usage.__aenter__())
        await asyncio.sleep(0)
        incoming.close()
        with pytest.raises(QuotaExceeded), quota.reserve("x", 6, await query):
            pytest.fail("more than the quota was accepted")

    asyncio.run(story())


def test_the_event_loop_does_not_wait_for_a_busy_manifest_cache(cache: BusyCache, threads: Threads) -> None:
    quota = ReplicaQuota(cache, 10, threads)

    async def story() -> None:
        cache.idle.clear()
        async with contextlib.AsyncExitStack() as stack:
            tasks = [
                asyncio.create_task(stack.enter_async_context(quota.lock_usage())),
                asyncio.create_task(quota.evictable_parts()),
            ]
            # The event loop runs, and the queries wait.
            for _ in range(100):
                await asyncio.sleep(0.001)
            assert not any(task.done() for task in tasks)
            cache.idle.set()
            await asyncio.gather(*tasks)

    asyncio.run(story())
