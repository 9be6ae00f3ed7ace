"""The picker's choices, one by one; tests/peer/test_swarm_simulation.py has them all together."""

import tracemalloc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.storage.manifest import PIECES_MAX
from daemon.swarm.piece_picker import MAX_IN_FLIGHT, PARTIAL_MIN_PIECES, SOURCE_IDLE_TIMEOUT, Assignment, Picker
from daemon.swarm.source import SourceStatus

MIB = 1 << 20
PIECES = 40


def picker(pieces: int = PIECES, have: tuple[int, ...] = (), first: int = 0) -> Picker:
    return Picker(pieces, have, lambda piece: MIB, choose=lambda n: first % n)


def seeder(p: Picker, name: str = "ana", now: float = 0.0) -> None:
    p.add_source(name, now)
    p.set_pieces(name, (1 << PIECES) - 1, complete=True)


def partial(p: Picker, name: str, pieces: int, now: float = 0.0) -> None:
    p.add_source(name, now)
    p.set_pieces(name, pieces, complete=False)


def asks(p: Picker, now: float = 0.0) -> list[Assignment]:
    """Everything that is asked for now."""
    asked = []
    while (ask := p.pick(now)) is not None:
        asked.append(ask)
    return asked


def arrive(p: Picker, ask: Assignment, now: float) -> None:
    p.on_data(ask.source, MIB, now)
    p.on_verified(ask.source, ask.piece, now)


def test_a_holder_that_gives_without_end_costs_little_memory() -> None:
    p = picker(PIECES_MAX)
    p.add_source("liar", 0)
    p.set_pieces("liar", (1 << PIECES_MAX) - 1, complete=True)
    tracemalloc.start()
    try:
        for _ in range(10_000):
            p.on_in_flight_elsewhere("liar", [PIECES_MAX - 1], 0.0)
        assert tracemalloc.get_traced_memory()[0] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_nobody_is_asked_before_it_says_what_it_has() -> None:
    p = picker()
    assert p.pick(0) is None
    p.add_source("ana", 0)
    assert p.pick(0) is None and not p.is_useful("ana")
    seeder(p)
    assert p.pick(0) == Assignment("ana", 0, 64 << 10)


def test_what_is_there_is_not_asked_for() -> None:
    p = picker(3, have=(0, 2))
    p.add_source("ana", 0)
    p.set_pieces("ana", 0b111, complete=True)
    assert [ask.piece for ask in asks(p)] == [1]
    p.on_verified("ana", 1, 1)
    assert p.complete and p.missing_count == 0


def test_an_empty_file_is_there_at_once() -> None:
    assert Picker(0, (), lambda piece: 0, choose=lambda n: 0).complete


def test_an_untried_holder_gets_a_piece_or_two_and_a_fast_one_the_window() -> None:
    p = picker()
    seeder(p)
    first = asks(p)
    assert len(first) == 2
    for ask in first:
        arrive(p, ask, 0.01 * (ask.piece + 1))
    assert len(asks(p, 0.03)) == MAX_IN_FLIGHT


def test_the_rarest_is_asked_first() -> None:
    p = picker()
    partial(p, "ana", 0b1111)
    partial(p, "ben", 0b0111)
    partial(p, "cia", 0b0011)
    assert next(ask.piece for ask in asks(p) if ask.source == "ana") == 3


def test_two_askers_of_one_holder_begin_at_different_places() -> None:
    p, q = picker(first=3), picker(first=30)
    seeder(p)
    seeder(q)
    assert p.pick(0) != q.pick(0)


def test_a_holder_is_asked_for_pieces_in_a_row() -> None:
    starts = [7]
    p = Picker(PIECES, (), lambda piece: MIB, choose=lambda n: starts.pop() if starts else 30)
    seeder(p)
    for ask in asks(p):
        arrive(p, ask, 0.01)
    assert [ask.piece for ask in asks(p, 0.01)] == list(range(9, 9 + MAX_IN_FLIGHT))


