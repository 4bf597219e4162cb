"""Files of `books.bbo`, `books.depth` and `books.intervals` made of plain rows, in two parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from market_pipeline.warehouse.tables import Table

DAY = date(2024, 8, 8)
START_NS = round(datetime(2024, 8, 8, tzinfo=UTC).timestamp()) * 1_000_000_000
SECOND_NS = 1_000_000_000
IDENTITY = {"exchange": "BINANCE", "symbol": "BTC-USDT", "dt": DAY}


def write_parts(folder: Path, table: Table, rows: Sequence[Mapping[str, object]]) -> list[Path]:
    """The rows as the files of a table, the first half in the first; what is not given is null."""
    half = len(rows) // 2
    parts = []
    for number, part in enumerate((rows[:half], rows[half:])):
        file = folder / f"{table.name}-{number}.parquet"
        table.frame({**IDENTITY, **row} for row in part).write_parquet(file)
        parts.append(file)
    return parts


def quote(
    at_s: float, bid: float | None, ask: float | None, flags: int = 0
) -> dict[str, float | int | None]:
    """A row of `books.bbo`."""
    return {
        "ts_receipt_ns": START_NS + round(at_s * SECOND_NS),
        "bid_price": bid,
        "ask_price": ask,
        "flags": flags,
    }


def interval(cause: str, start_s: float, end_s: float, **more: object) -> dict[str, object]:
    """A row of `books.intervals`."""
    return {
        "cause": cause,
        "action": "none",
        "invalidates": cause in {"GAP", "CROSSED"},
        "start_ns": START_NS + round(start_s * SECOND_NS),
        "end_ns": START_NS + round(end_s * SECOND_NS),
        **more,
    }


def book(
    at_s: float,
    bids: Sequence[tuple[int, int]],
    asks: Sequence[tuple[int, int]],
    flags: int = 0,
) -> dict[str, int]:
    """A row of `books.depth`; levels are ticks and lots."""
    levels = {
        f"{side}_{level}_{part}": value
        for side, held in (("bid", bids), ("ask", asks))
        for level, (price, size) in enumerate(held)
        for part, value in (("price_ticks", price), ("size_lots", size))
    }
    return {"ts_receipt_ns": START_NS + round(at_s * SECOND_NS), "flags": flags, **levels}
