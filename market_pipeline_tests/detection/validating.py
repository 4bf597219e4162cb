"""A raw day led through the stages up to its verdicts, as the pipeline does, without Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.quality.checks.base import CheckOutcome
from market_pipeline.quality.evaluate import evaluate
from market_pipeline.quality.findings import Finding
from market_pipeline.quality.row import ReportRow
from market_pipeline.store.client import Store
from market_pipeline_tests.published_day import publish_verdicts


@dataclass(frozen=True)
class Validated:
    """What was said of one instrument's day."""

    row: ReportRow
    findings: list[Finding]
    outcomes: dict[str, CheckOutcome]

    @property
    def failed(self) -> dict[str, str]:
        """The failed checks and their severities."""
        return {name: said.severity for name, said in self.outcomes.items() if not said.passed}

    def places(self, check: str) -> list[Finding]:
        """Where a check found something."""
        return [finding for finding in self.findings if finding.check == check]


def validate(
    lake: Path | str,
    data_dir: Path,
    instruments: Sequence[Instrument],
    day: date,
    store: Store | None = None,
    **more: int,
) -> dict[str, Validated]:
    """Every stage of a day up to the verdicts, by symbol; from a store if there is one.

    Further arguments are settings.
    """
    settings = Settings(data_dir=data_dir, lake_uri=str(lake), **more)
    validated = publish_verdicts(settings, instruments, day, store)
    return {
        instrument.symbol: Validated(
            each.row,
            each.findings,
            {said.check.name: said for said in evaluate(each.row, instrument.thresholds)},
        )
        for instrument, each in zip(instruments, validated, strict=True)
    }
