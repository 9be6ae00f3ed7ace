"""The choices of the picker, one by one; test_swarm_simulation.py tests them together."""

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


def assign_all(p: Picker, now: float = 0.0) -> list[Assignment]:
    """All assignments of now."""
    assigned = []
    while (assignment := p.pick(now)) is not None:
        assigned.append(assignment)
    return assigned


def verify(p: Picker, assignment: Assignment, now: float) -> None:
    """Receive and verify an assigned piece."""
    p.on_data(assignment.source, MIB, now)
    p.on_verified(assignment.source, assignment.piece, now)


def test_endless_in_flight_messages_cost_little_memory() -> None:
    p = picker(PIECES_MAX)
    p.add_source("evil", 0)
    p.set_pieces("evil", (1 << PIECES_MAX) - 1, complete=True)
    tracemalloc.start()
    try:
        for _ in range(10_000):
            p.on_in_flight_elsewhere("evil", [PIECES_MAX - 1], 0.0)
        assert tracemalloc.get_traced_memory()[0] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_source_gets_no_request_before_it_reports_its_pieces() -> None:
    p = picker()
    assert p.pick(0) is None
    p.add_source("ana", 0)
    assert p.pick(0) is None and not p.is_useful("ana")
    seeder(p)
    assert p.pick(0) == Assignment("ana", 0, 64 << 10)


def test_verified_pieces_are_not_requested() -> None:
    p = picker(3, have=(0, 2))
    p.add_source("ana", 0)
    p.set_pieces("ana", 0b111, complete=True)
    assert [each.piece for each in assign_all(p)] == [1]
    p.on_verified("ana", 1, 1)
    assert p.complete and p.missing_count == 0


def test_an_empty_file_is_complete_at_once() -> None:
    assert Picker(0, (), lambda piece: 0, choose=lambda n: 0).complete


def test_a_source_of_unknown_rate_gets_two_requests_and_a_fast_one_many() -> None:
    p = picker()
    seeder(p)
    first = assign_all(p)
    assert len(first) == 2
    for each in first:
        verify(p, each, 0.01 * (each.piece + 1))
    assert len(assign_all(p, 0.03)) == MAX_IN_FLIGHT


def test_the_rarest_piece_is_requested_first() -> None:
    p = picker()
    partial(p, "ana", 0b1111)
    partial(p, "ben", 0b0111)
    partial(p, "cia", 0b0011)
    assert next(each.piece for each in assign_all(p) if each.source == "ana") == 3


def test_two_downloads_from_one_source_start_at_different_pieces() -> None:
    p, q = picker(first=3), picker(first=30)
    seeder(p)
    seeder(q)
    assert p.pick(0) != q.pick(0)


def test_a_source_gets_requests_for_consecutive_pieces() -> None:
    starts = [7]
    p = Picker(PIECES, (), lambda piece: MIB, choose=lambda n: starts.pop() if starts else 30)
    seeder(p)
    for each in assign_all(p):
        verify(p, each, 0.01)
    assert [each.piece for each in assign_all(p, 0.01)] == list(range(9, 9 + MAX_IN_FLIGHT))


def test_a_complete_source_gets_requests_for_pieces_that_no_partial_source_has() -> None:
    p = picker()
    seeder(p)
    partial(p, "ben", (1 << 39) - 1)
    assert {(each.source, each.piece) for each in assign_all(p)} >= {("ana", 39), ("ben", 0)}


def test_a_piece_in_flight_elsewhere_is_cancelled_and_not_requested_until_it_is_late() -> None:
    p = picker()
    seeder(p)
    assert [each.piece for each in assign_all(p)] == [0, 1]
    assert [tuple(cancel) for cancel in p.on_in_flight_elsewhere("ana", [1, 2, 3], 0.0)] == [("ana", 1)]
    assert [each.piece for each in assign_all(p)] == [4]
    # A started piece is not cancelled.
    p.on_data("ana", 1000, 0.1)
    assert p.on_in_flight_elsewhere("ana", [0], 0.1) == []
    # Records expire.
    p.on_in_flight_elsewhere("ana", range(5, PIECES), 0.1)
    verify(p, Assignment("ana", 0, 0), 0.2)
    assert assign_all(p, 0.2) == []
    assert assign_all(p, 100.0) != []


def test_files_that_are_never_announced_as_partial_ignore_pieces_in_flight_elsewhere() -> None:
    p = picker(PARTIAL_MIN_PIECES)
    p.add_source("ana", 0)
    p.set_pieces("ana", (1 << PARTIAL_MIN_PIECES) - 1, complete=True)
    assert p.on_in_flight_elsewhere("ana", range(PARTIAL_MIN_PIECES), 0) == []
    assert assign_all(p) != []


def test_hostile_sources_cannot_make_the_levels_grow() -> None:
    p = picker()
    for number in range(300):
        partial(p, f"peer{number}", 1)
    p.on_in_flight_elsewhere("peer0", [10**9, -1 % 2**32, *range(PIECES)] * 100, 0)
    p.add_pieces("peer0", [10**9, *range(PIECES)] * 100)
    assert len(p.rarity) <= 64
    for number in range(300):
        p.drop(f"peer{number}", "gone")
    assert p.pick(0) is None


