"""The tables of docs/detection.md, measured: `python -m market_pipeline_tests.detection.tables`."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

import polars as pl
import typer

from market_pipeline.config.instruments import Instrument
from market_pipeline_tests.detection.real_faults import FAULTS, RealFault, copied
from market_pipeline_tests.detection.trial import new_failures
from market_pipeline_tests.detection.validating import Validated, validate
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_root

SPOILT_DAYS = (
    ("BINANCE", "BTC-USDT", date(2024, 8, 8)),
    ("BINANCE_FUTURES", "ETH-USDT-PERP", date(2024, 7, 18)),
    ("BINANCE_FUTURES", "BTC-USDT-PERP", date(2024, 8, 8)),
    ("BINANCE_DELIVERY", "BTC-USD-PERP", date(2024, 8, 8)),
)
"""The days into whose copies faults are put; a test holds the first two."""
ALWAYS = frozenset({"completeness", "skew"})
"""What fails on each whole sample day: it is minutes long, and its receipt clock is slow."""


def of(exchange: str, symbol: str) -> Instrument:
    """An instrument as a user without any figure would configure it."""
    return Instrument(venue=exchange, symbol=symbol, source="crypto_lake")


def validated_copy(
    root: Path, exchange: str, symbol: str, day: date, fault: RealFault | None = None
) -> Validated:
    """A day of the sample, copied, spoilt and validated."""
    lake = root / "lake"
    spoilt = copied(sample_root(), lake, exchange, symbol, day.isoformat())
    if fault is not None:
        fault.plant(spoilt)
    return validate(lake, root / "data", [of(exchange, symbol)], day)[symbol]


def found_cell(fault: RealFault, clean: Validated, spoilt: Validated) -> str:
    """The checks that fail because of a fault, the one that is for it first, as a cell."""
    found = new_failures(clean, spoilt)
    ordered = sorted(found, key=lambda name: (name not in fault.expected, name))
    return ", ".join(f"{name} {found[name]}" for name in ordered) or "missed"


def verdict_line(validated: Validated, jumps: int) -> str:
    """A sample day as a line of the docs."""
    row = validated.row
    cells = (
        f"{row.exchange}:{row.symbol} {row.dt}",
        row.condition,
        f"{row.messages:,}",
        f"{row.gap_count}",
        f"{jumps:,}",
        f"{(row.skew_p50_ms or 0) / 1000:.2f} s",
        f"{(row.price_precision_losses or 0) + (row.size_precision_losses or 0)}",
        f"{row.snapshots_compared:,}",
        f"{row.snapshots_mismatched}",
        f"{row.snapshot_matching_share:.2%}",
        f"{row.reference_messages:,}",
    )
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def sequence_jumps(exchange: str, symbol: str, day: date) -> int:
    """How many gaps the rule "sequence number + 1" would tell of."""
    folder = sample_root() / "lake/book_delta_v2" / f"exchange={exchange}" / f"symbol={symbol}"
    rows = pl.read_parquet(folder / f"dt={day}/1.snappy.parquet", hive_partitioning=False)
    return int((rows["sequence_number"].diff() > 1).sum())


def main() -> None:
    """Prints both tables."""
    for exchange, symbol, day in SAMPLE_DAYS:
        with tempfile.TemporaryDirectory() as root:
            validated = validated_copy(Path(root), exchange, symbol, day)
            typer.echo(verdict_line(validated, sequence_jumps(exchange, symbol, day)))
    cells = []
    for exchange, symbol, day in SPOILT_DAYS:
        with tempfile.TemporaryDirectory() as root:
            clean = validated_copy(Path(root), exchange, symbol, day)
        column = []
        for fault in FAULTS:
            with tempfile.TemporaryDirectory() as root:
                spoilt = validated_copy(Path(root), exchange, symbol, day, fault)
            column.append(found_cell(fault, clean, spoilt))
        cells.append(column)
    for fault, *row in zip(FAULTS, *cells, strict=True):
        typer.echo(f"| {fault.name} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
