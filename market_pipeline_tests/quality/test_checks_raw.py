"""The checks of raw rows: silent on a clean day, and what they say of each fault."""

from __future__ import annotations

import pytest

from market_pipeline.quality.checks.domain import check_domain
from market_pipeline.quality.checks.ordering import check_ordering
from market_pipeline.quality.checks.precision import check_precision
from market_pipeline_tests.quality.factory import NOON_NS, THRESHOLDS, a_failed_row, a_row


def at_noon(count: int) -> tuple[int, ...]:
    return (0,) * 12 + (count,) + (0,) * 11


BACKWARDS = {
    "sequence_backwards": 1,
    "first_sequence_backwards_ns": NOON_NS,
    "unordered_messages": 1,
    "unordered_per_hour": at_noon(1),
}


class TestOrdering:
    def test_clean(self):
        """Nothing out of order passes, with the hours all 0."""
        said = check_ordering(a_row(), THRESHOLDS)

        assert (True, 0.0, (0.0,) * 24) == (said.passed, said.figure, said.per_hour)

    def test_a_message_counts_once(self):
        """One that is late and goes backwards is told as both and counted as one: a warning."""
        said = check_ordering(a_row(**BACKWARDS), THRESHOLDS)

        assert (False, "WARN", 1.0, 0.0) == (
            said.passed,
            said.severity,
            said.figure,
            said.threshold,
        )
        assert (
            "The sequence number goes backwards at 1 message, first at 12:00:00.000000 UTC; 1 "
            "message received before the one in front."
        ) == said.summary
        assert (1.0, {"ordering_error_share": 0.001}) == (said.per_hour[12], said.thresholds)

    @pytest.mark.parametrize(
        ("count", "severity", "threshold", "degrades"),
        [(1, "WARN", 0.0, False), (2, "ERROR", 1.0, True)],
    )
    def test_error_above_a_share(self, count, severity, threshold, degrades):
        """More than a thousandth of 1,000 messages is an error, which degrades the day."""
        row = a_row(duplicate_messages=count, unordered_per_hour=at_noon(count))
        said = check_ordering(row, THRESHOLDS)

        assert (severity, threshold, degrades) == (said.severity, said.threshold, said.degrades)
        assert f"{count} message{'s' if count > 1 else ''} came before already." == said.summary

    def test_what_the_rebuild_made_of_them(self):
        """Old messages, restarts and bad numbers are told with their first place, and counted where
        the raw profile saw less.
        """
        said = check_ordering(
            a_row(
                repeated_messages=2,
                late_messages=1,
                first_old_ns=NOON_NS,
                sequence_restarts=1,
                first_restart_ns=NOON_NS,
                bad_sequences=3,
                first_bad_sequence_ns=NOON_NS,
            ),
            THRESHOLDS,
        )

        assert (False, "ERROR", 7.0, 1.0) == (
            said.passed,
            said.severity,
            said.figure,
            said.threshold,
        )
        for text in (
            "the rebuild found 2 repeated (not applied again), 1 late (applied where nothing was "
            "newer), first at 12:00:00.000000 UTC",
            "The sequence numbers begin anew 1 time, first at 12:00:00.000000 UTC",
            "the sequence number of 3 messages contradicts those around it, first at 12:00:00",
        ):
            assert text.lower() in said.summary.lower()

    def test_a_day_that_was_not_rebuilt(self):
        """Raw figures alone are held against no share; without them the check is not asked."""
        row = a_failed_row(
            "DomainError",
            unordered_messages=7,
            duplicate_messages=0,
            unordered_per_hour=at_noon(7),
        )

        assert ("WARN", 7.0) == (
            check_ordering(row, THRESHOLDS).severity,
            check_ordering(row, THRESHOLDS).figure,
        )
        assert check_ordering(a_failed_row(), THRESHOLDS) is None


class TestDomain:
    def test_a_violation_is_an_error(self):
        """It is told with its place, also of a day that could not be rebuilt because of it."""
        place = "price -1.0 in book/1.parquet, row 4"
        for make in (a_row, lambda **row: a_failed_row("DomainError", **row)):
            said = check_domain(make(domain_violations=3, first_domain_violation=place), THRESHOLDS)

            assert ("ERROR", 3.0, 0.0) == (said.severity, said.figure, said.threshold)
            assert f"3 raw values outside the domain, first {place}." == said.summary

    def test_clean_or_unknown(self):
        """No violation passes; a day without a readable file is not asked."""
        assert check_domain(a_row(), THRESHOLDS).passed
        assert check_domain(a_failed_row(), THRESHOLDS) is None


class TestPrecision:
    def test_a_change_overnight_is_a_warning(self):
        """Both days' steps are told; the day is not degraded by it."""
        said = check_precision(
            a_row(step_change="the prices show a tick of 0.01, those of the day before 0.1"),
            THRESHOLDS,
        )

        assert ("WARN", False, 1.0, 0.0) == (
            said.severity,
            said.degrades,
            said.figure,
            said.threshold,
        )
        assert "The prices show a tick of 0.01, those of the day before 0.1." == said.summary

    def test_prices_off_the_tick_come_first(self):
        """An error decides, and the change that explains it is told with it."""
        said = check_precision(
            a_row(
                price_precision_losses=5,
                first_precision_column="price",
                first_precision_value=1.25,
                first_precision_file="1.parquet",
                first_precision_row=3,
                step_change="the tick changed",
            ),
            THRESHOLDS,
        )

        assert ("ERROR", 5.0) == (said.severity, said.figure)
        assert (
            "5 prices off the tick 0.1, first 1.25 in 1.parquet, row 3; the tick changed."
        ) == said.summary

    @pytest.mark.parametrize(
        ("tick_seen", "lot_seen", "told"),
        [
            ("0.1", "0.001", "0 prices off the tick 0.1 and no size off the lot 0.001."),
            (
                "0.5",
                "0.001",
                "0 prices off the tick 0.1 and no size off the lot 0.001; the day shows a tick of "
                "0.5 only.",
            ),
            (
                "0.1",
                "0.01",
                "0 prices off the tick 0.1 and no size off the lot 0.001; the day shows a lot of "
                "0.01 only.",
            ),
            (None, None, "0 prices off the tick 0.1 and no size off the lot 0.001."),
        ],
    )
    def test_a_coarser_step_is_only_told(self, tick_seen, lot_seen, told):
        """A quiet day may show more than the configured step: information, no fault."""
        said = check_precision(a_row(tick_seen=tick_seen, lot_seen=lot_seen), THRESHOLDS)

        assert (True, told) == (said.passed, said.summary)
