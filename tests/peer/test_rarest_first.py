"""The rarity levels, against a model with one count for each piece."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from daemon.swarm.source import MAX_LEVELS, RarityLevels

PIECES = 12
MASKS = st.integers(0, (1 << PIECES) - 1)


def members(pieces: int) -> list[int]:
    return [piece for piece in range(PIECES) if pieces >> piece & 1]


class Counting(RuleBasedStateMachine):
    """Sets are added and removed in any order: each piece stays on the level of its own count."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = RarityLevels(PIECES)
        self.counts = [0] * PIECES

    @rule(pieces=MASKS, times=st.sampled_from([1, 1, 1, 2, MAX_LEVELS - 1, MAX_LEVELS + 5]))
    def sources_get_pieces(self, pieces: int, times: int) -> None:
        for _ in range(times):
            self.levels.add(pieces)
        for piece in members(pieces):
            self.counts[piece] = min(self.counts[piece] + times, MAX_LEVELS - 1)

    @rule(pieces=MASKS, times=st.sampled_from([1, 1, 1, 2, MAX_LEVELS]))
    def sources_lose_pieces(self, pieces: int, times: int) -> None:
        for _ in range(times):
            self.levels.remove(pieces)
        for piece in members(pieces):
            self.counts[piece] = max(self.counts[piece] - times, 0)

    @rule(candidates=MASKS.filter(bool), start=st.integers(0, PIECES))
    def the_rarest_candidate_is_returned(self, candidates: int, start: int) -> None:
        best = min(members(candidates), key=lambda piece: (self.counts[piece], piece < start, piece))
        assert self.levels.rarest(candidates, start) == best

    @invariant()
    def every_piece_is_only_on_the_level_of_its_count(self) -> None:
        levels = list(self.levels)
        assert len(levels) == len(self.levels) <= MAX_LEVELS
        for piece in range(PIECES):
            assert [n for n, level in enumerate(levels) if level >> piece & 1] == [self.counts[piece]]
        assert members(self.levels.unshared) == [piece for piece in range(PIECES) if not self.counts[piece]]


TestCounting = Counting.TestCase
TestCounting.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.lists(MASKS, max_size=MAX_LEVELS - 1))
def test_removing_all_sources_restores_the_initial_state(sets: list[int]) -> None:
    levels = RarityLevels(PIECES)
    for pieces in sets:
        levels.add(pieces)
    for pieces in reversed(sets):
        levels.remove(pieces)
    assert levels.unshared == (1 << PIECES) - 1
    assert not any(list(levels)[1:])


def test_equally_rare_pieces_are_returned_in_cyclic_order_from_start() -> None:
    levels = RarityLevels(PIECES)
    assert [levels.rarest(0b1010, start) for start in (0, 1, 2, 3, 4, PIECES)] == [1, 1, 3, 3, 1, 1]


def test_a_rarer_piece_is_returned_before_a_nearer_one() -> None:
    levels = RarityLevels(PIECES)
    levels.add(0b0111)
    levels.add(0b0011)
    assert levels.rarest(0b0111, 0) == 2
    assert levels.rarest(0b0011, 1) == 1
