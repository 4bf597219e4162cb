"""The clock report: how the receipt clock of the capture host runs against the exchange's.

The measured quantity is `y = ts_receipt - ts_origin`: network delay (never negative), plus the
offset of the two clocks (unknown from one-way delays), plus what one clock gains on the other. A
negative y is a fact about clocks, to be reported; it rejects nothing.

* **Drift** is the slope of the line below all points (t_origin, y) that is closest to them (see
  `hull`): least squares would take congestion for drift. It is fitted between steps and averaged by
  duration (clock resets: Zhang, Liu, Xia, INFOCOM 2002). No clock drifts by `MAX_DRIFT_PPM`: a
  stretch that seems to is left out, and reported.
* **Steps** are shifts of the least delay (see `steps`).
* **Granularity** is the greatest common divisor of a clock's differences after rounding to
  microseconds, because vendor times are quantised to 256 ns.

The time axis of the fit is of the origin clock, so a receipt clock that is set back does not fold
it over itself.

A message whose receipt or exchange time the rebuild found bad has no y and counts in nothing but
`bad_stamps`. Steps and drift also leave out a message whose exchange time contradicts the order of
the others (`stray_times`), or whose y stands alone among its neighbours' by more than a second.

A day's times are long arrays, so y is formed where it is needed and a chunk at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.state import read_only
from market_pipeline.jit import kernel
from market_pipeline.mapped import mapped
from market_pipeline.quality.figures.book import SkewFigures
from market_pipeline.quality.intervals import (
    CHUNK_MESSAGES,
    NS_PER_HOUR,
    BoolArray,
    FloatArray,
    IndexArray,
    IntArray,
    chunks,
    day_bounds_ns,
)
from market_pipeline.quality.measures._clock_steps import ClockStep, Windows, find_steps
from market_pipeline.quality.measures._hull import LowerHull
from market_pipeline.quality.measures.stray_times import TOLERANCE_NS, limited, stray_times

__all__ = ["MAX_DRIFT_PPM", "BadStamps", "ClockReport", "bad_stamps", "clock_report"]

MAX_DRIFT_PPM = 10_000.0
"""A clock that gains more than that, 14 minutes a day, does not drift: it steps, or its stamps are
wrong. Bad crystals gain 100 ppm.
"""

_NS_PER_US = 1_000
_NS_PER_MS = 1_000_000
_MIN_FIT_SECONDS = 60.0
"""A shorter stretch says more about jitter than about drift."""
_NEIGHBOURS = 15
"""So many messages of either side say where a message's y should be."""


@dataclass(frozen=True, slots=True)
class BadStamps:
    """The messages of which a stamp means nothing.

    Attributes:
        receipt_count, origin_count: How many have a bad receipt time, a bad exchange time.
        first_receipt, first_origin: The index of the first of each; None without one.
    """

    receipt_count: int
    origin_count: int
    first_receipt: int | None
    first_origin: int | None


def bad_stamps(flags: NDArray[np.uint16]) -> BadStamps:
    """Counts the messages whose stamps the rebuild found bad; uint16, shape (messages,)."""
    counts, first = [], []
    for flag in (BookFlag.BAD_TS_RECEIPT, BookFlag.BAD_TS_ORIGIN):
        bad = (flags & np.uint16(flag)) != 0
        counts.append(int(np.count_nonzero(bad)))
        first.append(int(np.argmax(bad)) if counts[-1] else None)
    return BadStamps(*counts, *first)


@dataclass(frozen=True, slots=True)
class ClockReport:
    """Receipt time minus origin time, y, over one instrument's day.

    The drift is what the receipt clock gains, in microseconds a second: None if no stretch between
    steps is at least a minute long, or none drifts as a clock can. A granularity is None if the
    clock never moved.

    Attributes:
        steps: In time order.
        first_early_index: The first message received before the exchange says it sent it; None
            without one.
        worst_index: The message whose y is farthest from the median (the first of equals).
    """

    figures: SkewFigures
    steps: tuple[ClockStep, ...]
    first_early_index: int | None
    worst_index: int


