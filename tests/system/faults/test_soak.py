"""Hours of transfers among faults of all kinds: nothing wrong gets a name, and nothing grows.

P2P_SOAK_SECONDS says how long; an hour unless told otherwise.
"""

import os
import random
import time
from pathlib import Path

import pytest

from eventually import eventually
from system.cluster import Cluster, Peer
from system.faults.transfer_calls import TransferCall, download, remove, upload
from system.payload import digest, make_file

MIB = 1 << 20
SECONDS = float(os.environ.get("P2P_SOAK_SECONDS") or 3600)
# So often all is let come to rest, to see what is left in use. After the first look all is warm.
LOOKS = 10
# A look differs from the next by some MiB: the mean of so many last ones is compared with that of the first warm ones.
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
def test_a_soak_with_random_faults_leaves_nothing_behind(cluster: Cluster, rng: random.Random) -> None:
    # Ana lives through it all; the others come and go.
    ana = cluster.peer("ana", UPLOAD_LIMIT="32M", QUOTA="1G")
    others = [cluster.peer(name, UPLOAD_LIMIT="32M", QUOTA="1G") for name in ("ben", "cid")]
    truth = {}
    for number in range(6):
        name = f"{number}.bin"
        truth[name] = digest(make_file(ana.home / name, rng.randrange(4 * MIB), rng))
    assert len(upload(ana, *truth, copies=2).wait().uploaded) == len(truth)
    looks: list[tuple[int, int, int]] = []
    rounds = 0
    start = time.monotonic()
    while len(looks) < LOOKS:
        rounds += 1
        a_round(cluster, ana, others, truth, rng)
        if time.monotonic() - start > SECONDS * (len(looks) + 1) / LOOKS:
            looks.append(rest(ana))
            print(f"after {rounds} rounds, {time.monotonic() - start:.0f} s: {looks[-1]}", flush=True)
    warm, last = means(looks[1 : 1 + MEAN_OF]), means(looks[-MEAN_OF:])
    print(f"grew by {last[2] / warm[2] - 1:.1%}")
    assert last[0] <= warm[0] + SLACK_FILES
    assert last[1] <= warm[1] + SLACK_FILES
    assert last[2] <= warm[2] * GROWTH


def means(looks: list[tuple[int, int, int]]) -> tuple[float, ...]:
    return tuple(sum(figures) / len(looks) for figures in zip(*looks, strict=True))


def rest(peer: Peer) -> tuple[int, int, int]:
    """What a peer uses once it has let its connections go and given free memory back: each takes ten quiet seconds."""
    eventually(lambda: not peer.status().transfers, 30)
    quiet = time.monotonic() + 25
    eventually(lambda: time.monotonic() > quiet, 30, every=0.5)
    return use(peer)


def a_round(cluster: Cluster, ana: Peer, others: list[Peer], truth: dict[str, str], rng: random.Random) -> None:
    """Some transfers, a fault in the midst of them, and a look at what became of it all."""
    askers = [ana, *others]
    wanted: list[tuple[Peer, list[str], TransferCall]] = []
    loser = rng.choice(askers)
    names = rng.sample(sorted(truth), rng.randrange(1, len(truth)))
    eventually(lambda: {name for name in names if (loser.shared / name).exists()} == set(names) or fetch(loser, names))
    remove(loser, *names)
    wanted.append((loser, names, download(loser, *names)))
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
    for peer, asked, order in wanted:
        order.wait(100)
        eventually(lambda: fetch(peer, asked), 100, every=0.5)  # noqa: B023
        for name in asked:
            assert digest(peer.shared / name) == truth[name], (peer.address, name)


def fetch(peer: Peer, names: list[str]) -> bool:
    """Download what is not there; tell whether all is."""
    outcome = download(peer, *names).wait(100)
    return outcome.broken_by is None and not outcome.faults
