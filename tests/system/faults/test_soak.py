"""Hours of transfers with random faults: no corrupt file is published, and no resource leaks.

P2P_SOAK_SECONDS is the duration; an hour by default.
"""

import os
import random
import time
from pathlib import Path

import pytest

from eventually import eventually
from system.cluster import Cluster, Peer
from system.faults.transfer_calls import download, remove, upload
from system.payload import digest, make_file

MIB = 1 << 20
SECONDS = float(os.environ.get("P2P_SOAK_SECONDS") or 3600)
# Number of samples of an idle peer. Caches and pools are warm after the first one.
SAMPLES = 10
# Samples differ by some MiB, so the mean of the last ones is compared with that of the first warm ones.
MEAN_OF = 3
GROWTH = 1.05
SLACK_FILES = 6


def open_files(peer: Peer) -> int:
    return len(os.listdir(f"/proc/{peer.program.pid}/fd"))


def threads(peer: Peer) -> int:
    return len(os.listdir(f"/proc/{peer.program.pid}/task"))


def memory(peer: Peer) -> int:
    return int(Path(f"/proc/{peer.program.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def use(peer: Peer) -> tuple[int, int, int]:
    return open_files(peer), threads(peer), memory(peer)


@pytest.mark.long
@pytest.mark.timeout(SECONDS * 2 + 600)
def test_a_soak_with_random_faults_leaks_nothing(cluster: Cluster, rng: random.Random) -> None:
    # ana runs all the time; ben and cid are killed and restarted.
    ana = cluster.peer("ana", UPLOAD_LIMIT="32M", QUOTA="1G")
    others = [cluster.peer(name, UPLOAD_LIMIT="32M", QUOTA="1G") for name in ("ben", "cid")]
    truth = {}
    for number in range(6):
        name = f"{number}.bin"
        truth[name] = digest(make_file(ana.home / name, rng.randrange(4 * MIB), rng))
    assert len(upload(ana, *truth, copies=2).wait().uploaded) == len(truth)
    samples: list[tuple[int, int, int]] = []
    rounds = 0
    start = time.monotonic()
    while len(samples) < SAMPLES:
        rounds += 1
        a_round(cluster, ana, others, truth, rng)
        if time.monotonic() - start > SECONDS * (len(samples) + 1) / SAMPLES:
            samples.append(idle_use(ana))
            print(f"after {rounds} rounds, {time.monotonic() - start:.0f} s: {samples[-1]}", flush=True)
    warm, last = means(samples[1 : 1 + MEAN_OF]), means(samples[-MEAN_OF:])
    print(f"grew by {last[2] / warm[2] - 1:.1%}")
    assert last[0] <= warm[0] + SLACK_FILES
    assert last[1] <= warm[1] + SLACK_FILES
    assert last[2] <= warm[2] * GROWTH


def means(samples: list[tuple[int, int, int]]) -> tuple[float, ...]:
    return tuple(sum(figures) / len(samples) for figures in zip(*samples, strict=True))


def idle_use(peer: Peer) -> tuple[int, int, int]:
    """Return the use of an idle peer, which has closed connections and trimmed memory; each takes ten idle seconds."""
    eventually(lambda: not peer.status().transfers, 30)
    quiet = time.monotonic() + 25
    eventually(lambda: time.monotonic() > quiet, 30, every=0.5)
    return use(peer)


def a_round(cluster: Cluster, ana: Peer, others: list[Peer], truth: dict[str, str], rng: random.Random) -> None:
    """Run a download with a fault in its middle, and check the result."""
    peers = [ana, *others]
    requester = rng.choice(peers)
    names = rng.sample(sorted(truth), rng.randrange(1, len(truth)))
    eventually(lambda: all((requester.shared / name).exists() for name in names) or fetch(requester, names))
    remove(requester, *names)
    call = download(requester, *names)
    victim = rng.choice(others)
    pause = time.monotonic() + rng.uniform(0, 0.5)
    eventually(lambda: time.monotonic() > pause, every=0.01)
    match rng.randrange(5):
        case 0:
            victim.kill()
            victim.start()
        case 1:
            victim.freeze()
            thaw = time.monotonic() + rng.uniform(0.2, 7)
            eventually(lambda: time.monotonic() > thaw, 10)
            victim.thaw()
        case 2:
            cluster.tracker.kill()
            cluster.tracker.start()
        case 3:
            assert victim.terminate() == 0
            victim.start()
        case _:
            pass
    call.wait(100)
    eventually(lambda: fetch(requester, names), 100, every=0.5)
    for name in names:
        assert digest(requester.shared / name) == truth[name], (requester.address, name)


def fetch(peer: Peer, names: list[str]) -> bool:
    """Download missing files; return whether all exist now."""
    outcome = download(peer, *names).wait(100)
    return outcome.broken_by is None and not outcome.faults
