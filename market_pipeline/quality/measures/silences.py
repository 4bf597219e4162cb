"""Silences of a feed: how long one must be to matter, and what shows that it is no quiet market.

Times between messages have heavy tails, and what is usual differs from market to market and from
hour to hour. So no bound is a number of seconds alone:

* **Usual** is the 99.9 % quantile of the day's own times between messages. A silence is a time of
  more than `silence_factor` times that, by the receipt and by the origin times, so that a step of
  one clock, or a burst after a stalled line, is none. It is a gap if something shows that the book
  changed meanwhile: trades, or snapshots.
* **An outage** is a time so long that the market alone would not make it, whatever else is silent.
  How long that is follows from the rhythm around it, the `NEIGHBOURS` times before and after, so
  that a quiet night after a busy day is no row of outages: it is longer by a factor than what is
  usual on either side. The day's own tail gives that factor: in blocks of as many messages the
  longest time is compared with what is usual in the block, and the line through two quantiles of
  these ratios is drawn on to the ratio that one day in `1 / outage_chance` reaches. A light tail
  gives some 12 times, a heavy one thousands. Beyond `outage_factor` times the day's usual a time
  need only be `OUTAGE_BEYOND_NEIGHBOURS` times as long as those around it. Up to
  `outage_floor_seconds` none is distinguished from a market that holds its breath.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from market_pipeline.config.instruments import GapRule
from market_pipeline.quality.intervals import (
    NO_SPANS,
    NS_PER_SECOND,
    BoolArray,
    FloatArray,
    IntArray,
    running_chunks,
    time_order,
)

__all__ = [
    "Rhythm",
    "Silences",
    "clocks_agree",
    "rhythm_of",
    "silences_of",
    "trades_inside",
    "usual_around_ns",
]

NEIGHBOURS = 100
"""So many times between messages on either side of a silence are its neighbourhood …"""
_NEIGHBOUR_QUANTILE = 0.95
"""… of which this quantile is usual there: a feed that breaks off again and again hides nothing."""
OUTAGE_BEYOND_NEIGHBOURS = 10.0
"""An outage is longer than so many times what is usual on either side, however light the tail."""

_LEAST_STEPS = 64
"""With fewer times between messages in a day no outage is reported."""
_BLOCKS = 4_096
"""So many blocks, spread over the day, show its tail at most …"""
_TAIL_BLOCKS = 64
"""… of which so many, or the 16th part, are the tail …"""
_TAIL_PART = 4
"""… and the fourth part of these gives the second point of its line."""

_LARGEST_SHOWN = 1_000.0
_PACE_PARTS = 32
_WINDOWS_AT_ONCE = 1 << 12
_BLOCKS_AT_ONCE = 1 << 10
_TRADES_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How far apart a feed's messages are.

    Attributes:
        usual_ns: The quantile of the times between them.
        silence_ns: A longer time is a silence.
        outage_floor_ns, outage_cap_ns: Up to the one no time is an outage; from the other on every
            one is that is far beyond those around it.
        outage_factor: In between it has to be so many times as long as they are; infinite where the
            tail of the day does not tell, None if there are too few messages for any outage.
    """

    usual_ns: int
    silence_ns: int
    outage_floor_ns: int = 0
    outage_cap_ns: float = math.inf
    outage_factor: float | None = None

    @property
    def outage_factor_shown(self) -> float | None:
        """The factor as a figure; None where it is so large that only the cap counts."""
        factor = self.outage_factor
        if factor is None or factor > _LARGEST_SHOWN:
            return None
        return max(factor, OUTAGE_BEYOND_NEIGHBOURS)

    @property
    def least_ns(self) -> int:
        """Up to this no time between messages is of interest."""
        if self.outage_factor is None:
            return self.silence_ns
        return min(self.silence_ns, self.outage_floor_ns)

    def outage_ns(self, usual_around_ns: int) -> float:
        """From how long on a time is an outage, by what is usual on either side of it."""
        if self.outage_factor is None:
            return math.inf
        return max(
            float(self.outage_floor_ns),
            OUTAGE_BEYOND_NEIGHBOURS * usual_around_ns,
            min(self.outage_factor * usual_around_ns, self.outage_cap_ns),
        )


