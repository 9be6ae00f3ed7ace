"""The picker's choices, one by one; tests/peer/test_swarm_simulation.py has them all together."""

import tracemalloc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.storage.manifest import PIECES_MAX
from daemon.swarm.piece_picker import PARTIAL_PIECES, SILENCE, WINDOW, Ask, Picker
from daemon.swarm.source import State

MIB = 1 << 20
PIECES = 40


def picker(pieces: int = PIECES, have: tuple[int, ...] = (), first: int = 0) -> Picker:
    return Picker(pieces, have, lambda piece: MIB, choose=lambda n: first % n)


def seeder(p: Picker, name: str = "ana", now: float = 0.0) -> None:
    p.add(name, now)
    p.has(name, (1 << PIECES) - 1, whole=True)


def partial(p: Picker, name: str, pieces: int, now: float = 0.0) -> None:
    p.add(name, now)
    p.has(name, pieces, whole=False)


def asks(p: Picker, now: float = 0.0) -> list[Ask]:
    """Everything that is asked for now."""
    asked = []
    while (ask := p.next(now)) is not None:
        asked.append(ask)
    return asked


def arrive(p: Picker, ask: Ask, now: float) -> None:
    p.heard(ask.holder, MIB, now)
    p.arrived(ask.holder, ask.piece, now)


def test_a_holder_that_gives_without_end_costs_little_memory() -> None:
    p = picker(PIECES_MAX)
    p.add("liar", 0)
    p.has("liar", (1 << PIECES_MAX) - 1, whole=True)
    tracemalloc.start()
    try:
        for _ in range(10_000):
            p.given("liar", [PIECES_MAX - 1], 0.0)
        assert tracemalloc.get_traced_memory()[0] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_nobody_is_asked_before_it_says_what_it_has() -> None:
    p = picker()
    assert p.next(0) is None
    p.add("ana", 0)
    assert p.next(0) is None and not p.wanted_from("ana")
    seeder(p)
    assert p.next(0) == Ask("ana", 0, 64 << 10)


def test_what_is_there_is_not_asked_for() -> None:
    p = picker(3, have=(0, 2))
    p.add("ana", 0)
    p.has("ana", 0b111, whole=True)
    assert [ask.piece for ask in asks(p)] == [1]
    p.arrived("ana", 1, 1)
    assert p.done and p.missing == 0


def test_an_empty_file_is_there_at_once() -> None:
    assert Picker(0, (), lambda piece: 0, choose=lambda n: 0).done


def test_an_untried_holder_gets_a_piece_or_two_and_a_fast_one_the_window() -> None:
    p = picker()
    seeder(p)
    first = asks(p)
    assert len(first) == 2
    for ask in first:
        arrive(p, ask, 0.01 * (ask.piece + 1))
    assert len(asks(p, 0.03)) == WINDOW


def test_the_rarest_is_asked_first() -> None:
    p = picker()
    partial(p, "ana", 0b1111)
    partial(p, "ben", 0b0111)
    partial(p, "cia", 0b0011)
    assert next(ask.piece for ask in asks(p) if ask.holder == "ana") == 3


def test_two_askers_of_one_holder_begin_at_different_places() -> None:
    p, q = picker(first=3), picker(first=30)
    seeder(p)
    seeder(q)
    assert p.next(0) != q.next(0)


def test_a_holder_is_asked_for_pieces_in_a_row() -> None:
    starts = [7]
    p = Picker(PIECES, (), lambda piece: MIB, choose=lambda n: starts.pop() if starts else 30)
    seeder(p)
    for ask in asks(p):
        arrive(p, ask, 0.01)
    assert [ask.piece for ask in asks(p, 0.01)] == list(range(9, 9 + WINDOW))


def test_a_seeder_is_asked_for_what_nobody_else_has() -> None:
    p = picker()
    seeder(p)
    partial(p, "ben", (1 << 39) - 1)
    assert {(ask.holder, ask.piece) for ask in asks(p)} >= {("ana", 39), ("ben", 0)}


def test_what_a_seeder_gives_to_another_is_left_alone_and_unasked_until_that_is_late() -> None:
    p = picker()
    seeder(p)
    assert [ask.piece for ask in asks(p)] == [0, 1]
    assert [tuple(cancel) for cancel in p.given("ana", [1, 2, 3], 0.0)] == [("ana", 1)]
    assert [ask.piece for ask in asks(p)] == [4]
    # One that has begun is not taken back.
    p.heard("ana", 1000, 0.1)
    assert p.given("ana", [0], 0.1) == []
    # Promises end.
    p.given("ana", range(5, PIECES), 0.1)
    arrive(p, Ask("ana", 0, 0), 0.2)
    assert asks(p, 0.2) == []
    assert asks(p, 100.0) != []


def test_files_that_nobody_announces_in_part_know_no_promises() -> None:
    p = picker(PARTIAL_PIECES)
    p.add("ana", 0)
    p.has("ana", (1 << PARTIAL_PIECES) - 1, whole=True)
    assert p.given("ana", range(PARTIAL_PIECES), 0) == []
    assert asks(p) != []