def test_large_bitmaps_are_handled_quickly() -> None:
    p = Picker(1 << 16, (), lambda piece: MIB, choose=lambda n: 0)
    for number in range(200):
        p.add_source(f"peer{number}", 0)
        p.set_pieces(f"peer{number}", (1 << (1 << 16)) - 1, complete=False)
    assert p.pick(0) is not None


def test_an_idle_source_loses_its_requests_until_it_sends_data() -> None:
    p = picker()
    seeder(p, "ana")
    lost = assign_all(p)
    seeder(p, "ben", 1.0)
    assert p.reassign_stalled(SOURCE_IDLE_TIMEOUT - 0.1) == []
    assert {(cancel.source, cancel.piece) for cancel in p.reassign_stalled(SOURCE_IDLE_TIMEOUT)} == {
        ("ana", each.piece) for each in lost
    }
    assert [(h.source, h.state, h.reason) for h in p.sources()] == [
        ("ana", SourceStatus.STALLED, "sent nothing for 5 s"),
        ("ben", SourceStatus.ACTIVE, ""),
    ]
    assert {each.source for each in assign_all(p, SOURCE_IDLE_TIMEOUT)} == {"ben"}
    p.on_data("ana", 1, SOURCE_IDLE_TIMEOUT + 1)
    assert p.state("ana") is SourceStatus.ACTIVE


def test_the_idle_time_starts_with_the_request() -> None:
    p = picker()
    seeder(p, "ana")
    seeder(p, "ben")
    for each in assign_all(p, 100.0):
        assert p.reassign_stalled(100.0 + SOURCE_IDLE_TIMEOUT - 0.1) == []
        verify(p, each, 100.0 + SOURCE_IDLE_TIMEOUT - 0.1)
    view = {source.source: source for source in p.sources()}
    assert view["ana"].rate == pytest.approx(2 * MIB / (SOURCE_IDLE_TIMEOUT - 0.1), rel=0.01)
    assert view["ana"].bytes == 2 * MIB


def test_the_only_source_keeps_its_requests() -> None:
    p = picker()
    seeder(p, "ana")
    assign_all(p)
    assert p.reassign_stalled(1000) == []
    assert p.state("ana") is SourceStatus.ACTIVE


def test_a_very_slow_source_loses_its_requests() -> None:
    p = picker()
    seeder(p, "ana")
    assign_all(p)
    seeder(p, "ben")
    for second in range(26):
        p.on_data("ana", 1, float(second))
        assert p.reassign_stalled(float(second)) == []
    p.on_data("ana", 1, 27.0)
    assert p.reassign_stalled(27.0) != []
    assert [h.reason for h in p.sources()] == ["too slow for its piece", ""]


def test_each_failure_in_a_row_delays_the_retry_more_and_a_verified_piece_resets_it() -> None:
    p = picker()
    delays = []
    for _ in range(7):
        p.on_failed("ana", "broke", 0.0)
        assert not p.may_connect("ana", 0.0)
        delays.append(next(t / 10 for t in range(200) if p.may_connect("ana", t / 10)))
        p.add_source("ana", 0.0)
    assert delays == [0.5, 1, 2, 4, 8, 10, 10]
    seeder(p)
    verify(p, assign_all(p)[0], 1)
    p.on_failed("ana", "broke", 1.0)
    assert p.may_connect("ana", 1.5)


def test_requests_at_a_failed_source_are_free_again() -> None:
    p = picker()
    seeder(p, "ana")
    lost = {each.piece for each in assign_all(p)}
    p.on_failed("ana", "broke", 0.0)
    seeder(p, "ben")
    assert lost & {each.piece for each in assign_all(p)}
    assert p.in_flight == 2


def test_a_source_of_corrupt_data_stays_dropped() -> None:
    p = picker()
    seeder(p)
    assign_all(p)
    p.drop("ana", "piece 0 did not verify")
    p.on_failed("ana", "broke", 0.0)
    p.add_source("ana", 1.0)
    seeder(p)
    assert (p.state("ana"), p.pick(100), p.may_connect("ana", 100)) == (SourceStatus.DROPPED, None, False)


@pytest.mark.parametrize("started", [False, True])
def test_in_the_endgame_an_idle_source_takes_over_a_late_piece(started: bool) -> None:
    p = picker(2)
    for name in ("slow", "fast"):
        p.add_source(name, 0)
        p.set_pieces(name, 0b11, complete=True)
    assert [(each.source, each.piece) for each in assign_all(p)] == [("slow", 0), ("fast", 1)]
    verify(p, Assignment("fast", 1, 0), 0.1)
    if started:
        p.on_data("slow", 1000, 1.0)
    [again] = assign_all(p, 1.0)
    assert (again.source, again.piece, again.replaces) == ("fast", 0, "" if started else "slow")
    cancels = p.on_verified("fast", 0, 1.1)
    assert [tuple(cancel) for cancel in cancels] == ([("slow", 0)] if started else [])
    assert p.complete


