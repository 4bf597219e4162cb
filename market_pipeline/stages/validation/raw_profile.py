"""What the report takes from the profiles of a day's raw tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import polars as pl

from market_pipeline.quality.findings import Finding, Measured
from market_pipeline.quality.measures.domain import VIOLATIONS
from market_pipeline.quality.measures.seen_steps import seen_step, step_change
from market_pipeline.quality.profile import RawPlace, domain_violations, places_of, profile_of
from market_pipeline.quality.strategy import choose_strategy
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS
from market_pipeline.stages.published_rows import of_instrument
from market_pipeline.stages.raw.profile import RAW_TABLES
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_profile"]

_Profile = Mapping[str, Any]
_NOTES = {
    "unordered_messages": "The message was received before the one it stands behind.",
    "sequence_backwards": "The sequence number is below that of the message before.",
    "duplicate_messages": "The same message came before already.",
    "tick_settled_rows": "The tick is inferred from it, and no row before it needs one so fine.",
}
_DISORDERS = ("unordered_messages", "sequence_backwards", "duplicate_messages")


def measure_profile(day: InstrumentDay) -> Measured:
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


def _profiles_of(day: InstrumentDay, profiles: pl.DataFrame) -> list[dict[str, Any]]:
    return profiles.filter(of_instrument(day.instrument)).to_dicts()


def _source_of_book(profiles: Sequence[_Profile], usable: Sequence[_Profile]) -> _Profile | None:
    """The table that the book comes from; where it comes from none, the deltas if usable."""
    wanted = SNAPSHOTS if choose_strategy(profiles).name == "snapshots_only" else DELTAS
    return profile_of(usable, wanted.name)


def _late_tick(book: _Profile) -> list[RawPlace]:
    """The price that an inferred tick came to rest on after many rows had done without it."""
    return [place for place in places_of(book) if place.kind == "tick_settled_rows"]


def _steps(day: InstrumentDay, book: _Profile, late: Sequence[RawPlace]) -> dict[str, Any]:
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
