"""Finds raw files whose bytes stand in the manifest a second time: a file in a wrong folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from market_pipeline.instruments import Instrument
from market_pipeline.lake.layout import Warehouse
from market_pipeline.lake.manifest import RAW_BOOK_DELTAS, RAW_BOOK_SNAPSHOTS, RAW_TRADES
from market_pipeline.lake.working import find_rows
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.stages.instrument import DayOfRaw
from market_pipeline.stages.raw import has_rows

__all__ = ["Registered", "SameBytes", "same_bytes"]

_MANIFEST = {
    DELTAS.name: RAW_BOOK_DELTAS,
    SNAPSHOTS.name: RAW_BOOK_SNAPSHOTS,
    TRADES.name: RAW_TRADES,
}


@dataclass(frozen=True, slots=True, order=True)
class Registered:
    """A raw file as the manifest has it; `raw_table` is the name of the vendor's table."""

    exchange: str
    symbol: str
    day: date
    raw_table: str
    path: str

    @property
    def instrument_id(self) -> str:
        """The instrument as VENUE:SYMBOL."""
        return f"{self.exchange}:{self.symbol}"


@dataclass(frozen=True, slots=True, order=True)
class SameBytes:
    """Two registered files of the same bytes: one of the day that is looked at, and another."""

    own: Registered
    other: Registered
    sha256: str

    @property
    def is_same_table(self) -> bool:
        """Whether the file stands twice in one table of one instrument and day."""
        own, other = self.own, self.other
        return (own.instrument_id, own.day, own.raw_table) == (
            other.instrument_id,
            other.day,
            other.raw_table,
        )


def same_bytes(
    raw: DayOfRaw, instruments: Sequence[Instrument], warehouse: Warehouse
) -> dict[str, list[SameBytes]]:
    """By instrument id, its files of a day that are registered a second time, in order.

    The second place may be of any table, instrument and day that was ever registered. Files without
    a row, or that cannot be read, are alike for other reasons, and left out. Of a file that stands
    more than once in the table, all but the first are told.

    Raises:
        WarehouseBusyError: Another process kept the working database.
    """
    objects = {
        DELTAS.name: raw.deltas,
        SNAPSHOTS.name: raw.snapshots,
        TRADES.name: raw.trades,
    }
    own = {
        each.id: [
            (Registered(each.venue, each.symbol, raw.day, table, path), sha256)
            for table, of_table in objects.items()
            for path, sha256 in of_table.usable_objects(each)
        ]
        for each in instruments
    }
    elsewhere = _registered(warehouse, {sha256 for files in own.values() for _, sha256 in files})
    found: dict[str, list[SameBytes]] = {}
    for instrument, files in own.items():
        found[instrument] = []
        first: dict[tuple[str, str], Registered] = {}
        for file, sha256 in files:
            before = first.setdefault((file.raw_table, sha256), file)
            if before is not file:
                found[instrument].append(SameBytes(file, before, sha256))
                continue
            pairs = [SameBytes(file, other, sha256) for other in elsewhere.get(sha256, ())]
            found[instrument] += [pair for pair in pairs if not pair.is_same_table]
    return found


def _registered(warehouse: Warehouse, hashes: set[str]) -> dict[str, list[Registered]]:
    """By hash, the files that have it, in order."""
    found: dict[str, list[Registered]] = {}
    frames = find_rows(warehouse, list(_MANIFEST.values()), "sha256", hashes)
    for raw_table, frame in zip(_MANIFEST, frames, strict=True):
        rows = frame.filter(has_rows()).select("exchange", "symbol", "dt", "path", "sha256")
        for exchange, symbol, day, path, sha256 in rows.iter_rows():
            found.setdefault(sha256, []).append(Registered(exchange, symbol, day, raw_table, path))
    return {sha256: sorted(files) for sha256, files in found.items()}
