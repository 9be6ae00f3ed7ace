"""A holder that announces what it has not: nothing of it is presented, and the command says what became of it."""

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import requests

import evil_holder as evil
from swarm_files import manifest_of
from system.cluster import Cluster
from system.payload import tree

MIB = 1 << 20


def announce(cluster: Cluster, url: str, files: list[dict[str, Any]]) -> None:
    """Log in at the tracker as a peer at this address, and announce files."""
    verify = str(cluster.certificates.authority) if cluster.certificates else True
    tracker = f"{'https' if cluster.certificates else 'http'}://127.0.0.1:{cluster.tracker.program.port}"
    with requests.Session() as session:
        session.trust_env, session.verify = False, verify
        account = {"username": "liar", "password": "correct horse", "url": url}
        answer = session.post(f"{tracker}/login", json=account, timeout=20)
        session.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        session.put(f"{tracker}/index", json={"version": "1", "files": files}, timeout=20).raise_for_status()


def test_contents_that_verify_from_no_holder_are_exit_76(cluster: Cluster, rng: random.Random) -> None:
    ben = cluster.peer("ben")
    large, small = rng.randbytes(2 * MIB + 5), rng.randbytes(5000)
    credentials = cluster.certificates.server_credentials() if cluster.certificates else None

    async def story() -> Any:
        async with AsyncExitStack() as stack:
            liar = evil.Holder(large, manifest_of(large), evil.wrong_bytes)
            await stack.enter_async_context(liar.serving(credentials))
            files = [
                {"name": name, "id": manifest_of(content).id, "size": len(content), "complete": True}
                for name, content in (("large.bin", large), ("small.bin", small))
            ]
            await asyncio.to_thread(announce, cluster, liar.url, files)
            return await asyncio.to_thread(ben.pclient, "download", "large.bin", "small.bin", seconds=40)

    result = asyncio.run(story())

    assert result.code == 76
    errors = {each["error"]["name"]: each["error"] for each in result.objects}
    assert {name: error["code"] for name, error in errors.items()} == dict.fromkeys(
        ("large.bin", "small.bin"), "not_verified"
    )
    assert all("run it again" in error["message"] for error in errors.values())
    assert tree(ben.shared) == {}
