"""Fixtures of the system tests: a cluster, a copy of the checkout, randomness with a printed seed."""

import os
import random
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ports import reserve_ports
from programs import TOP
from system.certificates import Certificates
from system.cluster import Cluster
from system.releases import PREVIOUS_RELEASE, Release, unpack


@pytest.fixture
def certificates(request: pytest.FixtureRequest, tmp_path: Path) -> Certificates | None:
    """Certificates of all programs; None unless the test has the mark `tls` or pytest runs with --tls."""
    if request.node.get_closest_marker("tls") is None and not request.config.getoption("--tls"):
        return None
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Certificates.make(folder)


@pytest.fixture
def empty_cluster(tmp_path: Path, certificates: Certificates | None) -> Iterator[Cluster]:
    """A cluster without running programs."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder, certificates)
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(empty_cluster: Cluster) -> Cluster:
    """A cluster with a running tracker."""
    empty_cluster.start_tracker()
    return empty_cluster


@pytest.fixture(scope="session")
def previous_release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The programs of the previous release. A test that uses it has the mark `history`."""
    return unpack(PREVIOUS_RELEASE, tmp_path_factory.mktemp("previous_release"))


@pytest.fixture
def rng() -> random.Random:
    """A random generator with a printed seed; P2P_SEED repeats it."""
    seed = int(os.environ.get("P2P_SEED") or secrets.randbits(32))
    print(f"P2P_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of programs and env files, with reserved ports in place of 5000 to 5002."""
    top = tmp_path / "checkout"
    for folder in ("server", "peer", "bootstrap"):
        shutil.copytree(TOP / folder, top / folder, ignore=shutil.ignore_patterns("__pycache__"))
    ports = dict(zip(("5000", "5001", "5002"), reserve_ports(3), strict=True))
    for env in (top / "bootstrap").glob(".env_*"):
        env.write_text(re.sub(r"(?m)(_PORT=)(\d+)", lambda found: f"{found[1]}{ports[found[2]]}", env.read_text()))
    return top


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user's environment with an empty home folder."""
    home = tmp_path / "home"
    home.mkdir()
    variables = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    return {**variables, "HOME": str(home), "TERM": "xterm"}
