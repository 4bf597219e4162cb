"""Which silences of a day are gaps, and which are holes that nothing explains."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from market_pipeline.config.instruments import GapRule
from market_pipeline.quality.intervals import NS_PER_SECOND, BoolArray, FloatArray, IntArray
from market_pipeline.quality.measures.silences import Rhythm, Silences, usual_around_ns

__all__ = ["Classified", "classify"]


class Classified(NamedTuple):
    """What the silences of a day are; shape (k,) each.

    Attributes:
        spans: int64, shape (k, 2): from when until when by the receipt clock, as far as messages
            are expected.
        is_silence: Longer than a silence by both clocks.
        is_gap: Trades or snapshots show a loss, or the length alone does.
        is_quiet: No gap, but a long silence.
        changes: Snapshots inside that show a change of the book; 0 where trades show the gap.
        bounds_ns: How long each could have been without being an outage, float64.
    """

    spans: IntArray
    is_silence: BoolArray
    is_gap: BoolArray
    is_quiet: BoolArray
    changes: IntArray
    bounds_ns: FloatArray


def classify(
    silences: Silences,
    trades: IntArray,
    changes_inside: Callable[[], IntArray],
    ts_receipt_ns: IntArray,
    rhythm: Rhythm,
    rule: GapRule,
    listed_ns: tuple[int, int],
) -> Classified:
    """Which silences are gaps, by the trades and changes inside and by their length.

    One that reaches beyond the time in which messages are expected counts by what it has of that.
    """
    is_silence = silences.certain_ns > rhythm.silence_ns
    is_gap = is_silence & (trades > 0)
    changes = np.zeros_like(trades)
    if (is_silence & ~is_gap).any():
        changes = np.where(is_gap, 0, changes_inside())
        is_gap |= is_silence & (changes > 0)
    around_ns = usual_around_ns(silences, ~is_gap, ts_receipt_ns)
    bounds_ns = np.array([rhythm.outage_ns(each) for each in around_ns.tolist()], np.float64)
    is_gap |= silences.certain_ns > bounds_ns
    hole_ns = max(round(rule.quiet_floor_seconds * NS_PER_SECOND), rhythm.silence_ns)
    is_quiet = ~is_gap & (silences.lengths_ns > hole_ns)
    is_quiet &= silences.lengths_ns > rule.silence_factor * around_ns
    spans = np.clip(silences.receipt_spans, *listed_ns)
    left_ns = spans[:, 1] - spans[:, 0]
    is_cut = left_ns < silences.lengths_ns
    is_gap &= ~is_cut | (left_ns > rhythm.silence_ns)
    is_quiet &= ~is_cut | (left_ns > hole_ns)
    return Classified(spans, is_silence, is_gap, is_quiet, changes, bounds_ns)
