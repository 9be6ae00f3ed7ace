"""The choice of holders among many."""

from collections import Counter
from random import Random

import pytest

from tracker.models import Holder, Load, Session
from tracker.ranking import MAX_HOLDERS, SAMPLE_SIZE, order_holders, order_holders_of_name


@pytest.mark.parametrize("whole", [0, 10, SAMPLE_SIZE - 1, SAMPLE_SIZE, SAMPLE_SIZE + 1])
def test_complete_holders_are_ranked_first(whole: int) -> None:
    holders = [
        Holder(Session(f"{n:032x}", f"u{n}", f"10.0.0.1:{n + 1}", False, "", bytes(32), 0.0), Load(), n < whole)
        for n in range(2000)
    ]
    ordered = order_holders(holders, lambda peer_id: False, Random(1))
    assert len({holder.session.peer_id for holder in ordered}) == MAX_HOLDERS
    complete = [holder.complete for holder in ordered]
    assert complete == sorted(complete, reverse=True)
    assert all(complete) or whole < SAMPLE_SIZE


def held_by(user: str, count: int, first: int, *, complete: bool = True, uploads: int = 0) -> list[Holder]:
    """Holders of one user, with consecutive ids."""
    sessions = [
        Session(f"{n:032x}", user, f"10.0.0.1:{n + 1}", False, f"{n:064x}", bytes(32), 0.0)
        for n in range(first, first + count)
    ]
    return [Holder(session, Load(uploads), complete) for session in sessions]


@pytest.mark.parametrize("fakes", [MAX_HOLDERS, SAMPLE_SIZE, SAMPLE_SIZE + 1, 1000])
@pytest.mark.parametrize("most", [2, MAX_HOLDERS])
@pytest.mark.parametrize("whole", [True, False])
def test_an_account_with_many_holders_does_not_hide_other_accounts(fakes: int, most: int, whole: bool) -> None:
    (honest,) = held_by("honest", 1, 5000, complete=whole, uploads=9)
    for seed in range(20):
        holders = [*held_by("mallory", fakes, 0), honest]
        ordered = order_holders(holders, lambda peer_id: False, Random(seed), most)
        assert len(set(ordered)) == most
        assert honest in ordered
        assert ordered.index(honest) == (1 if whole else most - 1), "best first, users take turns"


def test_a_suspect_holder_comes_last_but_is_listed() -> None:
    (honest,) = held_by("honest", 1, 5000)
    ordered = order_holders([*held_by("mallory", 300, 0), honest], honest.session.peer_id.__eq__, Random(1))
    assert ordered.index(honest) == MAX_HOLDERS - 1


@pytest.mark.parametrize("others", [40, 1000])
def test_holders_of_the_name_are_listed_among_many_of_the_content(others: int) -> None:
    named = held_by("ben", 2, 5000)
    unnamed = [holder._replace(has_name=False) for n in range(others) for holder in held_by(f"u{n}", 1, n)]
    ordered = order_holders_of_name([*unnamed, *named], lambda peer_id: False, Random(1), MAX_HOLDERS)
    assert set(named) <= set(ordered)
    assert len(set(ordered)) == MAX_HOLDERS


def test_holders_that_took_the_name_leave_half_of_the_places_to_others() -> None:
    fakes = held_by("mallory", 500, 0)
    honest = [holder._replace(has_name=False) for n in range(50) for holder in held_by(f"u{n}", 1, 5000 + n)]
    ordered = order_holders_of_name([*fakes, *honest], lambda peer_id: False, Random(1), MAX_HOLDERS)
    assert len(set(honest) & set(ordered)) >= MAX_HOLDERS // 2 - 1


@pytest.mark.parametrize(
    "counts",
    [[201], [1] * 250, [1] * 199 + [900], [1] * 50 + [500], [3, 90, 5, 400], [40] * 7, [199, 1, 1], [100, 101]],
)
def test_users_take_turns_among_many_holders(counts: list[int]) -> None:
    holders = [h for user, count in enumerate(counts) for h in held_by(f"u{user}", count, user * 1000)]
    ordered = order_holders(holders, lambda peer_id: False, Random(1), SAMPLE_SIZE)
    assert len(set(ordered)) == SAMPLE_SIZE
    of_user = Counter(holder.session.user for holder in ordered)
    most = max(of_user.values())
    for user, count in enumerate(counts):
        assert of_user[f"u{user}"] in (count, most - 1, most)