def clock_report(
    *,
    ts_origin_ns: IntArray,
    ts_receipt_ns: IntArray,
    day: date,
    step_warn_ms: float,
    flags: NDArray[np.uint16] | None = None,
) -> ClockReport:
    """Compares the two clocks of one instrument's day.

    Args:
        ts_origin_ns, ts_receipt_ns: int64, shape (messages,), one per message in file order.
        day: The UTC day that the hours belong to.
        step_warn_ms: A step is larger than this, and larger than 6 median absolute deviations.
        flags: uint16, shape (messages,): a message with a bad stamp is left out. None is no flag.

    Raises:
        OSError: If the times of the others cannot be written down.
        ValueError: If there is no message with two stamps that can be used.
    """
    if len(ts_origin_ns) == 0:
        raise ValueError("a day without a message has no clock: report it as missing data")
    index = _with_both_stamps(len(ts_origin_ns), flags)
    origin_ns, receipt_ns = _chosen(ts_origin_ns, ts_receipt_ns, index)
    if len(origin_ns) == 0:
        raise ValueError("no message has both a receipt time and an exchange time to go by")
    quantiles = _Quantiles.of(origin_ns, receipt_ns, day)
    p001, p01, p50, p99, p999 = quantiles.of_day_ms
    worst, worst_ms = _farthest(origin_ns, receipt_ns, p50)
    early = _first_early(origin_ns, receipt_ns)
    granularities_us = _granularity_us(origin_ns), _granularity_us(receipt_ns)
    worst_ns = int(receipt_ns[worst])
    del origin_ns, receipt_ns  # or what was left out of them would lie in two files
    drift_ppm, drift_remark, steps = _course(ts_origin_ns, ts_receipt_ns, index, step_warn_ms)
    largest = max(steps, key=lambda step: abs(step.size_ms), default=None)
    figures = SkewFigures(
        skew_p001_ms=p001,
        skew_p01_ms=p01,
        skew_p50_ms=p50,
        skew_p99_ms=p99,
        skew_p999_ms=p999,
        skew_p50_ms_per_hour=quantiles.medians_ms,
        worst_skew_ms=worst_ms,
        worst_skew_ns=worst_ns,
        negative_latency_share=quantiles.negative_share,
        clock_drift_ppm=drift_ppm,
        clock_drift_remark=drift_remark,
        clock_steps=len(steps),
        largest_clock_step_ms=largest.size_ms if largest else None,
        largest_clock_step_ns=largest.ts_receipt_ns if largest else None,
        first_clock_step_ns=steps[0].ts_receipt_ns if steps else None,
        origin_granularity_us=granularities_us[0],
        receipt_granularity_us=granularities_us[1],
    )
    return ClockReport(
        figures,
        steps,
        first_early_index=None if early is None else _at(index, early),
        worst_index=_at(index, worst),
    )


_Index = slice | IndexArray


def _with_both_stamps(messages: int, flags: NDArray[np.uint16] | None) -> _Index:
    """The messages without a bad stamp; a slice, which copies nothing, if that are all of them."""
    if flags is None:
        return slice(None)
    return _without(
        slice(None), (flags & np.uint16(BookFlag.BAD_TS_RECEIPT | BookFlag.BAD_TS_ORIGIN)) != 0
    )


def _without(index: _Index, left_out: BoolArray) -> _Index:
    if not left_out.any():
        return index
    return (
        np.flatnonzero(~left_out).astype(np.int32) if isinstance(index, slice) else index[~left_out]
    )


def _chosen(
    ts_origin_ns: IntArray, ts_receipt_ns: IntArray, index: _Index
) -> tuple[IntArray, IntArray]:
    """Both times of the messages of an index, `limited`; of some of them mapped from a file."""
    if isinstance(index, slice):
        return limited(ts_origin_ns), limited(ts_receipt_ns)
    parts = (
        index[first : first + CHUNK_MESSAGES] for first in range(0, len(index), CHUNK_MESSAGES)
    )
    times = ([limited(ts_ns[part]) for ts_ns in (ts_origin_ns, ts_receipt_ns)] for part in parts)
    origin_ns, receipt_ns = mapped(times, [np.int64, np.int64], len(index))
    return origin_ns, receipt_ns


def _at(index: _Index, place: int) -> int:
    return place if isinstance(index, slice) else int(index[place])