def test_a_liar_cannot_make_the_levels_grow() -> None:
    p = picker()
    for number in range(300):
        partial(p, f"peer{number}", 1)
    p.given("peer0", [10**9, -1 % 2**32, *range(PIECES)] * 100, 0)
    p.gained("peer0", [10**9, *range(PIECES)] * 100)
    assert len(p._levels) <= 64
    for number in range(300):
        p.drop(f"peer{number}", "gone")
    assert p.next(0) is None


def test_a_large_bitmap_is_taken_at_once() -> None:
    p = Picker(1 << 16, (), lambda piece: MIB, choose=lambda n: 0)
    for number in range(200):
        p.add(f"peer{number}", 0)
        p.has(f"peer{number}", (1 << (1 << 16)) - 1, whole=False)
    assert p.next(0) is not None


def test_a_silent_holder_loses_its_pieces_to_others_until_it_sends_again() -> None:
    p = picker()
    seeder(p, "ana")
    mine = asks(p)
    seeder(p, "ben", 1.0)
    assert p.overdue(SILENCE - 0.1) == []
    assert {(cancel.holder, cancel.piece) for cancel in p.overdue(SILENCE)} == {("ana", ask.piece) for ask in mine}
    assert [(h.holder, h.state, h.why) for h in p.holders()] == [
        ("ana", State.STALLED, "sent nothing for 5 s"),
        ("ben", State.ACTIVE, ""),
    ]
    assert {ask.holder for ask in asks(p, SILENCE)} == {"ben"}
    p.heard("ana", 1, SILENCE + 1)
    assert p.state("ana") is State.ACTIVE


def test_silence_counts_from_when_it_was_asked() -> None:
    p = picker()
    seeder(p, "ana")
    seeder(p, "ben")
    for ask in asks(p, 100.0):
        assert p.overdue(100.0 + SILENCE - 0.1) == []
        arrive(p, ask, 100.0 + SILENCE - 0.1)
    view = {holder.holder: holder for holder in p.holders()}
    assert view["ana"].rate == pytest.approx(2 * MIB / (SILENCE - 0.1), rel=0.01)
    assert view["ana"].bytes == 2 * MIB


def test_the_last_holder_keeps_its_pieces() -> None:
    p = picker()
    seeder(p, "ana")
    asks(p)
    assert p.overdue(1000) == []
    assert p.state("ana") is State.ACTIVE


def test_one_that_drips_is_too_late_for_its_piece() -> None:
    p = picker()
    seeder(p, "ana")
    asks(p)
    seeder(p, "ben")
    for second in range(26):
        p.heard("ana", 1, float(second))
        assert p.overdue(float(second)) == []
    p.heard("ana", 1, 27.0)
    assert p.overdue(27.0) != []
    assert [h.why for h in p.holders()] == ["too slow for its piece", ""]


def test_a_failure_rests_longer_each_time_and_good_work_is_forgiven() -> None:
    p = picker()
    rests = []
    for _ in range(7):
        p.failed("ana", "broke", 0.0)
        assert not p.may_dial("ana", 0.0)
        rests.append(next(t / 10 for t in range(200) if p.may_dial("ana", t / 10)))
        p.add("ana", 0.0)
    assert rests == [0.5, 1, 2, 4, 8, 10, 10]
    seeder(p)
    arrive(p, asks(p)[0], 1)
    p.failed("ana", "broke", 1.0)
    assert p.may_dial("ana", 1.5)


def test_pieces_of_one_that_failed_are_somebody_elses() -> None:
    p = picker()
    seeder(p, "ana")
    lost = {ask.piece for ask in asks(p)}
    p.failed("ana", "broke", 0.0)
    seeder(p, "ben")
    assert lost & {ask.piece for ask in asks(p)}
    assert p.in_flight == 2


def test_one_that_sent_a_bad_piece_is_out_for_good() -> None:
    p = picker()
    seeder(p)
    asks(p)
    p.drop("ana", "piece 0 did not verify")
    p.failed("ana", "broke", 0.0)
    p.add("ana", 1.0)
    seeder(p)
    assert (p.state("ana"), p.next(100), p.may_dial("ana", 100)) == (State.DROPPED, None, False)


@pytest.mark.parametrize("begun", [False, True])
def test_at_the_end_an_idle_holder_takes_over_what_is_late(begun: bool) -> None:
    p = picker(2)
    for name in ("slow", "fast"):
        p.add(name, 0)
        p.has(name, 0b11, whole=True)
    assert [(ask.holder, ask.piece) for ask in asks(p)] == [("slow", 0), ("fast", 1)]
    arrive(p, Ask("fast", 1, 0), 0.1)
    if begun:
        p.heard("slow", 1000, 1.0)
    [again] = asks(p, 1.0)
    assert (again.holder, again.piece, again.instead_of) == ("fast", 0, "" if begun else "slow")
    cancels = p.arrived("fast", 0, 1.1)
    assert [tuple(cancel) for cancel in cancels] == ([("slow", 0)] if begun else [])
    assert p.done


