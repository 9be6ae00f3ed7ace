"""The pserver's own tracker client, for tests that have no event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from daemon.tracker_client.client import TrackerClient

PASSWORD = "correct horse"


def tracker_client(url: str, *, verify: bool | str = True, threads: int = 1) -> TrackerClient:
    """Make a client without a session. Its coroutines may each run in an event loop of their own."""
    return TrackerClient(url, ThreadPoolExecutor(threads), verify=verify)


def logged_in(url: str, user: str, address: str = "127.0.0.1:9") -> TrackerClient:
    """Make a client with a session of its own; nothing listens at `address`."""
    client = tracker_client(url)
    client.token = asyncio.run(client.login(user, PASSWORD, address)).token
    return client


def with_token(url: str, token: str) -> TrackerClient:
    """Make a client with the session of a token."""
    client = tracker_client(url)
    client.token = token
    return client
