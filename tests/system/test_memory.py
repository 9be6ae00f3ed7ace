"""Memory does not grow with the size of a file."""

import random
import shutil

import pytest

from system.cluster import Cluster
from system.payload import digest, make_file

MIB = 1 << 20
BOUND = 200 * MIB

pytestmark = pytest.mark.heavy


def transfer(cluster: Cluster, rng: random.Random, size: int, seconds: float) -> None:
    """Transfer a file between two peers; the peak memory of each process must be below BOUND."""
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    source = make_file(ana.home / "big.bin", size, rng)
    assert ana.pclient("upload", "big.bin", "--copies", "0", seconds=seconds).code == 0
    got = ben.pclient("download", "big.bin", seconds=seconds).one
    assert got["size"] == size
    assert digest(ben.shared / "big.bin") == digest(source)
    peaks = {node.program.name: node.peak_memory() // MIB for node in (cluster.tracker, ana, ben)}
    print(f"peak resident MiB: {peaks}; {size / MIB / got['seconds']:.0f} MiB/s")
    assert max(peaks.values()) * MIB < BOUND


def test_transferring_512_mib_needs_less_than_200_mib_of_memory(cluster: Cluster, rng: random.Random) -> None:
    transfer(cluster, rng, 512 * MIB, 200)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_transferring_5_gib_needs_less_than_200_mib_of_memory(cluster: Cluster, rng: random.Random) -> None:
    if shutil.disk_usage(cluster.folder).free < 20 * 1024 * MIB:
        pytest.skip("needs 20 GiB of free disk")
    transfer(cluster, rng, 5 * 1024 * MIB + 12345, 600)
