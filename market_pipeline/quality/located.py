"""Where a rebuilt day is wrong: gaps, missing ends, clocks, values off the grid, crossed runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.findings import Finding, Place, chosen_places, first_marked
from market_pipeline.quality.intervals import NS_PER_SECOND, IntArray
from market_pipeline.quality.measures.crossed import TouchReport
from market_pipeline.quality.measures.gap import GapReport
from market_pipeline.quality.measures.precision import PrecisionReport, loss_expected, loss_note
from market_pipeline.quality.measures.skew import BadStamps, ClockReport
from market_pipeline.quality.words import measured, number_of, seconds_text

__all__ = [
    "bad_stamp_places",
    "crossed_places",
    "edge_places",
    "gap_places",
    "precision_places",
    "proven_places",
    "skew_places",
]

_NS_PER_MS = 1_000_000


def gap_places(gaps: GapReport, sequence_number: IntArray) -> Iterator[Finding]:
    """Every gap, with the sequence number of the first message after it; the longest is worst.

    Args:
        gaps: Of the day.
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
            expected=_longest_expected(gaps, index),
            note=_gap_note(trades, int(gaps.changes[index])),
        )


def _longest_expected(gaps: GapReport, index: int) -> str:
    """How long a silence may be, by what shows that it is a gap."""
    threshold = seconds_text(gaps.figures.gap_threshold_seconds)
    if gaps.spans[index, 2]:
        return f"at most {threshold} while trades go on"
    if gaps.changes[index]:
        return f"at most {threshold} while the book changes"
    bound = seconds_text(float(gaps.outage_bounds_ns[index]) / NS_PER_SECOND)
    return f"at most {bound} by the rhythm of the day and of the minutes around it"


def _gap_note(trades: int, changes: int) -> str:
    if trades:
        return f"No message came, and {number_of(trades, 'trade')} meanwhile: a suspected gap."
    if changes:
        shown = f"{number_of(changes, 'snapshot')} meanwhile show{'s' if changes == 1 else ''}"
        return f"No message came, and {shown} that the book changed: a suspected gap."
    return (
        "No message came for far longer than the day's own rhythm and the time around it explain: "
        "an outage, and nobody knows what the book became meanwhile."
    )


def proven_places(proven: IntArray) -> Iterator[Finding]:
    """The gaps that ids prove, see `gap.proven_gaps`; the message is that of the interval.

    Args:
        proven: int64, shape (k, 2).
    """
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
    sequence_number: IntArray,
    listed_ns: tuple[int, int],
    tolerance_seconds: float,
) -> Iterator[Finding]:
    """The missing head, the quiet holes and the missing tail, as far as they are too long.

    A head's and a hole's message is the one that ended it, a tail's the last before it. Nothing is
    missing before and after the time in which the instrument is listed.
    """
    start_ns, end_ns = listed_ns
    if gaps.first_message is None or gaps.last_message is None:
        yield Finding(
            check="completeness",
            place="first",
            ts_receipt_ns=start_ns,
            end_ns=end_ns,
            value=seconds_text(gaps.cover.head_gap_seconds),
            expected=f"at most {seconds_text(tolerance_seconds)}",
            note="No message lies inside the UTC day.",
        )
        return
    spans = []
    if measured(gaps.cover.head_gap_seconds) > tolerance_seconds:
        head = start_ns, gaps.first_ns, gaps.first_message
        spans.append((*head, "Nothing was received from the day's start to the first message."))
    for (begin_ns, over_ns), message in zip(
        gaps.quiet_spans.tolist(), gaps.messages_after_quiet.tolist(), strict=True
    ):
        spans.append(
            (begin_ns, over_ns, message, "No message was received, and no trade shows why.")
        )
    if measured(gaps.cover.tail_gap_seconds) > tolerance_seconds:
        tail = gaps.last_ns, end_ns, gaps.last_message
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

    def found(index: int, place: Place, value: str, expected: str, note: str) -> Finding:
        return Finding(
            check="skew",
            place=place,
            ts_receipt_ns=int(ts_receipt_ns[index]),
            sequence_number=int(sequence_number[index]),
            value=value,
            expected=expected,
            note=note,
        )

    sizes_us = np.array([round(abs(step.size_ms) * 1_000) for step in clocks.steps], np.int64)
    for at, place in chosen_places(sizes_us):
        step = clocks.steps[at]
        ahead = "forward" if step.size_ms > 0 else "back"
        yield found(
            step.index,
            place,
            value=f"{step.size_ms:+,.3f} ms",
            expected=f"a step of at most {thresholds.step_warn_ms:g} ms",
            note=f"From this message on the receipt clock is set {ahead} against the exchange's.",
        )
    figures = clocks.figures
    median_ms = measured(figures.skew_p50_ms)
    early = measured(figures.negative_latency_share) > thresholds.negative_latency_warn_share
    if early and clocks.first_early_index is not None:
        index = clocks.first_early_index
        delay_ms = (int(ts_receipt_ns[index]) - int(ts_origin_ns[index])) / _NS_PER_MS
        yield found(
            index,
            "first",
            value=f"{delay_ms:,.3f} ms",
            expected="a receipt time after the exchange's",
            note="The first message that is received before the exchange says it was sent.",
        )
    if early or abs(median_ms) > thresholds.skew_warn_ms:
        yield found(
            clocks.worst_index,
            "worst",
            value=f"{figures.worst_skew_ms:,.3f} ms",
            expected=f"about the day's median, {median_ms:,.3f} ms",
            note="The message whose receipt minus exchange time is farthest from the median.",
        )


def bad_stamp_places(
    bad: BadStamps, ts_receipt_ns: IntArray, sequence_number: IntArray
) -> Iterator[Finding]:
    """The first message with a bad receipt time and the first with a bad exchange time, in order.

    Args:
        bad: Of the day.
        ts_receipt_ns, sequence_number: int64, shape (messages,).
    """
    kinds = [(bad.first_receipt, "receipt"), (bad.first_origin, "exchange")]
    for index, clock in sorted((index, clock) for index, clock in kinds if index is not None):
        yield Finding(
            check="skew",
            place="first",
            ts_receipt_ns=int(ts_receipt_ns[index]),
            sequence_number=int(sequence_number[index]),
            value=f"the {clock} time of the message with sequence number {sequence_number[index]}",
            expected="a time among those of the messages around it",
            note=f"The first {clock} time that contradicts the messages around it; nothing is "
            "reckoned with it.",
        )


def precision_places(reports: Sequence[PrecisionReport]) -> Iterator[Finding]:
    """The first refused values of each column, as many as are located."""
    for report in reports:
        for place, loss in first_marked(report.first):
            yield Finding(
                check="precision",
                place=place,
                file=loss.file,
                row=loss.row,
                column=report.column,
                value=repr(loss.value),
                expected=loss_expected(loss.value, report.step),
                note=loss_note(report.column, loss.value, report.step),
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
