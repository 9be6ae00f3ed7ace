"""Requests before the application sees them: what one source may have under way, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from tracker.gateway import REQUESTS, Gateway
from tracker_world import World


class Request:
    """One request as the server hands it over, and the status it is answered with. A body never ends."""

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


def gateway_of(world: World, **times: float) -> Gateway:
    return Gateway(world.parts.app, world.parts.allowance, world.parts.lane, **times)


def test_a_small_body_has_a_short_time(world: World) -> None:
    request = slow_login("203.0.113.9")

    async def run() -> None:
        async with asyncio.timeout(10):
            await gateway_of(world, small_body_time=0.01)(request.scope, request)

    asyncio.run(run())
    assert request.status == 408


def test_one_source_has_so_many_requests_under_way_and_others_are_answered(world: World) -> None:
    slow = [slow_login("203.0.113.9") for _ in range(REQUESTS + 10)]
    near = [slow_login("127.0.0.1") for _ in range(REQUESTS + 10)]
    other = Request("GET", "/healthz", "203.0.113.10")

    async def run() -> None:
        gateway = gateway_of(world)
        tasks = [asyncio.create_task(gateway(r.scope, r)) for r in [*slow, *near]]
        await asyncio.sleep(0)
        await gateway(other.scope, other)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Whose requests are over has all places again.
        again = Request("GET", "/healthz", "203.0.113.9")
        await gateway(again.scope, again)
        assert again.status == 200

    asyncio.run(run())
    assert [r.status for r in slow] == [0] * REQUESTS + [503] * 10
    assert {r.status for r in near} == {0}, "many peers of the tracker's own machine have one address"
    assert other.status == 200
