"""Batches: bounded in number and in bytes, in order, never empty."""

from collections.abc import Iterator

import pytest

from daemon.runtime.batches import batched


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1], [[1]]),
        ([1, 1, 1, 1], [[1, 1, 1], [1]]),
        ([4, 6, 1], [[4, 6], [1]]),
        ([6, 6], [[6], [6]]),
        ([1, 99, 1], [[1], [99], [1]]),
        ([99, 99], [[99], [99]]),
        ([0, 0, 0], [[0, 0, 0]]),
    ],
)
def test_a_batch_has_at_most_three_items_and_ten_bytes(sizes: list[int], expected: list[list[int]]) -> None:
    assert list(batched(sizes, 3, 10, size=lambda size: size)) == expected


def test_items_are_only_counted_when_no_bytes_are_bounded() -> None:
    assert list(batched("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]


def test_items_are_read_lazily() -> None:
    read = []

    def items() -> Iterator[int]:
        for item in range(100):
            read.append(item)
            yield item

    assert next(batched(items(), 3)) == [0, 1, 2]
    assert read == [0, 1, 2, 3]