def test_a_seeder_is_asked_for_what_nobody_else_has() -> None:
    p = picker()
    seeder(p)
    partial(p, "ben", (1 << 39) - 1)
    assert {(ask.source, ask.piece) for ask in asks(p)} >= {("ana", 39), ("ben", 0)}


def test_what_a_seeder_gives_to_another_is_left_alone_and_unasked_until_that_is_late() -> None:
    p = picker()
    seeder(p)
    assert [ask.piece for ask in asks(p)] == [0, 1]
    assert [tuple(cancel) for cancel in p.on_in_flight_elsewhere("ana", [1, 2, 3], 0.0)] == [("ana", 1)]
    assert [ask.piece for ask in asks(p)] == [4]
    # One that has begun is not taken back.
    p.on_data("ana", 1000, 0.1)
    assert p.on_in_flight_elsewhere("ana", [0], 0.1) == []
    # Promises end.
    p.on_in_flight_elsewhere("ana", range(5, PIECES), 0.1)
    arrive(p, Assignment("ana", 0, 0), 0.2)
    assert asks(p, 0.2) == []
    assert asks(p, 100.0) != []


def test_files_that_nobody_announces_in_part_know_no_promises() -> None:
    p = picker(PARTIAL_MIN_PIECES)
    p.add_source("ana", 0)
    p.set_pieces("ana", (1 << PARTIAL_MIN_PIECES) - 1, complete=True)
    assert p.on_in_flight_elsewhere("ana", range(PARTIAL_MIN_PIECES), 0) == []
    assert asks(p) != []


def test_a_liar_cannot_make_the_levels_grow() -> None:
    p = picker()
    for number in range(300):
        partial(p, f"peer{number}", 1)
    p.on_in_flight_elsewhere("peer0", [10**9, -1 % 2**32, *range(PIECES)] * 100, 0)
    p.add_pieces("peer0", [10**9, *range(PIECES)] * 100)
    assert len(p.rarity) <= 64
    for number in range(300):
        p.drop(f"peer{number}", "gone")
    assert p.pick(0) is None


def test_a_large_bitmap_is_taken_at_once() -> None:
    p = Picker(1 << 16, (), lambda piece: MIB, choose=lambda n: 0)
    for number in range(200):
        p.add_source(f"peer{number}", 0)
        p.set_pieces(f"peer{number}", (1 << (1 << 16)) - 1, complete=False)
    assert p.pick(0) is not None


def test_a_silent_holder_loses_its_pieces_to_others_until_it_sends_again() -> None:
    p = picker()
    seeder(p, "ana")
    mine = asks(p)
    seeder(p, "ben", 1.0)
    assert p.reassign_stalled(SOURCE_IDLE_TIMEOUT - 0.1) == []
    assert {(cancel.source, cancel.piece) for cancel in p.reassign_stalled(SOURCE_IDLE_TIMEOUT)} == {
        ("ana", ask.piece) for ask in mine
    }
    assert [(h.source, h.state, h.reason) for h in p.sources()] == [
        ("ana", SourceStatus.STALLED, "sent nothing for 5 s"),
        ("ben", SourceStatus.ACTIVE, ""),
    ]
    assert {ask.source for ask in asks(p, SOURCE_IDLE_TIMEOUT)} == {"ben"}
    p.on_data("ana", 1, SOURCE_IDLE_TIMEOUT + 1)
    assert p.state("ana") is SourceStatus.ACTIVE


def test_silence_counts_from_when_it_was_asked() -> None:
    p = picker()
    seeder(p, "ana")
    seeder(p, "ben")
    for ask in asks(p, 100.0):
        assert p.reassign_stalled(100.0 + SOURCE_IDLE_TIMEOUT - 0.1) == []
        arrive(p, ask, 100.0 + SOURCE_IDLE_TIMEOUT - 0.1)
    view = {holder.source: holder for holder in p.sources()}
    assert view["ana"].rate == pytest.approx(2 * MIB / (SOURCE_IDLE_TIMEOUT - 0.1), rel=0.01)
    assert view["ana"].bytes == 2 * MIB


