"""Memory stays small whatever the size of the file."""

import random
import shutil

import pytest

from system.cluster import Cluster
from system.payload import digest, make_file

MIB = 1 << 20
BOUND = 200 * MIB

pytestmark = pytest.mark.heavy


def move(cluster: Cluster, rng: random.Random, size: int, seconds: float) -> None:
    """Upload a file from one peer, download it at another; hold every process to BOUND."""
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    source = make_file(ana.home / "big.bin", size, rng)
    assert ana.pclient("upload", "big.bin", "--copies", "0", seconds=seconds).code == 0
    got = ben.pclient("download", "big.bin", seconds=seconds).one
    assert got["size"] == size
    assert digest(ben.shared / "big.bin") == digest(source)
    peaks = {node.program.name: node.peak_memory() // MIB for node in (cluster.tracker, ana, ben)}
    print(f"peak resident MiB: {peaks}; {size / MIB / got['seconds']:.0f} MiB/s")
    assert max(peaks.values()) * MIB < BOUND


def test_moving_half_a_gibibyte_no_process_exceeds_200_mib(cluster: Cluster, rng: random.Random) -> None:
    move(cluster, rng, 512 * MIB, 60)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_moving_5_gib_no_process_exceeds_200_mib(cluster: Cluster, rng: random.Random) -> None:
    if shutil.disk_usage(cluster.folder).free < 20 * 1024 * MIB:
        pytest.skip("needs 20 GiB of free disk")
    move(cluster, rng, 5 * 1024 * MIB + 12345, 600)
