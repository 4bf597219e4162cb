"""Finds raw files whose bytes stand in the manifest a second time: a file in a wrong folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay, has_rows
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.manifest import RAW_BOOK_DELTAS, RAW_BOOK_SNAPSHOTS, RAW_TRADES
from market_pipeline.warehouse.working import find_rows

__all__ = ["Registered", "SameBytes", "registered", "same_bytes"]

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
    raw: RegisteredDay, instrument: Instrument, elsewhere: Mapping[str, Sequence[Registered]]
) -> list[SameBytes]:
    """An instrument's files of a day that are registered a second time, in order.

    Files without a row, or that cannot be read, are alike for other reasons, and left out. Of a
    file that stands more than once in the table, all but the first are reported.

    Args:
        raw: The day's registered raw objects.
        instrument: Whose files.
        elsewhere: What `registered` found for the day.
    """
    found: list[SameBytes] = []
    first: dict[tuple[str, str], Registered] = {}
    for table, objects in _objects(raw).items():
        for path, sha256 in objects.usable_objects(instrument):
            file = Registered(instrument.venue, instrument.symbol, raw.day, table, path)
            before = first.setdefault((table, sha256), file)
            if before is not file:
                found.append(SameBytes(file, before, sha256))
                continue
            pairs = [SameBytes(file, other, sha256) for other in elsewhere.get(sha256, ())]
            found += [pair for pair in pairs if not pair.is_same_table]
    return found


def registered(
    raw: RegisteredDay, warehouse: Warehouse, *, timeout_seconds: float
) -> dict[str, list[Registered]]:
    """By SHA-256 of a day's raw files, all the files registered with it, in order.

    They may be of any table, instrument and day; files without a row are left out.

    Raises:
        WarehouseBusyError: Another process kept the working database.
    """
    hashes = set[str]().union(*(objects.hashes for objects in _objects(raw).values()))
    found: dict[str, list[Registered]] = {}
    frames = find_rows(
        warehouse, list(_MANIFEST.values()), "sha256", hashes, timeout_seconds=timeout_seconds
    )
    for raw_table, frame in zip(_MANIFEST, frames, strict=True):
        rows = frame.filter(has_rows()).select("exchange", "symbol", "dt", "path", "sha256")
        for exchange, symbol, day, path, sha256 in rows.iter_rows():
            found.setdefault(sha256, []).append(Registered(exchange, symbol, day, raw_table, path))
    return {sha256: sorted(files) for sha256, files in found.items()}


def _objects(raw: RegisteredDay) -> dict[str, RawObjects]:
    return {DELTAS.name: raw.deltas, SNAPSHOTS.name: raw.snapshots, TRADES.name: raw.trades}
