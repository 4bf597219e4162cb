"""The day's valid time, and crossed and locked time, from the published intervals of the book.

All of it is measured on the receipt clock that never runs backwards, from the first to the last
message inside the UTC day: nothing proves that the feed went on after the last one. Nothing counts
inside a gap or a quiet hole, because nobody listened.

Valid is what nothing speaks against; verified is the part of it between two pieces of evidence that
agree. The rest is unverified: nothing could have shown that the book was wrong.

A book that flickers crossed has a million intervals a day, so nothing here is worse than linear in
them but one sort of the few others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from market_pipeline.books.evidence import UNVERIFIED, position_of
from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.quality.figures.book import CrossedFigures, ValidTimeFigures
from market_pipeline.quality.intervals import (
    NO_SPANS,
    NS_PER_HOUR,
    NS_PER_SECOND,
    IntArray,
    overlap_ns,
    union,
)

__all__ = ["BookSpans", "Observed", "TouchReport", "touch_report", "valid_time"]

_UNSOUND = (
    BookFlag.OUTSIDE_DAY,
    BookFlag.OUT_OF_ORDER,
    BookFlag.BAD_SEQUENCE,
    BookFlag.BAD_TS_RECEIPT,
)
"""Flags of single messages, for what their stamps and numbers say."""


@dataclass(frozen=True, slots=True, eq=False)
class BookSpans:
    """When which flags stood against the book: those rows of `books.intervals` that take time.

    These are the invalidating ones, and those of LOCKED and UNVERIFIED. Spans of one cause are in
    order of time; those of CROSSED and of LOCKED do not overlap.

    Attributes:
        cause: int8, shape (n,): positions in `books.evidence.CAUSES`.
        start_ns, end_ns: int64, shape (n,).
    """

    cause: npt.NDArray[np.int8]
    start_ns: IntArray
    end_ns: IntArray

    def of(self, *flags: BookFlag) -> IntArray:
        """The spans of some causes in the order of the table, int64, shape (k, 2)."""
        return self._at([position_of(flag) for flag in flags])

    @property
    def unverified(self) -> IntArray:
        """When the book was not verified, int64, shape (k, 2)."""
        return self._at([UNVERIFIED])

    def _at(self, positions: list[int]) -> IntArray:
        chosen = np.isin(self.cause, positions)
        return np.column_stack((self.start_ns[chosen], self.end_ns[chosen]))


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """When a day was observed.

    Attributes:
        first_ns, last_ns: Receipt times of the first message inside the UTC day, and of the latest
            inside it; twice the same if there is none.
        holes: int64, shape (k, 2): what to leave out, see `GapReport.not_observed`.
    """

    first_ns: int
    last_ns: int
    holes: IntArray

    def within(self, spans: IntArray) -> IntArray:
        """The spans as far as there were messages: one that is open at the end reaches beyond."""
        clipped: IntArray = np.clip(spans, self.first_ns, self.last_ns)
        return clipped

    def lengths_ns(self, spans: IntArray) -> IntArray:
        """How much of each span was observed, int64, shape (k,)."""
        starts_ns, ends_ns = self.within(spans[:, 0]), self.within(spans[:, 1])
        lengths_ns: IntArray = ends_ns - starts_ns
        lengths_ns -= overlap_ns(starts_ns, ends_ns, self.holes)
        return lengths_ns


@dataclass(frozen=True, slots=True, eq=False)
class TouchReport:
    """How often and how long the touch was crossed or locked.

    A count is of maximal runs of messages that leave the book crossed (locked). A run begins with
    its first message and ends with the first message after it, or with the day's last message. What
    of a run lies beyond the day is in its first or last hour.

    Attributes:
        crossed_spans: int64, shape (crossed_count, 2): every run.
        crossed_ns: int64, shape (crossed_count,): how long each was observed.
    """

    figures: CrossedFigures
    crossed_spans: IntArray
    crossed_ns: IntArray


def touch_report(spans: BookSpans, observed: Observed, *, day_start_ns: int) -> TouchReport:
    """Counts and times the crossed and the locked book."""
    crossed, locked = spans.of(BookFlag.CROSSED), spans.of(BookFlag.LOCKED)
    lengths = observed.lengths_ns(crossed)
    longest = int(np.argmax(lengths)) if len(lengths) else None
    figures = CrossedFigures(
        crossed_count=len(crossed),
        crossed_seconds=_seconds(lengths),
        longest_crossed_seconds=int(lengths[longest]) / NS_PER_SECOND if longest is not None else 0,
        longest_crossed_ns=int(crossed[longest, 0]) if longest is not None else None,
        crossed_seconds_per_hour=_seconds_per_hour(crossed, observed, day_start_ns),
        first_crossed_ns=int(crossed[0, 0]) if len(crossed) else None,
        locked_count=len(locked),
        locked_seconds=_seconds(observed.lengths_ns(locked)),
    )
    return TouchReport(figures, observed.within(crossed), lengths)


def valid_time(spans: BookSpans, observed: Observed, *, expected_ns: int) -> ValidTimeFigures:
    """Splits a day's time into missing, invalid, and valid, verified or not.

    Observed time is valid, invalid, or only crossed: crossed time has a check of its own. Valid
    time is verified or unverified. What was expected, `expected_ns` of the day, and not observed is
    missing. The seconds of the causes may overlap.
    """

    def of(*flags: BookFlag, further: IntArray = NO_SPANS) -> IntArray:
        # Two snapshots may fail the same message; that time counts once.
        return union(*(spans.of(flag) for flag in flags), further)

    # A day of bad stamps has millions of spans: sets of them are made anew, and none is held while
    # another is.
    but_crossed = [flag for flag in INVALIDATING if flag != BookFlag.CROSSED]
    whole = np.array([[observed.first_ns, observed.last_ns]], dtype=np.int64)
    observed_ns = int(observed.lengths_ns(whole).sum())
    invalid_ns = int(observed.lengths_ns(of(*but_crossed)).sum())
    valid = replace(observed, holes=of(*but_crossed, further=observed.holes))
    only_crossed_ns = int(valid.lengths_ns(spans.of(BookFlag.CROSSED)).sum())
    del valid
    valid = replace(observed, holes=of(*INVALIDATING, further=observed.holes))
    valid_ns = observed_ns - invalid_ns - only_crossed_ns
    unverified_ns = int(valid.lengths_ns(union(spans.unverified)).sum())
    unconfirmed_seconds = _seconds(valid.lengths_ns(spans.of(BookFlag.UNCONFIRMED_DEPTH)))
    del valid
    wrong_ns = observed.lengths_ns(spans.of(BookFlag.SNAPSHOT_MISMATCH))

    def seconds_of(*flags: BookFlag) -> float:
        return _seconds(observed.lengths_ns(of(*flags)))

    return ValidTimeFigures(
        observed_seconds=observed_ns / NS_PER_SECOND,
        missing_seconds=(expected_ns - observed_ns) / NS_PER_SECOND,
        valid_seconds=valid_ns / NS_PER_SECOND,
        verified_seconds=(valid_ns - unverified_ns) / NS_PER_SECOND,
        unverified_seconds=unverified_ns / NS_PER_SECOND,
        unconfirmed_seconds=unconfirmed_seconds,
        invalid_seconds=invalid_ns / NS_PER_SECOND,
        not_seeded_seconds=seconds_of(BookFlag.NOT_SEEDED),
        after_gap_seconds=seconds_of(BookFlag.GAP),
        stale_seconds=seconds_of(BookFlag.STALE),
        snapshot_mismatch_seconds=seconds_of(BookFlag.SNAPSHOT_MISMATCH),
        precision_loss_seconds=seconds_of(BookFlag.PRECISION_LOSS),
        unsound_seconds=seconds_of(*_UNSOUND),
        longest_reconvergence_seconds=(
            int(wrong_ns.max()) / NS_PER_SECOND if len(wrong_ns) else None
        ),
    )


def _seconds(lengths_ns: IntArray) -> float:
    return int(lengths_ns.sum()) / NS_PER_SECOND


def _seconds_per_hour(spans: IntArray, observed: Observed, day_start_ns: int) -> tuple[float, ...]:
    """The observed time by UTC hour of spans that are in order of time and disjoint."""
    limits = np.iinfo(np.int64)
    edges_ns = [limits.min, *(day_start_ns + np.arange(1, 24) * NS_PER_HOUR), limits.max]
    seconds = []
    for begin_ns, end_ns in pairwise(edges_ns):
        first = np.searchsorted(spans[:, 1], begin_ns, side="right")
        after = np.searchsorted(spans[:, 0], end_ns, side="left")
        inside = np.clip(spans[first:after], begin_ns, end_ns)
        seconds.append(_seconds(observed.lengths_ns(inside)))
    return tuple(seconds)
