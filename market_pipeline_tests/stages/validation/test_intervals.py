"""The published intervals as the validate takes them, and the evidence behind a finding."""

from __future__ import annotations

import polars as pl

from market_pipeline.books.evidence import CAUSES, position_of
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.tables import INTERVALS
from market_pipeline.quality.findings import Finding
from market_pipeline.stages.validation import intervals
from market_pipeline.stages.validation.context import InstrumentDay, PublishedBooks
from market_pipeline.stages.validation.intervals import read_spans, with_evidence
from market_pipeline.warehouse.conform import empty_frame
from market_pipeline_tests.quality.factory import a_record
from market_pipeline_tests.stages.day_rows import FrameRows
from market_pipeline_tests.stages.days import BTC, DAY, ETH

ROWS = [
    (BTC, "NOT_SEEDED", 1, 2, True),
    (BTC, "UNCONFIRMED_DEPTH", 2, 9, False),
    (BTC, "CROSSED", 3, 5, True),
    (BTC, "CROSSED", 5, 5, False),
    (BTC, "LOCKED", 5, 6, False),
    (BTC, "POLICY", 6, 6, False),
    (ETH, "CROSSED", 3, 4, True),
    (BTC, "GAP", 7, 9, True),
]


def a_day(rows=ROWS) -> InstrumentDay:
    """A day with intervals and nothing else."""
    frame = pl.from_dicts(
        [
            {
                "exchange": each.venue,
                "symbol": each.symbol,
                "dt": DAY,
                "start_ns": start,
                "end_ns": end,
                "cause": cause,
                "invalidates": invalidates,
                "action": "none",
                "start_sequence_number": 100 + start,
                "end_sequence_number": None,
                "first_message": 0,
                "messages": 1,
                "evidence": f"{cause} of {each.symbol} at {start}.",
            }
            for each, cause, start, end, invalidates in rows
        ],
        schema=empty_frame(INTERVALS.arrow_schema).schema,
    )
    none = FrameRows(frame.clear())
    books = PublishedBooks(pl.DataFrame(), none, none, FrameRows(frame))
    return InstrumentDay(BTC, None, a_record(), books, None)


def test_those_that_take_time_are_read(monkeypatch):
    """Of one instrument, whatever batches they come in: all but those of a moment."""
    for batch_rows in (1, 3, 100):
        monkeypatch.setattr(intervals, "_BATCH_ROWS", batch_rows)
        read = read_spans(a_day())

        causes = [CAUSES[each] for each in read.cause]
        assert ["NOT_SEEDED", "UNCONFIRMED_DEPTH", "CROSSED", "LOCKED", "GAP"] == causes
        assert [[3, 5]] == read.of(BookFlag.CROSSED).tolist()
        assert [[1, 2], [7, 9]] == read.of(BookFlag.NOT_SEEDED, BookFlag.GAP).tolist()
        assert position_of(BookFlag.LOCKED) == read.cause[3]


def test_a_book_without_intervals_has_no_span():
    """Nothing was ever known against it."""
    assert 0 == len(read_spans(a_day(ROWS[6:7])).cause)


def test_a_span_of_the_book_gets_its_message_and_evidence():
    """Where it names no message yet; a suspected gap already does, other checks are left alone."""

    def finding(check, start, number=None):
        return Finding(
            check=check, place="first", ts_receipt_ns=start, sequence_number=number, note="Bare."
        )

    told = with_evidence(
        [
            finding("crossed", 3),
            finding("gap", 7),
            finding("gap", 7, number=55),
            finding("crossed", 4),
            finding("skew", 3),
        ],
        a_day(),
    )

    assert [
        (103, "CROSSED of BTC-USDT at 3."),
        (107, "GAP of BTC-USDT at 7."),
        (55, "Bare."),
        (None, "Bare."),
        (None, "Bare."),
    ] == [(each.sequence_number, each.note) for each in told]
    assert [] == with_evidence([], a_day())
