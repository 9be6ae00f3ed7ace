"""Claims about names: tracker and pserver accept the same names, and a valid name stays below its folder."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracker.errors
import tracker.names
from daemon.errors import BadName
from daemon.storage.names import check_name, component_fault, fold
from names_cases import BAD, DIFFERENT, GOOD, SAME

# Characters that the rules mention, so that generated names are near the rules' limits.
ODD = st.sampled_from(
    "a.bC /\\:\0\n\x1b\x7f\x9b\u061c\u200b\u200c\u200d\u200e\u202e\u2069\ufeff"
    "\ufe0f\u2640\ud800\U0001f469\U0001f3fd\U0001f680\u0301\u00e9"
)
NAMES = st.one_of(
    st.text(ODD, max_size=12),
    st.text(max_size=30),
    st.builds("{}{}".format, st.sampled_from(["con", "NUL", "com1", "Lpt9", "com", "aux"]), st.text(ODD, max_size=3)),
    st.builds("/".join, st.lists(st.text("aé.", min_size=1, max_size=210), max_size=34)),
)


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_a_valid_name_is_returned_unchanged(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(("name", "rule"), BAD, ids=ascii)
def test_an_invalid_name_is_refused_with_the_rule_that_it_breaks(name: str, rule: str) -> None:
    with pytest.raises(BadName) as refusal:
        check_name(name)
    assert rule in refusal.value.message
    assert refusal.value.message.isprintable()


@pytest.mark.parametrize(("one", "other"), SAME, ids=ascii)
def test_equal_names_have_equal_folded_forms(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=ascii)
def test_different_names_have_different_folded_forms(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def is_good(name: str) -> bool:
    try:
        check_name(name)
    except BadName:
        return False
    return True


def is_good_at_the_tracker(name: str) -> bool:
    try:
        tracker.names.check_name(name)
    except tracker.errors.BadName:
        return False
    return True


@given(NAMES)
def test_tracker_and_pserver_accept_the_same_names(name: str) -> None:
    assert is_good(name) == is_good_at_the_tracker(name)
    assert fold(name) == tracker.names.fold(name)


@given(NAMES)
def test_a_valid_name_stays_below_its_folder(name: str) -> None:
    if is_good(name):
        assert os.path.normpath("/shared/" + name) == "/shared/" + name
        assert not any(component.startswith(".") for component in name.split("/"))


@given(NAMES)
def test_folding_twice_is_folding_once(name: str) -> None:
    assert fold(fold(name)) == fold(name)


@given(st.text(ODD, max_size=8))
def test_a_component_without_fault_is_a_valid_name(component: str) -> None:
    assert (not component_fault(component)) == (is_good(component) and "/" not in component)
