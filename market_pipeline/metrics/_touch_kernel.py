"""The walk through a day's messages that sums what `metrics.touch` publishes, interval by interval.

A book holds from its message to the next one, on a clock that never runs back. That time is cut at
the edges of the intervals and of the spans in which nothing was observed. All state is in arrays,
so that the rows may be cut anywhere.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.state import read_only
from market_pipeline.jit import inlined_kernel, kernel
from market_pipeline.metrics.moments import Moments
from market_pipeline.quality.intervals import FloatArray, IntArray

__all__ = [
    "COUNTS",
    "SUMS",
    "QuantileBins",
    "TouchRows",
    "TouchWalk",
    "finish_quantiles",
    "walk_touch",
]

SUMS: Final = (
    *("spread", "spread_bps", "mid2", "weighted_mid", "bid_size", "ask_size", "imbalance"),
    "ofi_lots",
)
"""Columns of `TouchWalk.sums`: each times the ns it held, but for the last."""

COUNTS: Final = (
    *("valid_ns", "quoted_ns", "bid_ns", "ask_ns", "messages"),
    *("ofi_events", "bid_changes", "ask_changes", "mid_changes"),
    *("arrivals", "arrival_ns", "zero_arrivals", "divisor_ns"),
)
"""Columns of `TouchWalk.counts`."""

_SPREAD, _SPREAD_BPS, _MID2, _WEIGHTED, _BID_SIZE, _ASK_SIZE, _IMBALANCE, _OFI = range(8)
_VALID_NS, _QUOTED_NS, _BID_NS, _ASK_NS, _MESSAGES = range(5)
_EVENTS, _BID_CHANGES, _ASK_CHANGES, _MID_CHANGES = range(5, 9)
_ARRIVALS, _ARRIVAL_NS, _ZEROS, _DIVISOR = range(9, 13)

# State: of the last row, and what was observed since.
_STARTED, _TIME, _VALID, _BID, _BID_LOTS, _ASK, _ASK_LOTS, _SPAN = range(8)
_UNBROKEN, _HAS_SOUND, _SOUND_TIME, _LOST, _GAP_BEFORE = range(8, 13)
_STATE_SIZE = 13

_INVALID = int(INVALIDATING)
_NO_TIME = int(BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY)
_OUTSIDE = int(BookFlag.OUTSIDE_DAY)
_GAP = int(BookFlag.GAP)

_EXACT_BITS = 7
_HALF = 1 << (_EXACT_BITS - 1)
_BINS = (64 - _EXACT_BITS + 1) * _HALF


class QuantileBins(NamedTuple):
    """How often each time since the message before was met, in the current interval of each grid.

    A time is rounded down to 7 binary digits, which is exact below 128 ns and else within 1/64.

    Attributes:
        ratios, offsets: int64, shape (grids,): as `NestedGrids.ratios`, and where each grid begins
            in `results`.
        current, total, least, most: int64, shape (grids,): its interval, -1 before the first, how
            many times, and the bins that have any.
        bins: int64, shape (grids, bins).
        results: int64, shape (intervals of all grids, 2): median and 99 % quantile in ns, -1 where
            there was no time.
    """

    ratios: IntArray
    offsets: IntArray
    current: IntArray
    total: IntArray
    least: IntArray
    most: IntArray
    bins: IntArray
    results: IntArray

    @classmethod
    def of(cls, ratios: IntArray, number: int) -> QuantileBins:
        """Empty ones."""
        sizes = number // ratios
        grids = len(ratios)
        return cls(
            ratios,
            np.cumsum(sizes) - sizes,
            np.full(grids, -1, np.int64),
            np.zeros(grids, np.int64),
            np.full(grids, _BINS, np.int64),
            np.zeros(grids, np.int64),
            np.zeros((grids, _BINS), np.int64),
            np.full((int(sizes.sum()), 2), -1, np.int64),
        )


class TouchWalk(NamedTuple):
    """All that the walk knows and has summed.

    Attributes:
        start_ns, width_ns: Of the intervals.
        row_of, repeats, starts_ns: As those of `Moments`.
        spans: int64, shape (k, 2): when nothing was observed.
        steps_ns: int64, shape (steps,): sampling steps of returns.
        state: int64, of the last row.
        next_ns, last_mid2: int64, shape (steps,): when each step samples next, and the last mid
            sampled; 0 for none that a return may begin with.
        sums: float64, shape (rows, len(SUMS)): what each interval of a row has.
        counts: int64, shape (rows, len(COUNTS)).
        variance, returns: float64 and int64, shape (intervals, steps).
    """

    start_ns: int
    width_ns: int
    row_of: IntArray
    repeats: IntArray
    starts_ns: IntArray
    spans: IntArray
    steps_ns: IntArray
    state: IntArray
    next_ns: IntArray
    last_mid2: IntArray
    sums: FloatArray
    counts: IntArray
    variance: FloatArray
    returns: IntArray

    @classmethod
    def of(cls, moments: Moments, width_ns: int, spans: IntArray, steps_ns: IntArray) -> TouchWalk:
        """One that has seen no message."""
        steps, number = len(steps_ns), len(moments.row_of)
        start_ns = int(moments.starts_ns[0])
        return cls(
            start_ns,
            width_ns,
            read_only(moments.row_of),
            read_only(moments.repeats),
            read_only(moments.starts_ns),
            spans,
            steps_ns,
            np.zeros(_STATE_SIZE, np.int64),
            np.full(steps, start_ns, np.int64),
            np.zeros(steps, np.int64),
            np.zeros((moments.number, len(SUMS))),
            np.zeros((moments.number, len(COUNTS)), np.int64),
            np.zeros((number, steps)),
            np.zeros((number, steps), np.int64),
        )


class TouchRows(NamedTuple):
    """Rows of `books.bbo`, shape (n,) each; a size of 0 is an empty side."""

    ts_receipt_ns: IntArray
    flags: NDArray[np.uint16]
    bid_ticks: IntArray
    bid_lots: IntArray
    ask_ticks: IntArray
    ask_lots: IntArray


@inlined_kernel
def _break_returns(walk):
    for step in range(walk.steps_ns.size):
        walk.last_mid2[step] = 0


@inlined_kernel
def _sample(walk, start_ns, end_ns, mid2):
    """Samples a mid that held from start to end at the points of every step within."""
    # The last point of a day is where it ends.
    end_ns = min(end_ns, walk.starts_ns[-1] + 1)
    for step in range(walk.steps_ns.size):
        step_ns = walk.steps_ns[step]
        next_ns = walk.next_ns[step]
        if next_ns >= end_ns:
            continue
        if next_ns < start_ns:
            next_ns += (start_ns - next_ns + step_ns - 1) // step_ns * step_ns
            walk.last_mid2[step] = 0
        last = walk.last_mid2[step]
        while next_ns < end_ns:
            began_ns = next_ns - step_ns
            interval = (began_ns - walk.start_ns) // walk.width_ns
            points = 1
            if last == mid2 and end_ns - next_ns > step_ns:
                # All of an interval at once, for nothing changes any more.
                last_ns = min(walk.start_ns + (interval + 1) * walk.width_ns, end_ns - step_ns) - 1
                points += (last_ns - began_ns) // step_ns
            if last > 0:
                walk.returns[interval, step] += points
                if last != mid2:
                    change = math.log(mid2 / last)
                    walk.variance[interval, step] += change * change
            last = mid2
            next_ns += points * step_ns
        walk.last_mid2[step] = last
        walk.next_ns[step] = next_ns


@inlined_kernel
def _add_time(walk, start_ns, end_ns):
    """Adds the time a valid book held, cut at the edges of intervals."""
    state = walk.state
    bid, bid_lots = state[_BID], state[_BID_LOTS]
    ask, ask_lots = state[_ASK], state[_ASK_LOTS]
    has_bid, has_ask = bid_lots > 0, ask_lots > 0
    mid2, spread = bid + ask, ask - bid
    imbalance, spread_bps, weighted_mid = 0.0, 0.0, 0.0
    if has_bid and has_ask:
        imbalance = (bid_lots - ask_lots) / (bid_lots + ask_lots)
        spread_bps = 20_000.0 * spread / mid2
        # No product of a price and a size, which would not fit the 53 bits of a float.
        weighted_mid = mid2 / 2.0 + spread / 2.0 * imbalance
    start_ns = max(start_ns, walk.start_ns)
    end_ns = min(end_ns, walk.starts_ns[-1])
    if start_ns >= end_ns:
        return
    row = walk.row_of[(start_ns - walk.start_ns) // walk.width_ns]
    while start_ns < end_ns:
        until_ns = min(end_ns, walk.starts_ns[row + 1])
        # Of each interval of the row, for all of them are held alike.
        held_ns = (until_ns - start_ns) // walk.repeats[row]
        counts, sums = walk.counts[row], walk.sums[row]
        counts[_VALID_NS] += held_ns
        if has_bid:
            counts[_BID_NS] += held_ns
            sums[_BID_SIZE] += np.float64(bid_lots) * held_ns
        if has_ask:
            counts[_ASK_NS] += held_ns
            sums[_ASK_SIZE] += np.float64(ask_lots) * held_ns
        if has_bid and has_ask:
            counts[_QUOTED_NS] += held_ns
            sums[_SPREAD] += np.float64(spread) * held_ns
            sums[_SPREAD_BPS] += spread_bps * held_ns
            sums[_MID2] += np.float64(mid2) * held_ns
            sums[_WEIGHTED] += weighted_mid * held_ns
            sums[_IMBALANCE] += imbalance * held_ns
        start_ns = until_ns
        row += 1


@inlined_kernel
def _hold(walk, until_ns):
    """Lets the book of the last row hold until the next, but for spans without observation."""
    state = walk.state
    spans = walk.spans
    start_ns = state[_TIME]
    while start_ns < until_ns:
        span = state[_SPAN]
        while span < spans.shape[0] and spans[span, 1] <= start_ns:
            span += 1
        state[_SPAN] = span
        end_ns = until_ns
        if span < spans.shape[0] and spans[span, 0] <= start_ns:
            end_ns = min(until_ns, spans[span, 1])
            state[_UNBROKEN] = 0
            state[_LOST] = 1
            _break_returns(walk)
        else:
            if span < spans.shape[0]:
                end_ns = min(until_ns, spans[span, 0])
            if state[_VALID]:
                _add_time(walk, start_ns, end_ns)
                if state[_BID_LOTS] > 0 and state[_ASK_LOTS] > 0:
                    mid2 = state[_BID] + state[_ASK]
                    _sample(walk, start_ns, end_ns, mid2)
        start_ns = end_ns


@inlined_kernel
def _add_change(sums, counts, state, bid, bid_lots, ask, ask_lots):
    """What a message did to the touch; Cont, Kukanov and Stoikov (2014) of the two books."""
    was_bid, was_bid_lots = state[_BID], state[_BID_LOTS]
    was_ask, was_ask_lots = state[_ASK], state[_ASK_LOTS]
    counts[_EVENTS] += 1
    sums[_OFI] += (bid >= was_bid) * bid_lots - (bid <= was_bid) * was_bid_lots
    sums[_OFI] += (ask >= was_ask) * was_ask_lots - (ask <= was_ask) * ask_lots
    counts[_BID_CHANGES] += bid != was_bid or bid_lots != was_bid_lots
    counts[_ASK_CHANGES] += ask != was_ask or ask_lots != was_ask_lots
    counts[_MID_CHANGES] += bid + ask != was_bid + was_ask


@inlined_kernel
def _bin(value):
    shift = 0
    while value >> shift >= 2 * _HALF:
        shift += 1
    return shift * _HALF + (value >> shift)


@inlined_kernel
def _bin_value(number):
    shift = max(number // _HALF - 1, 0)
    return (number - shift * _HALF) << shift


@inlined_kernel
def _close_bins(quantiles, grid):
    """Takes the quantiles of a grid's current interval, and empties its bins."""
    bins = quantiles.bins[grid]
    total = quantiles.total[grid]
    result = quantiles.results[quantiles.offsets[grid] + quantiles.current[grid]]
    seen = 0
    for each in range(quantiles.least[grid], quantiles.most[grid] + 1):
        seen += bins[each]
        bins[each] = 0
        if result[0] < 0 and 2 * seen >= total:
            result[0] = _bin_value(each)
        if result[1] < 0 and 100 * seen >= 99 * total:
            result[1] = _bin_value(each)
    quantiles.total[grid] = 0
    quantiles.least[grid] = bins.size
    quantiles.most[grid] = 0


