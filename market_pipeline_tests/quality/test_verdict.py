"""The verdict: every combination of outcome, failed check, lost time and time of asking."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome
from market_pipeline.quality.evaluate import CHECKS
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.quality.verdict import VENDOR_LAG_SECONDS, Verdict, condition, validate
from market_pipeline_tests.quality.factory import (
    DAY_END_NS,
    GAP_OF_5_S,
    LONG_AFTER_NS,
    THRESHOLDS,
    a_failed_row,
    a_row,
)

# What docs/verdict.md says: which failures of a check degrade the day.
ALWAYS, ON_ERROR, NEVER = {"WARN", "ERROR"}, {"ERROR"}, set()
DEGRADED_BY = {
    "schema": ALWAYS,
    "completeness": ALWAYS,
    "ordering": ON_ERROR,
    "domain": ALWAYS,
    "identity": ON_ERROR,
    "gap": ALWAYS,
    "skew": NEVER,
    "precision": ON_ERROR,
    "crossed": ALWAYS,
    "snapshot_match": ON_ERROR,
    "trade_through": NEVER,
    "day_boundary": NEVER,
    "reference_replay": ALWAYS,
    "bars": NEVER,
    "freshness": NEVER,
    "delivery": NEVER,
}
SEVERITIES = (None, "WARN", "ERROR")
DUE_NS = DAY_END_NS + VENDOR_LAG_SECONDS * NS_PER_SECOND


def an_outcome(check: Check, severity=None, *, passed=False):
    """An outcome whose summary names its check."""
    return CheckOutcome(check, passed, severity or check.severity, 1.0, 0.0, f"{check.name} told.")


def verdict_of(row, outcomes=(), *, as_of_ns=LONG_AFTER_NS):
    """The verdict with the default thresholds."""
    return condition(row, outcomes, THRESHOLDS, as_of_ns=as_of_ns)


def test_every_check_has_its_rule():
    """No check is without lines in the table."""
    assert [check.name for check in CHECKS] == list(DEGRADED_BY)


def assert_verdict_of(severities):
    """A day is degraded exactly if some failure degrades; each failure is a reason or a warning."""
    told = list(zip(CHECKS, severities, strict=True))
    outcomes = [an_outcome(check, severity, passed=severity is None) for check, severity in told]
    failed = [(check.name, severity) for check, severity in told if severity is not None]
    reasons = tuple(f"{name} told." for name, s in failed if s in DEGRADED_BY[name])
    warnings = tuple(f"{name} told." for name, s in failed if s not in DEGRADED_BY[name])

    assert Verdict("degraded" if reasons else "available", reasons, warnings) == verdict_of(
        a_row(), outcomes
    )


def test_all_pairs_of_checks():
    """Every two checks in every combination of passed, warning and error, the others passed."""
    for one, other in combinations(range(len(CHECKS)), 2):
        for severity, other_severity in product(SEVERITIES, repeat=2):
            severities = [None] * len(CHECKS)
            severities[one], severities[other] = severity, other_severity
            assert_verdict_of(severities)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SEVERITIES), min_size=len(CHECKS), max_size=len(CHECKS)))
def test_any_combination_of_checks(severities):
    """A sample of all combinations, of which there are millions."""
    assert_verdict_of(severities)


@pytest.mark.parametrize(
    ("as_of_ns", "expected"),
    [
        (0, "pending"),
        (DAY_END_NS, "pending"),
        (DUE_NS - 1, "pending"),
        (DUE_NS, "missing"),
        (LONG_AFTER_NS, "missing"),
    ],
)
@pytest.mark.parametrize("kind", ["MissingDataError", "SchemaError", "LakeFileError", "OSError"])
def test_a_day_without_a_book_is_pending_until_it_is_due(kind, as_of_ns, expected):
    """Whatever the failure, the day is pending until the vendor's lag has passed, then missing."""
    row = a_failed_row(kind)
    outcomes = [an_outcome(check) for check in CHECKS]

    assert Verdict(expected, (row.failure,), ()) == verdict_of(row, outcomes, as_of_ns=as_of_ns)


@pytest.mark.parametrize("as_of_ns", [0, DUE_NS, LONG_AFTER_NS])
def test_a_rebuilt_day_does_not_depend_on_when_it_is_asked(as_of_ns):
    """Pending and missing are for days of which there is nothing."""
    assert "available" == verdict_of(a_row(), as_of_ns=as_of_ns).condition


class TestLostTime:
    def test_up_to_the_tolerance_it_changes_nothing(self):
        """The seconds before the first snapshot of a day leave it available."""
        row = a_row(invalid_seconds=60.0, not_seeded_seconds=60.0, valid_seconds=86_340.0)

        assert Verdict("available", (), ()) == verdict_of(row)

    def test_beyond_it_the_day_is_degraded_and_the_causes_are_named(self):
        """Invalid time that no check speaks for is a reason of its own."""
        row = a_row(
            invalid_seconds=100.5,
            not_seeded_seconds=0.5,
            snapshot_mismatch_seconds=100.0,
            valid_seconds=86_299.5,
        )

        assert (
            "The book was not valid for 100.500 s of the observed time (not seeded 0.500 s, after "
            "a mismatch 100.000 s).",
        ) == verdict_of(row).reasons

    def test_the_tolerance_is_the_instruments(self):
        """An instrument may allow more."""
        row = a_row(invalid_seconds=100.0, stale_seconds=100.0)
        lenient = Thresholds(edge_tolerance_seconds=120.0)

        assert "available" == condition(row, (), lenient, as_of_ns=LONG_AFTER_NS).condition

    def test_a_day_without_a_valid_second_is_degraded(self):
        """A book that was never seeded is there, but not to be used."""
        row = a_row(valid_seconds=0.0, observed_seconds=1.0, invalid_seconds=1.0)

        assert Verdict(
            "degraded", ("The book was not valid for a single second.",), ()
        ) == verdict_of(row)


class TestValidate:
    def test_it_fills_the_row(self):
        """Condition, reasons and warnings of a row come from its own figures."""
        validated = validate(
            a_row(**GAP_OF_5_S, skew_p50_ms=-1_270.0), THRESHOLDS, as_of_ns=LONG_AFTER_NS
        )

        assert "degraded" == validated.condition
        assert validated.reasons[0].startswith("1 suspected gap of 5 s in all")
        assert validated.warnings[0].startswith(
            "The median message is received 1,270.000 ms before"
        )

    def test_a_second_validation_replaces_the_first(self):
        """A pending day that never came becomes missing when it is validated again."""
        pending = validate(a_failed_row(), THRESHOLDS, as_of_ns=DAY_END_NS)
        missing = validate(pending, THRESHOLDS, as_of_ns=LONG_AFTER_NS)

        assert ("pending", "missing") == (pending.condition, missing.condition)
        assert missing == validate(missing, THRESHOLDS, as_of_ns=LONG_AFTER_NS)


def test_the_page_has_the_table():
    """docs/verdict.md states for every check and severity what it does to the day."""
    page = (Path(__file__).parents[2] / "docs" / "verdict.md").read_text()

    for name, severity in product(DEGRADED_BY, ("WARN", "ERROR")):
        verb = "degrades" if severity in DEGRADED_BY[name] else "warns only"
        assert f"| {name} | {severity} | {verb} |" in page
