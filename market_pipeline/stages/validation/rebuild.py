"""What the rebuild of a day read, and by which steps, for the report."""

from __future__ import annotations

from market_pipeline.quality.figures.book import RebuildFigures
from market_pipeline.quality.findings import Measured
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_rebuild"]


def measure_rebuild(day: InstrumentDay) -> Measured:
    """What stands in the day's row of `books.rebuilds`, and how many trades there are.

    Raises:
        MarketPipelineError: If the trades cannot be read.
    """
    record, trades = day.record, day.trades
    number = record.seed_sequence_number
    tick, lot = (f"{scale.step:f}" for scale in record.scales)
    figures = RebuildFigures.taken_from(
        record,
        seed=None
        if number is None
        else f"{record.seed}, sequence number {number}".replace("_", " "),
        trades=None if trades is None else len(trades.ts_origin_ns),
        tick=tick,
        lot=lot,
    )
    return Measured((figures,))
