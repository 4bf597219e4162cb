"""Raw files in the lake's layout, made by hand: small tables of each kind, and where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CLIENT_SPELLING = {
    "timestamp": "origin_time",
    "receipt_timestamp": "received_time",
    "amount": "quantity",
    "id": "trade_id",
}


def deltas(rows: int = 6, first: int = 0, **columns) -> pa.Table:
    """Delta rows, two to a message; a column given replaces that one."""
    number = np.arange(first, first + rows, dtype=np.int64)
    values = {
        "timestamp": 1_723_075_200_000_000_000 + number // 2 * 100,
        "receipt_timestamp": 1_723_075_200_000_000_000 + number // 2 * 100 + 7,
        "sequence_number": 500 + number // 2,
        "side_is_bid": number % 2 == 0,
        "price": 61_800.0 + number / 10,
        "size": number / 1_000,
    }
    return pa.table({**values, **columns})


def trades(rows: int = 4, **columns) -> pa.Table:
    """Trades that buy and sell in turn; a column given replaces that one."""
    number = np.arange(rows, dtype=np.int64)
    values = {
        "side": pa.array(["buy", "sell"] * (rows // 2), pa.string()),
        "amount": 0.5 + number,
        "price": 61_800.0 + number,
        "id": number,
        "timestamp": 10 + number,
        "receipt_timestamp": 20 + number,
    }
    return pa.table({**values, **columns})


def snapshots(rows: int = 3, **columns) -> pa.Table:
    """Snapshots of 20 levels a side around 100; a column given replaces that one."""
    number = np.arange(rows, dtype=np.int64)
    values = {
        "timestamp": 10 + number,
        "receipt_timestamp": 20 + number,
        "sequence_number": 500 + number,
    }
    for side, step in (("bid", -1.0), ("ask", 1.0)):
        for level in range(20):
            values[f"{side}_{level}_price"] = np.full(rows, 100 + step * (level + 1))
            values[f"{side}_{level}_size"] = np.full(rows, 1.0 + level)
    return pa.table({**values, **columns})


def funding(rows: int = 3, **columns) -> pa.Table:
    """Funding of a contract that pays at 08:00; a column given replaces that one."""
    number = np.arange(rows, dtype=np.int64)
    values = {
        "mark_price": 100.0 + number,
        "rate": np.round(0.0001 * (1 + number), 4),
        "next_funding_time": np.full(rows, 1_723_104_000.0),
        "timestamp": 10 + number,
        "receipt_timestamp": 20 + number,
        "index_price": 99.5 + number,
    }
    return pa.table({**values, **columns})


def open_interest(rows: int = 2, **columns) -> pa.Table:
    """Open interest that rises from 0; a column given replaces that one."""
    number = np.arange(rows, dtype=np.int64)
    values = {
        "open_interest": 7.5 * number,
        "timestamp": 10 + number,
        "receipt_timestamp": 20 + number,
    }
    return pa.table({**values, **columns})


def shard(folder: Path, number: int, rows: pa.Table, **settings) -> Path:
    """Writes rows as the shard of that number."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number}.snappy.parquet"
    pq.write_table(rows, path, compression="snappy", **settings)
    return path


def recast(rows: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    """The rows with one column of another type."""
    position = rows.column_names.index(name)
    return rows.set_column(position, name, rows.column(name).cast(kind))
