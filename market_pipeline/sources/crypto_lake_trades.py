"""The trades of a Crypto Lake day: read once, and mapped from a file instead of held."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from market_pipeline.errors import DomainError, LakeFileError
from market_pipeline.mapped import ColumnArray, mapped
from market_pipeline.sources.batches import (
    MARKET,
    OUTSIDE_MARKET,
    UNMARKED,
    Trades,
    TradeTimes,
)
from market_pipeline.sources.converted_columns import IS_MARKET
from market_pipeline.sources.crypto_lake import (
    TRADES,
    RawBatch,
    count_rows,
    open_shard,
    read_whole,
    refuse_outside,
)
from market_pipeline.sources.memory_limits import MAX_TRADES

__all__ = ["locate_trades", "read_trade_times", "read_trades"]

_BATCH_ROWS = 1 << 18
_TIMES: dict[str, DTypeLike] = {"timestamp": np.int64, "receipt_timestamp": np.int64}
_VALUES: dict[str, DTypeLike] = {"price": np.float64, "amount": np.float64, "is_buy": np.bool_}
_ID: dict[str, DTypeLike] = {"id": np.int64}
_MARK: dict[str, DTypeLike] = {"mark": np.int8}


def read_trades(
    files: Sequence[Path], folder: Path | None = None, *, with_ids: bool = False
) -> Trades:
    """Reads all trades of a day's shards, and their marks if any shard has some.

    Without files there are no trades.

    Args:
        files: The shards in order.
        folder: Where the file lies from which they are mapped, see `mapped`.
        with_ids: Whether to read their ids too.

    Raises:
        LakeFileError: See `open_shard`; also if there are more than `MAX_TRADES`.
        SchemaError: See `open_shard`.
        DomainError: On a null, a price or amount not above 0, or a side that is not buy or sell.
        OSError: If they cannot be written down.
    """
    types = _TIMES | _VALUES | (_ID if with_ids else {})
    types |= _MARK if any(_has_marks(file) for file in files) else {}
    columns = dict(zip(types, _trade_columns(files, folder, types), strict=True))
    return Trades(
        columns["timestamp"],
        columns["receipt_timestamp"],
        columns["price"],
        columns["amount"],
        columns["is_buy"],
        columns.get("id"),
        columns.get("mark"),
    )


def read_trade_times(files: Sequence[Path], folder: Path | None = None) -> TradeTimes:
    """Reads when the trades of a day's shards were, and refuses what `read_trades` refuses.

    Raises:
        MarketPipelineError, OSError: As `read_trades`.
    """
    return TradeTimes(*_trade_columns(files, folder, _TIMES))


def locate_trades(files: Sequence[Path], trades: Sequence[int]) -> list[tuple[Path, int]]:
    """The shard and the row in it of trades that are given by their row of `read_trades`.

    Raises:
        LakeFileError, SchemaError: See `open_shard`.
    """
    first = list(accumulate((count_rows([file], TRADES) for file in files), initial=0))
    shards = [bisect_right(first, trade) - 1 for trade in trades]
    return [(files[at], trade - first[at]) for at, trade in zip(shards, trades, strict=True)]


def _has_marks(file: Path) -> bool:
    parquet, names = open_shard(file, TRADES)
    parquet.close()
    return IS_MARKET in names


def _trade_columns(
    files: Sequence[Path], folder: Path | None, types: dict[str, DTypeLike]
) -> list[ColumnArray]:
    """Some columns of all trades, `is_buy` and `mark` too, if every value of every one can be."""
    rows = 0
    for file in files:
        rows += count_rows([file], TRADES)
        if rows > MAX_TRADES:
            raise LakeFileError(
                "The day has more trades than may be held in memory",
                next_step="Report the file to the vendor, or take the trades of this day out of "
                "the lake.",
                file=file,
                expected=f"at most {MAX_TRADES} trades",
                found=f"{rows} and more",
            )
    return mapped(_columns(files, list(types)), list(types.values()), rows, folder)


def _columns(files: Sequence[Path], names: Sequence[str]) -> Iterator[list[ColumnArray]]:
    every = [name for name in TRADES.columns if name != "id" or name in names]
    marks = [IS_MARKET] if "mark" in names else []
    batches = read_whole(files, TRADES, every, _BATCH_ROWS, nullable=marks, optional=marks)
    for batch in batches:
        refuse_outside(batch, "price", above=0.0)
        refuse_outside(batch, "amount", above=0.0)
        arrays = batch.arrays | {"is_buy": _is_buy(batch), "mark": _mark(batch)}
        yield [arrays[name] for name in names]
        del arrays, batch  # or they would be held while the next one is decoded


def _is_buy(batch: RawBatch) -> NDArray[np.bool_]:
    sides = batch.arrays["side"]
    is_buy: NDArray[np.bool_] = sides == "buy"
    known = is_buy | (sides == "sell")
    if not known.all():
        at = int(np.flatnonzero(~known)[0])
        raise DomainError(
            "A trade's side is unknown",
            next_step="Report the row to the vendor or fetch the file again.",
            file=batch.file,
            row=batch.first_row + at,
            column=batch.names["side"],
            expected="buy or sell",
            found=repr(sides[at]),
        )
    return is_buy


def _mark(batch: RawBatch) -> NDArray[np.int8]:
    is_market = batch.arrays.get(IS_MARKET)
    if is_market is None:
        return np.full(batch.arrays["price"].size, UNMARKED, np.int8)
    marks = np.where(is_market, MARKET, OUTSIDE_MARKET).astype(np.int8)
    if IS_MARKET in batch.nulls:
        marks[batch.nulls[IS_MARKET]] = UNMARKED
    return marks
