"""Trades of a day: each with its book, and bars of them, from a raw file to a staged one.

The day is a random walk: trades come in order and evenly, and as many messages as trades.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.figures import Figure
from benchmarks.measure import Spread, cpu_seconds
from benchmarks.workspace import scratch
from market_pipeline.books.scale import Scale
from market_pipeline.books.tables import BOOK_TRADES
from market_pipeline.config.information_bars import InformationBars
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.bars import QUOTE_COLUMNS, day_bars
from market_pipeline.metrics.books_around import BOOK_COLUMNS, books_around
from market_pipeline.metrics.information_bars import (
    TRADE_COLUMNS,
    bar_trades,
    information_bars,
    steps_of,
)
from market_pipeline.metrics.tables import BARS, INFORMATION_BARS
from market_pipeline.metrics.trades import trade_rows
from market_pipeline.quality.intervals import NO_SPANS, day_bounds_ns
from market_pipeline.sources.batches import Trades
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.runs import RowRuns, StagedRuns
from market_pipeline.warehouse.staging import StagedWriter
from market_pipeline.warehouse.tables import Table

__all__ = ["trade_figures"]

_DAY = date(2025, 1, 6)
_WIDTHS = (1, 60, 300, 3_600, 86_400)
_INSTRUMENT = Instrument(
    venue="BENCH",
    symbol="RANDOM-WALK",
    source="crypto_lake",
    bars=InformationBars(tick=(100,), volume=(Decimal(25),), value=(Decimal(1_500_000),)),
)
_TICK, _LOT = Scale.of(Decimal("0.1")), Scale.of(Decimal("0.001"))
_BATCH_ROWS = 1 << 17
_TRADES_BAR, _BARS_BAR = 5.0, 0.1

_WITH_BOOKS, _IN_MEMORY = "trades with their books", "bars at five widths of trades in memory"
_PUBLISHED, _EQUAL = "bars at five widths", "bars of equal activity, three series"


def trade_figures(number: int, runs: int) -> list[Figure]:
    """Million trades, and million published rows, per CPU second of each product, in turn.

    Args:
        number: How many trades.
        runs: Of each product.
    """
    with scratch() as folder:
        warehouse = Warehouse(folder)
        warehouse.prepare()
        raw, published, messages = _random_walk(number, folder)
        trades = read_trades([raw], folder, with_ids=True)
        products: Mapping[str, Callable[[], int]] = {
            _WITH_BOOKS: lambda: _trades(raw, messages, warehouse),
            _IN_MEMORY: lambda: sum(int(width.rows.sum()) for width in _bars(trades, [])),
            _PUBLISHED: lambda: _published_bars(raw, messages, warehouse),
            _EQUAL: lambda: _equal(published, warehouse),
        }
        rows = {name: make() for name, make in products.items()}
        seconds: dict[str, list[float]] = {name: [] for name in products}
        for _ in range(runs):
            for name, make in products.items():
                seconds[name].append(cpu_seconds(make))
    return [
        Figure(
            f"trades, {number:,}",
            f"{name}, {rows[name]:,} rows",
            f"M {what} / CPU s",
            Spread.of(each / 1e6 / taken for taken in seconds[name]),
            bar=bar,
        )
        for name, what, each, bar in (
            (_WITH_BOOKS, "trades", number, None),
            (_IN_MEMORY, "trades", number, _TRADES_BAR),
            (_PUBLISHED, "trades", number, None),
            (_PUBLISHED, "rows", rows[_PUBLISHED], _BARS_BAR),
            (_EQUAL, "trades", number, None),
            (_EQUAL, "rows", rows[_EQUAL], _BARS_BAR),
        )
    ]


def _random_walk(number: int, folder: Path) -> tuple[Path, pl.DataFrame, list[pl.DataFrame]]:
    """The raw file, the same trades as they are published, and books in batches."""
    start_ns, end_ns = day_bounds_ns(_DAY)
    random = np.random.default_rng(1)
    ts_ns = start_ns + np.arange(number) * ((end_ns - start_ns) // number)
    ticks = 600_000 + np.cumsum(random.integers(-1, 2, number))
    lots, is_buy = random.integers(1, 500, number), random.random(number) < 0.5
    raw = folder / "1.snappy.parquet"
    pl.DataFrame(
        {
            "side": np.where(is_buy, "buy", "sell"),
            "amount": _LOT.to_floats(lots),
            "price": _TICK.to_floats(ticks),
            "id": np.arange(number),
            "timestamp": ts_ns,
            "receipt_timestamp": ts_ns + 5_000_000,
        }
    ).write_parquet(raw, compression="snappy", row_group_size=1 << 20)
    columns = (ts_ns, ts_ns + 5_000_000, np.arange(number), ticks, lots, is_buy)
    published = pl.DataFrame(dict(zip(TRADE_COLUMNS, columns, strict=False)))
    books = pl.DataFrame(
        {
            "ts_receipt_ns": ts_ns + 4_000_000,
            "flags": np.zeros(number, np.uint16),
            "verified": np.ones(number, np.bool_),
            "bid_price_ticks": ticks - 1,
            "bid_size_lots": lots,
            "ask_price_ticks": ticks + 1,
            "ask_size_lots": lots,
        }
    ).select(BOOK_COLUMNS)
    return raw, published.with_columns(is_market=pl.lit(None, pl.Boolean)), _cut(books)


def _cut(rows: pl.DataFrame) -> list[pl.DataFrame]:
    return [rows[start : start + _BATCH_ROWS] for start in range(0, rows.height, _BATCH_ROWS)]


def _trades(raw: Path, books: list[pl.DataFrame], warehouse: Warehouse) -> int:
    trades = read_trades([raw], warehouse.staging_dir, with_ids=True)
    around = books_around(books, {}, trades.ts_receipt_ns, warehouse.staging_dir)
    parts = trade_rows(trades, around, instrument=_INSTRUMENT, day=_DAY, tick=_TICK, lot=_LOT)
    return _staged(BOOK_TRADES, (part.rows for part in parts), warehouse)


def _bars(trades: Trades, books: list[pl.DataFrame]) -> Iterator[RowRuns]:
    return day_bars(
        (batch.select(QUOTE_COLUMNS) for batch in books),
        trades,
        instrument=_INSTRUMENT,
        day=_DAY,
        price_scale=_TICK,
        size_scale=_LOT,
        not_observed=NO_SPANS,
        bar_seconds=_WIDTHS,
    )


def _published_bars(raw: Path, books: list[pl.DataFrame], warehouse: Warehouse) -> int:
    with StagedRuns(warehouse, BARS, _INSTRUMENT.id, {}) as writer:
        for width in _bars(read_trades([raw], warehouse.staging_dir, with_ids=True), books):
            writer.write(width)
    writer.staged.path.unlink()
    return writer.staged.rows


def _equal(published: pl.DataFrame, warehouse: Warehouse) -> int:
    frames = information_bars(
        bar_trades(_cut(published), _DAY, published.height, warehouse.staging_dir),
        steps_of(_INSTRUMENT.bars, _TICK, _LOT),
        instrument=_INSTRUMENT,
        day=_DAY,
        price_scale=_TICK,
        size_scale=_LOT,
    )
    return _staged(INFORMATION_BARS, (frame.to_arrow() for frame in frames), warehouse)


def _staged(table: Table, parts: Iterable[pa.Table | pa.RecordBatch], warehouse: Warehouse) -> int:
    """Writes a file as a run does, and removes it; how many rows it had."""
    with StagedWriter(warehouse, table, _INSTRUMENT.id) as writer:
        for part in parts:
            writer.write(part)
    writer.staged.path.unlink()
    return writer.staged.rows