def test_the_last_holder_keeps_its_pieces() -> None:
    p = picker()
    seeder(p, "ana")
    asks(p)
    assert p.reassign_stalled(1000) == []
    assert p.state("ana") is SourceStatus.ACTIVE


def test_one_that_drips_is_too_late_for_its_piece() -> None:
    p = picker()
    seeder(p, "ana")
    asks(p)
    seeder(p, "ben")
    for second in range(26):
        p.on_data("ana", 1, float(second))
        assert p.reassign_stalled(float(second)) == []
    p.on_data("ana", 1, 27.0)
    assert p.reassign_stalled(27.0) != []
    assert [h.reason for h in p.sources()] == ["too slow for its piece", ""]


def test_a_failure_rests_longer_each_time_and_good_work_is_forgiven() -> None:
    p = picker()
    rests = []
    for _ in range(7):
        p.on_failed("ana", "broke", 0.0)
        assert not p.may_connect("ana", 0.0)
        rests.append(next(t / 10 for t in range(200) if p.may_connect("ana", t / 10)))
        p.add_source("ana", 0.0)
    assert rests == [0.5, 1, 2, 4, 8, 10, 10]
    seeder(p)
    arrive(p, asks(p)[0], 1)
    p.on_failed("ana", "broke", 1.0)
    assert p.may_connect("ana", 1.5)


def test_pieces_of_one_that_failed_are_somebody_elses() -> None:
    p = picker()
    seeder(p, "ana")
    lost = {ask.piece for ask in asks(p)}
    p.on_failed("ana", "broke", 0.0)
    seeder(p, "ben")
    assert lost & {ask.piece for ask in asks(p)}
    assert p.in_flight == 2


def test_one_that_sent_a_bad_piece_is_out_for_good() -> None:
    p = picker()
    seeder(p)
    asks(p)
    p.drop("ana", "piece 0 did not verify")
    p.on_failed("ana", "broke", 0.0)
    p.add_source("ana", 1.0)
    seeder(p)
    assert (p.state("ana"), p.pick(100), p.may_connect("ana", 100)) == (SourceStatus.DROPPED, None, False)


@pytest.mark.parametrize("begun", [False, True])
def test_at_the_end_an_idle_holder_takes_over_what_is_late(begun: bool) -> None:
    p = picker(2)
    for name in ("slow", "fast"):
        p.add_source(name, 0)
        p.set_pieces(name, 0b11, complete=True)
    assert [(ask.source, ask.piece) for ask in asks(p)] == [("slow", 0), ("fast", 1)]
    arrive(p, Assignment("fast", 1, 0), 0.1)
    if begun:
        p.on_data("slow", 1000, 1.0)
    [again] = asks(p, 1.0)
    assert (again.source, again.piece, again.replaces) == ("fast", 0, "" if begun else "slow")
    cancels = p.on_verified("fast", 0, 1.1)
    assert [tuple(cancel) for cancel in cancels] == ([("slow", 0)] if begun else [])
    assert p.complete


def test_two_that_are_late_do_not_take_the_last_piece_from_each_other() -> None:
    p = picker(1)
    for name in ("ana", "ben"):
        p.add_source(name, 0)
        p.set_pieces(name, 1, complete=True)
    assert [ask.source for ask in asks(p)] == ["ana"]
    assert [(ask.source, ask.replaces) for ask in asks(p, 1.0)] == [("ben", "ana")]
    assert asks(p, 4.0) == []


