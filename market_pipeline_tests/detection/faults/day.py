"""A raw day in memory: the frames that faults transform, and the lake files that they become.

Every frame holds the vendor's columns and two of ours that no file gets. `message` tells which
message of the clean day a row is of, so that a row is known again whatever becomes of its number
and its stamps; `shard` tells which file it is written to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = [
    "DAY_NS",
    "FOLDERS",
    "FOREIGN",
    "INVENTED",
    "LEVELS",
    "MS",
    "NUMBER",
    "ORIGIN",
    "RECEIPT",
    "SECOND",
    "TABLES",
    "Damage",
    "Messages",
    "RawDay",
    "midnight_ns",
    "shifted_days",
]

MS = 1_000_000
SECOND = 1_000 * MS
DAY_NS = 86_400 * SECOND
TABLES = ("deltas", "snapshots", "trades")
FOLDERS = {"deltas": "book_delta_v2", "snapshots": "book", "trades": "trades"}
RECEIPT, ORIGIN, NUMBER = "receipt_timestamp", "timestamp", "sequence_number"
LEVELS = 20
INVENTED = -1
"""The `message` of rows that no exchange ever sent: they must leave no trace."""
FOREIGN = -2
"""The `message` of rows of another day or instrument: no row of this day can be true after them."""
OURS = ("message", "shard")

_LEAST_PAUSE_S = 20
_PAUSE_INTERVALS = 200
_ROW_GROUP_ROWS = 20_000

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Damage:
    """What becomes of the bytes of a written file; None takes the file away."""

    table: str
    shard: int
    change: Callable[[bytes], bytes | None]


@dataclass(frozen=True, eq=False)
class RawDay:
    """The raw tables of one instrument's day.

    Attributes:
        exchange, symbol, day: Whose day.
        deltas, snapshots, trades: The rows in the order in which they are read.
        place: Where faults happen, as a share of the day's messages.
        damage: What happens to the bytes of files, in order.
        more_files: Further files of the day's folders, by table and name.
        other_day: Another day of the instrument; None if there is none.
        other_instrument: Another instrument's day of the same date; None if there is none.
    """

    exchange: str
    symbol: str
    day: date
    deltas: pl.DataFrame
    snapshots: pl.DataFrame
    trades: pl.DataFrame
    place: float = 0.5
    damage: tuple[Damage, ...] = ()
    more_files: tuple[tuple[str, str, bytes], ...] = ()
    other_day: RawDay | None = field(default=None, repr=False)
    other_instrument: RawDay | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        exchange: str,
        symbol: str,
        day: date,
        deltas: pl.DataFrame,
        snapshots: pl.DataFrame,
        trades: pl.DataFrame,
    ) -> RawDay:
        """A clean day of the vendor's rows, one shard a table."""
        message = pl.struct(NUMBER, RECEIPT).rle_id().cast(pl.Int64)
        numbered = deltas.with_columns(message=message, shard=pl.lit(1, pl.Int64))
        numbers = numbered.select(NUMBER, "message").unique(NUMBER, keep="last")
        met = snapshots.join(numbers, on=NUMBER, how="left", maintain_order="left")
        met = met.with_columns(pl.col("message").fill_null(INVENTED))
        return cls(
            exchange,
            symbol,
            day,
            numbered,
            met.with_columns(shard=pl.lit(1, pl.Int64)),
            trades.with_columns(message=pl.lit(INVENTED, pl.Int64), shard=pl.lit(1, pl.Int64)),
        )

    @classmethod
    def read(cls, lake: Path, exchange: str, symbol: str, day: date) -> RawDay:
        """A day of a lake."""
        frames = []
        for table in TABLES:
            folder = _folder(lake, table, exchange, symbol, day)
            shards = sorted(folder.glob("*.snappy.parquet"), key=_shard_of)
            frames.append(
                pl.concat([pl.read_parquet(each, hive_partitioning=False) for each in shards])
            )
        return cls.of(exchange, symbol, day, *frames)

    def table(self, name: str) -> pl.DataFrame:
        """The rows of a table."""
        rows: pl.DataFrame = getattr(self, name)
        return rows

    def put(self, name: str, rows: pl.DataFrame) -> RawDay:
        """The day with other rows of a table; shards stay in the order of the rows."""
        ordered = (
            rows if rows["shard"].is_sorted() else rows.with_columns(pl.col("shard").cum_max())
        )
        changed: dict[str, Any] = {name: ordered}
        return replace(self, **changed)

    def with_columns(self, name: str, *columns: pl.Expr) -> RawDay:
        """The day with changed columns of a table, their types unchanged."""
        rows = self.table(name)
        return self.put(name, rows.with_columns(*columns).cast(rows.schema))

    def where(self, name: str, mask: BoolArray | pl.Expr, **values: pl.Expr | float) -> RawDay:
        """The day with other values in some rows of a table, the types of its columns unchanged."""
        rows = self.table(name)
        chosen = pl.lit(pl.Series(mask)) if isinstance(mask, np.ndarray) else mask
        return self.put(
            name,
            rows.with_columns(
                pl.when(chosen).then(value).otherwise(pl.col(column)).alias(column)
                for column, value in values.items()
            ).cast({column: rows.schema[column] for column in values}),
        )

    def without(self, name: str, mask: BoolArray | pl.Expr) -> RawDay:
        """The day without some rows of a table."""
        gone = pl.lit(pl.Series(mask)) if isinstance(mask, np.ndarray) else mask
        return self.put(name, self.table(name).filter(~gone))

    @property
    def messages(self) -> Messages:
        """The delta rows by message."""
        return Messages(self.deltas)

    @property
    def pause_ns(self) -> int:
        """A pause that is long on this instrument: 20 s, or 200 usual intervals if that is more."""
        times = np.sort(self.messages.first(RECEIPT))
        usual = float(np.median(np.diff(times))) if times.size > 1 else 0.0
        return max(_LEAST_PAUSE_S * SECOND, round(usual * _PAUSE_INTERVALS))

    @property
    def middle_ns(self) -> int:
        """The receipt time of the message at `place`."""
        times = self.messages.first(RECEIPT)
        return int(times[self.messages.at(self.place)])

    def spoil_bytes(
        self, table: str, shard: int, change: Callable[[bytes], bytes | None]
    ) -> RawDay:
        """The day with other bytes in a written file."""
        return replace(self, damage=(*self.damage, Damage(table, shard, change)))

    def changed_tables(self, clean: RawDay) -> list[str]:
        """The tables that are not those of the clean day this one was made of."""
        files = [damage.table for damage in self.damage] + [each[0] for each in self.more_files]
        return [
            name for name in TABLES if self.table(name) is not clean.table(name) or name in files
        ]

    def write(self, lake: Path, tables: Sequence[str] = TABLES) -> None:
        """Writes the day's files in place of what is there; the same bytes for the same rows."""
        for table in tables:
            folder = _folder(lake, table, self.exchange, self.symbol, self.day)
            folder.mkdir(parents=True, exist_ok=True)
            for file in folder.iterdir():
                file.unlink()
            rows = self.table(table)
            for shard in rows["shard"].unique(maintain_order=True):
                part = rows.filter(pl.col("shard") == shard).drop(OURS)
                file = folder / f"{shard}.snappy.parquet"
                part.write_parquet(file, compression="snappy", row_group_size=_ROW_GROUP_ROWS)
            if rows.is_empty():
                empty = folder / "1.snappy.parquet"
                rows.drop(OURS).write_parquet(empty, compression="snappy")
        for name, file_name, content in self.more_files:
            folder = _folder(lake, name, self.exchange, self.symbol, self.day)
            (folder / file_name).write_bytes(content)
        for damage in self.damage:
            folder = _folder(lake, damage.table, self.exchange, self.symbol, self.day)
            file = folder / f"{damage.shard}.snappy.parquet"
            if not file.exists():
                continue
            damaged = damage.change(file.read_bytes())
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)


