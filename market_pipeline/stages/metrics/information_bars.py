"""Stages the bars of equal activity of a day's instruments, made of their published trades."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from market_pipeline.books.record import RebuildRecord
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.information_bars import (
    TRADE_COLUMNS,
    bar_trades,
    information_bars,
    steps_of,
)
from market_pipeline.metrics.tables import INFORMATION_BARS
from market_pipeline.stages.metrics.measured import make_each
from market_pipeline.stages.published_rows import count_rows, read_rows, records_of
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import DayRows
from market_pipeline.warehouse.staging import StagedFile, StagedWriter

__all__ = ["InformationBarsDay", "information_bars_day"]

_BATCH_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class InformationBarsDay:
    """The staged bars of a day's instruments.

    Attributes:
        files: Of `metrics.information_bars`, one for each instrument with a rebuilt book; one
            without rows where there are no trades, or no bars are configured.
        withdrawn: Ids of the others; what was published of them before is withdrawn.
        left_out: By id, the trades that are in no bar.
        without: By id, why an instrument with a rebuilt book has no file.
    """

    files: list[StagedFile] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)


def information_bars_day(
    day: date,
    instruments: Sequence[Instrument],
    rebuilds: pl.DataFrame,
    trades: DayRows,
    warehouse: Warehouse,
    warn: Callable[[str], None] = lambda _: None,
) -> InformationBarsDay:
    """The rows of `metrics.information_bars` of a day; whatever fails, the others have theirs.

    Args:
        day: The UTC day.
        instruments: Whose bars, and which.
        rebuilds, trades: The day's rows of the tables of these names in `books`.
        warehouse: Where to stage them, and to map the trades from.
        warn: Called with the instrument that has no bars though it has a book, and why.

    Raises:
        Exception: What is the machine's (`errors.is_of_machine`).
    """

    def record_of(instrument: Instrument) -> RebuildRecord | None:
        record = next(iter(records_of(rebuilds, instrument, RebuildRecord)), None)
        return record if record is not None and record.outcome == "rebuilt" else None

    def staged(instrument: Instrument, record: RebuildRecord) -> tuple[StagedFile, int]:
        tick, lot = record.scales
        steps = steps_of(instrument.bars, tick, lot)
        number = count_rows(trades, instrument) if steps else 0
        rows = read_rows(trades, instrument, TRADE_COLUMNS, _BATCH_ROWS) if steps else ()
        kept = bar_trades(rows, day, number, warehouse.staging_dir)
        scales = {"tick": f"{tick.step:f}", "lot": f"{lot.step:f}"}
        with StagedWriter(warehouse, INFORMATION_BARS, instrument.id, metadata=scales) as writer:
            for bars in information_bars(
                kept, steps, instrument=instrument, day=day, price_scale=tick, size_scale=lot
            ):
                writer.write(bars.to_arrow())
        return writer.staged, number - len(kept.id)

    found = make_each(day, instruments, record_of, staged, "bars of equal activity", warn)
    return InformationBarsDay(
        [file for file, _ in found.made.values()],
        [each.id for each in instruments if each.id not in found.made],
        {name: left_out for name, (_, left_out) in found.made.items()},
        found.without,
    )
