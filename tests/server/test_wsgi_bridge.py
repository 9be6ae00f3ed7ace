"""Requests before the application sees them: limits of one source and one account, and timeouts."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace
from typing import Any

from tracker.proxies import parse_networks
from tracker.wsgi_bridge import MAX_REQUESTS_PER_SOURCE, StartResponse, WsgiBridge
from tracker_fixture import MakeTracker, TrackerFixture


class Request:
    """One request as granian passes it on, and the status of its response. Its body never ends."""

    def __init__(self, method: str, path: str, source: str, **headers: str) -> None:
        self.scope: Any = SimpleNamespace(
            proto="http", server="10.0.0.1:80", client=f"{source}:1", scheme="http", method=method, path=path,
            query_string="", authority="x", headers={name.replace("_", "-"): value for name, value in headers.items()},
        )  # fmt: skip
        self.status = 0

    async def __call__(self) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    def response_bytes(self, status: int, _headers: object, _body: bytes) -> None:
        self.status = status


def slow_login(source: str) -> Request:
    return Request("POST", "/login", source, content_length="100", content_type="application/json")


def bridge_for(world: TrackerFixture, **times: float) -> WsgiBridge:
    return WsgiBridge(world.parts.app, world.parts.body_limit, world.parts.pool, world.parts.source_of, **times)


def test_a_small_body_has_the_short_timeout(world: TrackerFixture) -> None:
    request = slow_login("203.0.113.9")

    async def run() -> None:
        async with asyncio.timeout(10):
            await bridge_for(world, small_body_timeout=0.01)(request.scope, request)

    asyncio.run(run())
    assert request.status == 408


def test_the_requests_of_one_source_are_limited(world: TrackerFixture) -> None:
    slow = [slow_login("203.0.113.9") for _ in range(MAX_REQUESTS_PER_SOURCE + 10)]
    near = [slow_login("127.0.0.1") for _ in range(MAX_REQUESTS_PER_SOURCE + 10)]
    other = Request("GET", "/healthz", "203.0.113.10")

    async def run() -> None:
        bridge = bridge_for(world)
        tasks = [asyncio.create_task(bridge(r.scope, r)) for r in [*slow, *near]]
        await asyncio.sleep(0)
        await bridge(other.scope, other)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # After its requests have ended the source has all slots again.
        again = Request("GET", "/healthz", "203.0.113.9")
        await bridge(again.scope, again)
        assert again.status == 200

    asyncio.run(run())
    assert [r.status for r in slow] == [0] * MAX_REQUESTS_PER_SOURCE + [503] * 10
    assert {r.status for r in near} == {0}, "many peers of the tracker's own machine have one address"
    assert other.status == 200


def test_each_client_of_a_trusted_proxy_has_requests_of_its_own(make_world: MakeTracker) -> None:
    world = make_world(trusted_proxies=parse_networks("127.0.0.1"))
    slow = [slow_login("127.0.0.1") for _ in range(MAX_REQUESTS_PER_SOURCE + 10)]
    for request in slow:
        request.scope.headers["x-forwarded-for"] = "203.0.113.9"
    other = Request("GET", "/healthz", "127.0.0.1", x_forwarded_for="203.0.113.10")

    async def run() -> None:
        bridge = bridge_for(world)
        tasks = [asyncio.create_task(bridge(r.scope, r)) for r in slow]
        await asyncio.sleep(0)
        await bridge(other.scope, other)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert [r.status for r in slow] == [0] * MAX_REQUESTS_PER_SOURCE + [503] * 10
    assert other.status == 200


def test_one_account_uses_only_a_part_of_the_workers(world: TrackerFixture) -> None:
    crowd = [world.peer("mallory", f"127.0.0.1:{6000 + n}") for n in range(8)]
    other = world.peer("ana", "127.0.0.1:5001")
    over = threading.Event()

    def app(environ: dict[str, Any], reply: StartResponse) -> Iterable[bytes]:
        """The tracker's application, made slow for all peers but one."""
        if other.login["token"] not in environ["HTTP_AUTHORIZATION"]:
            assert over.wait(20)
        return world.parts.app(environ, reply)

    async def run() -> None:
        bridge = WsgiBridge(app, world.parts.body_limit, world.parts.pool, world.parts.source_of)
        paths = ("/peers", "/openapi.json", "/metrics")
        slow, quick = [
            [
                Request("GET", path, "203.0.113.9", authorization=f"Bearer {p.login['token']}")
                for p in who
                for path in paths
            ]
            for who in (crowd, [other])
        ]
        tasks = [asyncio.create_task(bridge(r.scope, r)) for r in slow]
        try:
            async with asyncio.timeout(10):
                for request in quick:
                    await bridge(request.scope, request)
        finally:
            over.set()
        await asyncio.gather(*tasks)
        await bridge.wait_idle()
        bridge.close()
        assert {r.status for r in [*quick, *slow]} == {200}

    asyncio.run(run())
