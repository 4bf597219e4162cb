"""Measures whether a day's raw files are of this day and this instrument: times, hashes, prices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.scale import scales_of
from market_pipeline.errors import CheckpointError
from market_pipeline.quality.figures.raw import IdentityFigures, OutsideDayFigures
from market_pipeline.quality.findings import Finding, Measured, first_marked
from market_pipeline.quality.intervals import utc_text
from market_pipeline.quality.measures.identity import DAY_BEFORE, PriceIdentity, price_identity
from market_pipeline.quality.profile import OUTSIDE_DAY, Profile, profile_of
from market_pipeline.quality.words import measured
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.stages.published_rows import records_of
from market_pipeline.stages.raw.same_bytes import SameBytes, same_bytes
from market_pipeline.stages.validation.context import InstrumentDay
from market_pipeline.stages.validation.lookups import failed_identity

__all__ = ["measure_identity"]

_TABLES = {"deltas": DELTAS.name, "snapshots": SNAPSHOTS.name, "trades": TRADES.name}
_WORDS = {raw_table: words for words, raw_table in _TABLES.items()}


def measure_identity(day: InstrumentDay) -> Measured:
    """Whose the raw files of a day are, as far as their times, hashes and prices tell.

    It takes no book, so that days that could not be rebuilt are measured too.

    Raises:
        WarehouseBusyError: Another process kept the working database.
    """
    rows = records_of(day.raw.profiles, day.instrument, Profile)
    profiles = [found for table in _TABLES.values() if (found := profile_of(rows, table))]
    shared = same_bytes(day.raw, day.instrument, day.lookups.registered)
    if not profiles and not shared:
        return Measured()
    factor = day.instrument.thresholds.identity_price_factor
    prices = price_identity(profiles, _price_before(day), factor)
    twice = [pair for pair in shared if pair.is_same_table]
    elsewhere = [pair for pair in shared if not pair.is_same_table]
    doubtful = [pair for pair in elsewhere if not _is_own(pair, profiles, prices, elsewhere)]
    figures = IdentityFigures(
        files_twice=len(twice),
        trade_files_twice=sum(pair.own.raw_table == TRADES.name for pair in twice),
        first_file_twice=_pair_text(twice[0]) if twice else None,
        repeated_trades=_repeated_trades(profiles),
        files_elsewhere=len({pair.own.path for pair in elsewhere}),
        files_elsewhere_doubtful=len({pair.own.path for pair in doubtful}),
        first_file_elsewhere=_pair_text((doubtful or elsewhere)[0]) if elsewhere else None,
        first_price=prices.first_price,
        price_day_before=prices.price_before,
        price_day_before_apart=prices.day_before_apart,
        price_tables_apart=prices.tables_apart,
        price_tables=" and ".join(_WORDS[each] for each in prices.tables)
        if prices.tables
        else None,
        foreign_price_table=_WORDS[prices.foreign] if prices.foreign else None,
    )
    findings = [
        *_outside_findings(profiles),
        *_same_bytes_findings([*doubtful, *(p for p in elsewhere if p not in doubtful), *twice]),
        *_repeated_findings(profiles),
        *_price_findings(day, profiles, prices, factor),
    ]
    return Measured((_outside(profiles), figures), findings)


# --- rows outside the day -----------------------------------------------------------------------


def _outside(profiles: Sequence[Profile]) -> OutsideDayFigures:
    by_table = {each.raw_table: each.receipts_outside_day for each in profiles}
    figures = OutsideDayFigures(
        deltas_outside_day=by_table.get(DELTAS.name),
        snapshots_outside_day=by_table.get(SNAPSHOTS.name),
        trades_outside_day=by_table.get(TRADES.name),
        outside_day_share=0.0 if profiles else None,
    )
    outside = [each for each in profiles if each.receipts_outside_day]
    if not outside:
        return figures
    worst = max(profiles, key=_share_outside)
    return replace(
        figures,
        outside_day_share=_share_outside(worst),
        outside_day_table=_WORDS[worst.raw_table],
        outside_day=worst.outside_day,
        earliest_outside_ns=min(measured(each.earliest_outside_ns) for each in outside),
        latest_outside_ns=max(measured(each.latest_outside_ns) for each in outside),
        files_outside_day=tuple(file for each in outside for file in each.files_outside_day or ()),
    )


def _share_outside(profile: Profile) -> float:
    return float((profile.receipts_outside_day or 0) / measured(profile.rows))


def _outside_findings(profiles: Sequence[Profile]) -> Iterator[Finding]:
    """The first rows of each table, and of each file that is another day's the whole of it."""
    for profile in profiles:
        for file in profile.files_outside_day or ():
            yield Finding(
                check="identity",
                place="first",
                file=file,
                value=str(profile.outside_day),
                expected=str(profile.dt),
                note="Most rows of this file were received outside the day.",
            )
        places = [place for place in profile.places if place.kind == OUTSIDE_DAY]
        for mark, place in first_marked(places):
            assert place.ts_receipt_ns is not None
            found = place.finding(
                "identity",
                mark,
                f"One of {profile.receipts_outside_day:,} rows of {profile.rows:,} in "
                f"{profile.raw_table} that were received outside the UTC day.",
            )
            yield replace(found, value=utc_text(place.ts_receipt_ns))


# --- files of the same bytes --------------------------------------------------------------------


