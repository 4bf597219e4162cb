"""Where a rebuilt day is wrong: gaps, missing ends, clocks, values off the grid, crossed runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import numpy as np

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.checks.base import number_of, seconds_text
from market_pipeline.quality.crossed import TouchReport
from market_pipeline.quality.findings import Finding, chosen_places
from market_pipeline.quality.gaps import GapReport
from market_pipeline.quality.intervals import NS_PER_SECOND, IntArray, day_bounds_ns
from market_pipeline.quality.precision import PrecisionReport
from market_pipeline.quality.skew import ClockReport

__all__ = ["crossed_places", "edge_places", "gap_places", "precision_places", "skew_places"]

_NS_PER_MS = 1_000_000


def gap_places(gaps: GapReport, proven: IntArray, sequence_number: IntArray) -> Iterator[Finding]:
    """Every gap, with the sequence number of the first message after it; the longest is worst.

    Args:
        gaps: Of the day.
        proven: int64, shape (k, 2), see `gaps.proven_gaps`. The message is that of the interval.
        sequence_number: int64, shape (messages,).
    """
    for index, place in chosen_places(gaps.spans[:, 1] - gaps.spans[:, 0]):
        start_ns, end_ns, trades = gaps.spans[index].tolist()
        yield Finding(
            check="gap",
            place=place,
            ts_receipt_ns=start_ns,
            end_ns=end_ns,
            sequence_number=int(sequence_number[gaps.messages_after[index]]),
            value=seconds_text((end_ns - start_ns) / NS_PER_SECOND),
            expected=f"at most {seconds_text(gaps.threshold_seconds)} while trades go on",
            note=f"No message came, and {number_of(trades, 'trade')} meanwhile: a suspected gap.",
        )
    for index, place in chosen_places(proven[:, 1] - proven[:, 0]):
        start_ns, end_ns = proven[index].tolist()
        yield Finding(
            check="gap",
            place=place,
            ts_receipt_ns=start_ns,
            end_ns=end_ns,
            value=seconds_text((end_ns - start_ns) / NS_PER_SECOND),
            expected="ids that follow one another",
            note="The ids prove that messages are missing, and nobody knows the book until the "
            "end of this span.",
        )


def edge_places(
    gaps: GapReport,
    ts_receipt_ns: IntArray,
    sequence_number: IntArray,
    day: date,
    tolerance_seconds: float,
) -> Iterator[Finding]:
    """The missing head, the quiet holes and the missing tail, as far as they are too long.

    A head's and a hole's message is the one that ended it, a tail's the last before it.
    """
    start_ns, end_ns = day_bounds_ns(day)
    first, last = int(ts_receipt_ns.argmin()), int(ts_receipt_ns.argmax())
    spans = []
    if gaps.head_seconds > tolerance_seconds:
        head = start_ns, int(ts_receipt_ns[first]), first
        spans.append((*head, "Nothing was received from the day's start to the first message."))
    for (begin_ns, over_ns), message in zip(
        gaps.quiet_spans.tolist(), gaps.messages_after_quiet.tolist(), strict=True
    ):
        spans.append((begin_ns, over_ns, message, "Neither a message nor a trade was received."))
    if gaps.tail_seconds > tolerance_seconds:
        tail = int(ts_receipt_ns[last]), end_ns, last
        spans.append((*tail, "Nothing was received from the last message to the day's end."))
    lengths_ns = np.array([over_ns - begin_ns for begin_ns, over_ns, _, _ in spans], np.int64)
    for index, place in chosen_places(lengths_ns):
        begin_ns, over_ns, message, note = spans[index]
        yield Finding(
            check="completeness",
            place=place,
            ts_receipt_ns=begin_ns,
            end_ns=over_ns,
            sequence_number=int(sequence_number[message]),
            value=seconds_text((over_ns - begin_ns) / NS_PER_SECOND),
            expected=f"at most {seconds_text(tolerance_seconds)}",
            note=note,
        )


def skew_places(
    clocks: ClockReport,
    ts_origin_ns: IntArray,
    ts_receipt_ns: IntArray,
    sequence_number: IntArray,
    thresholds: Thresholds,
) -> Iterator[Finding]:
    """Every step of a clock; and where the median or the early messages are beyond bounds, the
    first early message and the one farthest from the median.
    """

    def message(index: int) -> dict[str, Any]:
        return {
            "ts_receipt_ns": int(ts_receipt_ns[index]),
            "sequence_number": int(sequence_number[index]),
        }

    sizes_us = np.array([round(abs(step.size_ms) * 1_000) for step in clocks.steps], np.int64)
    for at, place in chosen_places(sizes_us):
        step = clocks.steps[at]
        ahead = "forward" if step.size_ms > 0 else "back"
        yield Finding(
            check="skew",
            place=place,
            **message(step.index),
            value=f"{step.size_ms:+,.3f} ms",
            expected=f"a step of at most {thresholds.step_warn_ms:g} ms",
            note=f"From this message on the receipt clock is set {ahead} against the exchange's.",
        )
    early = clocks.negative_share > thresholds.negative_latency_warn_share
    if early and clocks.first_early_index is not None:
        index = clocks.first_early_index
        delay_ms = (ts_receipt_ns[index] - ts_origin_ns[index]) / _NS_PER_MS
        yield Finding(
            check="skew",
            place="first",
            **message(index),
            value=f"{delay_ms:,.3f} ms",
            expected="a receipt time after the exchange's",
            note="The first message that is received before the exchange says it was sent.",
        )
    if early or abs(clocks.p50_ms) > thresholds.skew_warn_ms:
        yield Finding(
            check="skew",
            place="worst",
            **message(clocks.worst_index),
            value=f"{clocks.worst_ms:,.3f} ms",
            expected=f"about the day's median, {clocks.p50_ms:,.3f} ms",
            note="The message whose receipt minus exchange time is farthest from the median.",
        )


def precision_places(reports: Sequence[PrecisionReport]) -> Iterator[Finding]:
    """The first values of each column that are off their step, as many as are located."""
    for report in reports:
        for number, loss in enumerate(report.first):
            step = "tick" if report.column == "price" else "lot"
            yield Finding(
                check="precision",
                place="first" if number == 0 else "further",
                file=loss.file,
                row=loss.row,
                column=report.column,
                value=repr(loss.value),
                expected=None if loss.nearest is None else f"{loss.nearest:f}",
                note=f"This {report.column} is no whole number of {step}s of {report.step:f}, and "
                "was refused.",
            )


def crossed_places(touch: TouchReport) -> Iterator[Finding]:
    """The first and the longest runs of a crossed book that took time."""
    timed = np.flatnonzero(touch.crossed_ns > 0)
    lengths_ns = touch.crossed_ns[timed]
    for index, place in chosen_places(lengths_ns):
        start_ns, end_ns = touch.crossed_spans[timed[index]].tolist()
        yield Finding(
            check="crossed",
            place=place,
            ts_receipt_ns=start_ns,
            end_ns=end_ns,
            value=seconds_text(int(lengths_ns[index]) / NS_PER_SECOND),
            expected="a best bid below the best ask",
            note="The best bid was above the best ask.",
        )
