"""Who should take a copy, out of a crowd."""

from collections import Counter
from random import Random

import pytest

from tracker.model import Holder, Load, PeerView, Session
from tracker.placement import HOLDERS, LOOKS, SAMPLE, choose_receivers, order_holders, rank_receivers, why_receiver


def crowd(room: list[int]) -> list[PeerView]:
    return [
        PeerView(
            Session(f"{n:032x}", f"u{n}", f"10.0.0.1:{n + 1}", False, f"{n:064x}", bytes(32), 0.0),
            Load(free_bytes=free, room_told=True),
            files=0,
            last_seen=1.0,
        )
        for n, free in enumerate(room)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_few_of_a_crowd_that_have_room_are_found(seed: int) -> None:
    ranked = rank_receivers(crowd([0] * 994 + [100] * 6), 50, "ana", Random(seed))
    assert len(choose_receivers(ranked, 50, 30, LOOKS, Counter(), set(), lambda peer: True)) == 6


@pytest.mark.parametrize("seed", range(20))
def test_the_few_of_a_crowd_that_have_room_for_the_largest_file_are_found(seed: int) -> None:
    ranked = rank_receivers(crowd([10] * 994 + [100] * 6), 1, "ana", Random(seed))
    assert len(choose_receivers(ranked, 50, 30, LOOKS, Counter(), set(), lambda peer: True)) == 6


@pytest.mark.parametrize("seed", range(20))
def test_the_few_of_a_crowd_that_lack_the_file_are_found(seed: int) -> None:
    peers = crowd([100] * 1000)
    lacking = {peer.session.peer_id for peer in peers[:3]}
    ranked = rank_receivers(peers, 50, "ana", Random(seed))
    chosen = choose_receivers(ranked, 50, 30, LOOKS, Counter(), set(), lambda peer: peer.session.peer_id in lacking)
    assert {peer.session.peer_id for peer in chosen} == lacking


@pytest.mark.parametrize("whole", [0, 10, SAMPLE - 1, SAMPLE, SAMPLE + 1])
def test_of_a_crowd_of_holders_the_whole_ones_come_first(whole: int) -> None:
    holders = [Holder(peer.session, Load(), n < whole) for n, peer in enumerate(crowd([0] * 2000))]
    ordered = order_holders(holders, lambda peer_id: False, Random(1))
    assert len({holder.session.peer_id for holder in ordered}) == HOLDERS
    complete = [holder.complete for holder in ordered]
    assert complete == sorted(complete, reverse=True)
    assert all(complete) or whole < SAMPLE


@pytest.mark.parametrize(
    ("free", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (5 << 20, "5 MiB"), (7 << 30, "7 GiB"), (3 << 39, "1.5 TiB")],
)
def test_the_room_at_a_receiver_is_told_in_words(free: int, words: str) -> None:
    (peer,) = crowd([free])
    assert why_receiver(peer, set()).startswith(f"{words} free, ")
