"""Gaps of a feed: those that ids prove, and those that its silences suggest.

`sources.registry` says which of them each source can show. Where ids link one message to the next,
the source itself marks lost messages. Crypto Lake's sequence numbers (and those of the simulated
venue that writes the same layout) have holes of their own: Binance's final update id moves by
thousands from one message to the next, so "sequence + 1" would report thousands of gaps. What
counts here is a **silence**, a time between messages far beyond what is usual on that day (see
`measures.silences`), in which

* a trade lies strictly inside, or
* snapshots inside show that the book changed, or
* nothing shows anything, and it is an **outage**: longer than the market alone would be silent, by
  the rhythm of the day and of the messages around it.

Besides, and no gaps:

* **quiet holes**: silences that are none of these, by the receipt clock alone too, but longer than
  the tolerance at the edges of the day. Nothing proves that anything was lost; they are uncovered
  time, like a missing head or tail, and the completeness check reports them;
* **head and tail** of the UTC day without a message. Only messages inside the day cover it;
* **sequence numbers that go backwards**: a restart, or messages out of order, which lose nothing
  and are reported by the check `ordering`.

Which clock: both. A capture host whose clock is stepped forward by ten seconds shows ten seconds of
receipt silence without losing anything, and a burst after a stalled network shows the same; in
either case the exchange's own times run on. A span therefore is a gap only if the receipt *and* the
origin times of the two messages around it lie further apart than the threshold. Spans are given in
receipt time, the clock that valid time is measured with.

Times are to be sound ones (`books.soundness`): a stamp that those around it contradict must neither
hide a silence nor make one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

import numpy as np

from market_pipeline.config.instruments import GapRule
from market_pipeline.quality.figures.book import CoverFigures, GapFigures
from market_pipeline.quality.intervals import (
    NO_SPANS,
    NS_PER_HOUR,
    NS_PER_SECOND,
    FloatArray,
    IntArray,
    day_bounds_ns,
    union_of_disjoint,
)
from market_pipeline.quality.measures._classified import classify
from market_pipeline.quality.measures.silences import (
    Rhythm,
    clocks_agree,
    rhythm_of,
    silences_of,
    trades_inside,
)
from market_pipeline.quality.measures.snapshots_inside import SnapshotTouches, snapshot_changes
from market_pipeline.quality.measures.stray_times import in_order, limited
from market_pipeline.sources.registry import GapEvidence

__all__ = ["GapReport", "find_gaps", "proven_gaps"]

_Opener = Callable[[], Iterable[SnapshotTouches]]
"""Opens the snapshots of a day."""


@dataclass(frozen=True, slots=True, eq=False)
class GapReport:
    """What is missing of a day, as far as times can show it.

    Attributes:
        figures, cover: What the report says of it.
        spans: int64, shape (count, 3): start_ns and end_ns (receipt times of the messages before
            and after the silence) and the trades strictly inside.
        changes: int64, shape (count,): snapshots inside that show a change of the book; 0 where
            trades show the gap. One with neither trades nor such snapshots is an outage.
        outage_bounds_ns: float64, shape (count,): how long each could have been without being one.
        quiet_spans: int64, shape (quiet_count, 2): long silences that are no gaps.
        messages_after, messages_after_quiet: int64, shape (count,) and (quiet_count,): index of the
            message that ended each.
        lost_before: int64, shape (k,), ascending: indices of the messages before which others may
            be lost: after gaps, and after quiet holes by both clocks.
        silence_ns: A time between messages up to this is no silence.
        first_message, last_message: Index of the first message inside the UTC day, and of the
            latest inside it; None without one.
        first_ns, last_ns: Their times, no farther out than messages are expected; where that begins
            without one.
    """

    figures: GapFigures
    cover: CoverFigures
    spans: IntArray
    changes: IntArray
    outage_bounds_ns: FloatArray
    quiet_spans: IntArray
    messages_after: IntArray
    messages_after_quiet: IntArray
    lost_before: IntArray
    silence_ns: int
    first_message: int | None
    last_message: int | None
    first_ns: int
    last_ns: int

    @property
    def not_observed(self) -> IntArray:
        """Gaps and quiet holes as one sorted set of spans, shape (k, 2): no valid time in them."""
        return union_of_disjoint(self.spans, self.quiet_spans)


def find_gaps(
    *,
    ts_receipt_ns: IntArray,
    ts_origin_ns: IntArray,
    sequence_number: IntArray,
    trade_receipt_ns: IntArray,
    trade_origin_ns: IntArray,
    day: date,
    rule: GapRule,
    snapshots: _Opener | None = None,
    listed_ns: tuple[int, int] | None = None,
) -> GapReport:
    """Finds the suspected gaps of one instrument's day.

    A trade counts as inside a silence if both its times lie strictly inside on their clock. One
    that came within the last inter-arrival quantile before the silence ends does not count: the
    book message it caused is the very one that ended the silence.

    Messages outside the UTC day, and those whose times contradict the order of the others, are
    passed over, as if they were not there.

    Args:
        ts_receipt_ns, ts_origin_ns: int64, shape (messages,), one per message in file order; sound.
        sequence_number: int64, shape (messages,).
        trade_receipt_ns, trade_origin_ns: int64, shape (trades,), in any order.
        day: The UTC day.
        rule: The bounds.
        snapshots: Opens the day's snapshots; called only if there is a silence without a trade.
            None if there are none, or if they are the messages.
        listed_ns: From when until when of the day messages are expected; all of it by default. What
            is missing before and after that is none, though messages there count.

    Raises:
        ValueError: If there is no message: a day without one is missing, not a gap.
    """
    if len(ts_receipt_ns) == 0:
        raise ValueError("a day without a message has no gaps: report it as missing data")
    messages = _messages_of_day(
        limited(ts_receipt_ns), limited(ts_origin_ns), sequence_number, day_bounds_ns(day)
    )
    if listed_ns is not None:
        messages = messages._replace(listed_ns=listed_ns)
    if not len(messages.ts_receipt_ns):
        report = _all_head(messages, rule)
    elif clocks_agree(messages.ts_receipt_ns, messages.ts_origin_ns):
        report = _report(messages, trade_receipt_ns, trade_origin_ns, snapshots, rule)
    else:
        messages = messages._replace(ts_origin_ns=messages.ts_receipt_ns)
        by_receipt = snapshots and _by_receipt(snapshots)
        report = _report(messages, trade_receipt_ns, trade_receipt_ns, by_receipt, rule)
    backwards = np.flatnonzero(sequence_number[1:] < sequence_number[:-1]) + 1
    figures = replace(
        report.figures,
        sequence_backwards=len(backwards),
        first_sequence_backwards_ns=int(ts_receipt_ns[backwards[0]]) if len(backwards) else None,
    )
    cover = replace(report.cover, messages=len(ts_receipt_ns))
    return replace(report, figures=figures, cover=cover)


class _Messages(NamedTuple):
    """The messages that count: inside the UTC day, and not against the order of the others.

    Attributes:
        ts_receipt_ns, ts_origin_ns, sequence_number: int64, shape (messages,).
        places: Their indices among all messages; None if they are all of them.
        start_ns: The start of the day.
        listed_ns: From when until when of it messages are expected.
    """

    ts_receipt_ns: IntArray
    ts_origin_ns: IntArray
    sequence_number: IntArray
    places: IntArray | None
    start_ns: int
    listed_ns: tuple[int, int]

    def place(self, index: IntArray) -> IntArray:
        """The indices of some of them among all messages."""
        return index if self.places is None else self.places[index]


def _messages_of_day(
    ts_receipt_ns: IntArray,
    ts_origin_ns: IntArray,
    sequence_number: IntArray,
    bounds_ns: tuple[int, int],
) -> _Messages:
    places = in_order(ts_receipt_ns, *bounds_ns)
    if places is not None:
        ts_receipt_ns, ts_origin_ns = ts_receipt_ns[places], ts_origin_ns[places]
        sequence_number = sequence_number[places]
    return _Messages(ts_receipt_ns, ts_origin_ns, sequence_number, places, bounds_ns[0], bounds_ns)


def _report(
    messages: _Messages,
    trade_receipt_ns: IntArray,
    trade_origin_ns: IntArray,
    snapshots: _Opener | None,
    rule: GapRule,
) -> GapReport:
    ts_receipt_ns = messages.ts_receipt_ns
    rhythm = rhythm_of(ts_receipt_ns, rule)
    tolerance_ns = round(rule.quiet_floor_seconds * NS_PER_SECOND)
    silences = silences_of(ts_receipt_ns, messages.ts_origin_ns, rhythm.least_ns, tolerance_ns)
    margin_ns = rhythm.usual_ns
    trades = trades_inside(silences, trade_receipt_ns, trade_origin_ns, margin_ns=margin_ns)

    def changes_inside() -> IntArray:
        opened = snapshots() if snapshots else ()
        return snapshot_changes(silences, messages.sequence_number, opened, margin_ns=margin_ns)

    classified = classify(
        silences, trades, changes_inside, ts_receipt_ns, rhythm, rule, messages.listed_ns
    )
    is_gap, is_quiet = classified.is_gap, classified.is_quiet
    spans = np.column_stack((classified.spans, trades))[is_gap]
    changes, quiet_spans = classified.changes[is_gap], classified.spans[is_quiet]
    last = int(ts_receipt_ns.argmax())
    first_ns, last_ns = np.clip(ts_receipt_ns[[0, last]], *messages.listed_ns).tolist()
    after = messages.place(silences.messages_after)
    first_message, last_message = messages.place(np.array([0, last])).tolist()
    return GapReport(
        figures=_gap_figures(spans, changes, rhythm, messages.start_ns),
        cover=replace(
            _cover_figures(quiet_spans),
            first_message_ns=int(ts_receipt_ns[0]),
            last_message_ns=int(ts_receipt_ns[last]),
            head_gap_seconds=(first_ns - messages.listed_ns[0]) / NS_PER_SECOND,
            tail_gap_seconds=(messages.listed_ns[1] - last_ns) / NS_PER_SECOND,
        ),
        spans=spans,
        changes=changes,
        outage_bounds_ns=classified.bounds_ns[is_gap],
        quiet_spans=quiet_spans,
        messages_after=after[is_gap],
        messages_after_quiet=after[is_quiet],
        lost_before=after[is_gap | (is_quiet & classified.is_silence)],
        silence_ns=rhythm.silence_ns,
        first_message=first_message,
        last_message=last_message,
        first_ns=first_ns,
        last_ns=last_ns,
    )


def _gap_figures(spans: IntArray, changes: IntArray, rhythm: Rhythm, start_ns: int) -> GapFigures:
    """The figures of the suspected gaps of the day that begins at a time."""
    starts_ns, ends_ns, trades = (tuple(column) for column in spans.T.tolist())
    longest_ns, longest_seconds = _longest(spans)
    by_length = spans[(spans[:, 2] == 0) & (changes == 0)]
    hours = np.clip((spans[:, 0] - start_ns) // NS_PER_HOUR, 0, 23)
    return GapFigures(
        gap_count=len(spans),
        gap_seconds=_total_seconds(spans),
        longest_gap_seconds=longest_seconds,
        longest_gap_ns=longest_ns,
        first_gap_ns=starts_ns[0] if starts_ns else None,
        gap_threshold_seconds=rhythm.silence_ns / NS_PER_SECOND,
        gap_starts_ns=starts_ns,
        gap_ends_ns=ends_ns,
        gap_trades=trades,
        gap_snapshots=tuple(changes.tolist()),
        outage_count=len(by_length),
        outage_seconds=_total_seconds(by_length),
        outage_factor=rhythm.outage_factor_shown,
        gaps_per_hour=tuple(np.bincount(hours, minlength=24).tolist()),
    )


def _cover_figures(quiet_spans: IntArray) -> CoverFigures:
    """The figures of the quiet holes of a day without a head and a tail."""
    starts_ns, ends_ns = (tuple(column) for column in quiet_spans.T.tolist())
    longest_ns, longest_seconds = _longest(quiet_spans)
    return CoverFigures(
        quiet_count=len(quiet_spans),
        quiet_seconds=_total_seconds(quiet_spans),
        longest_quiet_seconds=longest_seconds,
        longest_quiet_ns=longest_ns,
        quiet_starts_ns=starts_ns,
        quiet_ends_ns=ends_ns,
        head_gap_seconds=0.0,
        tail_gap_seconds=0.0,
    )


def _all_head(messages: _Messages, rule: GapRule) -> GapReport:
    """What is missing of a day that no message lies in."""
    none, (start_ns, end_ns) = np.empty(0, dtype=np.int64), messages.listed_ns
    spans, rhythm = none.reshape(0, 3), rhythm_of(none, rule)
    return GapReport(
        figures=_gap_figures(spans, none, rhythm, messages.start_ns),
        cover=replace(
            _cover_figures(NO_SPANS), head_gap_seconds=(end_ns - start_ns) / NS_PER_SECOND
        ),
        spans=spans,
        changes=none,
        outage_bounds_ns=none.astype(np.float64),
        quiet_spans=NO_SPANS,
        messages_after=none,
        messages_after_quiet=none,
        lost_before=none,
        silence_ns=rhythm.silence_ns,
        first_message=None,
        last_message=None,
        first_ns=start_ns,
        last_ns=start_ns,
    )


def _by_receipt(snapshots: _Opener) -> _Opener:
    """The snapshots with their receipt times for both, where the exchange's say nothing."""
    return lambda: (replace(each, ts_origin_ns=each.ts_receipt_ns) for each in snapshots())


