"""Which peers should store a copy, which holders come first, and why. Pure: no I/O or clock; the RNG is an argument."""

from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from random import Random

from tracker.models import Holder, Load, OnlinePeer
from tracker.placement import Receiver

# Holders in one response.
MAX_HOLDERS = 30
# Of more peers than these a random sample is ranked: it is as good, at a cost that does not grow.
SAMPLE_SIZE = 200


def order_holders(
    holders: Sequence[Holder], is_suspect: Callable[[str], bool], rng: Random, max_holders: int = MAX_HOLDERS
) -> list[Holder]:
    """Choose and order the best holders for a requester.

    Suspect holders come last, then partial ones; among the rest idle ones come first. Users take turns, both in the
    choice and in the order, because loads cannot be verified: one account can have a thousand holders that report the
    best load. Equal holders are in random order, so that many requesters do not start at the same one.

    Args:
        holders: all usable holders.
        is_suspect: peer id -> whether the holder is suspect for the requester.
        rng: breaks ties.
        max_holders: length of the result.
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
    # Sorts are stable: within a turn and a class the order by load stays.
    in_turn.sort(key=itemgetter(0))
    del in_turn[max_holders:]
    in_turn.sort(key=itemgetter(1))
    return [holder for _, _, holder in in_turn]


def order_holders_of_name(
    holders: Sequence[Holder], is_suspect: Callable[[str], bool], rng: Random, max_holders: int
) -> list[Holder]:
    """Choose and order holders as order_holders, but leave half of the places to those that have the name, too.

    An uploader counts the copies of its name in the result, and many peers may have an empty file under other names.
    No more than half, because an account can give the name to content that it does not send.
    """
    if len(holders) > max_holders:
        named = [holder for holder in holders if holder.has_name]
        if 0 < len(named) < len(holders):
            first = order_holders(named, is_suspect, rng, (max_holders + 1) // 2)
            known = {holder.session.peer_id for holder in first}
            others = [holder for holder in holders if holder.session.peer_id not in known]
            holders = [*first, *order_holders(others, is_suspect, rng, max_holders - len(first))]
    return order_holders(holders, is_suspect, rng, max_holders)


def _sample_by_turns(holders: Sequence[Holder], rng: Random) -> list[Holder]:
    """Choose SAMPLE_SIZE of more holders; users take turns, complete holders come first."""
    if len({holder.session.user for holder in holders}) >= SAMPLE_SIZE:
        # One holder per user suffices, which takes a third of the time of the general case. A random start chooses it.
        start = rng.randrange(len(holders))
        rotated = [*holders[start:], *holders[:start]]
        one_of_each = {holder.session.user: holder for holder in rotated if not holder.complete}
        one_of_each |= {holder.session.user: holder for holder in rotated if holder.complete}
        return _choose(list(one_of_each.values()), SAMPLE_SIZE, rng)
    of_user: dict[str, list[Holder]] = {}
    for holder in holders:
        of_user.setdefault(holder.session.user, []).append(holder)
    # Equal shares for all users with enough holders; what a user with fewer leaves is shared by the users after it.
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
        some = _choose(own, share + 1, rng)
        sample += some[:share]
        last_turn += some[share:]
    return sample + _choose(last_turn, SAMPLE_SIZE - len(sample), rng)


def _choose(holders: list[Holder], count: int, rng: Random) -> list[Holder]:
    """Choose up to `count` holders at random, complete ones first."""
    if len(holders) <= count:
        return holders
    complete = [holder for holder in holders if holder.complete]
    if len(complete) >= count:
        return rng.sample(complete, count)
    return complete + rng.sample([holder for holder in holders if not holder.complete], count - len(complete))


def explain_holder(holder: Holder, suspect: bool) -> str:
    """Explain in words the place of a holder in the order."""
    share = "complete" if holder.complete else "partial"
    suspicion = ", last because it was reported for corrupt data" if suspect else ""
    return f"{share}, {_describe_load(holder.load)}{suspicion}"


def rank_receivers(peers: Sequence[OnlinePeer], size: int, uploader_user: str, rng: Random) -> list[OnlinePeer]:
    """Rank the peers that have room for a copy, best first.

    Idle peers come first, then those with more free space by its power of two, so that a few bytes more do not count.
    Users take turns. A peer with unknown free space comes after the others. Of more than SAMPLE_SIZE peers a sample is
    ranked; the rest follows unranked, for files that no peer of the sample can store.

    Args:
        peers: the online peers except the uploader's.
        size: bytes of the smallest file.
        uploader_user: the uploader's user, whose other peers come one turn later.
        rng: chooses the sample and breaks ties.
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


def explain_receiver(receiver: Receiver, *, user_has_copy: bool) -> str:
    """Explain in words why a receiver was chosen."""
    peer = receiver.peer
    room = f"{_format_size(peer.load.free_bytes)} free" if peer.load.free_bytes_known else "free space unknown"
    if receiver.has_content:
        room = "has the content under another name"
    spread = "its user has a copy" if user_has_copy else "its user has no copy yet"
    return f"{room}, {_describe_load(peer.load)}, {spread}"


def _transfers(load: Load) -> int:
    return load.uploads + load.downloads


def _describe_load(load: Load) -> str:
    return f"{load.uploads} uploads and {load.downloads} downloads running"


def _format_size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
