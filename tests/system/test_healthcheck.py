"""The health check of a container, for tracker and pserver."""

import subprocess
import sys
from pathlib import Path

import pytest

from programs import TOP
from system.cluster import Cluster


def check(env_file: Path) -> int:
    """Return the exit status of the health check, which must print nothing."""
    command = [sys.executable, str(TOP / "bootstrap" / "docker" / "healthcheck.py"), str(env_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout + done.stderr == ""
    return done.returncode


@pytest.mark.parametrize("address", ["127.0.0.2", pytest.param("127.0.0.1", marks=pytest.mark.tls, id="tls")])
def test_a_program_is_healthy_while_it_responds(empty_cluster: Cluster, address: str) -> None:
    tracker = empty_cluster.start_tracker(SERVER_URL=address)
    peer = empty_cluster.peer("ana", login=False, SERVER_URL=address, PSERVER_LOCAL_URL=address)
    for program, env_file in ((tracker, empty_cluster.folder / ".env_tracker"), (peer, peer.env)):
        assert check(env_file) == 0
        program.freeze()
        assert check(env_file) == 1
        program.thaw()
        assert check(env_file) == 0
        program.kill()
        assert check(env_file) == 1