def proven_gaps(
    evidence: GapEvidence,
    gap_spans: IntArray,
    suspected: IntArray,
    listed_ns: tuple[int, int],
) -> IntArray:
    """The gaps that ids prove: where a book is in doubt without a silence that explains it.

    Args:
        evidence: What the source's ids can prove.
        gap_spans: int64, shape (k, 2): the intervals of cause GAP in `books.intervals`. Each begins
            with the last message before the lost ones.
        suspected: int64, shape (m, 2): the silences, see `GapReport.not_observed`.
        listed_ns: From when until when messages are expected.

    Returns:
        int64, shape (proven, 2).
    """
    if not evidence.ids_prove:
        return NO_SPANS
    begins_ns = gap_spans[:, 0]
    concern = (begins_ns >= listed_ns[0]) & (begins_ns < listed_ns[1])
    return gap_spans[concern & ~np.isin(begins_ns, suspected[:, 0])]


def _total_seconds(spans: IntArray) -> float:
    return int(np.sum(spans[:, 1] - spans[:, 0])) / NS_PER_SECOND


def _longest(spans: IntArray) -> tuple[int | None, float]:
    """Start and length of the longest span, the first of equals; None and 0 without one."""
    if len(spans) == 0:
        return None, 0.0
    start_ns, end_ns = spans[np.argmax(spans[:, 1] - spans[:, 0]), :2].tolist()
    return start_ns, (end_ns - start_ns) / NS_PER_SECOND
