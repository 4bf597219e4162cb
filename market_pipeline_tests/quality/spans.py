"""The intervals of a book from the flags of its messages, one message after the other."""

from __future__ import annotations

import itertools

import numpy as np

from market_pipeline.books.evidence import position_of
from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.quality.intervals import NO_SPANS
from market_pipeline.quality.measures.crossed import BookSpans, Observed

NEVER_NS = 2**62
"""Where an interval ends that no message ended."""


def spans_of(ts_receipt_ns, flags) -> BookSpans:
    """From the first message that carries a flag to the first that does not, for each flag."""
    clock = list(itertools.accumulate(map(int, ts_receipt_ns), max))
    found = []
    ever = BookFlag(int(np.bitwise_or.reduce(flags)))
    for flag in (INVALIDATING | BookFlag.LOCKED) & ever:
        carried = [bool(int(each) & flag) for each in flags]
        start = None
        for time, carries in zip([*clock, NEVER_NS], [*carried, False], strict=True):
            if carries and start is None:
                start = time
            elif not carries and start is not None:
                found.append((position_of(flag), start, time))
                start = None
    found.sort(key=lambda span: span[2])
    return book_spans(*found)


def book_spans(*spans: tuple[int, int, int]) -> BookSpans:
    """Spans from (position of the cause, start, end)."""
    cause, start, end = zip(*spans, strict=True) if spans else ((), (), ())
    return BookSpans(np.array(cause, np.int8), np.array(start, np.int64), np.array(end, np.int64))


def observed_of(ts_receipt_ns, holes=NO_SPANS) -> Observed:
    """From the first to the latest message, but for the holes."""
    return Observed(int(ts_receipt_ns[0]), int(max(ts_receipt_ns)), holes)
