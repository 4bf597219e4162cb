"""The plain twin of update counts: whole books as dicts, and a message's rows one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.replay import Replayed

Sides = dict[bool, dict[int, int]]


class Step(NamedTuple):
    """A message: its rows that set a level, and the whole books before and after it."""

    clock_ns: int
    flags: int
    rows: list[tuple[bool, int, int]]
    is_alone: bool
    before: Sides
    after: Sides


def steps(blocks: Iterable[Replayed]) -> Iterator[Step]:
    """The messages of a replay without a log; `is_alone` if nothing else changed the book."""
    book: Sides = {True: {}, False: {}}
    begun: list[tuple[bool, int, int]] = []
    for block in blocks:
        for n, (start, end) in enumerate(
            zip(block.messages.start.tolist(), block.messages.end.tolist(), strict=True)
        ):
            before = {side: dict(levels) for side, levels in book.items()}
            rows = begun + _rows(block.rows, start, end)
            begun = []
            for is_bid, price, size in rows:
                _set(book, is_bid, price, size)
            only_rows = {side: dict(levels) for side, levels in book.items()}
            for k in np.flatnonzero(block.others.message == n).tolist():
                _make(book, block.others, k)
            after = {side: dict(levels) for side, levels in book.items()}
            yield Step(
                int(block.clock_ns[n]),
                int(block.messages.flags[n]),
                rows,
                only_rows == after,
                before,
                after,
            )
        begun += _rows(block.rows, *block.under_way)


def naive_counts(
    messages: Iterable[Step], from_ns: int, until_ns: int, every_ns: int, limit: int, by: str
) -> tuple[Counter, Counter]:
    """Messages by interval; rows by (interval, is_bid, place, whether larger), None beyond."""
    counted, found = Counter(), Counter()
    was_valid = False
    for step in messages:
        is_valid = not step.flags & INVALIDATING and all(step.after.values())
        if was_valid and is_valid and step.is_alone and from_ns <= step.clock_ns < until_ns:
            at = step.clock_ns // every_ns * every_ns
            counted[at] += 1
            now = {side: dict(levels) for side, levels in step.before.items()}
            for is_bid, price, size in step.rows:
                was = now[is_bid].get(price, 0)
                _set(now, is_bid, price, size)
                if size != was:
                    book = step.after if size > was else step.before
                    place = _place(book[is_bid], step.before[is_bid], is_bid, price, by)
                    found[at, is_bid, place if place <= limit else None, size > was] += 1
        was_valid = is_valid
    return counted, found


def _place(book: dict[int, int], before: dict[int, int], is_bid: bool, price: int, by: str) -> int:
    if by == "level":
        return 1 + sum(other > price if is_bid else other < price for other in book)
    away = max(before) - price if is_bid else price - min(before)
    return max(away, -1)


def _rows(rows, start: int, end: int) -> list[tuple[bool, int, int]]:
    part = (column[start:end].tolist() for column in rows)
    return [row for row in zip(*part, strict=True) if row[2] >= 0]


def _set(book: Sides, is_bid: bool, price: int, size: int) -> None:
    book[is_bid].pop(price, None)
    if size:
        book[is_bid][price] = size


def _make(book: Sides, others, k: int) -> None:
    is_bid, price, size = (
        bool(others.is_bid[k]), int(others.price_ticks[k]), int(others.size_lots[k])
    )  # fmt: skip
    if not others.is_cleared[k]:
        _set(book, is_bid, price, size)
        return
    low, high = sorted((price, size))
    for level in [each for each in book[is_bid] if low <= each <= high]:
        del book[is_bid][level]
