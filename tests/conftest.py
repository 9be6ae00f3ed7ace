"""What all tests share: options, and what is skipped by name where it is not to be had.

P2P_REQUIRE_ALL=1, as in .ci/run, makes a failure of every such skip.
"""

import functools
import os
import shutil
import signal
import subprocess

import pytest

# gRPC's threads are in this process too; its handlers of fork abort children that only want to become a program. Read
# when gRPC is imported, which conftest.py of a folder below may do before anything else here runs.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    parser.addoption("--tls", action="store_true", help="run the system tests with TLS everywhere")


def pytest_configure(config: pytest.Config) -> None:
    """Make this process a good parent of the programs under test."""
    # A shell's background job ignores SIGINT, one under nohup SIGHUP, and both hand that down; a handler they do not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)


def _runs(*command: str) -> bool:
    """Whether a command is there and ends well."""
    if shutil.which(command[0]) is None:
        return False
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    return done.returncode == 0


@functools.cache
def missing(mark: str) -> str:
    """What this machine lacks for tests of this mark; empty if nothing."""
    match mark:
        case "docker":
            if not _runs("docker", "info"):
                return "needs a Docker engine"
            if not _runs("docker", "compose", "version") and not _runs("docker-compose", "version"):
                return "needs docker compose"
        case "netns":
            if not _runs("unshare", "--net", "true") or not _runs("unshare", "--net", "iptables", "-L"):
                return "needs root, network namespaces and iptables"
        case "root":
            if os.geteuid() != 0 or not _runs("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"):
                return "needs root and leave to mount"
        case "chromium":
            if not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
                return "needs Chromium"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here, or fail where everything has to run."""
    for mark in item.iter_markers():
        lack = missing(mark.name)
        if lack and os.environ.get("P2P_REQUIRE_ALL") == "1":
            pytest.fail(f"{lack}, and P2P_REQUIRE_ALL=1 says that nothing may be skipped", pytrace=False)
        if lack:
            pytest.skip(lack)
