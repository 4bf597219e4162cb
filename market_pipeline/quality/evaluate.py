"""The closed list of checks, and the one function that holds a day's figures against thresholds."""

from __future__ import annotations

import json
from collections.abc import Callable

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.errors import error_text
from market_pipeline.quality.checks.bars import BARS, check_bars
from market_pipeline.quality.checks.base import Check, CheckOutcome, unmeasured_outcome
from market_pipeline.quality.checks.completeness import COMPLETENESS, check_completeness
from market_pipeline.quality.checks.crossed import CROSSED, check_crossed
from market_pipeline.quality.checks.day_boundary import DAY_BOUNDARY, check_day_boundary
from market_pipeline.quality.checks.delivery import DELIVERY, check_delivery
from market_pipeline.quality.checks.domain import DOMAIN, check_domain
from market_pipeline.quality.checks.freshness import FRESHNESS, check_freshness
from market_pipeline.quality.checks.gap import GAP, check_gap
from market_pipeline.quality.checks.identity import IDENTITY, check_identity
from market_pipeline.quality.checks.ordering import ORDERING, check_ordering
from market_pipeline.quality.checks.precision import PRECISION, check_precision
from market_pipeline.quality.checks.reference_replay import REFERENCE_REPLAY, check_reference_replay
from market_pipeline.quality.checks.schema import SCHEMA, check_schema
from market_pipeline.quality.checks.skew import SKEW, check_skew
from market_pipeline.quality.checks.snapshot_match import SNAPSHOT_MATCH, check_snapshot_match
from market_pipeline.quality.checks.trade_through import TRADE_THROUGH, check_trade_through
from market_pipeline.quality.row import ReportRow
from market_pipeline.shown import shown_logger

__all__ = ["CHECKS", "evaluate", "thresholds_in_force"]

_LOG = shown_logger(__name__)

_Ask = Callable[[ReportRow, Thresholds], CheckOutcome | None]

_ASKED: dict[Check, _Ask] = {
    SCHEMA: check_schema,
    COMPLETENESS: check_completeness,
    ORDERING: check_ordering,
    DOMAIN: check_domain,
    IDENTITY: check_identity,
    GAP: check_gap,
    SKEW: check_skew,
    PRECISION: check_precision,
    CROSSED: check_crossed,
    SNAPSHOT_MATCH: check_snapshot_match,
    TRADE_THROUGH: check_trade_through,
    DAY_BOUNDARY: check_day_boundary,
    REFERENCE_REPLAY: check_reference_replay,
    BARS: check_bars,
    FRESHNESS: check_freshness,
    DELIVERY: check_delivery,
}

CHECKS: tuple[Check, ...] = tuple(_ASKED)
"""Every check there is, in the order in which they are reported."""


def evaluate(row: ReportRow, thresholds: Thresholds) -> list[CheckOutcome]:
    """Holds a day's figures against thresholds.

    A check whose figures could not be measured (`ReportRow.unmeasured_checks`), or that fails on
    them itself, has failed as an ERROR that says so; no other check is touched by it.

    Args:
        row: The figures; only `freshness` looks at its condition.
        thresholds: Those of the row's instrument; of a row that was validated before
            `thresholds_in_force`.

    Returns:
        The outcomes in the order of `CHECKS`. A check that could not be asked has none: a day that
        was not rebuilt has no clocks, and its files' schema is unknown if there was none.
    """
    unmeasured = dict(zip(row.unmeasured_checks or (), row.unmeasured_errors or (), strict=False))
    outcomes = (
        _outcome(check, ask, row, thresholds, unmeasured.get(check.name))
        for check, ask in _ASKED.items()
    )
    return [each for each in outcomes if each is not None]


def thresholds_in_force(row: ReportRow, configured: Thresholds) -> Thresholds:
    """The thresholds that a published verdict was given by, whatever is configured by now.

    A row of a version that did not record them, or whose record is none, is evaluated by the
    configured ones, and so is a threshold that the record does not have.
    """
    try:
        recorded = json.loads(row.thresholds or "{}")
        known = {name: recorded[name] for name in Thresholds.model_fields if name in recorded}
        return Thresholds.model_validate(configured.model_dump() | known)
    except (ValueError, TypeError):
        return configured


def _outcome(
    check: Check, ask: _Ask, row: ReportRow, thresholds: Thresholds, error: str | None
) -> CheckOutcome | None:
    """What one check says of a row; `error` is why its figures could not be measured."""
    try:
        found = ask(row, thresholds)
    except Exception as raised:
        if error is None:
            _LOG.exception("%s %s: the check %s failed", row.instrument_id, row.dt, check.name)
            error = error_text(raised)
        return unmeasured_outcome(check, error, None)
    return found if error is None else unmeasured_outcome(check, error, found)