def rhythm_of(ts_receipt_ns: IntArray, rule: GapRule) -> Rhythm:
    """The rhythm of a feed's messages, int64, shape (messages,).

    The quantile is an inter-arrival time that occurred, rounded down, so a single silence cannot
    raise its own threshold. It cannot help if more than 0.1 % of all inter-arrival times are gaps.
    """
    floor_ns = round(rule.silence_floor_seconds * NS_PER_SECOND)
    steps = len(ts_receipt_ns) - 1
    if steps <= 0:
        return Rhythm(0, floor_ns)
    # The quantile is the least of the longest inter-arrival times, and they are few.
    longest = steps - int((steps - 1) * rule.silence_quantile)
    steps_ns = np.empty(0, dtype=np.int64)
    for _, time_ns in running_chunks(ts_receipt_ns):
        steps_ns = np.concatenate((steps_ns, np.diff(time_ns)))
        if len(steps_ns) > longest:
            steps_ns = np.partition(steps_ns, -longest)[-longest:].copy()
    usual_ns = int(steps_ns.min())
    silence_ns = max(round(rule.silence_factor * usual_ns), floor_ns)
    if steps < _LEAST_STEPS:
        return Rhythm(usual_ns, silence_ns)
    return Rhythm(
        usual_ns,
        silence_ns,
        round(rule.outage_floor_seconds * NS_PER_SECOND),
        rule.outage_factor * usual_ns,
        _outage_factor(ts_receipt_ns, rule.outage_chance),
    )


