"""The choice of receivers for the files of one request."""

from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.models import Copies, Holder, Load, OnlinePeer, ReceiverCheck, Session
from tracker.placement import ReceiverPlan, WantedFile
from tracker.ranking import SAMPLE_SIZE, explain_receiver, rank_receivers

Allowed = Callable[[ReceiverCheck], bool]
File = tuple[WantedFile, Copies]


def peer(number: int, free: int, user: str | None = None) -> OnlinePeer:
    session = Session(
        f"{number:032x}", user or f"u{number}", f"10.0.0.1:{number + 1}", False, f"{number:064x}", bytes(32), 0.0
    )
    return OnlinePeer(session, Load(free_bytes=free, free_bytes_known=True), files=0, last_seen=1.0)


def crowd(room: Sequence[int]) -> list[OnlinePeer]:
    return [peer(number, free) for number, free in enumerate(room)]


def file(name: str, contents: int = 1, size: int = 50, users: Sequence[str] = (), has: Sequence[int] = ()) -> File:
    """A file to place; `users` have it, and the peers with the numbers `has` have its content under another name."""
    holders = [Holder(peer(number, 0).session, Load(), complete=True, has_name=False) for number in has]
    return WantedFile(name, name, bytes([contents]) * 32, size), Copies(set(users), holders)


class Asked:
    """The index's part: answers as `allowed` says, and counts."""

    def __init__(self, allowed: Allowed = lambda check: True) -> None:
        self.allowed = allowed
        self.requests = 0
        self.checks = 0

    def __call__(self, checks: Sequence[ReceiverCheck]) -> list[bool]:
        self.requests += 1
        self.checks += len(checks)
        return [self.allowed(check) for check in checks]


def plan_for(files: Sequence[File], copies: int, index: Asked) -> ReceiverPlan:
    return ReceiverPlan([wanted for wanted, _ in files], [found for _, found in files], copies, "ana", index)


def place(
    files: Sequence[File], peers: Sequence[OnlinePeer], copies: int = 1, index: Asked | None = None
) -> list[list[int]]:
    """Numbers of the receivers of each file."""
    plan = plan_for(files, copies, index or Asked())
    plan.choose(peers)
    return [[int(each.peer.session.peer_id, 16) for each in chosen] for chosen in plan.receivers()]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("smallest", "room"), [(50, 0), (1, 10)])
def test_the_few_peers_with_room_are_found_among_many(seed: int, smallest: int, room: int) -> None:
    ranked = rank_receivers(crowd([room] * 994 + [100] * 6), smallest, "ana", Random(seed))
    (chosen,) = place([file("a")], ranked, 30)
    assert sorted(chosen) == list(range(994, 1000))


@pytest.mark.parametrize("seed", range(20))
def test_the_few_peers_without_the_file_are_found_among_many_in_a_few_requests(seed: int) -> None:
    index = Asked(lambda check: int(check[0], 16) < 3)
    (chosen,) = place([file("a")], rank_receivers(crowd([100] * 1000), 50, "ana", Random(seed)), 30, index)
    assert sorted(chosen) == [0, 1, 2]
    assert index.requests <= 6


def test_many_files_that_fit_are_one_request_with_one_check_for_each_copy() -> None:
    index = Asked()
    chosen = place([file(f"f{n}", n) for n in range(200)], crowd([10**6] * 300), 3, index)
    assert chosen == [[0, 1, 2]] * 200
    assert (index.requests, index.checks) == (1, 600)


def test_a_file_that_no_candidate_can_store_has_no_receiver_and_the_others_have() -> None:
    index = Asked(lambda check: check[1] != "no")
    assert place([file("no", 1), file("yes", 2)], crowd([100] * 500), 1, index) == [[], [0]]
    assert index.requests <= 6


def test_room_that_a_refusal_frees_is_used_by_another_file() -> None:
    """The first file was planned for the only peer, which then turns out to have other content under its name."""
    assert place([file("no", 1), file("yes", 2)], crowd([60]), 1, Asked(lambda check: check[1] == "yes")) == [[], [0]]


def test_files_share_the_room_of_a_receiver_and_the_names_of_one_content_need_it_once() -> None:
    files = [file("a", 1), file("b", 1), file("c", 2), file("d", 2), file("e", 1)]
    assert place(files, crowd([60, 60])) == [[0], [0], [1], [1], [0]]


