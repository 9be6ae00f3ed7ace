"""Fixtures of the system tests: a running tracker, randomness with a printed seed."""

import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.certificates import Certificates
from system.cluster import Cluster


@pytest.fixture
def certificates(request: pytest.FixtureRequest, tmp_path: Path) -> Certificates | None:
    """What everything listens and dials with: None, unless the test has the mark `tls` or pytest was given --tls."""
    if request.node.get_closest_marker("tls") is None and not request.config.getoption("--tls"):
        return None
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Certificates.make(folder)


@pytest.fixture
def empty_cluster(tmp_path: Path, certificates: Certificates | None) -> Iterator[Cluster]:
    """A cluster in which nothing runs yet."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder, certificates)
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(empty_cluster: Cluster) -> Cluster:
    """A cluster whose tracker runs."""
    empty_cluster.start_tracker()
    return empty_cluster


@pytest.fixture
def rng() -> random.Random:
    """Randomness of this test; P2P_SEED repeats it."""
    seed = int(os.environ.get("P2P_SEED") or secrets.randbits(32))
    print(f"P2P_SEED={seed}")
    return random.Random(seed)
