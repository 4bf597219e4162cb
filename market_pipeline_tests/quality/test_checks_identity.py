"""The check `identity`: what is an error, what a warning, and what is said."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import CheckOutcome
from market_pipeline.quality.checks.identity import check_identity
from market_pipeline_tests.quality.factory import DAY_END_NS, DAY_START_NS, a_failed_row, a_row

SECOND = 10**9


def said(**changes: Any) -> CheckOutcome:
    """What is said of a day that is clean but for the changes."""
    found = check_identity(a_row(**changes), Thresholds())
    assert found is not None
    return found


def outside(share: float, **changes: Any) -> dict[str, Any]:
    return {
        "deltas_outside_day": 7,
        "outside_day_share": share,
        "outside_day_table": "deltas",
        "outside_day": date(2024, 8, 7),
        "earliest_outside_ns": DAY_START_NS - 60 * SECOND,
        "latest_outside_ns": DAY_END_NS + SECOND,
        **changes,
    }


class TestOutside:
    def test_a_few_rows(self):
        """Rows past midnight are a warning with their count, and degrade nothing."""
        found = said(**outside(0.001, trades_outside_day=2))

        assert (False, "WARN", 9.0, False) == (
            found.passed,
            found.severity,
            found.figure,
            found.degrades,
        )
        assert (
            "9 rows received outside the UTC day (7 of deltas, 2 of trades; from 2024-08-07 "
            "23:59:00 to 2024-08-09 00:00:01 UTC)."
        ) == found.summary

    def test_most_of_them(self):
        """A table of another day is an error that names the day, and degrades."""
        found = said(**outside(0.51))

        assert ("ERROR", True, 0.51, 0.5) == (
            found.severity,
            found.degrades,
            found.figure,
            found.threshold,
        )
        assert "The deltas are of another day: 51.0000% of their rows" in found.summary
        assert "most on 2024-08-07" in found.summary

    def test_half_of_them_is_not_most(self):
        """A file of another day beside one of this day is a warning that names it."""
        found = said(**outside(0.5, files_outside_day=("2.snappy.parquet",)))

        assert "WARN" == found.severity
        assert ", 1 file for the most part" in found.summary


class TestFiles:
    def test_elsewhere_and_doubtful(self):
        """A file that nothing shows to belong here is an error."""
        found = said(
            files_elsewhere=1, files_elsewhere_doubtful=1, first_file_elsewhere="a has b's bytes"
        )

        assert ("ERROR", True) == (found.severity, found.degrades)
        assert found.summary.endswith("nothing shows that it belongs here: a has b's bytes.")

    def test_elsewhere_by_right(self):
        """A file whose copy stands in a wrong place is told, and does this day no harm."""
        found = said(files_elsewhere=2, first_file_elsewhere="a has b's bytes")

        assert ("WARN", False) == (found.severity, found.degrades)

    def test_twice(self):
        """A file of deltas that stands twice is a warning, one of trades doubles volumes."""
        twice = said(files_twice=1, first_file_twice="2 has the bytes of 1")
        trades = said(files_twice=1, trade_files_twice=1, first_file_twice="2 has the bytes of 1")

        assert ("WARN", "ERROR") == (twice.severity, trades.severity)
        assert "2 has the bytes of 1" in twice.summary

    def test_trades_that_came_again(self):
        """Trades are counted by their ids, but not beside the doubled file that they are of."""
        again = said(repeated_trades=1_000)
        trades = said(repeated_trades=1_000, trade_files_twice=1, first_file_twice="2 has 1")

        assert ("WARN", False) == (again.severity, again.degrades)
        assert "1,000 trades came before already" in again.summary
        assert "came before already" not in trades.summary


class TestPrices:
    @pytest.mark.parametrize("apart", [1.0, 1.5])
    def test_within_the_factor(self, apart):
        """A price up to half as high again is that of the same instrument."""
        assert said(price_tables_apart=apart, price_day_before_apart=apart).passed

    def test_between_tables(self):
        """The table that stands alone is named."""
        found = said(
            price_tables_apart=20.0,
            price_tables="deltas and snapshots",
            foreign_price_table="deltas",
        )

        assert ("ERROR", 20.0, 1.5) == (found.severity, found.figure, found.threshold)
        assert (
            "The prices of deltas and snapshots are 20 times apart, and the deltas stand alone: a "
            "file of another instrument."
        ) == found.summary

    def test_since_the_day_before(self):
        """Both prices are told."""
        found = said(price_day_before_apart=20.0, first_price=3_000.0, price_day_before=60_000.0)

        assert "ERROR" == found.severity
        assert "unlike the day before, which ended at 60000; this one begins at 3000" in (
            found.summary
        )

    def test_the_threshold_is_a_setting(self):
        """A venue's instrument that does jump has its own factor."""
        row = a_row(price_day_before_apart=20.0, first_price=3.0, price_day_before=60.0)
        found = check_identity(row, Thresholds(identity_price_factor=30.0))

        assert found is not None and found.passed
        assert {"identity_price_factor": 30.0} == found.thresholds


class TestAsked:
    def test_of_a_quarantined_day(self):
        """Hashes and times are known of a day without a book too."""
        row = a_failed_row("SchemaError", files_elsewhere=1, files_elsewhere_doubtful=1)

        assert "ERROR" == check_identity(row, Thresholds()).severity

    def test_not_of_a_day_of_which_nothing_is_known(self):
        """Without a raw file that could be read there is nothing to ask."""
        assert check_identity(a_failed_row("MissingDataError"), Thresholds()) is None

    def test_a_clean_day(self):
        """It says how far the day begins from where the one before ended."""
        found = said(price_day_before_apart=1.0023)

        assert found.passed
        assert "0.23% away from where the day before ended" in found.summary
