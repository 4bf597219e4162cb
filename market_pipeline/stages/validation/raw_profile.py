"""What the report takes from the profiles of a day's raw tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from market_pipeline.quality.figures.raw import (
    DomainFigures,
    RawOrderFigures,
    SchemaFigures,
    SeenStepFigures,
)
from market_pipeline.quality.findings import Finding, Measured, first_marked, merged
from market_pipeline.quality.measures.domain import VIOLATIONS
from market_pipeline.quality.measures.tick_inference import SeenStep, seen_step, step_change
from market_pipeline.quality.profile import Profile, RawPlace, profile_of
from market_pipeline.quality.strategy import choose_strategy
from market_pipeline.quality.words import measured
from market_pipeline.sources.crypto_lake import RAW_TABLES
from market_pipeline.stages.published_rows import records_of
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_profile"]

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
    profiles = records_of(day.raw.profiles, day.instrument, Profile)
    usable = [found for table in RAW_TABLES if (found := profile_of(profiles, table.name))]
    unreadable = [profile.failure for profile in profiles if profile.status == "unusable"]
    schema = SchemaFigures(
        unreadable_tables=len(unreadable) if profiles else None,
        first_unreadable_table=unreadable[0] if unreadable else None,
    )
    if not usable:
        return Measured((schema,))
    measured = [Measured((schema,)), _domain(usable)]
    book = _source_of_book(profiles, usable)
    if book is not None:
        measured += [_order(book), _steps(day, book)]
    return merged(measured)


def _domain(usable: Sequence[Profile]) -> Measured:
    violations = [
        (profile.raw_table, place)
        for profile in usable
        for place in profile.places
        if place.kind in VIOLATIONS
    ]
    figures = DomainFigures(
        domain_violations=sum(profile.domain_violations for profile in usable),
        first_domain_violation=_place_text(violations[0][1]) if violations else None,
    )
    return Measured((figures,), list(_findings("domain", violations)))


def _order(book: Profile) -> Measured:
    disorder = [(book.raw_table, each) for each in book.places if each.kind in _DISORDERS]
    figures = RawOrderFigures(
        unordered_messages=book.unordered_messages,
        duplicate_messages=book.duplicate_messages,
        unordered_per_hour=book.disordered_per_hour,
    )
    return Measured((figures,), list(_findings("ordering", disorder)))


def _source_of_book(profiles: Sequence[Profile], usable: Sequence[Profile]) -> Profile | None:
    """The table that the book comes from; where it comes from none, the deltas if usable."""
    wanted = choose_strategy(profiles).table
    return profile_of(usable, wanted.name)


def _late_tick(book: Profile) -> list[RawPlace]:
    """The price that an inferred tick came to rest on after many rows had done without it."""
    return [place for place in book.places if place.kind == "tick_settled_rows"]


def _steps(day: InstrumentDay, book: Profile) -> Measured:
    """Tick and lot as the values show them, against those of the day before."""
    profiles_before = records_of(day.lookups.profiles_before, day.instrument, Profile)
    before = profile_of(profiles_before, book.raw_table)
    tick, tick_before = seen_step(book, "tick"), seen_step(before, "tick")
    lot, lot_before = seen_step(book, "lot"), seen_step(before, "lot")
    late = [] if day.instrument.tick != "infer" else _late_tick(book)
    changes = [
        *(
            f"the tick {book.tick_seen} is inferred from {_place_text(place)}, which is not "
            f"{place.expected}, as all prices of the {measured(book.tick_settled_rows) - 1:,} rows "
            "before are"
            for place in late
        ),
        step_change("tick", tick, tick_before),
        step_change("lot", lot, lot_before),
    ]
    figures = SeenStepFigures(
        tick_seen=_step_text(tick),
        lot_seen=_step_text(lot),
        tick_day_before=_step_text(tick_before),
        lot_day_before=_step_text(lot_before),
        step_change="; ".join(change for change in changes if change) or None,
    )
    places = [(book.raw_table, place) for place in late]
    return Measured((figures,), list(_findings("precision", places)))


def _step_text(seen: SeenStep | None) -> str | None:
    return None if seen is None else f"{seen.step:f}"


def _findings(check: str, places: Sequence[tuple[str, RawPlace]]) -> Iterator[Finding]:
    """Places as findings, of each raw table and kind the first one marked as such."""
    for mark, (raw_table, place) in first_marked(places, lambda each: (each[0], each[1].kind)):
        note = _NOTES.get(place.kind, f"Counted in {raw_table} as {place.kind.replace('_', ' ')}.")
        yield place.finding(check, mark, note)


def _place_text(place: RawPlace) -> str:
    return f"{place.column} {place.value} in {place.file}, row {place.row}"
