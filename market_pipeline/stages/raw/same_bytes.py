"""Finds raw files that stand in the manifest a second time: a file in a wrong folder, or a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.crypto_lake import DELTAS
from market_pipeline.stages.raw.days import MANIFEST_OF, VendorFile
from market_pipeline.stages.raw.objects import RegisteredDay, UsableObject, has_rows
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.working import find_rows

__all__ = ["RegisteredFile", "SameBytes", "registered", "same_bytes"]


@dataclass(frozen=True, slots=True, order=True)
class RegisteredFile:
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
    """Two registered files of the same bytes: one of the day in question, and another.

    Attributes:
        own, other: The two files.
        sha256: Of the first.
        is_same_file: Their bytes are the same; else only their rows, which were written anew.
    """

    own: RegisteredFile
    other: RegisteredFile
    sha256: str
    is_same_file: bool = True

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
    raw: RegisteredDay, instrument: Instrument, elsewhere: Mapping[str, Sequence[RegisteredFile]]
) -> list[SameBytes]:
    """An instrument's files of a day that are registered a second time, in order.

    Files without a row, or that cannot be read, are alike for other reasons, and left out. Of a
    file that stands more than once in the table, all but the first are reported. There a file of
    other bytes is the same one too, compressed or divided in another way, if it has as many rows
    from and to the same nanosecond. Of a converter's day the vendor's own files are compared too,
    as files of its deltas.

    Args:
        raw: The day's registered raw objects.
        instrument: Whose files.
        elsewhere: What `registered` found for the day.
    """
    found = _vendor_files_twice(raw, instrument)
    for table, objects in raw.tables:
        first: dict[object, RegisteredFile] = {}
        for each in objects.usable_objects(instrument):
            file = RegisteredFile(
                instrument.venue, instrument.symbol, raw.day, table.name, each.path
            )
            before = [first.setdefault(key, file) for key in _keys(each)]
            again = next((other for other in before if other is not file), None)
            if again is not None:
                found.append(SameBytes(file, again, each.sha256, again is before[0]))
                continue
            pairs = [
                SameBytes(file, other, each.sha256) for other in elsewhere.get(each.sha256, ())
            ]
            found += [pair for pair in pairs if not pair.is_same_table]
    return found


def _vendor_files_twice(raw: RegisteredDay, instrument: Instrument) -> list[SameBytes]:
    found = []
    first: dict[str, RegisteredFile] = {}
    for reference in raw.deltas.vendor_files(instrument):
        sha256, path = VendorFile.parts_of(reference)
        file = RegisteredFile(instrument.venue, instrument.symbol, raw.day, DELTAS.name, path)
        before = first.setdefault(sha256, file)
        if before is not file:
            found.append(SameBytes(file, before, sha256))
    return found


def _keys(file: UsableObject) -> list[object]:
    """What two files of a table have in common if they are one: their bytes, or their rows."""
    rows = file[2:]
    is_long = None not in rows and file.first_ts_receipt_ns != file.last_ts_receipt_ns
    return [file.sha256, rows] if is_long else [file.sha256]


def registered(raw: RegisteredDay, warehouse: Warehouse) -> dict[str, list[RegisteredFile]]:
    """By SHA-256 of a day's raw files, all the files registered with it, in order.

    They may be of any table, instrument and day; files without a row are left out.

    Raises:
        WarehouseBusyError: Another process kept the working database.
    """
    hashes = set[str]().union(*(objects.hashes for _, objects in raw.tables))
    found: dict[str, list[RegisteredFile]] = {}
    frames = find_rows(warehouse, list(MANIFEST_OF.values()), "sha256", hashes)
    for raw_table, frame in zip(MANIFEST_OF, frames, strict=True):
        rows = frame.filter(has_rows()).select("exchange", "symbol", "dt", "path", "sha256")
        for exchange, symbol, day, path, sha256 in rows.iter_rows():
            file = RegisteredFile(exchange, symbol, day, raw_table, path)
            found.setdefault(sha256, []).append(file)
    return {sha256: sorted(files) for sha256, files in found.items()}
