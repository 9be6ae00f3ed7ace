"""How long a download goes on: as long as somebody sends what nobody had of it before."""

import pytest

from daemon.swarm.piece_picker import SILENCE
from daemon.swarm.stall import GIVE_UP, ONLY_LIARS, Patience


@pytest.fixture
def patience() -> Patience:
    made = Patience(0)
    made.begin(100)
    return made


def test_silence_is_told_of_and_then_given_up_on(patience: Patience) -> None:
    assert not patience.is_waiting(100 + SILENCE)
    assert patience.is_waiting(101 + SILENCE)
    assert not patience.is_over(100 + GIVE_UP)
    assert patience.is_over(101 + GIVE_UP)


def test_more_of_a_piece_is_news(patience: Patience) -> None:
    for step in range(1, 100):
        patience.came("ana", 7, step, 100 + step * SILENCE)
        assert not patience.is_waiting(100 + (step + 1) * SILENCE)


def test_the_same_beginning_again_is_none(patience: Patience) -> None:
    for second in range(70):
        patience.came("ana", 7, 65536, 100 + second)
    assert patience.is_waiting(170)
    assert patience.is_over(170)


def test_a_pause_of_our_own_counts_for_nothing(patience: Patience) -> None:
    patience.pause(1000)
    assert not patience.is_over(1100 + GIVE_UP)
    assert patience.is_over(1101 + GIVE_UP)


def test_it_is_news_from_another_holder_or_of_another_piece(patience: Patience) -> None:
    patience.came("ana", 7, 65536, 100)
    patience.came("ben", 7, 65536, 150)
    assert not patience.is_over(200)
    patience.came("ben", 8, 1, 199)
    assert not patience.is_over(250)


def test_a_piece_that_verified_may_come_again_from_its_holder(patience: Patience) -> None:
    patience.came("ana", 7, 65536, 100)
    patience.verified("ana", 7)
    patience.came("ana", 7, 1, 160)
    assert not patience.is_over(200)


def test_liars_are_borne_with_for_a_while_after_the_last_lie(patience: Patience) -> None:
    patience.exposed(105)
    assert not patience.is_over_with_liars(105 + ONLY_LIARS)
    assert patience.is_over_with_liars(106 + ONLY_LIARS)
