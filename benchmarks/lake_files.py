"""The synthetic day as files in Crypto Lake's raw layout, written block by block.

A day lies in a folder of its own, which is kept for the next run and named after its rows, its seed
and the code that made it:

    <day>/lake/book_delta_v2/exchange=…/symbol=…/dt=…/1.snappy.parquet
    <day>/lake/book/…     a snapshot every 100 ms, as the vendor has them
    <day>/lake/trades/…   one trade
    <day>/seed/book/…     one a minute, so that what is timed is the deltas

A day of shorter messages is the same rows, cut into messages of a few, with a snapshot a minute.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks import generator
from benchmarks.feed import FIRST_NS, SNAPSHOT_LEVELS, Tops
from benchmarks.generator import Block
from benchmarks.workspace import work_folder
from market_pipeline.books.state import Deltas
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder

__all__ = ["DAY", "EXCHANGE", "LOTS_PER_UNIT", "TICKS_PER_UNIT", "symbol_of", "synthetic_lake"]

DAY = datetime.fromtimestamp(FIRST_NS // 10**9, UTC).date()
EXCHANGE = "SYNTHETIC"
TICKS_PER_UNIT = 10
LOTS_PER_UNIT = 1_000

_ROW_GROUP_ROWS = 1 << 20
_NS_PER_MINUTE = 60_000_000_000


def symbol_of(seed: int) -> str:
    """The symbol under which the day of a seed lies."""
    return f"SEED{seed}-USDT-PERP"


def synthetic_lake(
    rows: int, seeds: tuple[int, ...] = (generator.SEED,), *, message_rows: int | None = None
) -> Path:
    """The folder of a synthetic day, written if it is not there yet: one instrument a seed.

    Args:
        rows: Of the deltas.
        seeds: Each is another day.
        message_rows: The most rows of a message; None leaves them as the market has them.
    """
    short = f"-{message_rows}" if message_rows else ""
    folder = work_folder() / "days" / f"{rows}-{'-'.join(map(str, seeds))}{short}-{_version()}"
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for seed in seeds:
            _write_day(partial, rows, seed, message_rows)
        partial.rename(folder)
    return folder


def _version() -> str:
    digest = hashlib.sha256()
    for name in ("feed.py", "generator.py", "lake_files.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:8]


def _write_day(folder: Path, rows: int, seed: int, message_rows: int | None) -> None:
    with ExitStack() as stack:
        deltas, snapshots, seeding = (
            stack.enter_context(_writer(folder / root, table, seed))
            for root, table in (("lake", DELTAS), ("lake", SNAPSHOTS), ("seed", SNAPSHOTS))
        )
        minute = last = 0
        for block in generator.blocks(rows, seed, block_rows=_ROW_GROUP_ROWS):
            if message_rows:
                block = _shortened(block, message_rows, last)  # noqa: PLW2901
                last = int(block.deltas.sequence_number[-1])
            deltas.write_table(_delta_table(block.deltas), row_group_size=_ROW_GROUP_ROWS)
            table = _snapshot_table(block.tops)
            minutes = block.tops.receipt_ns // _NS_PER_MINUTE
            begins = np.diff(minutes, prepend=minute) > 0
            of_minutes = table.filter(pa.array(begins))
            snapshots.write_table(of_minutes if message_rows else table)
            seeding.write_table(of_minutes)
            minute = minutes[-1] if minutes.size else minute
    # One trade is enough for silences to be looked at, as on a vendor's day.
    with _writer(folder / "lake", TRADES, seed) as trades:
        trade = ["buy", 0.001, 60_000.0, 1, FIRST_NS, FIRST_NS]
        trades.write_table(pa.table([[value] for value in trade], schema=_schema(TRADES)))


def _shortened(block: Block, message_rows: int, last: int) -> Block:
    """The block with its messages cut into shorter ones, numbered on from the last before."""
    deltas, tops = block.deltas, block.tops
    number, row = deltas.sequence_number, np.arange(deltas.sequence_number.size)
    starts = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
    of_message = row - np.repeat(starts, np.diff(starts, append=row.size))
    numbers = last + np.cumsum(of_message % message_rows == 0)
    ends = np.searchsorted(number, tops.sequence_number, side="right") - 1
    return Block(
        deltas._replace(sequence_number=numbers), tops._replace(sequence_number=numbers[ends])
    )


def _writer(root: Path, table: RawTable, seed: int) -> pq.ParquetWriter:
    folder = day_folder(root, table, EXCHANGE, symbol_of(seed), DAY)
    folder.mkdir(parents=True)
    return pq.ParquetWriter(folder / "1.snappy.parquet", _schema(table), compression="snappy")


def _schema(table: RawTable) -> pa.Schema:
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in table.columns.items()])


def _delta_table(deltas: Deltas) -> pa.Table:
    columns = [
        deltas.ts_origin_ns,
        deltas.ts_receipt_ns,
        deltas.sequence_number,
        deltas.is_bid,
        deltas.price_ticks / TICKS_PER_UNIT,
        deltas.size_lots / LOTS_PER_UNIT,
    ]
    return pa.table([pa.array(column) for column in columns], schema=_schema(DELTAS))


def _snapshot_table(tops: Tops) -> pa.Table:
    columns: list[NDArray[Any]] = [tops.origin_ns, tops.receipt_ns, tops.sequence_number]
    for prices, sizes in (
        (tops.bid_price_ticks, tops.bid_size_lots),
        (tops.ask_price_ticks, tops.ask_size_lots),
    ):
        for level in range(SNAPSHOT_LEVELS):
            columns += [prices[:, level] / TICKS_PER_UNIT, sizes[:, level] / LOTS_PER_UNIT]
    return pa.table([pa.array(column) for column in columns], schema=_schema(SNAPSHOTS))