def _outage_factor(ts_receipt_ns: IntArray, chance: float) -> float:
    """How many times as long as usual the longest of a block is as seldom as the chance says.

    Infinite if there are too few blocks to tell.
    """
    blocks = (len(ts_receipt_ns) - 1) // NEIGHBOURS
    looked_at = min(blocks, _BLOCKS)
    tail = max(min(_TAIL_BLOCKS, looked_at // 4), looked_at // 16)
    part = tail // _TAIL_PART
    if part == 0:
        return math.inf
    first = np.arange(looked_at) * blocks // looked_at * NEIGHBOURS
    # In parts that stay near the processor.
    parts = [
        _block_ratios(ts_receipt_ns, first[part : part + _BLOCKS_AT_ONCE])
        for part in range(0, looked_at, _BLOCKS_AT_ONCE)
    ]
    ratios = np.sort(np.concatenate(parts))
    low, high = float(ratios[-tail]), float(ratios[-part])
    if low <= 0:
        return math.inf
    slope = math.log(high / low) / math.log(tail / part)
    seldom = tail / chance * (blocks / looked_at)
    log_factor = math.log(low) + slope * math.log(max(seldom, 1.0))
    return math.exp(log_factor) if log_factor < 60 else math.inf


def _block_ratios(ts_receipt_ns: IntArray, first: IntArray) -> FloatArray:
    """How many times as long as usual the longest of each block is, by where the blocks begin."""
    ts_ns = ts_receipt_ns[first[:, None] + np.arange(NEIGHBOURS + 1)]
    steps_ns = np.sort(np.maximum(np.diff(ts_ns, axis=1), 0), axis=1)
    ratios: FloatArray = steps_ns[:, -1] / np.maximum(steps_ns[:, _usual_rank(NEIGHBOURS)], 1)
    return ratios


def clocks_agree(ts_receipt_ns: IntArray, ts_origin_ns: IntArray) -> bool:
    """Whether both clocks go at the same pace, within a factor of two, so that both can be asked.

    An exchange time of 0 throughout, or one in other units, says nothing of how long a silence was.
    """
    every = len(ts_receipt_ns) // _PACE_PARTS
    if every < 2:
        return True
    # A step of a clock, or a line that stalls, falls into few of the parts.
    pace, other = (float(np.median(np.diff(ts[::every]))) for ts in (ts_receipt_ns, ts_origin_ns))
    return pace <= 2 * other and other <= 2 * pace


@dataclass(frozen=True, slots=True, eq=False)
class Silences:
    """The silences of a feed, in order of time; receipt times never run back.

    Attributes:
        receipt_spans, origin_spans: int64, shape (k, 2): the times of the messages around each.
        messages_after: int64, shape (k,): index of the message that ended each.
    """

    receipt_spans: IntArray
    origin_spans: IntArray
    messages_after: IntArray

    def __len__(self) -> int:
        return len(self.messages_after)

    @property
    def lengths_ns(self) -> IntArray:
        """The receipt time that each took, int64, shape (k,)."""
        lengths_ns: IntArray = self.receipt_spans[:, 1] - self.receipt_spans[:, 0]
        return lengths_ns

    @property
    def certain_ns(self) -> IntArray:
        """The time that each took by both clocks, int64, shape (k,)."""
        by_origin_ns = self.origin_spans[:, 1] - self.origin_spans[:, 0]
        certain_ns: IntArray = np.minimum(self.lengths_ns, by_origin_ns)
        return certain_ns


def silences_of(
    ts_receipt_ns: IntArray, ts_origin_ns: IntArray, silence_ns: int, hole_ns: int
) -> Silences:
    """The spans between neighbouring messages that are too long by both clocks, or by receipt.

    Args:
        ts_receipt_ns, ts_origin_ns: int64, shape (messages,), in feed order.
        silence_ns: Up to this long no span is a silence …
        hole_ns: … and up to this long none of which the exchange's clock knows nothing.
    """
    receipt_spans, origin_spans = [NO_SPANS], [NO_SPANS]
    after = [np.empty(0, dtype=np.int64)]
    # A receipt clock that was set back must not make two spans overlap, so it is the running one.
    for first, time_ns in running_chunks(ts_receipt_ns):
        origin_ns = ts_origin_ns[first : first + len(time_ns)]
        received_ns = np.diff(time_ns)
        silent = (received_ns > silence_ns) & (np.diff(origin_ns) > silence_ns)
        silent |= received_ns > hole_ns
        before = np.flatnonzero(silent)
        for spans, ts_ns in ((receipt_spans, time_ns), (origin_spans, origin_ns)):
            spans.append(np.stack((ts_ns[before], ts_ns[before + 1]), axis=1))
        after.append(first + before + 1)
    return Silences(
        np.concatenate(receipt_spans), np.concatenate(origin_spans), np.concatenate(after)
    )


def usual_around_ns(silences: Silences, candidates: BoolArray, ts_receipt_ns: IntArray) -> IntArray:
    """What is usual on the slower side of each candidate, int64, shape (k,); 0 of the others."""
    usual_ns = np.zeros(len(silences), dtype=np.int64)
    indices = np.flatnonzero(candidates)
    after = silences.messages_after[indices]
    for first in (after - 1 - NEIGHBOURS, after):
        is_whole = (first >= 0) & (first + NEIGHBOURS < len(ts_receipt_ns))
        whole = np.flatnonzero(is_whole)
        for begin in range(0, len(whole), _WINDOWS_AT_ONCE):
            some = whole[begin : begin + _WINDOWS_AT_ONCE]
            ts_ns = ts_receipt_ns[first[some, None] + np.arange(NEIGHBOURS + 1)]
            found = indices[some]
            usual_ns[found] = np.maximum(usual_ns[found], _usual_between(ts_ns))
        # Near an end of the day there are fewer neighbours.
        for place in np.flatnonzero(~is_whole).tolist():
            start = int(first[place])
            ts_ns = ts_receipt_ns[max(start, 0) : start + NEIGHBOURS + 1]
            if ts_ns.size > 1:
                usual_ns[indices[place]] = max(usual_ns[indices[place]], _usual_between(ts_ns))
    return usual_ns


def _usual_between(ts_ns: IntArray) -> IntArray:
    """The usual time between the messages of each row; one that runs back is 0."""
    steps_ns = np.maximum(np.diff(ts_ns), 0)
    rank = _usual_rank(steps_ns.shape[-1])
    usual_ns: IntArray = np.partition(steps_ns, rank)[..., rank]
    return usual_ns


def _usual_rank(steps: int) -> int:
    return int((steps - 1) * _NEIGHBOUR_QUANTILE)


def trades_inside(
    silences: Silences, trade_receipt_ns: IntArray, trade_origin_ns: IntArray, *, margin_ns: int
) -> IntArray:
    """Counts the trades strictly inside each silence, on both clocks, `margin_ns` before its end.

    Args:
        silences: Of the messages.
        trade_receipt_ns, trade_origin_ns: int64, shape (trades,), in any order.
        margin_ns: A trade this shortly before the end is of the message that ended the silence.

    Returns:
        int64, shape (k,).
    """
    counts = np.zeros(len(silences), dtype=np.int64)
    ends_ns = silences.receipt_spans[:, 1] - margin_ns
    for start in range(0, len(trade_receipt_ns), _TRADES_AT_ONCE):
        receipt_ns = trade_receipt_ns[start : start + _TRADES_AT_ONCE]
        origin_ns = trade_origin_ns[start : start + _TRADES_AT_ONCE]
        order = time_order(receipt_ns)
        if order is not None:
            receipt_ns, origin_ns = receipt_ns[order], origin_ns[order]
        first = np.searchsorted(receipt_ns, silences.receipt_spans[:, 0], side="right")
        after = np.searchsorted(receipt_ns, ends_ns, side="left")
        for index in np.flatnonzero(first < after).tolist():
            begin_ns, end_ns = silences.origin_spans[index].tolist()
            origins = origin_ns[first[index] : after[index]]
            counts[index] += np.count_nonzero((origins > begin_ns) & (origins < end_ns - margin_ns))
    return counts
