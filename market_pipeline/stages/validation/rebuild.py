"""What the rebuild of a day read, and by which steps, for the report."""

from __future__ import annotations

from decimal import Decimal

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
    seed, number = record["seed"], record["seed_sequence_number"]
    figures = RebuildFigures(
        seed=None if number is None else f"{seed}, sequence number {number}".replace("_", " "),
        strategy=record["strategy"],
        strategy_reason=record["strategy_reason"],
        rows=record["rows"],
        snapshots=record["snapshots"],
        trades=None if trades is None else len(trades.ts_origin_ns),
        unknown_removals=record["unknown_removals"],
        known_low_price=record["known_low_price"],
        known_high_price=record["known_high_price"],
        tick=f"{Decimal(record['tick']):f}",
        lot=f"{Decimal(record['lot']):f}",
        tick_inferred=record["tick_inferred"],
        lot_inferred=record["lot_inferred"],
        input_sha256=tuple(record["input_sha256"]),
        code_version=record["code_version"],
    )
    return Measured((figures,))
