"""Looks through the raw tables of a day, and says what the report takes from that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from market_pipeline.books.boundaries import FirstRows
from market_pipeline.errors import (
    MarketPipelineError,
    MissingDataError,
    StoreError,
    error_text,
    is_of_machine,
)
from market_pipeline.instruments import Instrument
from market_pipeline.lake.layout import Warehouse
from market_pipeline.quality.domain import VIOLATIONS
from market_pipeline.quality.findings import Finding, Measured
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.quality.profile import (
    PROFILES,
    RawPlace,
    domain_violations,
    places_of,
    profile_of,
)
from market_pipeline.quality.raw_look import RawTableLook
from market_pipeline.quality.seen_steps import seen_step, step_change
from market_pipeline.quality.strategy import choose_strategy
from market_pipeline.shown import shown_logger
from market_pipeline.sources.crypto_lake import (
    DELTAS,
    SNAPSHOTS,
    TRADES,
    RawTable,
    day_folder,
    day_shards,
    read_raw,
)
from market_pipeline.stages.instrument import DayOfRaw
from market_pipeline.stages.judged import RebuiltDayOf
from market_pipeline.stages.message_index import keep_messages
from market_pipeline.stages.raw import NOT_ALL_FETCHED, RawObjects
from market_pipeline.stages.rows import of_instrument

__all__ = ["RAW_TABLES", "measure_profile", "profile_day", "profile_shards"]

RAW_TABLES = (DELTAS, SNAPSHOTS, TRADES)
_BLANK = dict.fromkeys(column.name for column in PROFILES.columns)
_NOTES = {
    "unordered_messages": "The message was received before the one it stands behind.",
    "sequence_backwards": "The sequence number is below that of the message before.",
    "duplicate_messages": "The same message came before already.",
    "tick_settled_rows": "The tick is inferred from it, and no row before it needs one so fine.",
}
_DISORDERS = ("unordered_messages", "sequence_backwards", "duplicate_messages")
_Profile = Mapping[str, Any]
_LOG = shown_logger(__name__)


def profile_day(
    raw: DayOfRaw, instruments: Sequence[Instrument], warehouse: Warehouse | None = None
) -> list[dict[str, Any]]:
    """The rows of `lake.profiles` of a day, three for each instrument.

    Args:
        raw: The registered raw objects.
        instruments: Whose.
        warehouse: Where the messages are kept for later stages (`message_index`); None keeps none.

    Raises:
        Exception: What is the machine's (`errors.is_of_machine`).
    """

    def keep(instrument: Instrument, messages: FirstRows) -> None:
        if warehouse is not None:
            _, sha256 = raw.deltas.files_of(instrument)
            keep_messages(warehouse, instrument, raw.day, sha256, messages)

    tables = list(zip(RAW_TABLES, (raw.deltas, raw.snapshots, raw.trades), strict=True))
    return [
        _profile(
            raw.lake, table, instrument, raw.day, partial(_registered, objects, instrument), keep
        )
        for instrument in instruments
        for table, objects in tables
    ]


def profile_shards(
    lake: Path, table: RawTable, instrument: Instrument, day: date
) -> dict[str, Any]:
    """A row of `lake.profiles`, from the shards that lie in the lake, registered or not."""
    return _profile(lake, table, instrument, day, partial(_shards, lake, table, instrument, day))


def _registered(objects: RawObjects, instrument: Instrument) -> list[Path]:
    return objects.files_of(instrument)[0]


def _shards(lake: Path, table: RawTable, instrument: Instrument, day: date) -> list[Path]:
    found = day_shards(lake, table, instrument.venue, instrument.symbol, day)
    if not found:
        raise MissingDataError(
            f"There is no {table.name} file",
            next_step="Fetch the day from the vendor, or wait if it is not due yet.",
            exchange=instrument.venue,
            symbol=instrument.symbol,
            day=day,
            file=day_folder(lake, table, instrument.venue, instrument.symbol, day),
        )
    return found


def _profile(
    lake: Path,
    table: RawTable,
    instrument: Instrument,
    day: date,
    files: Callable[[], list[Path]],
    keep: Callable[[Instrument, FirstRows], None] = lambda _, __: None,
) -> dict[str, Any]:
    identity = _BLANK | {
        "exchange": instrument.venue,
        "symbol": instrument.symbol,
        "dt": day,
        "raw_table": table.name,
    }
    tolerance_ns = round(instrument.thresholds.edge_tolerance_seconds * NS_PER_SECOND)
    try:
        look = RawTableLook(lake, table, day, tolerance_ns)
        for batch in read_raw(files(), table, list(table.columns), look.batch_rows):
            look.add(batch)
            del batch  # or it would be held while the next one is decoded
        row = identity | {"status": "usable"} | look.figures()
        # A value that fits no column must not show when the rows of all are written.
        PROFILES.frame([row])
        if look.messages is not None:
            keep(instrument, look.messages)
    except MarketPipelineError as error:
        if is_of_machine(error):
            raise
        missing = isinstance(error, MissingDataError)
        not_fetched = missing and error.problem == NOT_ALL_FETCHED
        return identity | {
            "status": "missing" if missing else "unusable",
            "failure_kind": (StoreError if not_fetched else type(error)).__name__,
            "failure": error.found if not_fetched else str(error),
        }
    except Exception as error:
        if is_of_machine(error):
            raise
        _LOG.exception("%s %s: %s could not be looked through", instrument.id, day, table.name)
        return identity | {
            "status": "unusable",
            "failure_kind": type(error).__name__,
            "failure": f"The {table.name} files could not be looked through: {error_text(error)}. "
            "See the log of the run.",
        }
    return row


# --- what the report takes ----------------------------------------------------------------------


def measure_profile(day: RebuiltDayOf) -> Measured:
    """What the raw tables add to the report of a day, also of one that was not rebuilt.

    The domain is that of all three tables; order, tick and lot are those of the table that the book
    comes from. Without profiles nothing is added.
    """
    profiles = _profiles_of(day, day.raw.profiles)
    usable = [found for table in RAW_TABLES if (found := profile_of(profiles, table.name))]
    findings: list[Finding] = []
    unreadable = [profile["failure"] for profile in profiles if profile["status"] == "unusable"]
    columns: dict[str, Any] = {
        "unreadable_tables": len(unreadable) if profiles else None,
        "first_unreadable_table": unreadable[0] if unreadable else None,
    }
    if not usable:
        return Measured(columns, findings)
    violations = [
        (profile["raw_table"], place)
        for profile in usable
        for place in places_of(profile)
        if place.kind in VIOLATIONS
    ]
    columns |= {
        "domain_violations": sum(map(domain_violations, usable)),
        "first_domain_violation": _told(violations[0][1]) if violations else None,
    }
    findings += _first_marked("domain", violations)
    book = _source_of_book(profiles, usable)
    if book is not None:
        disorder = [
            (book["raw_table"], place) for place in places_of(book) if place.kind in _DISORDERS
        ]
        columns |= {
            "unordered_messages": book["unordered_messages"],
            "duplicate_messages": book["duplicate_messages"],
            "unordered_per_hour": tuple(book["disordered_per_hour"]),
        }
        findings += _first_marked("ordering", disorder)
        late = [] if day.instrument.tick != "infer" else _late_tick(book)
        findings += _first_marked("precision", [(book["raw_table"], place) for place in late])
        columns |= _steps(day, book, late)
    return Measured(columns, findings)


def _profiles_of(day: RebuiltDayOf, profiles: pl.DataFrame) -> list[dict[str, Any]]:
    return profiles.filter(of_instrument(day.instrument)).to_dicts()


def _source_of_book(profiles: Sequence[_Profile], usable: Sequence[_Profile]) -> _Profile | None:
    """The table that the book comes from; where it comes from none, the deltas if usable."""
    wanted = SNAPSHOTS if choose_strategy(profiles).name == "snapshots_only" else DELTAS
    return profile_of(usable, wanted.name)


def _late_tick(book: _Profile) -> list[RawPlace]:
    """The price that an inferred tick came to rest on after many rows had done without it."""
    return [place for place in places_of(book) if place.kind == "tick_settled_rows"]


def _steps(day: RebuiltDayOf, book: _Profile, late: Sequence[RawPlace]) -> dict[str, Any]:
    before = profile_of(_profiles_of(day, day.lookups.profiles_before), book["raw_table"])
    columns: dict[str, Any] = {}
    changes: list[str | None] = [
        f"the tick {book['tick_seen']} is inferred from {_told(place)}, which is not "
        f"{place.expected}, as all prices of the {book['tick_settled_rows'] - 1:,} rows before are"
        for place in late
    ]
    names: tuple[Literal["tick", "lot"], ...] = ("tick", "lot")
    for name in names:
        seen, seen_before = seen_step(book, name), seen_step(before, name)
        columns[f"{name}_seen"] = None if seen is None else f"{seen.step:f}"
        columns[f"{name}_day_before"] = None if seen_before is None else f"{seen_before.step:f}"
        changes.append(step_change(name, seen, seen_before))
    told = "; ".join(change for change in changes if change)
    return columns | {"step_change": told or None}


def _first_marked(check: str, places: Sequence[tuple[str, RawPlace]]) -> Iterator[Finding]:
    """Places as findings, of each raw table and kind the first one marked as such."""
    met: set[tuple[str, str]] = set()
    for raw_table, place in places:
        kind = (raw_table, place.kind)
        yield Finding(
            check=check,
            place="further" if kind in met else "first",
            ts_receipt_ns=place.ts_receipt_ns,
            sequence_number=place.sequence_number,
            file=place.file,
            row=place.row,
            column=place.column,
            value=place.value,
            expected=place.expected,
            note=_NOTES.get(
                place.kind, f"Counted in {raw_table} as {place.kind.replace('_', ' ')}."
            ),
        )
        met.add(kind)


def _told(place: RawPlace) -> str:
    return f"{place.column} {place.value} in {place.file}, row {place.row}"
