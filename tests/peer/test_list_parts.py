"""Lists to the tracker are split by bytes and by number; each item is sent once and encoded once."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.models import Attributes, IndexEntry, Version
from daemon.tracker_client.list_parts import (
    REQUEST_BYTES_MAX,
    ListParts,
    change_encoder,
    text_of_entry,
    text_of_entry_with_attributes,
    text_of_string,
    text_of_version,
)

ID = "ab" * 32
NAMES = ["a.txt", 'quote"d', "back\\slash", "tab\tnew\nline", "ä/é", "漢字", "😀", "\ud800", "%s {} %%"]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_what_the_json_module_reads_and_writes(name: str) -> None:
    entry = {"name": name, "id": ID, "size": 7, "complete": True}
    assert text_of_entry(IndexEntry(name, ID, 7, True)) == json.dumps(entry)
    assert change_encoder(1)(IndexEntry(name, ID, 7, False)) == json.dumps({**entry, "complete": False})
    assert change_encoder(1)((name, ID)) == json.dumps({"name": name, "id": ID})
    assert text_of_version(Version(name, ID, 7)) == json.dumps({"name": name, "id": ID, "size": 7})
    assert text_of_string(name) == json.dumps(name)


@given(
    seconds=st.one_of(st.none(), st.floats(0, 9e9)),
    executable=st.sampled_from([True, False, None]),
)
def test_the_attributes_of_an_entry_are_what_the_json_module_reads(
    seconds: float | None, executable: bool | None
) -> None:
    entry = {"name": "a", "id": ID, "size": 7, "complete": True, "modified": seconds, "executable": executable}
    file = IndexEntry("a", ID, 7, True, Attributes(seconds, executable))
    assert json.loads(text_of_entry_with_attributes(file)) == entry
    assert change_encoder(2)(file) == text_of_entry_with_attributes(file)
    # A tracker of protocol 1 refuses them, and a partial file has none.
    assert "modified" not in text_of_entry(file)
    partial = IndexEntry("a", ID, 7, False)
    assert text_of_entry_with_attributes(partial) == text_of_entry(partial)


@given(
    items=st.lists(st.text(max_size=300), max_size=60),
    limits=st.lists(st.integers(0, 3000), min_size=1, max_size=20),
    most=st.integers(1, 20),
)
def test_the_parts_are_the_list_within_both_limits(items: list[str], limits: list[int], most: int) -> None:
    parts, taken = ListParts(items, text_of_string, most), list[str]()
    for limit in limits + [1000] * (len(items) + 1):
        part = parts.take(limit)
        read = json.loads(f"[{part.text}]")
        assert (part.start, part.end) == (len(taken), len(taken) + len(read))
        taken += read
        assert part.is_last == (not parts.left) == (taken == items)
        assert len(read) <= most
        assert len(read) <= 1 or len(part.text) <= limit
        if part.is_last:
            break
    assert taken == items


def test_a_part_that_was_put_back_is_taken_in_smaller_ones_without_encoding_it_again() -> None:
    encoded: Counter[str] = Counter()

    def encode(item: str) -> str:
        encoded[item] += 1
        return text_of_string(item)

    items = [f"{number:0100}" for number in range(100)]
    parts = ListParts(items, encode, 1000)
    first = parts.take(REQUEST_BYTES_MAX)
    assert first.is_last
    parts.put_back(first)
    read: list[str] = []
    while parts.left:
        read += json.loads(f"[{parts.take(2000).text}]")
    assert read == items
    assert set(encoded.values()) == {1}


def test_a_part_is_split_between_two_kinds_of_items() -> None:
    parts = ListParts(["a", "b", "c", "d"], text_of_string, 3)
    assert parts.take(1000).split(2) == ('"a", "b"', '"c"')
    assert parts.take(1000).split(2) == ("", '"d"')
