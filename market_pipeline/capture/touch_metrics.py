"""Metrics of the touch of a live book by interval: those of `metrics.book_metrics`, once over.

They are made by the batch's own function, of the books since the message before the interval, which
is all that an interval depends on.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import polars as pl
from msgspec import Struct

from market_pipeline.books.flags import BookFlag
from market_pipeline.capture.pipeline import Taken
from market_pipeline.capture.scales import Scales
from market_pipeline.capture.stream_state import Touch
from market_pipeline.metrics.columns import TOUCH_COLUMNS
from market_pipeline.metrics.day_rows import InstrumentRows, NestedGrids
from market_pipeline.metrics.touch import TOUCH_INPUT, touch_columns
from market_pipeline.quality.intervals import NS_PER_SECOND

__all__ = ["TouchMetrics", "TouchMetricsRow"]

_TYPES = {"DOUBLE": float, "BIGINT": int}
_MOST_INTERVALS = 3_600

TouchMetricsRow = msgspec.defstruct(
    "TouchMetricsRow",
    [
        ("symbol", str),
        ("interval_seconds", int),
        ("start_ns", int),
        *((column.name, _TYPES[column.type] | None) for column in TOUCH_COLUMNS),
    ],
    frozen=True,
    gc=False,
)
"""An interval that is over: its start, ns UTC, and the columns of `TOUCH_COLUMNS`."""

_Book = tuple[int, int, int, int, int, int]
"""A row as `TOUCH_INPUT` has it."""

_SCHEMA = {
    name: pl.UInt16 if name == "flags" else pl.Int64 for name in TOUCH_INPUT
}  # as `books.bbo` has them
_NO_SPANS = np.empty((0, 2), np.int64)


class TouchMetrics:
    """Makes the metrics of one symbol, of the books that its live book gives.

    The first interval is the one that begins after the first message. An interval is given once a
    message has come after its end.

    Args:
        symbol, width_seconds: Of the intervals, which begin at multiples of their width.
    """

    name = "touch_metrics"

    def __init__(self, symbol: str, width_seconds: int) -> None:
        self.symbol, self._width_seconds = symbol, width_seconds
        self._width_ns = width_seconds * NS_PER_SECOND
        self._scales: Scales | None = None
        self._books: list[_Book] = []
        self._start_ns = self._latest_ns = 0

    def add(self, received_ns: int, touch: Touch | None, scales: Scales) -> None:
        """Takes the best bid and ask after a message; None where the book is not right."""
        if scales != self._scales:
            self._scales = scales
            self._books.clear()
        self._latest_ns = max(self._latest_ns, received_ns)
        if not self._books:
            self._start_ns = (self._latest_ns // self._width_ns + 1) * self._width_ns
        flags = BookFlag(0)
        if touch is None:
            flags, touch = BookFlag.GAP, Touch(0, 0, 0, 0)
        elif touch.bid_size_lots and touch.ask_size_lots:
            is_crossed = touch.bid_price_ticks > touch.ask_price_ticks
            flags = BookFlag.CROSSED if is_crossed else flags
        self._books.append((self._latest_ns, int(flags), *touch))

    def lost(self) -> None:
        """The book is not right, as of the last message; no message showed it."""
        if self._books:
            # A row without a time ends what was before it, and counts as no message.
            flags = int(BookFlag.GAP | BookFlag.OUTSIDE_DAY)
            self._books.append((self._latest_ns, flags, 0, 0, 0, 0))

    def take(self, events: Sequence[Taken]) -> list[Struct]:
        """The intervals that are over; the events are those that the book was given."""
        rows: list[Struct] = []
        # At an edge a return ends by the last message of that time, so a later one is waited for.
        until_ns = (self._latest_ns - 1) // self._width_ns * self._width_ns
        while self._books and self._start_ns < until_ns:
            end_ns = min(until_ns, self._start_ns + _MOST_INTERVALS * self._width_ns)
            rows += self._intervals(end_ns)
        return rows

    def finish(self) -> Sequence[Struct]:
        """See `Operator`; the interval that is not over is left out."""
        return ()

    def _intervals(self, end_ns: int) -> list[Struct]:
        """The intervals up to an instant that a message has passed."""
        times = [book[0] for book in self._books]
        passed, later = np.searchsorted(times, end_ns), np.searchsorted(times, end_ns, "right")
        books = pl.DataFrame(self._books[: later + 1], schema=_SCHEMA, orient="row")
        edges = np.arange(self._start_ns, end_ns + 1, self._width_ns)
        assert self._scales is not None
        day = InstrumentRows(
            bbo=lambda columns: iter([books.select(columns)]),
            depth=lambda columns: iter(()),
            trades=None,
            tick=self._scales[0],
            lot=self._scales[1],
            not_observed=_NO_SPANS,
        )
        made = touch_columns(day, NestedGrids([edges])).columns([np.arange(len(edges) - 1)])
        columns = [pl.Series(made[column.name]).to_list() for column in TOUCH_COLUMNS]
        # What comes next depends on the last book before it, and on the last message.
        first = int(passed) - 1
        while first > 0 and self._books[first][1] & BookFlag.OUTSIDE_DAY:
            first -= 1
        del self._books[:first]
        self._start_ns = end_ns
        return [
            TouchMetricsRow(self.symbol, self._width_seconds, int(start_ns), *figures)
            for start_ns, *figures in zip(edges[:-1], *columns, strict=True)
        ]
