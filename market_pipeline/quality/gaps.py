"""Gaps of a feed: those that ids prove, and those that a silence while trades go on suggests.

`gap_evidence` says which of them each source can show. Where ids link one message to the next, the
source itself marks lost messages. Crypto Lake's sequence numbers (and those of the simulated venue
that writes the same layout) have holes of their own: Binance's final update id moves by thousands
from one message to the next, so "sequence + 1" would report thousands of gaps that are none. What
counts here is

* **silence**: no message for longer than `max(factor x q, floor)`, where q is the 99.9 % quantile
  of the day's own inter-arrival times, with at least `min_trades` trades strictly inside the span;
* **quiet holes**: neither a message nor a trade for that long *and* for longer than the tolerance
  at the edges of the day. Nothing proves that anything was lost, so they are not gaps; they are
  uncovered time, like a missing head or tail, and the completeness check reports them;
* **head and tail** of the UTC day without a message;
* **sequence numbers that go backwards**: a restart, or messages out of order, which lose nothing
  and are told by the check `ordering`.

Which clock: both. A capture host whose clock is stepped forward by ten seconds shows ten seconds of
receipt silence without losing anything, and a burst after a stalled network shows the same; in
either case the exchange's own times run on. A span therefore counts only if the receipt *and* the
origin times of the two messages around it lie further apart than the threshold. Spans are given in
receipt time, the clock that valid time is measured with.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from market_pipeline.instruments import Source, Thresholds
from market_pipeline.quality.intervals import (
    NO_SPANS,
    NS_PER_HOUR,
    NS_PER_SECOND,
    IntArray,
    day_bounds_ns,
    running_chunks,
    union_of_disjoint,
)
from market_pipeline.sources.door import door_of

__all__ = [
    "GAP_EVIDENCE",
    "GapEvidence",
    "GapReport",
    "GapRule",
    "find_gaps",
    "gap_evidence",
    "proven_gaps",
]


@dataclass(frozen=True, slots=True)
class GapEvidence:
    """What shows that messages of a source are lost.

    Attributes:
        ids_prove: Its ids link each message to the one before, so a broken link proves a loss.
        sentence: The rule, as the documentation says it.
    """

    ids_prove: bool
    sentence: str


GAP_EVIDENCE: dict[str, GapEvidence] = {
    "crypto_lake": GapEvidence(
        ids_prove=False,
        sentence="The sequence number is the venue's last update id, which jumps by thousands "
        "between neighbouring messages: a jump proves nothing, and a gap is suspected by silence.",
    ),
    "simulated": GapEvidence(
        ids_prove=False,
        sentence="As Crypto Lake, whose layout it writes: a gap is suspected by silence.",
    ),
}
"""The gap rule of every source whose days lie in the lake as the pipeline reads them."""


def gap_evidence(source: Source) -> GapEvidence:
    """The gap rule of a source; that of a door is among its facts.

    Raises:
        InstrumentsError: The door cannot be loaded.
    """
    if source in GAP_EVIDENCE:
        return GAP_EVIDENCE[source]
    facts = door_of(source).facts
    return GapEvidence(facts.ids_prove, facts.gap)


@dataclass(frozen=True, slots=True)
class GapRule:
    """The bounds of the silence rule, for sources without dense ids.

    Attributes:
        silence_quantile: Quantile of the day's inter-arrival times, between 0 and 1.
        silence_factor: A silence is longer than this many times that quantile …
        silence_floor_seconds: … and longer than this.
        edge_tolerance_seconds: A silence without trades must be longer than this too.
        min_trades: So many trades strictly inside a silence make it a suspected gap.
    """

    silence_quantile: float
    silence_factor: float
    silence_floor_seconds: float
    edge_tolerance_seconds: float
    min_trades: int = 1

    @classmethod
    def from_thresholds(cls, thresholds: Thresholds) -> GapRule:
        """The rule with an instrument's own thresholds."""
        return cls(
            silence_quantile=thresholds.silence_quantile,
            silence_factor=thresholds.silence_factor,
            silence_floor_seconds=thresholds.silence_floor_seconds,
            edge_tolerance_seconds=thresholds.edge_tolerance_seconds,
        )


