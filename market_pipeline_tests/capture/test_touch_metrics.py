"""Live metrics of the touch: those that the batch makes of the same books."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_pipeline.books.scale import Scale
from market_pipeline.capture.operators import BestQuotes
from market_pipeline.capture.pipeline import Change, Event, Notice
from market_pipeline.capture.stream_state import Touch
from market_pipeline.capture.touch_metrics import TouchMetrics, TouchMetricsRow
from market_pipeline.metrics.columns import TOUCH_COLUMNS
from market_pipeline.metrics.day_rows import InstrumentRows, NestedGrids
from market_pipeline.metrics.touch import touch_columns
from market_pipeline_tests.capture.test_pipeline import LOT, READER, TICK, frames

SECOND_NS = 1_000_000_000
SCALES = Scale(1, 1), Scale(1, 2)

BOOKS = st.lists(
    st.tuples(
        st.integers(-20, 900).map(lambda ms: ms * 3_000_000),
        st.one_of(
            st.sampled_from(["wrong", "lost"]),
            st.builds(
                Touch, st.integers(88, 93), st.integers(0, 4), st.integers(92, 96), st.just(3)
            ),
        ),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


def batch_rows(books: pl.DataFrame, start_ns: int, end_ns: int) -> list[tuple]:
    """The columns that `metrics.book_metrics` has of these rows of `books.bbo`, in one go."""
    day = InstrumentRows(
        lambda columns: iter([books.select(columns)]),
        *(lambda columns: iter(()), None, *SCALES, np.empty((0, 2), np.int64)),
    )
    edges = np.arange(start_ns, end_ns + 1, SECOND_NS)
    made = touch_columns(day, NestedGrids([edges])).columns([np.arange(len(edges) - 1)])
    columns = (pl.Series(made[column.name]).to_list() for column in TOUCH_COLUMNS)
    return list(zip(edges[:-1].tolist(), *columns, strict=True))


class Watched(TouchMetrics):
    """Keeps every book that it was given."""

    def all_books(self) -> pl.DataFrame:
        columns = ("ts_receipt_ns", "flags", "bid_price_ticks", "bid_size_lots")
        columns += ("ask_price_ticks", "ask_size_lots")
        types = {name: pl.UInt16 if name == "flags" else pl.Int64 for name in columns}
        return pl.DataFrame(self.seen, schema=types, orient="row")

    def add(self, received_ns, touch, scales):
        super().add(received_ns, touch, scales)
        self.seen = [*getattr(self, "seen", []), self._books[-1]]

    def lost(self):
        super().lost()
        if self._books:
            self.seen.append(self._books[-1])


@settings(max_examples=40, deadline=None)
@given(BOOKS)
@example([(0, "wrong", False), (0, "lost", False), (10**9, "wrong", True), (2 * 10**9, "lost", 0)])
@example(
    [
        (at_ns, Touch(90 + at_ns % 7, 1, 97, 1), True)
        for at_ns in (0, 9 * 10**8, 2 * 10**9, 2 * 10**9, 4 * 10**9)
    ]
)
def test_live_metrics_are_those_of_the_batch(books):
    """Cut anywhere, with losses and clocks that run back, each interval has the batch's row."""
    metrics, rows, first_ns = Watched("X", 1), [], 1_000 * SECOND_NS
    for after_ns, book, is_cut in books:
        if book == "lost":
            metrics.lost()
        else:
            touch = None if book == "wrong" else book
            metrics.add(first_ns + after_ns, touch, SCALES)
        if is_cut:
            rows += metrics.take([])
    rows += metrics.take([])
    if not rows:
        return
    found = [
        (row.start_ns, *(getattr(row, column.name) for column in TOUCH_COLUMNS)) for row in rows
    ]
    assert batch_rows(metrics.all_books(), rows[0].start_ns, rows[-1].start_ns + SECOND_NS) == found


def test_of_a_live_book():
    """Seconds of a book that is right are valid, with its spread; after a loss none is."""
    metrics = TouchMetrics("X", 1)
    quotes = BestQuotes("X", READER, (TICK, LOT), metrics=metrics)
    made = [Event(each, READER.classify(each), at_ns) for at_ns, each in frames(1)[:41]]
    lost_ns = made[30].received_ns
    made[31:34] = [Notice(Change.LOST, lost_ns, "depth:X", "a connection ended")]
    list(quotes.take(made))
    rows = metrics.take(made)
    # From the fifth change of the best bid on it is 9.5, and messages are a second apart.
    assert [0.5, 5.0] == [rows[8].spread, rows[8].spread_ticks]
    assert [1.0, 1, 0] == [rows[8].valid_seconds, rows[8].message_count, rows[8].mid_change_count]
    after = [row for row in rows if row.start_ns >= lost_ns]
    assert (True, {0.0}) == (len(after) > 2, {row.valid_seconds for row in after})
    assert "touch_metrics" == TouchMetrics.name
    assert TouchMetricsRow is type(rows[0])


def test_other_steps_begin_again():
    """Books in other ticks are not joined with those before: the next whole second is the first."""
    metrics = TouchMetrics("X", 1)
    for after_ms in (0, 900, 1_800):
        scales = SCALES if after_ms < 900 else (Scale(1, 2), Scale(1, 2))
        metrics.add(after_ms * 1_000_000, Touch(90, 1, 91, 1), scales)
    assert [] == metrics.take([])
    metrics.add(2_000_000_001, Touch(90, 1, 91, 1), scales)
    assert [SECOND_NS] == [row.start_ns for row in metrics.take([])]
