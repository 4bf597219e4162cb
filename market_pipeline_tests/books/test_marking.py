from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.marking import marked_deltas
from market_pipeline.books.soundness import LOOKAHEAD, Soundness, marks_of
from market_pipeline.sources.batches import DeltaBatch

ROWS_OF_A_MESSAGE = 3


def batch(numbers: np.ndarray, first_row: int = 0) -> DeltaBatch:
    """Messages of a number each, one a second; every tenth row is the first after a gap."""
    number = np.repeat(numbers, ROWS_OF_A_MESSAGE)
    rows = np.arange(number.size)
    values = np.ones(number.size)
    return DeltaBatch(
        Path("deltas"),
        first_row,
        *[number * 1_000_000_000] * 2,
        number,
        rows % 2 == 0,
        values,
        values,
        np.flatnonzero(rows % 10 == 0),
        np.flatnonzero(rows % 10 == 1),
    )


@given(st.lists(st.integers(0, 60), max_size=5), st.sets(st.integers(0, 300), max_size=4))
def test_nothing_is_lost_or_moved(sizes, doubled):
    """The parts together are the feed, each row in its place, with the marks of the whole feed."""
    numbers = np.arange(1, sum(sizes) + 1)
    numbers[[at for at in doubled if 0 < at < numbers.size]] -= 1
    edges = np.cumsum([0, *sizes])
    feed = [
        batch(numbers[start:end], 7 + start * ROWS_OF_A_MESSAGE) for start, end in pairwise(edges)
    ]
    parts = list(marked_deltas(iter(feed), Soundness()))

    assert [7 + at for at in np.cumsum([0, *(part.price.size for part, *_ in parts)])][:-1] == [
        part.first_row for part, *_ in parts
    ]
    for name in ("sequence_number", "ts_origin_ns", "ts_receipt_ns", "is_bid", "price", "size"):
        whole = [getattr(each, name) for each in feed if each.price.size]
        assert (
            [*np.concatenate(whole)]
            == [*np.concatenate([getattr(part, name) for part, *_ in parts])]
            if whole
            else not parts
        )
    for name in ("gap_rows", "recovered_rows"):
        whole = [row + each.first_row for each in feed for row in getattr(each, name)]
        assert whole == [row + part.first_row for part, *_ in parts for row in getattr(part, name)]
    starts = np.flatnonzero(np.diff(np.repeat(numbers, ROWS_OF_A_MESSAGE), prepend=-1))
    number = np.repeat(numbers, ROWS_OF_A_MESSAGE)[starts]
    bits = marks_of(number * 1_000_000_000, number * 1_000_000_000, number)
    assert [(7 + row, bit) for row, bit in zip(starts, bits, strict=True) if bit] == [
        (part.first_row + row, bit)
        for part, rows, marks in parts
        for row, bit in zip(rows, marks, strict=True)
    ]


def test_no_large_batch_is_held_while_the_next_is_made():
    """When a batch is asked for, of those before it only some messages are left."""
    held: list[weakref.ref[np.ndarray]] = []

    def batches() -> Iterator[DeltaBatch]:
        for at in range(4):
            assert all(each() is None for each in held)
            made = batch(np.arange(1_000) + 1_000 * at)
            held.append(weakref.ref(made.sequence_number))
            yield made
            del made

    rows = []
    parts = marked_deltas(batches(), Soundness())
    while (part := next(parts, None)) is not None:
        rows.append(part[0].price.size)
        del part
    tail = LOOKAHEAD * ROWS_OF_A_MESSAGE
    assert [3_000 - tail, tail] * 4 == rows
