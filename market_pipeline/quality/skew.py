"""The clock report: how the receipt clock of the capture host runs against the exchange's.

The measured quantity is `y = ts_receipt - ts_origin`: network delay (never negative), plus the
offset of the two clocks (unknown from one-way delays), plus what one clock gains on the other. A
negative y is a fact about clocks, to be reported; it rejects nothing.

* **Drift** is the slope of the line below all points (t_origin, y) that is closest to them (see
  `hull`): least squares would take congestion for drift. It is fitted between steps and averaged by
  duration (clock resets: Zhang, Liu, Xia, INFOCOM 2002).
* **Steps** are shifts of the window minimum of y against the local trend. A network whose *least*
  delay rises for minutes looks the same from one end; the report says where to look.
* **Granularity** is the greatest common divisor of a clock's differences after rounding to
  microseconds, because vendor times are quantised to 256 ns.

Windows and the time axis of the fit are of the origin clock, so a receipt clock that is set back
does not fold the axis over itself.

A day's times are long arrays, so y is formed where it is needed and a chunk at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
import polars as pl
from numba import njit
from numpy.lib.stride_tricks import sliding_window_view

from market_pipeline.quality.hull import LowerHull
from market_pipeline.quality.intervals import (
    CHUNK_MESSAGES,
    NS_PER_HOUR,
    NS_PER_SECOND,
    FloatArray,
    IntArray,
    chunks,
    day_bounds_ns,
    running_chunks,
    runs,
)

__all__ = ["ClockReport", "ClockStep", "clock_report"]

_NS_PER_US = 1_000
_NS_PER_MS = 1_000_000
_WINDOW_SECONDS = 10
_WINDOW_MESSAGES = 4
"""The least delay of fewer messages is no floor: in a quiet hour it would jump about by itself."""
_WINDOWS_A_SIDE = 5
"""A level before or after a step is the median of so many window minima."""
_TREND_WINDOWS = 181
"""The local trend is taken over half an hour: longer than a step, shorter than a warm afternoon."""
_MAX_HOLE_WINDOWS = 30
"""Across a longer hole a step cannot be told from drift, and none is claimed."""
_STEP_MADS = 6.0
_MIN_FIT_SECONDS = 60.0
"""A shorter stretch says more about jitter than about drift."""


@dataclass(frozen=True, slots=True)
class ClockStep:
    """A sudden shift of one clock against the other.

    Attributes:
        index: The first message after the shift.
        ts_receipt_ns: Its receipt time.
        size_ms: By how much y rose; negative if it fell (the receipt clock was set back).
    """

    index: int
    ts_receipt_ns: int
    size_ms: float


@dataclass(frozen=True, slots=True)
class ClockReport:
    """Receipt time minus origin time over one instrument's day.

    Attributes:
        p001_ms … p999_ms: The 0.1, 1, 50, 99 and 99.9 % quantiles of y.
        negative_share: Share of messages received before the exchange says it sent them.
        drift_ppm: Microseconds the receipt clock gains a second; None if no stretch between steps
            is at least a minute long.
        steps: In time order.
        origin_granularity_us, receipt_granularity_us: None if a clock never moved.
        p50_ms_per_hour: Median y by UTC hour of receipt; None for an hour without messages.
        worst_index: The message whose y is farthest from the median (the first of equals).
        worst_ms, worst_receipt_ns: Its y and its receipt time.
    """

    p001_ms: float
    p01_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    negative_share: float
    drift_ppm: float | None
    steps: tuple[ClockStep, ...]
    origin_granularity_us: int | None
    receipt_granularity_us: int | None
    p50_ms_per_hour: tuple[float | None, ...]
    worst_index: int
    worst_ms: float
    worst_receipt_ns: int

    @property
    def largest_step(self) -> ClockStep | None:
        """The step of the largest size either way (the first of equals); None without one."""
        return max(self.steps, key=lambda step: abs(step.size_ms), default=None)


def clock_report(
    *, ts_origin_ns: IntArray, ts_receipt_ns: IntArray, day: date, step_warn_ms: float
) -> ClockReport:
    """Compares the two clocks of one instrument's day.

    Args:
        ts_origin_ns, ts_receipt_ns: int64, shape (messages,), one per message in file order.
        day: The UTC day that the hours belong to.
        step_warn_ms: A step is larger than this, and larger than 6 median absolute deviations.

    Raises:
        ValueError: If there is no message.
    """
    if len(ts_origin_ns) == 0:
        raise ValueError("a day without a message has no clock: report it as missing data")
    quantiles = _Quantiles.of(ts_origin_ns, ts_receipt_ns, day)
    p001, p01, p50, p99, p999 = quantiles.of_day_ms
    worst, worst_ms = _farthest(ts_origin_ns, ts_receipt_ns, p50)
    windows = _Windows.over(ts_origin_ns, ts_receipt_ns)
    steps = tuple(
        ClockStep(index=index, ts_receipt_ns=int(ts_receipt_ns[index]), size_ms=size_ms)
        for index, size_ms in _find_steps(windows, ts_origin_ns, ts_receipt_ns, step_warn_ms)
    )
    return ClockReport(
        p001_ms=p001,
        p01_ms=p01,
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        negative_share=quantiles.negative_share,
        drift_ppm=_drift_ppm(ts_origin_ns, ts_receipt_ns, windows, steps),
        steps=steps,
        origin_granularity_us=_granularity_us(ts_origin_ns),
        receipt_granularity_us=_granularity_us(ts_receipt_ns),
        p50_ms_per_hour=quantiles.medians_ms,
        worst_index=worst,
        worst_ms=worst_ms,
        worst_receipt_ns=int(ts_receipt_ns[worst]),
    )


# --- quantiles ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Quantiles:
    """What takes all of y at once: 8 bytes a message, free again when it is known."""

    of_day_ms: tuple[float, ...]
    medians_ms: tuple[float | None, ...]
    negative_share: float

    @classmethod
    def of(cls, ts_origin_ns: IntArray, ts_receipt_ns: IntArray, day: date) -> _Quantiles:
        delay_ms, ends = _delays_by_hour(ts_origin_ns, ts_receipt_ns, day_bounds_ns(day)[0])
        hours = (delay_ms[begin:end] for begin, end in pairwise(ends[:-1].tolist()))
        # Quantiles may reorder what they are taken of: first each hour, then the day.
        medians = [
            float(np.median(hour, overwrite_input=True)) if len(hour) else None for hour in hours
        ]
        of_day = np.quantile(delay_ms, (0.001, 0.01, 0.5, 0.99, 0.999), overwrite_input=True)
        negative = int(np.count_nonzero(delay_ms < 0)) / len(delay_ms)
        return cls(tuple(of_day.tolist()), tuple(medians), negative)


@njit(nogil=True, cache=True)
def _delays_by_hour(
    ts_origin_ns: IntArray, ts_receipt_ns: IntArray, day_start_ns: int
) -> tuple[FloatArray, IntArray]:
    """Every y in milliseconds, grouped by UTC hour of receipt, and where each group ends.

    The first group is what was received before the day, then come its 24 hours, then the rest.
    """
    ends = np.zeros(26, dtype=np.int64)
    for i in range(ts_receipt_ns.size):
        hour = (ts_receipt_ns[i] - day_start_ns) // NS_PER_HOUR
        ends[min(max(hour, -1), 24) + 1] += 1
    ends = np.cumsum(ends)
    delay_ms = np.empty(ts_receipt_ns.size, dtype=np.float64)
    place = np.append(np.zeros(1, dtype=np.int64), ends)
    for i in range(ts_receipt_ns.size):
        hour = (ts_receipt_ns[i] - day_start_ns) // NS_PER_HOUR
        group = min(max(hour, -1), 24) + 1
        delay_ms[place[group]] = (ts_receipt_ns[i] - ts_origin_ns[i]) / _NS_PER_MS
        place[group] += 1
    return delay_ms, ends


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


# --- windows and steps ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """Windows of ten seconds, or of as many more as it takes to hold four messages, in order.

    Attributes:
        first: int64, shape (windows + 1,): index of each window's first message, then the end.
        seconds: float64, shape (windows,): when its least delay was seen, from the first message.
        minima_ms: float64, shape (windows,): that least delay.
        blocks: (first window, window after the last) of stretches without a long hole.
    """

    first: IntArray
    seconds: FloatArray
    minima_ms: FloatArray
    blocks: tuple[tuple[int, int], ...]

    @classmethod
    def over(cls, ts_origin_ns: IntArray, ts_receipt_ns: IntArray) -> _Windows:
        begins, numbers = _numbered(ts_origin_ns)
        chosen = [0]
        for window in range(1, len(begins)):
            if begins[window] - begins[chosen[-1]] >= _WINDOW_MESSAGES:
                chosen.append(window)
        if len(chosen) > 1 and len(ts_origin_ns) - begins[chosen[-1]] < _WINDOW_MESSAGES:
            chosen.pop()
        bounds = np.append(begins[chosen], len(ts_origin_ns))
        holes = np.flatnonzero(np.diff(numbers[chosen]) > _MAX_HOLE_WINDOWS) + 1
        edges = [0, *holes.tolist(), len(chosen)]
        times_ns, minima_ns = [], []
        for begin, end in pairwise(bounds.tolist()):
            origin_ns = ts_origin_ns[begin:end]
            delay_ns = ts_receipt_ns[begin:end] - origin_ns
            least = int(np.argmin(delay_ns))
            # The running clock: a window begins with a message later than all before it.
            times_ns.append(int(origin_ns[: least + 1].max()))
            minima_ns.append(int(delay_ns[least]))
        return cls(
            first=bounds,
            seconds=(np.array(times_ns) - ts_origin_ns[0]) / NS_PER_SECOND,
            minima_ms=np.array(minima_ns) / _NS_PER_MS,
            blocks=tuple(pairwise(edges)),
        )


def _numbered(ts_origin_ns: IntArray) -> tuple[IntArray, IntArray]:
    """The first message of every ten seconds that have one, and which ten seconds they are."""
    begins, numbers = [np.zeros(1, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
    for first, time_ns in running_chunks(ts_origin_ns):
        number = (time_ns - ts_origin_ns[0]) // (_WINDOW_SECONDS * NS_PER_SECOND)
        changed = np.flatnonzero(np.diff(number)) + 1
        begins.append(first + changed)
        numbers.append(number[changed])
    return np.concatenate(begins), np.concatenate(numbers)


def _find_steps(
    windows: _Windows, ts_origin_ns: IntArray, ts_receipt_ns: IntArray, step_warn_ms: float
) -> list[tuple[int, float]]:
    """The first message after each step, and the step's size in milliseconds."""
    found: list[tuple[int, float]] = []
    for first, after in windows.blocks:
        steps = _steps_of_block(
            windows.seconds[first:after], windows.minima_ms[first:after], step_warn_ms
        )
        for window, size_ms in steps:
            begin, end = windows.first[[first + window - 1, first + window + 1]]
            delay_ns = ts_receipt_ns[begin:end] - ts_origin_ns[begin:end]
            found.append((int(begin) + _split(delay_ns, size_ms), size_ms))
    return found