def _is_own(
    pair: SameBytes,
    profiles: Sequence[Profile],
    prices: PriceIdentity,
    elsewhere: Sequence[SameBytes],
) -> bool:
    """Whether a file that is registered elsewhere too is shown to belong here.

    Against another day its times show it; against another instrument the day before, or a table of
    this day whose files stand nowhere else.
    """
    profile = profile_of(profiles, pair.own.raw_table)
    if profile is None or pair.own.raw_table != pair.other.raw_table:
        return False
    if pair.own.day != pair.other.day and pair.own.path in (profile.files_outside_day or ()):
        return False
    if pair.own.instrument_id == pair.other.instrument_id:
        return True
    witnesses = {DAY_BEFORE, *_WORDS} - {each.own.raw_table for each in elsewhere}
    return bool(prices.agreeing[pair.own.raw_table] & witnesses)


def _pair_text(pair: SameBytes) -> str:
    same = "bytes" if pair.is_same_file else "rows"
    return f"{pair.own.path} has the {same} of {_place_text(pair)}"


def _place_text(pair: SameBytes) -> str:
    if pair.is_same_table:
        return PurePosixPath(pair.other.path).name
    other = pair.other
    return f"{other.raw_table} of {other.instrument_id} on {other.day}"


def _same_bytes_findings(pairs: Sequence[SameBytes]) -> Iterator[Finding]:
    for place, pair in first_marked(pairs):
        yield Finding(
            check="identity",
            place=place,
            file=pair.own.path,
            value=pair.sha256,
            expected="bytes of its own" if pair.is_same_file else "rows of its own",
            note=_same_text(pair),
        )


def _same_text(pair: SameBytes) -> str:
    if not pair.is_same_table:
        return f"The file {pair.other.path}, {_place_text(pair)}, has the same SHA-256."
    has = "the same SHA-256" if pair.is_same_file else "as many rows, from and to the same times"
    return f"The file {pair.other.path} of the same day has {has}: its rows stand twice."


def _repeated_trades(profiles: Sequence[Profile]) -> int | None:
    """How many trades have the id of an earlier one; None where one id stands for all."""
    trades = profile_of(profiles, TRADES.name)
    if trades is None or not trades.sequence_changes:
        return None
    return trades.duplicate_messages


def _repeated_findings(profiles: Sequence[Profile]) -> Iterator[Finding]:
    if not _repeated_trades(profiles):
        return
    trades = profile_of(profiles, TRADES.name)
    assert trades is not None
    repeated = [place for place in trades.places if place.kind == "duplicate_messages"]
    for mark, place in first_marked(repeated):
        yield place.finding(
            "identity", mark, "The trade of this id came before already: its volume counts twice."
        )


# --- prices -------------------------------------------------------------------------------------


def _price_before(day: InstrumentDay) -> float | None:
    """Where the day before ended: the mid of its closing book, else its last raw prices.

    None if nothing is known, or if that day was of foreign files itself.
    """
    if failed_identity(day.lookups.reports_before, day.instrument):
        return None
    try:
        book = day.close_before
    except CheckpointError:
        book = None  # the check `day_boundary` tells of it
    if book and not book["flags"] & INVALIDATING:
        bids, asks = book["bid_price_ticks"], book["ask_price_ticks"]
        tick, _ = scales_of(book["tick"], book["lot"])
        if bids and asks:
            return float((max(bids) + min(asks)) * tick.step / 2)
    rows = records_of(day.lookups.profiles_before, day.instrument, Profile)
    found = [profile_of(rows, table) for table in (SNAPSHOTS.name, TRADES.name)]
    prices = [each.last_price for each in found if each is not None and each.last_price]
    return prices[0] if prices else None


def _price_findings(
    day: InstrumentDay, profiles: Sequence[Profile], prices: PriceIdentity, factor: float
) -> Iterator[Finding]:
    if prices.tables is not None and (prices.tables_apart or 0.0) > factor:
        tables = [prices.foreign] if prices.foreign else prices.tables
        for place, table in first_marked(tables):
            own, other = _hour_of(profiles, table, prices.tables)
            yield Finding(
                check="identity",
                place=place,
                file=_first_file(day, table),
                row=0,
                column="price",
                value=own,
                expected=other,
                note=f"The {_WORDS[table]} are at other prices than the rest of the day."
                if prices.foreign
                else "These two tables of the day are at different prices.",
            )
    if (prices.day_before_apart or 0.0) > factor:
        table = next(
            each.raw_table
            for each in sorted(profiles, key=lambda each: each.first_price != prices.first_price)
        )
        yield Finding(
            check="identity",
            place="first",
            file=_first_file(day, table),
            row=0,
            column="price",
            value=f"{prices.first_price:g}",
            expected=f"about {prices.price_before:g}, where the day before ended",
            note=f"The median of the first prices is {prices.day_before_apart:.4g} times as far as "
            "the day before ended, or that many times below it.",
        )


def _hour_of(
    profiles: Sequence[Profile], table: str, tables: Sequence[str]
) -> tuple[str, str | None]:
    """The median price of a table in the first hour that another one has too, and that one's."""
    (other,) = [each for each in tables if each != table][:1]
    hours = [
        next(each.prices_per_hour for each in profiles if each.raw_table == name)
        for name in (table, other)
    ]
    own, theirs = next(
        pair for pair in zip(*hours, strict=True) if pair[0] is not None and pair[1] is not None
    )
    return f"{own:g}", f"about {theirs:g}, as in {other}"


def _first_file(day: InstrumentDay, table: str) -> str | None:
    (objects,) = [objects for raw, objects in day.raw.tables if raw.name == table]
    files = objects.usable_objects(day.instrument)
    return files[0].path if files else None
