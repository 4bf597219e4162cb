"""Books made of arrays, to compare: a walk of mid and sizes, and what can be planted in it."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from market_pipeline.books.scale import Scale
from market_pipeline.quality.fidelity.books import BookRows, ComparedBook

MS, SECOND = 1_000_000, 1_000_000_000
START = 1_723_075_200 * SECOND
"""2024-08-08 00:00 UTC."""


def book_rows(touch, *, step_ms=20, first=1, **columns) -> BookRows:
    """Messages of one best bid and ask each, `step_ms` apart, received 5 ms after they were."""
    touch = np.array(touch, np.int64).reshape(-1, 4)
    count = len(touch)
    origin = START + np.arange(count, dtype=np.int64) * step_ms * MS
    rows = BookRows(
        ts_origin_ns=origin,
        ts_receipt_ns=origin + 5 * MS,
        sequence_number=np.arange(first, first + count, dtype=np.int64),
        touch=touch,
        flags=np.zeros(count, np.uint16),
        breaks=np.zeros(count, np.bool_),
        depth_row=np.full(count, -1, np.int64),
        levels=np.empty((0, 20, 4), np.int64),
        confirmed=np.empty((0, 2), np.int64),
    )
    return rows._replace(**columns)


def walked_rows(messages: int, *, step_ms=100, seed=1) -> BookRows:
    """A market with 20 levels a side after every message, all of them confirmed."""
    random = np.random.default_rng(seed)
    bid = 60_000 + np.cumsum(random.integers(-1, 2, messages))
    spread = random.integers(1, 4, messages)
    level = np.arange(20)
    sizes = random.integers(1, 1_000, (messages, 20, 2))
    levels = np.stack(
        [
            bid[:, None] - level,
            sizes[..., 0],
            (bid + spread)[:, None] + level,
            sizes[..., 1],
        ],
        axis=2,
    ).astype(np.int64)
    return book_rows(
        levels[:, 0],
        step_ms=step_ms,
        depth_row=np.arange(messages),
        levels=levels,
        confirmed=np.full((messages, 2), 20),
    )


def taken(rows: BookRows, which) -> BookRows:
    """Some messages of rows of which each has its depth."""
    kept = BookRows._make(column[which] for column in rows)
    return kept._replace(depth_row=np.arange(kept.flags.size))


def compared_book(rows: BookRows, *, tick="0.1", lot="0.001", cut=None) -> ComparedBook:
    """The book of some messages, in one batch or in batches of so many."""
    count = rows.flags.size

    def batches():
        size = cut or max(count, 1)
        for first in range(0, count, size):
            part = slice(first, first + size)
            cols = [column[part] for column in rows[:7]]
            depth = cols[6]
            used = depth[depth >= 0]
            low, high = (used.min(), used.max() + 1) if used.size else (0, 0)
            cols[6] = np.where(depth >= 0, depth - low, -1)
            yield BookRows(*cols, rows.levels[low:high], rows.confirmed[low:high])

    return ComparedBook("made", *(Scale.of(Decimal(each)) for each in (tick, lot)), batches)