@dataclass(frozen=True, slots=True, eq=False)
class GapReport:
    """What is missing of a day, as far as times can show it.

    Attributes:
        spans: int64, shape (count, 3): start_ns and end_ns (receipt times of the messages before
            and after the silence) and the trades strictly inside.
        quiet_spans: int64, shape (quiet_count, 2): silences without a trade.
        messages_after, messages_after_quiet: int64, shape (count,) and (quiet_count,): index of the
            message that ended each.
        threshold_seconds: A silence had to be longer than this.
        head_seconds, tail_seconds: From the start of the UTC day to the first message, and from the
            last message to the day's end; 0 where messages reach beyond the day.
        per_hour: Gaps that began in each of the 24 UTC hours.
        sequence_backwards: Messages whose sequence number is below the one before.
        sequence_backwards_first_ns: Receipt time of the first of them; None if there is none.
    """

    spans: IntArray
    quiet_spans: IntArray
    messages_after: IntArray
    messages_after_quiet: IntArray
    threshold_seconds: float
    head_seconds: float
    tail_seconds: float
    per_hour: tuple[int, ...]
    sequence_backwards: int
    sequence_backwards_first_ns: int | None

    @property
    def count(self) -> int:
        """How many gaps are suspected."""
        return len(self.spans)

    @property
    def seconds(self) -> float:
        """Their total length."""
        return _total_seconds(self.spans)

    @property
    def longest(self) -> tuple[int, int] | None:
        """Start and end of the longest gap (the first of equals); None without one."""
        return _longest(self.spans)

    @property
    def longest_seconds(self) -> float:
        """Length of the longest gap; 0 without one."""
        return _span_seconds(self.longest)

    @property
    def first(self) -> tuple[int, int] | None:
        """Start and end of the first gap; None without one."""
        return (int(self.spans[0, 0]), int(self.spans[0, 1])) if len(self.spans) else None

    @property
    def quiet_seconds(self) -> float:
        """Total length of the silences without a trade."""
        return _total_seconds(self.quiet_spans)

    @property
    def longest_quiet_seconds(self) -> float:
        """Length of the longest silence without a trade; 0 without one."""
        return _span_seconds(self.longest_quiet)

    @property
    def longest_quiet(self) -> tuple[int, int] | None:
        """Start and end of the longest silence without a trade; None without one."""
        return _longest(self.quiet_spans)

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
) -> GapReport:
    """Finds the suspected gaps of one instrument's day.

    A trade counts as inside a silence if both its times lie strictly inside on their clock. One
    that came within the last inter-arrival quantile before the silence ends does not count: the
    book message it caused is the very one that ended the silence.

    The quantile is an inter-arrival time that occurred, rounded down, so a single silence cannot
    raise its own threshold. It cannot help if more than 0.1 % of all inter-arrival times are gaps.

    Args:
        ts_receipt_ns, ts_origin_ns, sequence_number: int64, shape (messages,), one per message in
            file order.
        trade_receipt_ns, trade_origin_ns: int64, shape (trades,), in any order; empty without
            trades, and then every silence is at most a quiet hole.
        day: The UTC day.
        rule: The bounds.

    Raises:
        ValueError: If there is no message: a day without one is missing, not a gap.
    """
    if len(ts_receipt_ns) == 0:
        raise ValueError("a day without a message has no gaps: report it as missing data")
    start_ns, end_ns = day_bounds_ns(day)
    usual_ns, threshold_ns = _threshold_ns(ts_receipt_ns, rule)
    silences, origin_silences, messages_after = _silences(ts_receipt_ns, ts_origin_ns, threshold_ns)
    trades = _trades_inside(
        silences,
        origin_silences,
        trade_receipt_ns,
        trade_origin_ns,
        margin_ns=usual_ns,
    )
    is_gap = trades >= rule.min_trades
    tolerance_ns = round(rule.edge_tolerance_seconds * NS_PER_SECOND)
    is_quiet = ~is_gap & (silences[:, 1] - silences[:, 0] > tolerance_ns)

    spans = np.column_stack((silences, trades))[is_gap]
    hours = np.clip((spans[:, 0] - start_ns) // NS_PER_HOUR, 0, 23)
    backwards = np.flatnonzero(sequence_number[1:] < sequence_number[:-1]) + 1
    return GapReport(
        spans=spans,
        quiet_spans=silences[is_quiet],
        messages_after=messages_after[is_gap],
        messages_after_quiet=messages_after[is_quiet],
        threshold_seconds=threshold_ns / NS_PER_SECOND,
        head_seconds=max(0, int(ts_receipt_ns.min()) - start_ns) / NS_PER_SECOND,
        tail_seconds=max(0, end_ns - int(ts_receipt_ns.max())) / NS_PER_SECOND,
        per_hour=tuple(np.bincount(hours, minlength=24).tolist()),
        sequence_backwards=len(backwards),
        sequence_backwards_first_ns=int(ts_receipt_ns[backwards[0]]) if len(backwards) else None,
    )


def proven_gaps(evidence: GapEvidence, gap_spans: IntArray, suspected: IntArray) -> IntArray:
    """The gaps that ids prove: where a book is in doubt without a silence that explains it.

    Args:
        evidence: What the source's ids can prove.
        gap_spans: int64, shape (k, 2): the intervals of cause GAP in `books.intervals`. Each begins
            with the last message before the lost ones.
        suspected: int64, shape (m, 2): the silences, see `GapReport.not_observed`.

    Returns:
        int64, shape (proven, 2).
    """
    if not evidence.ids_prove:
        return NO_SPANS
    return gap_spans[~np.isin(gap_spans[:, 0], suspected[:, 0])]


def _threshold_ns(ts_receipt_ns: IntArray, rule: GapRule) -> tuple[int, int]:
    """The inter-arrival quantile and the silence threshold, both in whole nanoseconds."""
    floor_ns = round(rule.silence_floor_seconds * NS_PER_SECOND)
    steps = len(ts_receipt_ns) - 1
    if steps == 0:
        return 0, floor_ns
    # The quantile is the least of the longest inter-arrival times, and they are few.
    longest = steps - int((steps - 1) * rule.silence_quantile)
    steps_ns = np.empty(0, dtype=np.int64)
    for _, time_ns in running_chunks(ts_receipt_ns):
        steps_ns = np.concatenate((steps_ns, np.diff(time_ns)))
        if len(steps_ns) > longest:
            steps_ns = np.partition(steps_ns, -longest)[-longest:].copy()
    usual_ns = int(steps_ns.min())
    return usual_ns, max(round(rule.silence_factor * usual_ns), floor_ns)


def _silences(
    ts_receipt_ns: IntArray, ts_origin_ns: IntArray, threshold_ns: int
) -> tuple[IntArray, IntArray, IntArray]:
    """The spans that both clocks say are too long, and the messages that end them.

    Returns:
        The receipt times and the origin times, shape (k, 2), and indices of messages, shape (k,).
    """
    receipt_spans, origin_spans = [NO_SPANS], [NO_SPANS]
    after = [np.empty(0, dtype=np.int64)]
    # A receipt clock that was set back must not make two spans overlap, so it is the running one.
    for first, time_ns in running_chunks(ts_receipt_ns):
        origin_ns = ts_origin_ns[first : first + len(time_ns)]
        silent = (np.diff(time_ns) > threshold_ns) & (np.diff(origin_ns) > threshold_ns)
        before = np.flatnonzero(silent)
        for spans, ts_ns in ((receipt_spans, time_ns), (origin_spans, origin_ns)):
            spans.append(np.stack((ts_ns[before], ts_ns[before + 1]), axis=1))
        after.append(first + before + 1)
    return np.concatenate(receipt_spans), np.concatenate(origin_spans), np.concatenate(after)


def _trades_inside(
    receipt_spans: IntArray,
    origin_spans: IntArray,
    trade_receipt_ns: IntArray,
    trade_origin_ns: IntArray,
    *,
    margin_ns: int,
) -> IntArray:
    """Counts the trades strictly inside each span, on both clocks, `margin_ns` before its end."""
    if np.any(trade_receipt_ns[1:] < trade_receipt_ns[:-1]):
        order = np.argsort(trade_receipt_ns, kind="stable")
        trade_receipt_ns, trade_origin_ns = trade_receipt_ns[order], trade_origin_ns[order]
    first = np.searchsorted(trade_receipt_ns, receipt_spans[:, 0], side="right")
    after = np.searchsorted(trade_receipt_ns, receipt_spans[:, 1] - margin_ns, side="left")
    counts = np.zeros(len(receipt_spans), dtype=np.int64)
    for span in range(len(receipt_spans)):
        origins = trade_origin_ns[first[span] : after[span]]
        inside = (origins > origin_spans[span, 0]) & (origins < origin_spans[span, 1] - margin_ns)
        counts[span] = np.count_nonzero(inside)
    return counts


def _total_seconds(spans: IntArray) -> float:
    return int(np.sum(spans[:, 1] - spans[:, 0])) / NS_PER_SECOND


def _longest(spans: IntArray) -> tuple[int, int] | None:
    if len(spans) == 0:
        return None
    start_ns, end_ns = spans[np.argmax(spans[:, 1] - spans[:, 0]), :2]
    return int(start_ns), int(end_ns)


def _span_seconds(span: tuple[int, int] | None) -> float:
    return (span[1] - span[0]) / NS_PER_SECOND if span is not None else 0.0
