"""Who should take a copy, which holder comes first, and why. Pure: no I/O, no clock, chance is an argument."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from operator import itemgetter
from random import Random

from tracker.models import Holder, Load, OnlinePeer

MAX_HOLDERS = 30
# Beyond this many, a random sample is as good as the whole crowd, and its cost does not grow.
SAMPLE_SIZE = 200
# Beyond the sample, so many peers are looked at for all files of one request.
MAX_CANDIDATE_CHECKS = 200_000


def order_holders(
    holders: Sequence[Holder], is_suspect: Callable[[str], bool], rng: Random, max_holders: int = MAX_HOLDERS
) -> list[Holder]:
    """The best holders to ask, best first: trusted before reported, whole before partial, idle before busy.

    Which of them are named, where there are more than `most`, goes by turns between users, as does the order among
    holders that are whole and trusted alike: what holders say of themselves cannot be checked, and one account may
    have a thousand that say the best. Among equals the order is random, so that a crowd of askers does not begin at the
    same holder.
    """
    if len(holders) > SAMPLE_SIZE:
        holders = _sample_by_turns(holders, rng)
    keyed = [
        ((is_suspect(h.session.peer_id), not h.complete, h.load.uploads, h.load.rate, rng.random()), h) for h in holders
    ]
    keyed.sort(key=itemgetter(0))
    turns: dict[str, int] = {}
    in_turn: list[tuple[int, tuple[bool, bool], Holder]] = []
    for key, holder in keyed:
        user = holder.session.user
        turn = turns[user] = turns.get(user, -1) + 1
        in_turn.append((turn, key[:2], holder))
    # Each sort leaves in their order those that are equal to it.
    in_turn.sort(key=itemgetter(0))
    del in_turn[max_holders:]
    in_turn.sort(key=itemgetter(1))
    return [holder for _, _, holder in in_turn]


def _sample_by_turns(holders: Sequence[Holder], rng: Random) -> list[Holder]:
    """SAMPLE of more holders, users taking turns, whole ones first."""
    if len({holder.session.user for holder in holders}) >= SAMPLE_SIZE:
        # One of each is enough: a third of the time of what follows. Of several, chance decides where the walk begins.
        start = rng.randrange(len(holders))
        walk = [*holders[start:], *holders[:start]]
        one_of_each = {holder.session.user: holder for holder in walk if not holder.complete}
        one_of_each |= {holder.session.user: holder for holder in walk if holder.complete}
        return _some(list(one_of_each.values()), SAMPLE_SIZE, rng)
    of_user: dict[str, list[Holder]] = {}
    for holder in holders:
        of_user.setdefault(holder.session.user, []).append(holder)
    # What everybody gives who has so many, if it is the same for all: those who have fewer leave it to the others.
    share, left, users = 0, SAMPLE_SIZE, len(of_user)
    for count in sorted(map(len, of_user.values())):
        share = left // users
        if count > share:
            break
        left -= count
        users -= 1
    sample: list[Holder] = []
    last_turn: list[Holder] = []
    for own in of_user.values():
        some = _some(own, share + 1, rng)
        sample += some[:share]
        last_turn += some[share:]
    return sample + _some(last_turn, SAMPLE_SIZE - len(sample), rng)


def _some(holders: list[Holder], count: int, rng: Random) -> list[Holder]:
    """Up to so many by chance, whole ones before the others."""
    if len(holders) <= count:
        return holders
    whole = [holder for holder in holders if holder.complete]
    if len(whole) >= count:
        return rng.sample(whole, count)
    return whole + rng.sample([holder for holder in holders if not holder.complete], count - len(whole))


def explain_holder(holder: Holder, suspect: bool) -> str:
    """In words, what put a holder where it stands."""
    share = "whole" if holder.complete else "in part"
    doubt = ", reported for wrong bytes and asked last" if suspect else ""
    return f"has it {share}, {_busy(holder.load)}{doubt}"


def rank_receivers(peers: Sequence[OnlinePeer], size: int, uploader_user: str, rng: Random) -> list[OnlinePeer]:
    """Peers that could take a copy of so many bytes, best first: most room for its load, spread over users.

    A peer that has not told its free space yet comes after those that have. Free space counts by its power of two:
    twice the room is better, a few bytes more are not. Of a crowd a sample is ranked; the others come after it as they
    are, for files that nobody in the sample can take.
    """
    peers = [peer for peer in peers if peer.load.free_bytes >= size or not peer.load.free_bytes_known]
    others: list[OnlinePeer] = []
    if len(peers) > SAMPLE_SIZE:
        start = rng.randrange(len(peers))
        others = peers[start:] + peers[:start]
        peers = rng.sample(peers, SAMPLE_SIZE)
    keyed = [
        ((not p.load.free_bytes_known, _transfers(p.load), -p.load.free_bytes.bit_length(), rng.random()), p)
        for p in peers
    ]
    keyed.sort(key=itemgetter(0))
    turns: Counter[str] = Counter({uploader_user: 1})
    ranked: list[tuple[int, OnlinePeer]] = []
    for _, peer in keyed:
        ranked.append((turns[peer.session.user], peer))
        turns[peer.session.user] += 1
    ranked.sort(key=itemgetter(0))
    return [peer for _, peer in ranked] + others


def choose_receivers(
    ranked: Sequence[OnlinePeer],
    size: int,
    copies: int,
    max_candidates: int,
    planned: Counter[str],
    users_with_copy: set[str],
    can_receive: Callable[[OnlinePeer], bool],
) -> list[OnlinePeer]:
    """Up to `copies` of the first `looks` ranked peers for one file, those of users without a copy before the others.

    `planned` holds what earlier files of the same request will take from each peer, and is brought up to date.
    """
    chosen: list[OnlinePeer] = []
    users = set(users_with_copy)
    for second_round in (False, True):
        for peer in islice(ranked, max_candidates):
            if len(chosen) == copies:
                break
            if peer in chosen or (peer.session.user in users and not second_round):
                continue
            room = peer.load.free_bytes - planned[peer.session.peer_id]
            if (peer.load.free_bytes_known and room < size) or not can_receive(peer):
                continue
            chosen.append(peer)
            users.add(peer.session.user)
    for peer in chosen:
        planned[peer.session.peer_id] += size
    return chosen


def explain_receiver(peer: OnlinePeer, users_with_copy: set[str]) -> str:
    """In words, what a copy is better off for at this peer."""
    room = f"{_bytes(peer.load.free_bytes)} free" if peer.load.free_bytes_known else "free space not told yet"
    spread = "its user has a copy already" if peer.session.user in users_with_copy else "its user has no copy yet"
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
