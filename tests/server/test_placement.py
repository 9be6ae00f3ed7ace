"""Who should take a copy, out of a crowd."""

from collections import Counter
from random import Random

import pytest

from tracker.model import Load, PeerView, Session
from tracker.placement import LOOKS, choose_receivers, rank_receivers


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
