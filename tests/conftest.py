"""Options, parallel runs and skips of the whole test suite.

Tests run in several worker processes (pytest-xdist). Each test has folders, processes and ports of its own, so workers
share nothing. A test that needs a program or right that this machine lacks is skipped by name; P2P_REQUIRE_ALL=1, as in
.ci/run, turns such a skip into a failure.
"""

import functools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest

from programs import TOP
from system.releases import PREVIOUS_RELEASE

# gRPC runs threads in this process, and its fork handlers would abort children that only exec a program. gRPC reads
# this variable at import, which the conftest.py of a subfolder may cause before any code below runs.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# Hypothesis limits the time of each example by default. A busy machine breaks such a limit without any fault.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

MAX_WORKERS = 8
# Tests with one of these marks run one after the other, in one worker. Docker builds share image names, iptables has
# one lock for the machine, and each Chromium takes a core. Tests marked `heavy` load the machine or measure time.
EXCLUSIVE_MARKS = ("docker", "filesystems", "netns", "chromium", "heavy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this suite."""
    parser.addoption("--tls", action="store_true", help="run the system tests with TLS everywhere")


def pytest_configure(config: pytest.Config) -> None:
    """Restore the signal dispositions that the programs under test inherit."""
    # Ignored signals are inherited by child processes, handlers are not. SIGINT is ignored in xdist's workers and in
    # background jobs of a shell, SIGHUP under nohup.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of worker processes for `-n auto`; 0 runs all tests in this process.

    Most tests wait for processes and timers more than they compute, so there are two workers a core. A run of one or
    two files, or of the long tests, stays in one process: workers take seconds to start and disturb measurements.
    """
    few_files = len(config.args) <= 2 and all(Path(arg.partition("::")[0]).is_file() for arg in config.args)
    if few_files or config.option.markexpr == "long":
        return 0
    return min(MAX_WORKERS, 2 * (os.cpu_count() or 1))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group the tests that must share a worker, and put the slow ones first (`--dist loadgroup`)."""
    for item in items:
        group = _worker_group(item)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
    if hasattr(config, "workerinput"):
        # System tests take longest. Last in the queue, they would keep one worker busy while all others are done.
        items.sort(key=lambda item: "/system/" not in item.nodeid)


def _worker_group(item: pytest.Item) -> str:
    """Return the name of the group whose tests run in one worker; empty for a test that may run anywhere."""
    for mark in EXCLUSIVE_MARKS:
        if item.get_closest_marker(mark):
            return mark
    # A fixture of a module is set up once for each worker. Spread over workers, it would be set up again and again.
    fixtures = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
    shared = any(fixture.scope == "module" for definitions in fixtures for fixture in definitions)
    return item.nodeid.partition("::")[0] if shared else ""


def _runs(*command: str) -> bool:
    """Whether a command is installed and succeeds."""
    if shutil.which(command[0]) is None:
        return False
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    return done.returncode == 0


@functools.cache
def missing(mark: str) -> str:
    """Return what this machine lacks for tests with this mark; empty if nothing."""
    match mark:
        case "docker":
            if not _runs("docker", "info"):
                return "needs a Docker engine"
            if not _runs("docker", "compose", "version") and not _runs("docker-compose", "version"):
                return "needs docker compose"
        case "netns":
            if not _runs("unshare", "--net", "true") or not _runs("unshare", "--net", "iptables", "--wait", "-L"):
                return "needs root, network namespaces and iptables"
        case "root":
            if os.geteuid() != 0 or not _runs("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"):
                return "needs root and permission to mount"
        case "ipv6":
            try:
                socket.create_server(("::1", 0), family=socket.AF_INET6).close()
            except OSError:
                return "needs IPv6 on loopback"
        case "nginx":
            if not _runs("nginx", "-v"):
                return "needs nginx"
        case "filesystems":
            if os.geteuid() != 0 or not _runs("losetup", "--find"):
                return "needs root and loop devices"
            programs = ("mkfs.btrfs", "mkfs.exfat", "mount.exfat-fuse")
            lacking = [program for program in programs if not shutil.which(program)]
            if lacking or not Path("/dev/fuse").exists():
                return f"needs /dev/fuse and {', '.join(lacking or programs)}"
        case "caddy":
            if not _runs("caddy", "version"):
                return "needs caddy"
        case "chromium":
            if not shutil.which("chromium") or not shutil.which("chromedriver"):
                return "needs chromium and chromedriver"
        case "history":
            if not _runs("git", "-C", str(TOP), "cat-file", "-e", f"{PREVIOUS_RELEASE}^{{commit}}"):
                return "needs a clone with the history of the repository"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that cannot run here; fail it if P2P_REQUIRE_ALL=1."""
    for mark in item.iter_markers():
        lack = missing(mark.name)
        if lack and os.environ.get("P2P_REQUIRE_ALL") == "1":
            pytest.fail(f"{lack}, and P2P_REQUIRE_ALL=1 forbids skips", pytrace=False)
        if lack:
            pytest.skip(lack)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder of a file system that stores files of any size and time."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs a /dev/shm to write to")
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)