def test_two_late_sources_do_not_take_the_last_piece_from_each_other() -> None:
    p = picker(1)
    for name in ("ana", "ben"):
        p.add_source(name, 0)
        p.set_pieces(name, 1, complete=True)
    assert [each.source for each in assign_all(p)] == ["ana"]
    assert [(each.source, each.replaces) for each in assign_all(p, 1.0)] == [("ben", "ana")]
    assert assign_all(p, 4.0) == []


def test_no_piece_is_requested_twice_while_another_is_free() -> None:
    p = picker()
    seeder(p, "slow")
    seeder(p, "fast")
    assigned = assign_all(p)
    assert len({each.piece for each in assigned}) == len(assigned)
    p.on_data("slow", 1000, 3.0)
    for each in (assignment for assignment in assigned if assignment.source == "fast"):
        verify(p, each, 3.0)
    started = p.requested("slow")[0]
    assert started not in {each.piece for each in assign_all(p, 3.0)}


@pytest.mark.parametrize("rate", [1 << 10, 1 << 20, 5 << 20, 1 << 28])
def test_a_block_takes_a_sixteenth_of_a_second(rate: int) -> None:
    p = picker()
    seeder(p)
    first = assign_all(p)[0]
    assert first.block_length == 64 << 10
    p.on_data("ana", rate, 1.0)
    p.on_verified("ana", first.piece, 1.0)
    block = assign_all(p, 1.0)[0].block_length
    assert 64 << 10 <= block <= 1 << 20
    assert block == 1 << (block.bit_length() - 1)
    assert min(MIB, rate // 32) <= block <= max(64 << 10, rate // 16)


class Download(RuleBasedStateMachine):
    """Sources do anything, in any order: no piece is lost, no source gets a request for a piece that it lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.p = Picker(20, (3,), lambda piece: MIB, choose=lambda n: n // 2)
        self.has: dict[str, int] = {}

    names = st.sampled_from(["ana", "ben", "cia"])

    @rule(name=names, pieces=st.integers(0, (1 << 20) - 1), complete=st.booleans())
    def source_connects(self, name: str, pieces: int, complete: bool) -> None:
        if self.p.state(name) is SourceStatus.DROPPED or name in self.has:
            return
        self.p.add_source(name, self.now)
        self.has[name] = (1 << 20) - 1 if complete else pieces
        self.p.set_pieces(name, self.has[name], complete=complete)

    @rule(name=names, pieces=st.lists(st.integers(0, 30), max_size=4))
    def source_gains_pieces(self, name: str, pieces: list[int]) -> None:
        if name in self.has:
            self.p.add_pieces(name, pieces)
            for piece in pieces:
                self.has[name] |= (1 << piece) & ((1 << 20) - 1)

    @rule(name=names, pieces=st.lists(st.integers(0, 30), max_size=4))
    def source_sends_elsewhere(self, name: str, pieces: list[int]) -> None:
        if name in self.has:
            self.p.on_in_flight_elsewhere(name, pieces, self.now)

    @rule(seconds=st.floats(0, 8))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.p.reassign_stalled(self.now)

    @rule()
    def pick(self) -> None:
        assignment = self.p.pick(self.now)
        if assignment is not None:
            assert self.has[assignment.source] >> assignment.piece & 1
            assert self.p.is_missing(assignment.piece)

    @rule(name=names, size=st.integers(1, MIB))
    def source_sends(self, name: str, size: int) -> None:
        if name in self.has and self.p.state(name) is not None:
            self.p.on_data(name, size, self.now)

    @precondition(lambda self: self.p.in_flight)
    @rule(name=names)
    def piece_is_verified(self, name: str) -> None:
        requested = self.p.requested(name) if name in self.has else []
        if requested:
            piece = requested[0]
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
    def every_missing_piece_is_either_free_or_requested(self) -> None:
        requested = {piece for source in self.p.sources() for piece in self.p.requested(source.source)}
        for piece in range(20):
            if self.p.is_missing(piece):
                assert bool(self.p.free >> piece & 1) != (piece in requested)
            else:
                assert piece not in requested
        union = 0
        for level in self.p.rarity:
            assert not union & level
            union |= level
        assert union == (1 << 20) - 1

    def teardown(self) -> None:
        """One honest source is enough to finish."""
        self.p.add_source("eve", self.now)
        self.p.set_pieces("eve", (1 << 20) - 1, complete=True)
        for name in list(self.has):
            self.p.on_failed(name, "broke", self.now)
        for _ in range(200):
            self.now += 1.0
            for each in assign_all(self.p, self.now):
                self.p.on_data(each.source, MIB, self.now)
                if self.p.is_missing(each.piece):
                    self.p.on_verified(each.source, each.piece, self.now)
        assert self.p.complete


TestDownload = Download.TestCase
TestDownload.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
