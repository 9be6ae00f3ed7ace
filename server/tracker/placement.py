"""Who should take a copy, which holder comes first, and why. Pure: no I/O, no clock, chance is an argument."""

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from random import Random

from tracker.model import Holder, Load, PeerView

HOLDERS = 30
# Beyond this many, a random sample is as good as the whole crowd, and its cost does not grow.
SAMPLE = 200
# Beyond the sample, so many peers are looked at for all files of one request.
LOOKS = 200_000


def order_holders(holders: Sequence[Holder], distrusted: Callable[[str], bool], rng: Random) -> list[Holder]:
    """The best holders to ask, best first: trusted before reported, whole before partial, idle before busy.

    Among equals the order is random, so that a crowd of askers does not begin at the same holder.
    """
    if len(holders) > SAMPLE:
        whole = [holder for holder in holders if holder.complete]
        holders = rng.sample(whole if len(whole) >= SAMPLE else holders, SAMPLE)
    keyed = [
        ((distrusted(h.session.peer_id), not h.complete, h.load.uploads, h.load.rate, rng.random()), h) for h in holders
    ]
    if len(keyed) > HOLDERS:
        return [holder for _, holder in nsmallest(HOLDERS, keyed, key=itemgetter(0))]
    keyed.sort(key=itemgetter(0))
    return [holder for _, holder in keyed]


def why_holder(holder: Holder, distrusted: bool) -> str:
    """In words, what put a holder where it stands."""
    share = "whole" if holder.complete else "in part"
    doubt = ", reported for wrong bytes and asked last" if distrusted else ""
    return f"has it {share}, {_busy(holder.load)}{doubt}"


def rank_receivers(peers: Sequence[PeerView], size: int, asker_user: str, rng: Random) -> list[PeerView]:
    """Peers that could take a copy of so many bytes, best first: most room for its load, spread over users.

    A peer that has not told its free space yet comes after those that have. Free space counts by its power of two:
    twice the room is better, a few bytes more are not. Of a crowd a sample is ranked; the others come after it as they
    are, for files that nobody in the sample can take.
    """
    peers = [peer for peer in peers if peer.load.free_bytes >= size or not peer.load.room_told]
    others: list[PeerView] = []
    if len(peers) > SAMPLE:
        start = rng.randrange(len(peers))
        others = peers[start:] + peers[:start]
        peers = rng.sample(peers, SAMPLE)
    keyed = [
        ((not p.load.room_told, _transfers(p.load), -p.load.free_bytes.bit_length(), rng.random()), p) for p in peers
    ]
    keyed.sort(key=itemgetter(0))
    turns: Counter[str] = Counter({asker_user: 1})
    ranked: list[tuple[int, PeerView]] = []
    for _, peer in keyed:
        ranked.append((turns[peer.session.user], peer))
        turns[peer.session.user] += 1
    ranked.sort(key=itemgetter(0))
    return [peer for _, peer in ranked] + others


def choose_receivers(
    ranked: Sequence[PeerView],
    size: int,
    copies: int,
    looks: int,
    planned: Counter[str],
    holding_users: set[str],
    fit: Callable[[PeerView], bool],
) -> list[PeerView]:
    """Up to `copies` of the first `looks` ranked peers for one file, those of users without a copy before the others.

    `planned` holds what earlier files of the same request will take from each peer, and is brought up to date.
    """
    chosen: list[PeerView] = []
    users = set(holding_users)
    for second_round in (False, True):
        for peer in islice(ranked, looks):
            if len(chosen) == copies:
                break
            if peer in chosen or (peer.session.user in users and not second_round):
                continue
            room = peer.load.free_bytes - planned[peer.session.peer_id]
            if (peer.load.room_told and room < size) or not fit(peer):
                continue
            chosen.append(peer)
            users.add(peer.session.user)
    for peer in chosen:
        planned[peer.session.peer_id] += size
    return chosen


def why_receiver(peer: PeerView, holding_users: set[str]) -> str:
    """In words, what a copy is better off for at this peer."""
    room = f"{_bytes(peer.load.free_bytes)} free" if peer.load.room_told else "free space not told yet"
    spread = "its user has a copy already" if peer.session.user in holding_users else "its user has no copy yet"
    return f"{room}, {_busy(peer.load)}, {spread}"


def _transfers(load: Load) -> int:
    return load.uploads + load.downloads


def _busy(load: Load) -> str:
    return f"{load.uploads} uploads and {load.downloads} downloads running"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
