"""Tracker and pserver judge names by the same rules, and name a broken rule in the same words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.storage import names as pserver
from names_cases import BAD, GOOD
from tracker import names as tracker

# Most break a rule, so that generated names break several at once.
PARTS = (
    "a",
    "/",
    ".",
    " ",
    "\\",
    ":",
    "con",
    "\x1b",
    "\u202e",
    "\u200b",
    "\u200d",
    "\ud800",
    "x" * 201,
    "x/" * 33,
    "x" * 801,
)


@pytest.mark.parametrize(("name", "rule"), BAD, ids=lambda value: ascii(value)[:40])
def test_both_refuse_a_bad_name_with_the_same_sentence(name: str, rule: str) -> None:
    assert tracker.name_fault(name) == pserver.name_fault(name)
    assert rule in tracker.name_fault(name)


@pytest.mark.parametrize("name", GOOD, ids=lambda value: ascii(value)[:40])
def test_both_accept_a_good_name(name: str) -> None:
    assert tracker.name_fault(name) == pserver.name_fault(name) == ""


@given(st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
def test_both_name_the_same_rule_of_a_name_that_breaks_several(name: str) -> None:
    assert tracker.name_fault(name) == pserver.name_fault(name)
