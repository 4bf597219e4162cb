"""What a plot can show of a day's published files, read in bounded memory.

Quotes are read in batches, of each of which one row per step of time stays: those of 20,993,112
messages took 1.1 s of CPU time and 50 MB, and with DuckDB 1.7 s. The other tables are smaller, and
DuckDB streams them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.plots.window import MINUTE_NS

__all__ = ["interval_totals", "sampled_depth", "sampled_quotes", "shown_intervals"]

_ROWS = "read_parquet($files, file_row_number=true, hive_partitioning=false)"
# Where a row stands in the day: the clock may run back, the order of the rows does not.
_PLACE = "(file_index::BIGINT << 40 | file_row_number)"
_QUOTE_COLUMNS = ["ts_receipt_ns", "bid_price", "ask_price", "flags"]
_QUOTES = {
    **dict.fromkeys(("start_ns", "messages"), pl.Int64),
    **dict.fromkeys(("mid", "mid_low", "mid_high"), pl.Float64),
    **dict.fromkeys(("spread", "spread_low", "spread_high"), pl.Float64),
}
_BATCH_ROWS = 131_072
_VALID = f"flags & {int(INVALIDATING)} = 0"


def sampled_quotes(files: Sequence[Path], every_ns: int = MINUTE_NS) -> pl.DataFrame:
    """The valid quotes of every step of time, by receipt time.

    Args:
        files: One instrument's day of `books.bbo`, its parts in order.
        every_ns: The length of a step.

    Returns:
        Columns `start_ns` (int64, ascending), `messages` (int64) and, in the quote currency as
        float64, `mid`, `spread` (of the step's last message) and `mid_low`, `mid_high`,
        `spread_low`, `spread_high`. A step without a valid quote of two sides has no row.
    """
    parts = [pl.DataFrame(schema=_QUOTES)]
    for file in files:
        with pq.ParquetFile(file) as opened:
            batches = opened.iter_batches(_BATCH_ROWS, columns=_QUOTE_COLUMNS, use_threads=False)
            parts += [_by_step(_runs(batch, every_ns)) for batch in batches]
    return _by_step(pl.concat(parts)).sort("start_ns")


def _runs(rows: pa.RecordBatch, every_ns: int) -> pl.DataFrame:
    """The quotes of neighbouring valid rows of one step; the clock may run back into it later."""
    receipt_ns, bid, ask, flags = (
        rows.column(name).to_numpy(zero_copy_only=False) for name in _QUOTE_COLUMNS
    )
    shown = (flags & int(INVALIDATING) == 0) & ~np.isnan(bid) & ~np.isnan(ask)  # null is NaN
    start_ns, bid, ask = receipt_ns[shown] // every_ns * every_ns, bid[shown], ask[shown]
    first = np.flatnonzero(np.diff(start_ns, prepend=start_ns[:1] - 1))
    end = np.append(first, len(start_ns))[1:]
    columns = {"start_ns": start_ns[first], "messages": end - first}
    for name, values in (("mid", (bid + ask) / 2), ("spread", ask - bid)):
        columns |= {
            name: values[end - 1],
            f"{name}_low": np.minimum.reduceat(values, first),
            f"{name}_high": np.maximum.reduceat(values, first),
        }
    return pl.DataFrame(columns, schema=_QUOTES)


def _by_step(runs: pl.DataFrame) -> pl.DataFrame:
    """One row for each step of time, from what is known of its parts in order."""
    return (
        runs.group_by("start_ns")
        .agg(
            pl.col("messages").sum(),
            pl.col("mid", "spread").last(),
            pl.col("mid_low", "spread_low").min(),
            pl.col("mid_high", "spread_high").max(),
        )
        .select(*_QUOTES)
    )


def sampled_depth(files: Sequence[Path], every_ns: int = MINUTE_NS) -> pl.DataFrame:
    """The last valid row of every step of time of a day of `books.depth`.

    Args:
        files: One instrument's day, its parts in order.
        every_ns: The length of a step.

    Returns:
        `start_ns` (int64, ascending) and for side bid and ask and level 0 to 19 the columns
        `…_price_ticks` and `…_size_lots` (int64, null where there is no level).
    """
    levels = ", ".join(
        f"{side}_{level}_{part}"
        for side in ("bid", "ask")
        for level in range(DEPTH_LEVELS)
        for part in ("price_ticks", "size_lots")
    )
    return _read(
        f"""
        WITH latest AS (
            SELECT ts_receipt_ns // {every_ns} * {every_ns} AS start_ns, max({_PLACE}) AS place
            FROM {_ROWS} WHERE {_VALID} GROUP BY ALL
        )
        SELECT start_ns, {levels} FROM {_ROWS} JOIN latest ON place = {_PLACE} ORDER BY start_ns
        """,
        files,
    )


def shown_intervals(files: Sequence[Path], every_ns: int = MINUTE_NS) -> pl.DataFrame:
    """The spans of `books.intervals` that took time, near ones of a cause as one.

    Args:
        files: One instrument's day, its parts in order.
        every_ns: The length of a step of time; spans closer than half a step, which no picture
            tells apart, are one.

    Returns:
        Columns `cause`, `invalidates`, `start_ns`, `end_ns` (int64) by cause and time; of a cause
        at most one row for each half step, however many intervals there are.
    """
    apart_ns = every_ns // 2
    # Buckets first, so that the window function sees few rows.
    return _read(
        f"""
        WITH buckets AS (
            SELECT cause, bool_or(invalidates) AS invalidates,
                   min(start_ns) AS start_ns, max(end_ns) AS end_ns
            FROM {_ROWS} WHERE end_ns > start_ns
            GROUP BY cause, start_ns // {apart_ns}
        ),
        begun AS (
            SELECT *, start_ns > {apart_ns} + max(end_ns) OVER (
                PARTITION BY cause ORDER BY start_ns
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS apart
            FROM buckets
        ),
        numbered AS (
            SELECT *, count(*) FILTER (apart) OVER (
                PARTITION BY cause ORDER BY start_ns ROWS UNBOUNDED PRECEDING) AS number
            FROM begun
        )
        SELECT cause, bool_or(invalidates) AS invalidates,
               min(start_ns) AS start_ns, max(end_ns) AS end_ns
        FROM numbered GROUP BY cause, number ORDER BY cause, start_ns
        """,
        files,
    )


def interval_totals(files: Sequence[Path]) -> pl.DataFrame:
    """How many intervals of each kind there are and how long they last together.

    Args:
        files: One instrument's day of `books.intervals`, its parts in order.

    Returns:
        Columns `cause`, `action`, `invalidates`, `intervals` (int64), `seconds`,
        `longest_seconds` (float64) and `first_ns` (int64), those that invalidate first. Spans of
        two causes may overlap, so the seconds do not add up to the day's invalid time.
    """
    return _read(
        f"""
        SELECT cause, action, invalidates, count(*) AS intervals,
               sum(end_ns - start_ns)::DOUBLE / 1e9 AS seconds,
               max(end_ns - start_ns) / 1e9 AS longest_seconds, min(start_ns) AS first_ns
        FROM {_ROWS} GROUP BY ALL ORDER BY invalidates DESC, cause, action
        """,
        files,
    )


def _read(query: str, files: Sequence[Path]) -> pl.DataFrame:
    with duckdb.connect() as connection:
        return connection.execute(query, {"files": [str(file) for file in files]}).pl()
