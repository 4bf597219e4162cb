"""The metrics of a day put together: keys, widths, the row of the day, and a real day."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from market_pipeline.metrics.columns import METRIC_COLUMNS, RATIO_COLUMN
from market_pipeline.metrics.groups import GROUPS
from market_pipeline.metrics.tables import BOOK_METRICS, DAILY_METRICS
from market_pipeline_tests.metrics.rows import (
    A_BOOK,
    DAY,
    a_bbo,
    a_day,
    a_depth,
    a_trades,
    made,
    minutes_of,
)

MIDNIGHT = datetime(2024, 8, 8)  # noqa: DTZ001 - the catalogue's times are UTC and naive
BIDS, ASKS = [(1_000, 30), (999, 70)], [(1_004, 10)]


def a_busy_day():
    """A message every 7 s for two hours, depth and trades beside them."""
    books = [(1_000 + n % 5, 30 + n % 11, 1_004 + n % 7 + n % 5, 10 + n % 3) for n in range(1_000)]
    return a_day(
        a_bbo(*((7 * n, book, 0) for n, book in enumerate(books))),
        a_depth(*((7 * n, [(bid, b)], [(ask, a)], 0) for n, (bid, b, ask, a) in enumerate(books))),
        a_trades(*((11 * n, 0.5, n % 3 == 0) for n in range(600))),
        gap=(3_500, 3_800),
    )


class TestTable:
    def test_columns_and_types(self):
        """Every column is there, in order and of its type, also when nothing is."""
        for day in (a_day(), a_busy_day()):
            metrics = made(day, 60)
            assert [BOOK_METRICS.empty().schema] == [rows.schema for rows in metrics.intervals]
            assert DAILY_METRICS.empty().schema == metrics.daily.schema

    def test_every_group_is_in_the_table(self):
        """The tables have the columns of the groups, and their one ratio."""
        of_groups = [column for group in GROUPS for column in group.columns]

        assert list(METRIC_COLUMNS) == [*of_groups, RATIO_COLUMN]
        assert len(METRIC_COLUMNS) == len({column.name for column in METRIC_COLUMNS})

    def test_every_interval_has_a_row(self):
        """Width after width, from midnight to midnight, also of a day without anything."""
        for widths in ((300, 3_600), (7_200,), (5_400,)):
            rows = pl.concat(made(a_day(), *widths).intervals)
            expected = [
                ("BINANCE", "BTC-USDT", DAY, width, MIDNIGHT + timedelta(seconds=start))
                for width in widths
                for start in range(0, 86_400, width)
            ]
            key = ("exchange", "symbol", "dt", "interval_seconds", "interval_start")
            assert expected == rows.select(key).rows()

    def test_without_a_trades_file(self):
        """Unknown is not zero."""
        (row,) = minutes_of(a_bbo((0, A_BOOK, 0)))

        names = ("trade_count", "buy_volume", "taker_order_count", "trade_to_book_ratio")
        assert {None} == {row[name] for name in names}

    def test_trades_and_messages_are_both_events(self):
        """Two orders of three trades beside four messages; null where no message came."""
        bbo = a_bbo(*((second, A_BOOK, 0) for second in (0, 1, 2, 3)))
        trades = a_trades((3, 0.5, True), (4, 0.5, True, 0), (5, 2.0, False), (70, 1.0, True))

        ratios = [row["trade_to_book_ratio"] for row in minutes_of(bbo, None, trades)]
        assert [0.5, None] == ratios


class TestWidths:
    def test_sums_and_means_of_larger_intervals(self):
        """Counts add up, and means are means by the time they are of."""
        small, large = (made(a_busy_day(), width).intervals[0] for width in (60, 3_600))
        hour = pl.col("interval_start").dt.truncate("1h")

        def by_hour(expression):
            return small.group_by(hour, maintain_order=True).agg(expression).to_series(1)

        for name in ("message_count", "valid_seconds", "ofi", "trade_count", "buy_volume"):
            assert by_hour(pl.col(name).sum()).to_list() == pytest.approx(
                large[name].fill_null(0).to_list()
            )
        for name, of in (
            ("spread_bps", "quoted_seconds"),
            ("mid", "quoted_seconds"),
            ("depth_imbalance_1", "depth_valid_seconds"),
        ):
            weighted = by_hour((pl.col(name) * pl.col(of)).sum() / pl.col(of).sum())
            assert weighted.head(2).to_list() == pytest.approx(large[name].head(2).to_list())

    def test_a_width_does_not_depend_on_the_smaller_ones(self):
        """A minute is the same whether seconds were asked for too."""
        alone = made(a_busy_day(), 60).intervals[0]
        seconds, beside = made(a_busy_day(), 1, 60).intervals

        assert 86_400 == seconds.height
        assert alone.drop(pl.selectors.float()).equals(beside.drop(pl.selectors.float()))
        for name in alone.select(pl.selectors.float()).columns:
            expected, found = alone[name].to_list(), beside[name].to_list()
            assert [
                each if each is None else pytest.approx(each, rel=1e-11, abs=1e-15)
                for each in expected
            ] == found


class TestDaily:
    def test_the_day_is_the_largest_interval(self):
        """Its measures are those of one interval as wide as the day."""
        metrics = made(a_busy_day(), 86_400)
        same = metrics.daily.select(metrics.intervals[0].columns[5:])

        assert metrics.intervals[0][:, 5:].equals(same)
        assert 7_000_000_000 == metrics.daily["receipt_granularity_ns"][0]

    def test_its_course_by_hour(self):
        """24 values, as the hours have them; null where there was no book."""
        metrics = made(a_busy_day(), 3_600)
        hours, (row,) = metrics.intervals[0], metrics.daily.to_dicts()

        for name in ("valid_seconds", "message_count", "spread_bps", "bid_depth_20"):
            assert hours[name].to_list() == row[f"{name}_by_hour"]
        assert [164.0, 136.0, 0.0] == row["volume_by_hour"][:3]

    def test_nothing_breaks_a_rule(self):
        """All values were looked at."""
        (row,) = made(a_busy_day(), 60, 3_600).daily.to_dicts()

        columns = len(BOOK_METRICS.columns) - 5
        assert ((1_440 + 24) * columns, 0, []) == (
            *(row["feature_values"], row["feature_violations"]),
            row["violation_columns"],
        )


class TestHostileRows:
    def test_the_largest_values(self):
        """Prices and sizes as large as the rebuild lets through make numbers in their domain."""
        big = 2**50
        books = [(big - n % 3, big - n, big + 1 + n % 2, big - 2 * n) for n in range(200)]
        metrics = made(
            a_day(
                a_bbo(*((n, book, 0) for n, book in enumerate(books))),
                a_depth(
                    *(
                        (n, [(bid - k, b) for k in range(20)], [(ask + k, a) for k in range(20)], 0)
                        for n, (bid, b, ask, a) in enumerate(books)
                    )
                ),
                a_trades(*((n, 2.0**60, True) for n in range(200))),
            ),
            *(1, 60),
        )

        assert (0, 199.0, 20) == metrics.daily.select(
            "feature_violations", "valid_seconds", "levels_confirmed"
        ).row(0)

    def test_trades_without_a_book(self):
        """They are counted, and nothing else is known."""
        metrics = made(a_day(trades=a_trades((5, 1.0, True))), 60)

        assert (0, 1, 0.0, None) == metrics.daily.select(
            "feature_violations", "trade_count", "valid_seconds", "mid"
        ).row(0)

    def test_the_edges_of_the_day(self):
        """What is received outside the day is in none of its intervals."""
        metrics = made(
            a_day(
                a_bbo((-9, A_BOOK, 0), (86_395, A_BOOK, 0), (86_409, A_BOOK, 0)),
                trades=a_trades((-1, 1.0, True), (0, 1.0, True), (86_400, 1.0, True)),
            ),
            3_600,
        )

        assert (86_400.0, 1, 1) == metrics.daily.select(
            "valid_seconds", "message_count", "trade_count"
        ).row(0)