def test_nothing_is_asked_twice_while_there_is_other_work() -> None:
    p = picker()
    seeder(p, "slow")
    seeder(p, "fast")
    asked = asks(p)
    assert len({ask.piece for ask in asked}) == len(asked)
    p.on_data("slow", 1000, 3.0)
    for ask in [ask for ask in asked if ask.source == "fast"]:
        arrive(p, ask, 3.0)
    begun = p.requested("slow")[0]
    assert begun not in {ask.piece for ask in asks(p, 3.0)}


@pytest.mark.parametrize("rate", [1 << 10, 1 << 20, 5 << 20, 1 << 28])
def test_blocks_are_as_long_as_a_sixteenth_of_a_second(rate: int) -> None:
    p = picker()
    seeder(p)
    first = asks(p)[0]
    assert first.block_length == 64 << 10
    p.on_data("ana", rate, 1.0)
    p.on_verified("ana", first.piece, 1.0)
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

    @rule(name=names, pieces=st.integers(0, (1 << 20) - 1), complete=st.booleans())
    def answers(self, name: str, pieces: int, complete: bool) -> None:
        if self.p.state(name) is SourceStatus.DROPPED or name in self.has:
            return
        self.p.add_source(name, self.now)
        self.has[name] = (1 << 20) - 1 if complete else pieces
        self.p.set_pieces(name, self.has[name], complete=complete)

    @rule(name=names, pieces=st.lists(st.integers(0, 30), max_size=4))
    def gains(self, name: str, pieces: list[int]) -> None:
        if name in self.has:
            self.p.add_pieces(name, pieces)
            for piece in pieces:
                self.has[name] |= (1 << piece) & ((1 << 20) - 1)

    @rule(name=names, pieces=st.lists(st.integers(0, 30), max_size=4))
    def gives(self, name: str, pieces: list[int]) -> None:
        if name in self.has:
            self.p.on_in_flight_elsewhere(name, pieces, self.now)

    @rule(seconds=st.floats(0, 8))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.p.reassign_stalled(self.now)

    @rule()
    def ask(self) -> None:
        ask = self.p.pick(self.now)
        if ask is not None:
            assert self.has[ask.source] >> ask.piece & 1
            assert self.p.is_missing(ask.piece)

    @rule(name=names, size=st.integers(1, MIB))
    def sends(self, name: str, size: int) -> None:
        if name in self.has and self.p.state(name) is not None:
            self.p.on_data(name, size, self.now)

    @precondition(lambda self: self.p.in_flight)
    @rule(name=names)
    def a_piece_arrives(self, name: str) -> None:
        asked = self.p.requested(name) if name in self.has else []
        if asked:
            piece = asked[0]
            if self.p.is_missing(piece):
                self.p.on_verified(name, piece, self.now)

    @rule(name=names)
    def stream_breaks(self, name: str) -> None:
        if self.has.pop(name, None) is not None:
            self.p.on_failed(name, "broke", self.now)

    @rule(name=names)
    def stream_is_closed(self, name: str) -> None:
        if self.has.pop(name, None) is not None:
            self.p.on_closed(name, self.now)

    @invariant()
    def every_missing_piece_is_free_or_asked_for(self) -> None:
        asked = {piece for source in self.p.sources() for piece in self.p.requested(source.source)}
        for piece in range(20):
            if self.p.is_missing(piece):
                assert bool(self.p.free >> piece & 1) != (piece in asked)
            else:
                assert piece not in asked
        union = 0
        for level in self.p.rarity:
            assert not union & level
            union |= level
        assert union == (1 << 20) - 1

    def teardown(self) -> None:
        """One good holder is enough in the end."""
        self.p.add_source("eve", self.now)
        self.p.set_pieces("eve", (1 << 20) - 1, complete=True)
        for name in list(self.has):
            self.p.on_failed(name, "broke", self.now)
        for _ in range(200):
            self.now += 1.0
            for ask in asks(self.p, self.now):
                self.p.on_data(ask.source, MIB, self.now)
                if self.p.is_missing(ask.piece):
                    self.p.on_verified(ask.source, ask.piece, self.now)
        assert self.p.complete


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
