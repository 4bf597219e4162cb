"""Whatever raw rows a notebook has (files of the lake, captures, frames, arrays), as feeds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from market_pipeline.errors import InstrumentsError, MissingDataError
from market_pipeline.notebook.in_memory import (
    Columns,
    delta_slices,
    snapshot_slices,
    times_of_trades,
)
from market_pipeline.security.stored import is_stored, plain_name
from market_pipeline.sources import binance_capture
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch, TradeTimes
from market_pipeline.sources.binance_capture import Findings
from market_pipeline.sources.crypto_lake import read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.sources.crypto_lake_trades import read_trade_times
from market_pipeline.sources.raw_names import folder_shards, refuse_names

__all__ = ["Feeds", "RawRows", "feeds_of"]


class _ArrowTable(Protocol):
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


RawRows = pl.LazyFrame | _ArrowTable | Columns | str | Path | Sequence[str | Path]
"""Rows of one of the vendor's tables, as one of

* Parquet files of the lake, or captures of Binance's streams (.gz): a path, a list of paths in feed
  order, or the folder of a lake's day; they are read in bounded memory;
* a Polars frame, or any table with the Arrow interface (pandas, pyarrow, DuckDB); a lazy frame is
  collected;
* a mapping of one-dimensional arrays by column name.
"""
_NO_TRADES = TradeTimes(np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Feeds:
    """The three feeds of one instrument.

    Attributes:
        deltas: Yields the delta rows from the first one on, every time it is called, and tells its
            argument what a capture has wrong.
        snapshots: The same for the snapshots, once.
        trade_times: None without trades.
        ids_prove: Whether the ids link each message to the one before, as in a capture.
    """

    deltas: Callable[[Findings], Iterator[DeltaBatch]]
    snapshots: Callable[[Findings], Iterator[SnapshotBatch]]
    trade_times: TradeTimes | None
    ids_prove: bool


def feeds_of(
    deltas: RawRows,
    snapshots: RawRows | None = None,
    trades: RawRows | None = None,
    instrument: str | None = None,
) -> Feeds:
    """The feeds of what was given; `instrument` says whose lines of a capture are meant.

    Raises:
        MissingDataError: A file is not there.
        InstrumentsError: There is a capture, and no instrument that Binance has.
        SchemaError, DomainError: On frames and arrays of other columns or values; what is in a file
            is checked when it is read, except that trades are read at once.
        LakeFileError: A file of trades cannot be read, or names in a folder or list leave open
            which files are its shards.
    """
    is_capture = _is_capture(_files(deltas))
    if snapshots is None and is_capture:
        snapshots = deltas
    return Feeds(
        deltas=_deltas(deltas, instrument),
        snapshots=_snapshots(snapshots, instrument),
        trade_times=None if trades is None else _trade_times(trades, instrument),
        ids_prove=is_capture,
    )


def _deltas(rows: RawRows, instrument: str | None) -> Callable[[Findings], Iterator[DeltaBatch]]:
    files = _files(rows)
    if files is None:
        slices = delta_slices(rows)
        return lambda _: slices()
    if _is_capture(files):
        market, symbol = _capture_symbol(instrument)
        return lambda findings: binance_capture.read_deltas(files, market, symbol, findings)
    return lambda _: read_deltas(files)


def _snapshots(
    rows: RawRows | None, instrument: str | None
) -> Callable[[Findings], Iterator[SnapshotBatch]]:
    if rows is None:
        return lambda _: iter(())
    files = _files(rows)
    if files is None:
        slices = snapshot_slices(rows)
        return lambda _: slices
    if _is_capture(files):
        market, symbol = _capture_symbol(instrument)
        return lambda findings: binance_capture.read_snapshots(files, market, symbol, findings)
    return lambda _: read_snapshots(files)


def _trade_times(rows: RawRows, instrument: str | None) -> TradeTimes:
    files = _files(rows)
    if files is None:
        return times_of_trades(rows)
    if _is_capture(files):
        _, symbol = _capture_symbol(instrument)
        batches = binance_capture.read_trades(files, symbol, Findings())
        parts = [_NO_TRADES, *(batch.times for batch in batches)]
        return TradeTimes._make(map(np.concatenate, zip(*parts, strict=True)))
    return read_trade_times(files)


def _files(rows: RawRows) -> list[Path] | None:
    """The files that are meant, in feed order; None if the rows are in memory."""
    if isinstance(rows, str | os.PathLike):
        return _files_at(Path(rows))
    if isinstance(rows, Sequence) and all(isinstance(each, str | os.PathLike) for each in rows):
        files = list(chain.from_iterable(_files_at(Path(each)) for each in rows))
        for folder in {file.parent for file in files}:
            refuse_names([file.name for file in files if file.parent == folder], folder)
        return files
    return None


def _files_at(path: Path) -> list[Path]:
    """The file itself, or the shards in a day's folder by their numbers: 2 before 10."""
    if is_stored(plain := plain_name(path)):
        return [plain]
    shards = folder_shards(path)
    if not shards:
        raise MissingDataError(
            "There is no raw file",
            next_step="Name Parquet files or captures in order, or the folder of a lake's day.",
            file=path,
            expected="a file, or a folder with 1.snappy.parquet",
            found="a folder without shards" if path.is_dir() else "nothing",
        )
    return shards


def _is_capture(files: Sequence[Path] | None) -> bool:
    return files is not None and all(file.suffix == ".gz" for file in files)


def _capture_symbol(instrument: str | None) -> tuple[binance_capture.Market, str]:
    """The market whose rules hold for an instrument's capture, and its symbol there."""
    venue, _, symbol = (instrument or "").partition(":")
    market = binance_capture.MARKET_OF_VENUE.get(venue)
    if market is None or not symbol:
        raise InstrumentsError(
            "A capture does not say whose it is",
            next_step="Give instrument='BINANCE:BTC-USDT', or whichever it is.",
            expected=f"VENUE:SYMBOL with {', '.join(binance_capture.MARKET_OF_VENUE)}",
            found=instrument or "no instrument",
        )
    return market, binance_capture.capture_symbol(market, symbol)
