"""The rules for file names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from names_cases import BAD, DIFFERENT, GOOD, SAME
from tracker.errors import BadName
from tracker.names import check_name, fold, name_fault, printable


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_a_good_name_passes_unchanged(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(("name", "rule"), BAD, ids=lambda value: ascii(value)[:40])
def test_a_bad_name_is_refused_with_the_rule_it_breaks(name: str, rule: str) -> None:
    with pytest.raises(BadName) as refused:
        check_name(name)
    message = refused.value.message
    assert rule in message.lower()
    assert message.isascii() and message.isprintable(), "the message is one printable line for any name"


@given(st.text(st.sampled_from("aCoOnN1.: /\\-~\x7f "), max_size=12) | st.text(max_size=30))
def test_the_fast_path_for_plain_names_agrees_with_the_rules(name: str) -> None:
    if not name_fault(name):
        assert check_name(name) == name
    else:
        with pytest.raises(BadName):
            check_name(name)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_names_equal_after_normalisation_and_case_folding_fold_to_one(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_names_stay_different(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(st.text())
def test_folding_is_idempotent(name: str) -> None:
    assert fold(fold(name)) == fold(name)


@given(st.text(st.characters()))
def test_printable_text_has_no_control_characters(text: str) -> None:
    assert printable(text).isascii() and printable(text).isprintable()