def _course(
    ts_origin_ns: IntArray, ts_receipt_ns: IntArray, index: _Index, step_warn_ms: float
) -> tuple[float | None, str | None, tuple[ClockStep, ...]]:
    """Drift, what is left out of it, and steps, without the messages that stand alone."""
    origin_ns, receipt_ns = _chosen(ts_origin_ns, ts_receipt_ns, index)
    stray = stray_times(origin_ns)
    ordered = np.empty(_NEIGHBOURS)
    _mark_alone(read_only(origin_ns), read_only(receipt_ns), ordered, stray)
    if stray.any() and not stray.all():
        index = _without(index, stray)
        origin_ns, receipt_ns = _chosen(ts_origin_ns, ts_receipt_ns, index)
    windows = Windows.over(origin_ns, receipt_ns)
    steps = find_steps(windows, origin_ns, receipt_ns, step_warn_ms)
    drift_ppm, remark = _drift(origin_ns, receipt_ns, windows, steps)
    return (
        drift_ppm,
        remark,
        tuple(replace(step, index=_at(index, step.index)) for step in steps),
    )


@kernel
def _median_y(
    ts_origin_ns: IntArray, ts_receipt_ns: IntArray, begin: int, end: int, ordered: FloatArray
) -> np.float64:
    """The median y of a few messages, from `begin` on and before `end`."""
    size = end - begin
    for i in range(size):
        y, place = np.float64(ts_receipt_ns[begin + i] - ts_origin_ns[begin + i]), i
        while place > 0 and ordered[place - 1] > y:
            ordered[place] = ordered[place - 1]
            place -= 1
        ordered[place] = y
    median: np.float64 = (ordered[(size - 1) // 2] + ordered[size // 2]) / 2.0
    return median


@kernel
def _mark_alone(
    ts_origin_ns: IntArray, ts_receipt_ns: IntArray, ordered: FloatArray, stray: BoolArray
) -> None:
    """Marks messages whose y lies to one side of both neighbourhoods' medians by over a second."""
    size = ts_origin_ns.size
    latest_jump = -_NEIGHBOURS - 1
    for i in range(1, size):
        # float64, because the difference of two y of any size fits no int64.
        y = np.float64(ts_receipt_ns[i] - ts_origin_ns[i])
        y_before = np.float64(ts_receipt_ns[i - 1] - ts_origin_ns[i - 1])
        if abs(y - y_before) <= TOLERANCE_NS:
            continue
        # A message that stands alone is within so many of a jump.
        begin = max(i - _NEIGHBOURS, latest_jump + _NEIGHBOURS, 0)
        for j in range(begin, min(i + _NEIGHBOURS, size)):
            here = np.float64(ts_receipt_ns[j] - ts_origin_ns[j])
            first, after = max(j - _NEIGHBOURS, 0), min(j + 1 + _NEIGHBOURS, size)
            # Near an end of the day the whole neighbourhood says it alone.
            has_before = j > first and (j - first == _NEIGHBOURS or after - j <= _NEIGHBOURS)
            has_behind = after > j + 1 and (after - j > _NEIGHBOURS or j - first < _NEIGHBOURS)
            before = behind = here
            if has_before:
                before = _median_y(ts_origin_ns, ts_receipt_ns, first, j, ordered)
            if has_behind:
                behind = _median_y(ts_origin_ns, ts_receipt_ns, j + 1, after, ordered)
            if not has_before:
                before = behind
            if not has_behind:
                behind = before
            low = min(before, behind) - here
            high = here - max(before, behind)
            stray[j] |= max(low, high) > TOLERANCE_NS
        latest_jump = i


# --- quantiles ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Quantiles:
    """What takes all of y at once: 8 bytes a message, free again when it is known."""

    of_day_ms: tuple[float, ...]
    medians_ms: tuple[float | None, ...]
    negative_share: float

    @classmethod
    def of(cls, ts_origin_ns: IntArray, ts_receipt_ns: IntArray, day: date) -> _Quantiles:
        delay_ms, ends = np.empty(ts_receipt_ns.size), np.zeros(27, np.int64)
        columns = read_only(ts_origin_ns), read_only(ts_receipt_ns)
        _group_delays(*columns, day_bounds_ns(day)[0], ends, delay_ms)
        hours = (delay_ms[begin:end] for begin, end in pairwise(ends[:25].tolist()))
        # Quantiles may reorder what they are taken of: first each hour, then the day.
        medians = [
            float(np.median(hour, overwrite_input=True)) if len(hour) else None for hour in hours
        ]
        of_day = np.quantile(delay_ms, (0.001, 0.01, 0.5, 0.99, 0.999), overwrite_input=True)
        negative = int(np.count_nonzero(delay_ms < 0)) / len(delay_ms)
        return cls(tuple(of_day.tolist()), tuple(medians), negative)


@kernel
def _group_delays(
    ts_origin_ns: IntArray, ts_receipt_ns: IntArray, start_ns: int, ends: IntArray, y_ms: FloatArray
) -> None:
    """Writes every y in milliseconds, grouped by UTC hour of receipt, and where each group ends.

    The first group is what was received before the day, then come its 24 hours, then the rest.
    """
    for i in range(ts_receipt_ns.size):
        hour = (ts_receipt_ns[i] - start_ns) // NS_PER_HOUR
        ends[min(max(hour, -1), 24) + 2] += 1
    for group in range(1, ends.size):
        ends[group] += ends[group - 1]
    for i in range(ts_receipt_ns.size):
        hour = (ts_receipt_ns[i] - start_ns) // NS_PER_HOUR
        group = min(max(hour, -1), 24) + 1
        y_ms[ends[group]] = (ts_receipt_ns[i] - ts_origin_ns[i]) / _NS_PER_MS
        ends[group] += 1


def _first_early(ts_origin_ns: IntArray, ts_receipt_ns: IntArray) -> int | None:
    """The first message received before the exchange says it sent it."""
    for chunk in chunks(len(ts_receipt_ns)):
        early = ts_receipt_ns[chunk] < ts_origin_ns[chunk]
        if early.any():
            return int(chunk.start) + int(np.argmax(early))
    return None


def _farthest(
    ts_origin_ns: IntArray, ts_receipt_ns: IntArray, median_ms: float
) -> tuple[int, float]:
    """The message whose y is farthest from the median, the first of equals, and its y."""
    worst, worst_ms = 0, median_ms
    for chunk in chunks(len(ts_receipt_ns)):
        delay_ms = (ts_receipt_ns[chunk] - ts_origin_ns[chunk]) / _NS_PER_MS
        at = int(np.argmax(np.abs(delay_ms - median_ms)))
        if abs(delay_ms[at] - median_ms) > abs(worst_ms - median_ms):
            worst, worst_ms = chunk.start + at, float(delay_ms[at])
    return worst, worst_ms


def _granularity_us(ts_ns: IntArray) -> int | None:
    divisor = 0
    for chunk in chunks(len(ts_ns)):
        differences = np.diff((ts_ns[chunk] + _NS_PER_US // 2) // _NS_PER_US)
        divisor = int(np.gcd.reduce(differences, initial=divisor))
        if divisor == 1:
            break
    return divisor or None


# --- drift ----------------------------------------------------------------------------------


def _drift(
    ts_origin_ns: IntArray, ts_receipt_ns: IntArray, windows: Windows, steps: tuple[ClockStep, ...]
) -> tuple[float | None, str | None]:
    """The hull slopes of the stretches between steps and long holes, averaged by duration, and what
    is left out of that.
    """
    cuts = {int(windows.first[first]) for first, _ in windows.blocks}
    edges = [*sorted(cuts | {step.index for step in steps}), len(ts_origin_ns)]
    weighted = total = left_out = 0.0
    for begin, end in pairwise(edges):
        hull = LowerHull()
        for first in range(begin, end, CHUNK_MESSAGES):
            chunk = slice(first, min(first + CHUNK_MESSAGES, end))
            delay_ns = (ts_receipt_ns[chunk] - ts_origin_ns[chunk]).astype(np.float64)
            hull.add(
                (ts_origin_ns[chunk] - ts_origin_ns[begin]) / _NS_PER_US,
                (delay_ns - float(ts_receipt_ns[begin] - ts_origin_ns[begin])) / _NS_PER_US,
            )
        seconds = hull.width / 1e6
        if seconds < _MIN_FIT_SECONDS:
            continue
        ppm = hull.slope() * 1e6
        if abs(ppm) > MAX_DRIFT_PPM:
            left_out += seconds
            continue
        weighted += ppm * seconds
        total += seconds
    remark = (
        f"in {left_out:,.0f} s the least delay moves by more than {MAX_DRIFT_PPM:,.0f} ppm, which "
        "is no drift: a clock steps there, or its stamps are wrong"
    )
    return weighted / total if total > 0 else None, remark if left_out else None