def _steps_of_block(
    seconds: FloatArray, minima_ms: FloatArray, step_warn_ms: float
) -> list[tuple[int, float]]:
    """The window each step comes before, and its size in milliseconds.

    The median minimum of five windows after is compared with that of five windows before, less what
    the local trend explains: a drift however long adds up to no step, and a window or two of
    congestion moves neither median. Steps within five windows of a block's end are not seen.
    """
    side = _WINDOWS_A_SIDE
    if len(minima_ms) < 2 * side + 1:
        return []
    spread_out = (minima_ms[side:] - minima_ms[:-side]) / (seconds[side:] - seconds[:-side])
    trend = (
        pl.Series(spread_out)
        .rolling_median(window_size=_TREND_WINDOWS, center=True, min_samples=1)
        .to_numpy()
    )
    # One slope per pair of neighbouring windows: the slope that spans the pair.
    pairs = len(minima_ms) - 1
    pair_trend = trend[np.clip(np.arange(pairs) - side // 2, 0, len(trend) - 1)]
    moves = np.diff(minima_ms) - pair_trend * np.diff(seconds)
    bound_ms = max(step_warn_ms, _STEP_MADS * float(np.median(np.abs(moves - np.median(moves)))))

    levels = np.median(sliding_window_view(minima_ms, side), axis=1)
    centres = np.median(sliding_window_view(seconds, side), axis=1)
    # Entry i compares windows i … i+4 with i+5 … i+9: the step would come before window i + 5.
    shifts = levels[side:] - levels[:-side]
    shifts -= pair_trend[side - 1 :][: len(shifts)] * (centres[side:] - centres[:-side])

    found: list[tuple[int, float]] = []
    for sign in (1.0, -1.0):
        for begin, end in zip(*runs(sign * shifts > bound_ms), strict=True):
            # Several neighbouring comparisons see one step; it is where the minimum moved most.
            at = int(begin) + int(np.argmax(sign * moves[side - 1 :][begin:end]))
            found.append((at + side, float(shifts[at])))
    return sorted(found)


def _split(delay_ns: IntArray, size_ms: float) -> int:
    """The message at which the least delay shifts, among those of the two windows around a step.

    At the true place the minimum of all messages before and of all messages after differ by the
    whole step, elsewhere the lower level leaks into one of them.
    """
    lowest_before = np.minimum.accumulate(delay_ns)[:-1]
    lowest_after = np.minimum.accumulate(delay_ns[::-1])[::-1][1:]
    rises = (lowest_after - lowest_before) * np.sign(size_ms)
    shifted = np.flatnonzero(rises * 2 >= abs(size_ms) * _NS_PER_MS)
    if len(shifted) == 0:
        return int(np.argmax(rises)) + 1
    # A lower level on the left leaks to the right, a lower one on the right leaks to the left.
    return int(shifted[0] if size_ms > 0 else shifted[-1]) + 1


# --- drift ----------------------------------------------------------------------------------


def _drift_ppm(
    ts_origin_ns: IntArray, ts_receipt_ns: IntArray, windows: _Windows, steps: tuple[ClockStep, ...]
) -> float | None:
    """The hull slopes of the stretches between steps and long holes, averaged by duration."""
    cuts = {int(windows.first[first]) for first, _ in windows.blocks}
    edges = [*sorted(cuts | {step.index for step in steps}), len(ts_origin_ns)]
    weighted, total = 0.0, 0.0
    for begin, end in pairwise(edges):
        hull = LowerHull()
        for first in range(begin, end, CHUNK_MESSAGES):
            chunk = slice(first, min(first + CHUNK_MESSAGES, end))
            delay_ns = ts_receipt_ns[chunk] - ts_origin_ns[chunk]
            hull.add(
                (ts_origin_ns[chunk] - ts_origin_ns[begin]) / _NS_PER_US,
                (delay_ns - (ts_receipt_ns[begin] - ts_origin_ns[begin])) / _NS_PER_US,
            )
        seconds = hull.width / 1e6
        if seconds < _MIN_FIT_SECONDS:
            continue
        weighted += hull.slope() * 1e6 * seconds
        total += seconds
    return weighted / total if total > 0 else None