class Messages:
    """The delta rows of a day by message: runs of rows of the same message, in file order."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows
        message = rows["message"].to_numpy()
        begins = np.ones(message.size, np.bool_)
        begins[1:] = message[1:] != message[:-1]
        self.starts: IntArray = np.flatnonzero(begins).astype(np.int64)
        self.ends: IntArray = np.append(self.starts[1:], message.size).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts.size)

    def at(self, place: float, beyond: int = 0) -> int:
        """The index of the message at a share of the day, or some messages beyond it."""
        return max(0, min(len(self) - 1, int(len(self) * place) + beyond))

    def first(self, column: str) -> IntArray:
        """A column of the first row of every message."""
        values: IntArray = self.rows[column].to_numpy()[self.starts]
        return values

    def mask(self, chosen: Iterable[int] | IntArray) -> BoolArray:
        """True in the rows of some messages."""
        mask = np.zeros(self.rows.height, np.bool_)
        for each in np.asarray(list(chosen), np.int64):
            mask[self.starts[each] : self.ends[each]] = True
        return mask

    def mask_of(self, chosen: BoolArray) -> BoolArray:
        """True in the rows of those messages that are chosen, shape (messages,)."""
        return np.repeat(chosen, self.ends - self.starts)

    def take(self, order: Iterable[int] | IntArray) -> pl.DataFrame:
        """The rows of some messages, in an order of messages; one may come more than once."""
        chosen = np.asarray(list(order), np.int64)
        lengths = self.ends[chosen] - self.starts[chosen]
        before = np.repeat(np.cumsum(lengths) - lengths, lengths)
        index = np.repeat(self.starts[chosen], lengths) + np.arange(lengths.sum()) - before
        taken: pl.DataFrame = self.rows[index]
        return taken


def midnight_ns(day: date) -> int:
    """The start of a UTC day, ns since the epoch."""
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * SECOND


def shifted_days(of: RawDay, day: date) -> RawDay:
    """A day's rows as if they were of another date: all times moved by whole days."""
    moved_ns = (day - of.day) // timedelta(days=1) * DAY_NS
    moved = replace(of, day=day)
    for table in TABLES:
        moved = moved.with_columns(table, pl.col(RECEIPT) + moved_ns, pl.col(ORIGIN) + moved_ns)
    return moved


def _folder(lake: Path, table: str, exchange: str, symbol: str, day: date) -> Path:
    return lake / FOLDERS[table] / f"exchange={exchange}" / f"symbol={symbol}" / f"dt={day}"


def _shard_of(file: Path) -> int:
    return int(file.name.split(".")[0])