def test_each_name_of_one_content_goes_to_the_receivers_of_the_first() -> None:
    files = [file(name) for name in "abc"]
    assert place(files, crowd([100] * 50), 3) == [[0, 1, 2]] * 3
    # A peer that cannot store one of the names is replaced for this name only.
    refused = Asked(lambda check: check[:2] != (f"{1:032x}", "b"))
    assert place(files, crowd([100] * 50), 3, refused) == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


def test_a_peer_with_the_content_comes_first_and_needs_no_room_for_another_name() -> None:
    assert place([file("b", has=[7, 8])], crowd([100] * 5), 3) == [[7, 8, 0]]
    plan = plan_for([file("b", has=[7])], 2, Asked())
    plan.choose(crowd([100]))
    (first, second) = plan.receivers()[0]
    assert "has the content under another name" in explain_receiver(first, user_has_copy=False)
    assert "100 B free" in explain_receiver(second, user_has_copy=False)


def test_a_peer_with_the_content_whose_user_has_the_file_comes_after_new_users() -> None:
    (chosen,) = place([file("b", users=["u7"], has=[7])], crowd([100] * 2), 3)
    assert chosen == [0, 1, 7]


def test_more_candidates_keep_the_receivers_that_were_chosen() -> None:
    plan = plan_for([file("a", 1), file("b", 2)], 2, Asked(lambda check: check[1:] != ("b", bytes([2]) * 32)))
    plan.choose(crowd([100]))
    assert not plan.is_complete()
    plan.choose(crowd([100] * 3))
    assert [[int(each.peer.session.peer_id, 16) for each in chosen] for chosen in plan.receivers()] == [[0, 1], []]
    assert not plan.is_complete()


PEERS = st.lists(st.tuples(st.integers(0, 120), st.sampled_from(["ana", "bob", "eve", "zoe"])), max_size=12)
FILES = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 3)), max_size=8, unique=True)
# Who has which content already.
HAS = st.fixed_dictionaries(dict.fromkeys((1, 2, 3), st.sets(st.integers(0, 11), max_size=3)))


@given(PEERS, FILES, HAS, st.integers(1, 4), st.sets(st.tuples(st.integers(0, 11), st.sampled_from("abcdef"))))
@settings(deadline=None, max_examples=300)
def test_receivers_have_room_and_are_missing_only_if_no_peer_is_left(
    some: list[tuple[int, str]],
    wanted: list[tuple[str, int]],
    has: dict[int, set[int]],
    copies: int,
    refusals: set[tuple[int, str]],
) -> None:
    peers = [peer(number, free, user) for number, (free, user) in enumerate(some)]
    files = [file(name, id_, 10 * id_, has=[n for n in has[id_] if n < len(peers)]) for name, id_ in wanted]
    chosen = place(files, peers, copies, Asked(lambda check: (int(check[0], 16), check[1]) not in refusals))
    used: dict[int, dict[int, int]] = {number: {} for number in range(len(peers))}
    for (each, _), receivers in zip(files, chosen, strict=True):
        assert len(set(receivers)) == len(receivers) <= copies
        assert not any((number, each.folded) in refusals for number in receivers)
        for number in set(receivers) - has[each.id[0]]:
            used[number][each.id[0]] = each.size
    for number, candidate in enumerate(peers):
        assert sum(used[number].values()) <= candidate.load.free_bytes
    for (each, _), receivers in zip(files, chosen, strict=True):
        if len(receivers) == copies:
            continue
        for number, candidate in enumerate(peers):
            room = candidate.load.free_bytes - sum(used[number].values())
            if number not in receivers and (number, each.folded) not in refusals:
                needs_bytes = each.id[0] not in used[number] and number not in has[each.id[0]]
                assert needs_bytes and room < each.size, f"{number} could store {each.folded}"


@pytest.mark.parametrize(
    ("free", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (5 << 20, "5 MiB"), (7 << 30, "7 GiB"), (3 << 39, "1.5 TiB")],
)
def test_the_reason_names_the_free_space_of_a_receiver(free: int, words: str) -> None:
    plan = plan_for([file("a", size=0)], 1, Asked())
    plan.choose([peer(1, free)])
    assert explain_receiver(plan.receivers()[0][0], user_has_copy=False).startswith(f"{words} free, ")


def test_a_sample_of_candidates_is_ranked_and_the_others_follow() -> None:
    ranked = rank_receivers(crowd([100] * 1000), 50, "ana", Random(1))
    assert len({each.session.peer_id for each in ranked}) == 1000
    assert len({each.session.peer_id for each in ranked[:SAMPLE_SIZE]}) == SAMPLE_SIZE
