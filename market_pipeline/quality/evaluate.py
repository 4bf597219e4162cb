"""The closed list of checks, and the one function that holds a day's figures against thresholds."""

from __future__ import annotations

from collections.abc import Callable

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.checks.bars import BARS, check_bars
from market_pipeline.quality.checks.base import Check, CheckOutcome
from market_pipeline.quality.checks.completeness import COMPLETENESS, check_completeness
from market_pipeline.quality.checks.crossed import CROSSED, check_crossed
from market_pipeline.quality.checks.delivery import DELIVERY, check_delivery
from market_pipeline.quality.checks.domain import DOMAIN, check_domain
from market_pipeline.quality.checks.exam import EXAM, check_exam
from market_pipeline.quality.checks.freshness import FRESHNESS, check_freshness
from market_pipeline.quality.checks.gap import GAP, check_gap
from market_pipeline.quality.checks.joint import JOINT, check_joint
from market_pipeline.quality.checks.ordering import ORDERING, check_ordering
from market_pipeline.quality.checks.precision import PRECISION, check_precision
from market_pipeline.quality.checks.schema import SCHEMA, check_schema
from market_pipeline.quality.checks.skew import SKEW, check_skew
from market_pipeline.quality.checks.trade_through import TRADE_THROUGH, check_trade_through
from market_pipeline.quality.checks.twin import TWIN, check_twin
from market_pipeline.quality.row import ReportRow

__all__ = ["CHECKS", "evaluate"]

_ASKED: dict[Check, Callable[[ReportRow, Thresholds], CheckOutcome | None]] = {
    SCHEMA: check_schema,
    COMPLETENESS: check_completeness,
    ORDERING: check_ordering,
    DOMAIN: check_domain,
    GAP: check_gap,
    SKEW: check_skew,
    PRECISION: check_precision,
    CROSSED: check_crossed,
    EXAM: check_exam,
    TRADE_THROUGH: check_trade_through,
    JOINT: check_joint,
    TWIN: check_twin,
    BARS: check_bars,
    FRESHNESS: check_freshness,
    DELIVERY: check_delivery,
}

CHECKS: tuple[Check, ...] = tuple(_ASKED)
"""Every check there is, in the order in which they are reported."""


def evaluate(row: ReportRow, thresholds: Thresholds) -> list[CheckOutcome]:
    """Holds a day's figures against its thresholds.

    Args:
        row: The figures; only `freshness` looks at its condition.
        thresholds: Those of the row's instrument.

    Returns:
        The outcomes in the order of `CHECKS`. A check that could not be asked has none: a day that
        was not rebuilt has no clocks, and its files' schema is unknown if there was none.
    """
    asked = (check(row, thresholds) for check in _ASKED.values())
    return [said for said in asked if said is not None]