def test_two_that_are_late_do_not_take_the_last_piece_from_each_other() -> None:
    p = picker(1)
    for name in ("ana", "ben"):
        p.add(name, 0)
        p.has(name, 1, whole=True)
    assert [ask.holder for ask in asks(p)] == ["ana"]
    assert [(ask.holder, ask.instead_of) for ask in asks(p, 1.0)] == [("ben", "ana")]
    assert asks(p, 4.0) == []


def test_nothing_is_asked_twice_while_there_is_other_work() -> None:
    p = picker()
    seeder(p, "slow")
    seeder(p, "fast")
    asked = asks(p)
    assert len({ask.piece for ask in asked}) == len(asked)
    p.heard("slow", 1000, 3.0)
    for ask in [ask for ask in asked if ask.holder == "fast"]:
        arrive(p, ask, 3.0)
    begun = next(iter(p._holders["slow"].asked))
    assert begun not in {ask.piece for ask in asks(p, 3.0)}


@pytest.mark.parametrize("rate", [1 << 10, 1 << 20, 5 << 20, 1 << 28])
def test_blocks_are_as_long_as_a_sixteenth_of_a_second(rate: int) -> None:
    p = picker()
    seeder(p)
    first = asks(p)[0]
    assert first.block_length == 64 << 10
    p.heard("ana", rate, 1.0)
    p.arrived("ana", first.piece, 1.0)
    block = asks(p, 1.0)[0].block_length
    assert 64 << 10 <= block <= 1 << 20
    assert block == 1 << (block.bit_length() - 1)
    assert min(MIB, rate // 32) <= block <= max(64 << 10, rate // 16)


class Life(RuleBasedStateMachine):
    """Whatever holders do, in any order: no piece is lost, none is asked of one who lacks it, all ends well."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.p = Picker(20, (3,), lambda piece: MIB, choose=lambda n: n // 2)
        self.has: dict[str, int] = {}

    names = st.sampled_from(["ana", "ben", "cia"])

    @rule(name=names, pieces=st.integers(0, (1 << 20) - 1), whole=st.booleans())
    def answers(self, name: str, pieces: int, whole: bool) -> None:
        if self.p.state(name) is State.DROPPED or name in self.has:
            return
        self.p.add(name, self.now)
        self.has[name] = (1 << 20) - 1 if whole else pieces
        self.p.has(name, self.has[name], whole=whole)

    @rule(name=names, pieces=st.lists(st.integers(0, 30), max_size=4))
    def gains(self, name: str, pieces: list[int]) -> None:
        if name in self.has:
            self.p.gained(name, pieces)
            for piece in pieces:
                self.has[name] |= (1 << piece) & ((1 << 20) - 1)

    @rule(name=names, pieces=st.lists(st.integers(0, 30), max_size=4))
    def gives(self, name: str, pieces: list[int]) -> None:
        if name in self.has:
            self.p.given(name, pieces, self.now)

    @rule(seconds=st.floats(0, 8))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.p.overdue(self.now)

    @rule()
    def ask(self) -> None:
        ask = self.p.next(self.now)
        if ask is not None:
            assert self.has[ask.holder] >> ask.piece & 1
            assert self.p.is_missing(ask.piece)

    @rule(name=names, size=st.integers(1, MIB))
    def sends(self, name: str, size: int) -> None:
        if name in self.has and self.p.state(name) is not None:
            self.p.heard(name, size, self.now)

    @precondition(lambda self: self.p.in_flight)
    @rule(name=names)
    def a_piece_arrives(self, name: str) -> None:
        asked = self.p._holders[name].asked if name in self.has else {}
        if asked:
            piece = next(iter(asked))
            if self.p.is_missing(piece):
                self.p.arrived(name, piece, self.now)

    @rule(name=names, way=st.sampled_from(["failed", "left"]))
    def breaks(self, name: str, way: str) -> None:
        if self.has.pop(name, None) is not None:
            getattr(self.p, way)(name, *(["broke"] if way == "failed" else []), self.now)

    @invariant()
    def every_missing_piece_is_free_or_asked_for(self) -> None:
        asked = {piece for holder in self.p._holders.values() for piece in holder.asked}
        for piece in range(20):
            if self.p.is_missing(piece):
                assert bool(self.p._free >> piece & 1) != (piece in asked)
            else:
                assert piece not in asked
        union = 0
        for level in self.p._levels:
            assert not union & level
            union |= level
        assert union == (1 << 20) - 1

    def teardown(self) -> None:
        """One good holder is enough in the end."""
        self.p.add("eve", self.now)
        self.p.has("eve", (1 << 20) - 1, whole=True)
        for name in list(self.has):
            self.p.failed(name, "broke", self.now)
        for _ in range(200):
            self.now += 1.0
            for ask in asks(self.p, self.now):
                self.p.heard(ask.holder, MIB, self.now)
                if self.p.is_missing(ask.piece):
                    self.p.arrived(ask.holder, ask.piece, self.now)
        assert self.p.done


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
