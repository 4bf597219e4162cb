"""Feeds of messages and snapshots for the rules of gaps, and what was found in them."""

from __future__ import annotations

from datetime import date

import numpy as np

from market_pipeline.config.instruments import GapRule
from market_pipeline.quality.intervals import NS_PER_SECOND, day_bounds_ns
from market_pipeline.quality.measures.gap import GapReport, find_gaps
from market_pipeline.quality.measures.snapshots_inside import SnapshotTouches
from market_pipeline_tests.naive.gaps import Found

DAY = date(2024, 8, 8)
START_NS, END_NS = day_bounds_ns(DAY)
RULE = GapRule()
MS = 1_000_000


def times(*seconds):
    """Instants of the day from seconds after its start."""
    return np.array([START_NS + round(each * NS_PER_SECOND) for each in seconds], dtype=np.int64)


def a_feed(*, begin=0.0, end=600.0, silent=(), every=0.1):
    """Receipt times of a steady feed that says nothing inside the silent spans."""
    seconds = np.arange(begin, end, every)
    for start, stop in silent:
        seconds = seconds[(seconds <= start) | (seconds >= stop)]
    return START_NS + np.round(seconds * NS_PER_SECOND).astype(np.int64)


def gaps_of(
    receipt,
    trades=None,
    *,
    origin=None,
    trade_origin=None,
    sequence=None,
    rule=RULE,
    snapshots=None,
    listed_ns=None,
):
    """Finds gaps; origin times are the receipt times unless given."""
    trades = times() if trades is None else trades
    return find_gaps(
        ts_receipt_ns=receipt,
        ts_origin_ns=receipt if origin is None else origin,
        sequence_number=np.arange(len(receipt)) * 7 if sequence is None else sequence,
        trade_receipt_ns=trades,
        trade_origin_ns=trades if trade_origin is None else trade_origin,
        day=DAY,
        rule=rule,
        snapshots=snapshots,
        listed_ns=listed_ns,
    )


def touches_of(shots, cut=1_000):
    """Opens the snapshots, in batches of some."""

    def batches():
        for first in range(0, len(shots), cut):
            part = shots[first : first + cut]
            receipt, origin, number, touch = zip(*part, strict=True)
            yield SnapshotTouches(*map(np.array, (origin, receipt, number)), np.array(touch))

    return batches


def as_told(report: GapReport) -> tuple[object, ...]:
    """What a report says, in the terms of the plain twin."""
    return (
        np.column_stack((report.spans, report.changes)).tolist(),
        report.quiet_spans.tolist(),
        report.messages_after.tolist(),
        round(report.cover.head_gap_seconds * NS_PER_SECOND),
        round(report.cover.tail_gap_seconds * NS_PER_SECOND),
    )


def as_found(twin: Found) -> tuple[object, ...]:
    """What the plain twin found, in the same order."""
    return twin.gaps, twin.holes, twin.after, twin.head, twin.tail