@inlined_kernel
def _add_arrival(quantiles, counts, interval, since_ns):
    counts[_ARRIVALS] += 1
    counts[_ARRIVAL_NS] += since_ns
    counts[_ZEROS] += since_ns == 0
    divisor, rest = counts[_DIVISOR], since_ns
    while rest:
        divisor, rest = rest, divisor % rest
    counts[_DIVISOR] = divisor
    number = _bin(since_ns)
    for grid in range(quantiles.ratios.size):
        current = interval // quantiles.ratios[grid]
        if quantiles.current[grid] != current:
            if quantiles.current[grid] >= 0:
                _close_bins(quantiles, grid)
            quantiles.current[grid] = current
        quantiles.bins[grid, number] += 1
        quantiles.total[grid] += 1
        quantiles.least[grid] = min(quantiles.least[grid], number)
        quantiles.most[grid] = max(quantiles.most[grid], number)


@kernel
def finish_quantiles(quantiles):
    """Takes the quantiles of the last interval of each grid."""
    for grid in range(quantiles.ratios.size):
        if quantiles.current[grid] >= 0:
            _close_bins(quantiles, grid)


@kernel
def walk_touch(walk, quantiles, rows):
    """Takes further rows into account."""
    state = walk.state
    number = walk.row_of.size
    for row in range(rows.flags.size):
        flags = np.int64(rows.flags[row])
        time_ns = rows.ts_receipt_ns[row]
        has_time = flags & _NO_TIME == 0
        if state[_STARTED]:
            time_ns = max(time_ns, state[_TIME]) if has_time else state[_TIME]
            _hold(walk, time_ns)
        elif not has_time:
            continue
        valid = flags & _INVALID == 0
        bid, bid_lots = rows.bid_ticks[row], rows.bid_lots[row]
        ask, ask_lots = rows.ask_ticks[row], rows.ask_lots[row]
        is_whole = valid and bid_lots > 0 and ask_lots > 0
        interval = (time_ns - walk.start_ns) // walk.width_ns
        is_inside = time_ns >= walk.start_ns and interval < number
        if is_inside:
            moment = walk.row_of[interval]
            counts = walk.counts[moment]
            counts[_MESSAGES] += flags & _OUTSIDE == 0
            if is_whole and state[_UNBROKEN]:
                _add_change(walk.sums[moment], counts, state, bid, bid_lots, ask, ask_lots)
        if flags & _GAP and not state[_GAP_BEFORE]:
            state[_LOST] = 1
        if has_time:
            if is_inside and state[_HAS_SOUND] and not state[_LOST]:
                _add_arrival(quantiles, counts, interval, time_ns - state[_SOUND_TIME])
            state[_HAS_SOUND], state[_SOUND_TIME], state[_LOST] = 1, time_ns, 0
        if not is_whole:
            _break_returns(walk)
        state[_STARTED], state[_TIME], state[_VALID], state[_UNBROKEN] = 1, time_ns, valid, is_whole
        state[_BID], state[_BID_LOTS], state[_ASK], state[_ASK_LOTS] = bid, bid_lots, ask, ask_lots
        state[_GAP_BEFORE] = flags & _GAP
