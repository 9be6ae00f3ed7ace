"""Splits a sequence of items into batches that are bounded in number and in bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batched(
    items: Iterable[T], max_items: int, max_bytes: float = math.inf, size: Callable[[T], int] = lambda _: 0
) -> Iterator[list[T]]:
    """Split `items` into lists, keeping their order.

    Args:
        items: what to split. It is read lazily, one item ahead of the batch that is yielded.
        max_items: the most items of one batch.
        max_bytes: the most bytes of one batch. A larger item is a batch of its own.
        size: returns the bytes of an item.

    Yields:
        The batches. None of them is empty.
    """
    batch: list[T] = []
    total = 0
    for item in items:
        amount = size(item)
        if batch and (len(batch) == max_items or total + amount > max_bytes):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += amount
    if batch:
        yield batch
