from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.tables import BBO, DEPTH, INTERVALS
from market_pipeline.plots import samples
from market_pipeline.plots.samples import (
    interval_totals,
    sampled_depth,
    sampled_quotes,
    shown_intervals,
)
from market_pipeline_tests.plots.day_files import (
    SECOND_NS,
    START_NS,
    book,
    interval,
    quote,
    write_parts,
)

CROSSED, LOCKED = 4, 8

prices = st.one_of(st.none(), st.integers(1, 50).map(float))
quotes = st.builds(
    quote, st.integers(0, 300), prices, prices, st.sampled_from([0, CROSSED, LOCKED])
)
intervals = st.builds(
    lambda cause, start, length: interval(cause, start, start + length),
    st.sampled_from(["GAP", "CROSSED", "LOCKED"]),
    st.integers(0, 600),
    st.integers(0, 90),
)


def plain_quotes(rows: list[dict], every_ns: int) -> list[tuple]:
    """The same by a loop over the rows."""
    steps: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        bid, ask = row["bid_price"], row["ask_price"]
        if row["flags"] != CROSSED and None not in (bid, ask):
            start_ns = row["ts_receipt_ns"] // every_ns * every_ns
            steps.setdefault(start_ns, []).append(((bid + ask) / 2, ask - bid))
    return [
        (
            start_ns,
            len(seen),
            *(
                value
                for part in zip(*seen, strict=True)
                for value in (part[-1], min(part), max(part))
            ),
        )
        for start_ns, seen in sorted(steps.items())
    ]


def plain_spans(rows: list[dict], apart_ns: int) -> list[tuple]:
    """Spans of each cause in order of their start, each joined to the one before if it is near."""
    joined: dict[str, list[list[int]]] = {}
    for row in sorted(rows, key=lambda row: row["start_ns"]):
        if row["end_ns"] == row["start_ns"]:
            continue
        spans = joined.setdefault(row["cause"], [])
        if spans and row["start_ns"] - spans[-1][1] <= apart_ns:
            spans[-1][1] = max(spans[-1][1], row["end_ns"])
        else:
            spans.append([row["start_ns"], row["end_ns"]])
    return [(cause, *span) for cause, spans in sorted(joined.items()) for span in spans]


class TestQuotes:
    @settings(max_examples=40)
    @given(st.lists(quotes, max_size=40), st.sampled_from([1, 60]))
    def test_equals_a_loop(self, rows, seconds):
        """Each step has the last, the lowest and the highest of its valid two-sided quotes."""
        every_ns = seconds * SECOND_NS
        with TemporaryDirectory() as folder:
            found = sampled_quotes(write_parts(Path(folder), BBO, rows), every_ns)

        assert plain_quotes(rows, every_ns) == found.rows()

    def test_last_is_by_place_and_not_by_time(self, tmp_path):
        """Where the clock ran back, the last quote is the one that stands last."""
        rows = [quote(50, 1.0, 2.0), quote(20, 3.0, 4.0), quote(40, 5.0, 6.0)]

        assert [5.5] == sampled_quotes(write_parts(tmp_path, BBO, rows))["mid"].to_list()

    def test_reads_more_than_it_may_hold(self, tmp_path, monkeypatch: pytest.MonkeyPatch):
        """Rows of 192 MB are read by a DuckDB that may use 64 MB: memory is that of the steps."""
        count = 4_000_000
        at = np.arange(count, dtype=np.int64)
        file = tmp_path / "big.parquet"
        pl.DataFrame(
            {
                "ts_receipt_ns": START_NS + at * 20_000_000,
                "bid_price": at.astype(np.float64),
                "bid_size": at[::-1].astype(np.float64),
                "ask_price": at + 1.0,
                "ask_size": at * 0.5,
                "flags": np.zeros(count, dtype=np.uint16),
            }
        ).write_parquet(file, row_group_size=1 << 18, compression="lz4")
        plain = duckdb.connect
        monkeypatch.setattr(
            samples.duckdb,
            "connect",
            lambda: plain(config={"memory_limit": "64MB", "max_temp_directory_size": "0B"}),
        )
        found = sampled_quotes([file])

        assert (count, count * 20_000_000 // samples.MINUTE_NS + 1) == (
            found["messages"].sum(),
            found.height,
        )


class TestDepth:
    def test_last_valid_book_of_every_step(self, tmp_path):
        """The row of a step is its last valid one, with every level; missing levels are null."""
        rows = [
            book(1, [(100, 5)], [(101, 7)]),
            book(59, [(99, 6), (98, 2)], [(103, 8)]),
            book(59.5, [(104, 6)], [(103, 8)], CROSSED),
            book(61, [(97, 1)], []),
        ]
        found = sampled_depth(write_parts(tmp_path, DEPTH, rows))
        shown = ["start_ns", "bid_0_price_ticks", "bid_1_size_lots", "ask_0_size_lots"]

        assert 81 == found.width
        assert [
            (START_NS, 99, 2, 8),
            (START_NS + 60 * SECOND_NS, 97, None, None),
        ] == found.select(shown).rows()


class TestIntervals:
    @settings(max_examples=40)
    @given(st.lists(intervals, max_size=30))
    def test_near_ones_are_one(self, rows):
        """Spans of a cause are joined where they are half a step apart or less, and nowhere else.

        Those that took no time are not there.
        """
        with TemporaryDirectory() as folder:
            found = shown_intervals(write_parts(Path(folder), INTERVALS, rows), 60 * SECOND_NS)

        assert plain_spans(rows, 30 * SECOND_NS) == found.drop("invalidates").rows()

    def test_thousands_are_few(self, tmp_path):
        """However many there are, of a cause no more than one a half step is left."""
        rows = [interval("CROSSED", number / 100, number / 100 + 0.001) for number in range(9_000)]

        assert 1 == shown_intervals(write_parts(tmp_path, INTERVALS, rows)).height

    def test_totals(self, tmp_path):
        """Every interval is counted with its length, those that invalidate before the others."""
        rows = [
            interval("LOCKED", 1, 2),
            interval("GAP", 5, 8.5),
            interval("GAP", 10, 11),
            interval("GAP", 20, 20, invalidates=False, action="seed"),
        ]
        found = interval_totals(write_parts(tmp_path, INTERVALS, rows))

        assert [
            ("GAP", "none", True, 2, 4.5, 3.5, START_NS + 5 * SECOND_NS),
            ("GAP", "seed", False, 1, 0.0, 0.0, START_NS + 20 * SECOND_NS),
            ("LOCKED", "none", False, 1, 1.0, 1.0, START_NS + 1 * SECOND_NS),
        ] == found.rows()
