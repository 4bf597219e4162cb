"""Steps of a clock: sudden shifts of the least delay between exchange and capture host.

The least delay of every ten seconds follows the offset of the two clocks. A **step** is a shift of
it that neither the local trend explains nor the lines of its two sides: a clock that drifts, or
begins to, does not step. A network whose *least* delay rises for minutes looks the same from one
end; the report says where to look.

Windows are of the origin clock, so a receipt clock that is set back does not fold the axis over
itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

from market_pipeline.books.state import read_only
from market_pipeline.jit import kernel
from market_pipeline.quality.intervals import (
    NS_PER_SECOND,
    FloatArray,
    IntArray,
    running_chunks,
    runs,
)

__all__ = ["ClockStep", "Windows", "find_steps"]

_NS_PER_MS = 1_000_000
_WINDOW_SECONDS = 10
_WINDOW_MESSAGES = 4
"""The least delay of fewer messages is no floor: in a quiet hour it would jump about by itself."""
_WINDOWS_A_SIDE = 5
"""A level before or after a step is the median of so many window minima."""
_LINE_WINDOWS = 15
"""A step is as large as the lines through so many window minima of either side miss each other."""
_TREND_WINDOWS = 181
"""The local trend is taken over half an hour: longer than a step, shorter than a warm afternoon."""
_MAX_HOLE_WINDOWS = 30
"""Across a longer hole a step cannot be distinguished from drift, and none is claimed."""
_STEP_MADS = 6.0


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


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
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
    def over(cls, ts_origin_ns: IntArray, ts_receipt_ns: IntArray) -> Windows:
        """The windows of messages in file order; at least one."""
        begins, numbers = _numbered(ts_origin_ns)
        chosen, last = [0], 0
        for window, begin in enumerate(begins.tolist()):
            if begin - last >= _WINDOW_MESSAGES:
                chosen.append(window)
                last = begin
        if len(chosen) > 1 and len(ts_origin_ns) - begins[chosen[-1]] < _WINDOW_MESSAGES:
            chosen.pop()
        bounds = np.append(begins[chosen], len(ts_origin_ns))
        holes = np.flatnonzero(np.diff(numbers[chosen]) > _MAX_HOLE_WINDOWS) + 1
        edges = [0, *holes.tolist(), len(chosen)]
        times_ns, minima_ns = np.empty((2, len(chosen)), np.int64)
        _least_delays(
            read_only(ts_origin_ns), read_only(ts_receipt_ns), bounds, times_ns, minima_ns
        )
        return cls(
            first=bounds,
            seconds=(times_ns - ts_origin_ns[0]) / NS_PER_SECOND,
            minima_ms=minima_ns / _NS_PER_MS,
            blocks=tuple(pairwise(edges)),
        )


@kernel
def _least_delays(
    ts_origin_ns: IntArray,
    ts_receipt_ns: IntArray,
    bounds: IntArray,
    times_ns: IntArray,
    minima_ns: IntArray,
) -> None:
    """Writes the least delay of each window, and when it was first seen.

    By the running clock: a window begins with a message later than all before it.
    """
    for window in range(bounds.size - 1):
        begin = bounds[window]
        latest_ns = ts_origin_ns[begin]
        times_ns[window], minima_ns[window] = latest_ns, ts_receipt_ns[begin] - latest_ns
        for i in range(begin + 1, bounds[window + 1]):
            latest_ns = max(latest_ns, ts_origin_ns[i])
            delay_ns = ts_receipt_ns[i] - ts_origin_ns[i]
            if delay_ns < minima_ns[window]:
                times_ns[window], minima_ns[window] = latest_ns, delay_ns


def _numbered(ts_origin_ns: IntArray) -> tuple[IntArray, IntArray]:
    """The first message of every ten seconds that have one, and which ten seconds they are."""
    begins, numbers = [np.zeros(1, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
    for first, time_ns in running_chunks(ts_origin_ns):
        number = (time_ns - ts_origin_ns[0]) // (_WINDOW_SECONDS * NS_PER_SECOND)
        changed = np.flatnonzero(np.diff(number)) + 1
        begins.append(first + changed)
        numbers.append(number[changed])
    return np.concatenate(begins), np.concatenate(numbers)


def find_steps(
    windows: Windows, ts_origin_ns: IntArray, ts_receipt_ns: IntArray, step_warn_ms: float
) -> tuple[ClockStep, ...]:
    """The steps of a day, in time order.

    Args:
        windows: Of the same messages.
        ts_origin_ns, ts_receipt_ns: int64, shape (messages,), one per message in file order.
        step_warn_ms: A step is larger than this, and larger than 6 median absolute deviations.
    """
    found = []
    for first, after in windows.blocks:
        seconds, minima_ms = windows.seconds[first:after], windows.minima_ms[first:after]
        for window, size_ms in _steps_of_block(seconds, minima_ms, step_warn_ms):
            before = slice(window - _WINDOWS_A_SIDE, window)
            behind = slice(window, window + _WINDOWS_A_SIDE)
            slopes = [_slope(seconds[side], minima_ms[side]) for side in (before, behind)]
            begin, end = windows.first[[first + window - 1, first + window + 1]]
            elapsed_ns = ts_origin_ns[begin:end] - ts_origin_ns[begin]
            delay_ns = ts_receipt_ns[begin:end] - ts_origin_ns[begin:end]
            # A slope of 1 ms a second is 1e-3.
            drifted_ns = elapsed_ns * (sum(slopes) / 2 * 1e-3)
            index = int(begin) + _split(delay_ns - drifted_ns, size_ms)
            found.append(ClockStep(index, int(ts_receipt_ns[index]), size_ms))
    return tuple(found)


def _steps_of_block(
    seconds: FloatArray, minima_ms: FloatArray, step_warn_ms: float
) -> list[tuple[int, float]]:
    """The window each step comes before, and its size in milliseconds.

    The clearest step cuts the block in two, and each part is looked at by itself, with its own
    trend: a clock that begins to drift as it steps would otherwise be compared with a trend of the
    other side. Steps within five windows of a block's end, or of another step, are not seen.
    """
    bound_ms = _bound_ms(seconds, minima_ms, step_warn_ms)
    cuts: list[int] = []
    parts = [(0, len(minima_ms))]
    while parts:
        first, after = parts.pop()
        window = _clearest_step(seconds[first:after], minima_ms[first:after], bound_ms)
        if window is not None:
            cuts.append(first + window)
            parts += [(first, first + window), (first + window, after)]
    # A step that was found first may have been one of a stretch that was cut again since.
    while True:
        edges = [0, *sorted(cuts), len(minima_ms)]
        sizes = {
            cut: _size_ms(seconds[first:after], minima_ms[first:after], cut - first, _LINE_WINDOWS)
            for first, cut, after in zip(edges, edges[1:], edges[2:], strict=False)
        }
        least = min(cuts, key=lambda cut: abs(sizes[cut]), default=None)
        if least is None or abs(sizes[least]) > bound_ms:
            return sorted(sizes.items())
        cuts.remove(least)


def _pair_trend(seconds: FloatArray, minima_ms: FloatArray) -> FloatArray:
    """The local trend, ms a second, at each pair of neighbouring windows."""
    side = _WINDOWS_A_SIDE
    spread_out = (minima_ms[side:] - minima_ms[:-side]) / (seconds[side:] - seconds[:-side])
    trend = (
        pl.Series(spread_out)
        .rolling_median(window_size=_TREND_WINDOWS, center=True, min_samples=1)
        .to_numpy()
    )
    # One slope per pair of neighbouring windows: the slope that spans the pair.
    pairs = len(minima_ms) - 1
    at_pair: FloatArray = trend[np.clip(np.arange(pairs) - side // 2, 0, len(trend) - 1)]
    return at_pair


def _bound_ms(seconds: FloatArray, minima_ms: FloatArray, step_warn_ms: float) -> float:
    """A step is larger than this: than the setting, and than what the minima do by themselves."""
    if len(minima_ms) <= 2 * _WINDOWS_A_SIDE:
        return step_warn_ms
    moves = np.diff(minima_ms) - _pair_trend(seconds, minima_ms) * np.diff(seconds)
    return max(step_warn_ms, _STEP_MADS * float(np.median(np.abs(moves - np.median(moves)))))


def _clearest_step(seconds: FloatArray, minima_ms: FloatArray, bound_ms: float) -> int | None:
    """The window that the largest step of a stretch comes before; None without one.

    The median minimum of five windows after is compared with that of five windows before, less what
    the local trend explains: a drift however long adds up to no step, and a window or two of
    congestion moves neither median.
    """
    side = _WINDOWS_A_SIDE
    if len(minima_ms) < 2 * side + 1:
        return None
    pair_trend = _pair_trend(seconds, minima_ms)
    moves = np.diff(minima_ms) - pair_trend * np.diff(seconds)
    levels = np.median(sliding_window_view(minima_ms, side), axis=1)
    centres = np.median(sliding_window_view(seconds, side), axis=1)
    # Entry i compares windows i … i+4 with i+5 … i+9: the step would come before window i + 5.
    shifts = levels[side:] - levels[:-side]
    shifts -= pair_trend[side - 1 :][: len(shifts)] * (centres[side:] - centres[:-side])

    found: list[tuple[float, int]] = []
    for sign in (1.0, -1.0):
        for begin, end in zip(*runs(sign * shifts > bound_ms), strict=True):
            # Several neighbouring comparisons see one step; it is where the minimum moved most.
            at = int(begin) + int(np.argmax(sign * moves[side - 1 :][begin:end]))
            # A drift that changes makes the trend wrong, and soon a long line too.
            sizes_ms = [
                sign * _size_ms(seconds, minima_ms, at + side, line)
                for line in (side, 2 * side, 3 * side)
            ]
            if min(sizes_ms) > bound_ms:
                found.append((sizes_ms[-1], -(at + side)))
    return -max(found)[1] if found else None


def _size_ms(seconds: FloatArray, minima_ms: FloatArray, window: int, line: int) -> float:
    """By how much the lines through the minima before and after a window miss each other.

    Args:
        seconds, minima_ms: float64, shape (windows,).
        window: The one that the step comes before.
        line: So many windows of either side make its line, or what there is.
    """
    instant = (seconds[window - 1] + seconds[window]) / 2
    level_before, level_after = (
        _level_ms(seconds[side] - instant, minima_ms[side])
        for side in (slice(max(window - line, 0), window), slice(window, window + line))
    )
    return level_after - level_before


def _level_ms(seconds: FloatArray, minima_ms: FloatArray) -> float:
    """Where the line through some minima stands at second 0."""
    return float(np.median(minima_ms - _slope(seconds, minima_ms) * seconds))


def _slope(seconds: FloatArray, minima_ms: FloatArray) -> float:
    """The slope of the line through some minima, ms a second: the median of all between two.

    That of Theil and Sen: up to a quarter of the windows may be congested.
    """
    one, other = np.triu_indices(len(seconds), k=1)
    return float(np.median((minima_ms[other] - minima_ms[one]) / (seconds[other] - seconds[one])))


def _split(delay_ns: FloatArray, size_ms: float) -> int:
    """The message at which the least delay shifts, among those of the two windows around a step.

    At the true place the minimum of all messages before and of all messages after differ by the
    whole step, elsewhere the lower level leaks into one of them.

    Args:
        delay_ns: float64, shape (messages,), without the drift.
        size_ms: Of the step.
    """
    lowest_before = np.minimum.accumulate(delay_ns)[:-1]
    lowest_after = np.minimum.accumulate(delay_ns[::-1])[::-1][1:]
    rises = (lowest_after - lowest_before) * np.sign(size_ms)
    # Half of the step shows it; of one with hardly a message behind it no more may be seen.
    enough = min(abs(size_ms) * _NS_PER_MS / 2, float(rises.max()))
    shifted = np.flatnonzero(rises >= enough)
    # A lower level on the left leaks to the right, a lower one on the right leaks to the left.
    return int(shifted[0] if size_ms > 0 else shifted[-1]) + 1
