"""`market-pipeline analyze`: what the raw files of a range of days hold, before any run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from market_pipeline.cli.options import AsJson, EndDate, InstrumentIds, StartDate, in_order
from market_pipeline.cli.output import console, errors_console
from market_pipeline.errors import MissingDataError

if TYPE_CHECKING:
    from market_pipeline.config.instruments import Instrument
    from market_pipeline.config.settings import Settings
    from market_pipeline.quality.profile import Profile, RawPlace
    from market_pipeline.quality.strategy import Strategy
    from market_pipeline.warehouse.tables import Record

__all__ = ["AnalyzedDay", "analyze", "share_of"]

_STYLES = {"full_deltas": "green", "snapshots_only": "yellow", "none": "red"}
# Heading, and what is counted below it; the last two are shares of messages, the others of rows.
_SHARES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("null", ("null_rows",)),
    ("zero", ("zero_prices", "zero_sizes", "zero_times")),
    ("negative", ("negative_prices", "negative_sizes", "negative_times")),
    ("not finite", ("not_finite",)),
    ("future", ("future_times",)),
    ("early", ("negative_latencies",)),
)
_MESSAGE_SHARES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("unordered", ("unordered_messages", "sequence_backwards")),
    ("double", ("duplicate_messages",)),
)
_SMALLEST_SHARE = 1e-6


@dataclass(frozen=True, slots=True)
class AnalyzedDay:
    """One instrument's day: its rows of `lake.profiles`, and how it can be rebuilt."""

    instrument: Instrument
    day: date
    profiles: list[Profile]
    strategy: Strategy

    def as_record(self) -> Record:
        """The day as an object of JSON."""
        return {
            "exchange": self.instrument.venue,
            "symbol": self.instrument.symbol,
            "dt": self.day,
            "strategy": self.strategy.name,
            "strategy_reason": self.strategy.reason,
            "tables": [profile.as_record() for profile in self.profiles],
        }


def analyze(
    start_date: StartDate,
    end_date: EndDate = None,
    instrument: InstrumentIds = None,
    as_json: AsJson = False,
) -> None:
    """Look through the raw files of a range of days and say how each day can be rebuilt.

    Nothing is run and nothing is written. Exit code 0: every day allows a rebuild from all its
    deltas. 1: a day does not, or is not there, or no instrument is listed on any. 2: the lake could
    not be looked at.
    """
    from market_pipeline.config.instruments import (
        listed_on,
        load_instruments,
        select_instruments,
    )
    from market_pipeline.config.settings import load_settings

    start, end = in_order(start_date, end_date)
    settings = load_settings()
    chosen = select_instruments(load_instruments(settings.instruments_file), instrument or [])
    if not settings.lake_path.is_dir():
        raise MissingDataError(
            "The raw lake is not there",
            next_step="Point PIPELINE_LAKE_URI at it; `market-pipeline doctor` says more.",
            file=settings.lake_path,
        )
    days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
    asked = [(day, each) for day in days for each in listed_on(day, chosen)]
    out = console()
    analyzed = []
    with _progress(errors_console() if as_json else out) as progress:
        task = progress.add_task("", total=len(asked))
        for found in _analyzed(asked, settings, progress):
            analyzed.append(found)
            progress.advance(task)
            if not as_json:
                progress.console.print(_shown(found))
    if as_json:
        records = [found.as_record() for found in analyzed]
        typer.echo(json.dumps(records, default=str, indent=2))
    elif analyzed:
        out.print(_summary(analyzed))
    else:
        out.print("No instrument is listed on any of these days.")
    full = all(found.strategy.name == "full_deltas" for found in analyzed)
    raise typer.Exit(0 if analyzed and full else 1)


def _analyzed(
    asked: Sequence[tuple[date, Instrument]], settings: Settings, progress: Progress
) -> Iterator[AnalyzedDay]:
    from market_pipeline.quality.profile import Profile
    from market_pipeline.quality.strategy import choose_strategy
    from market_pipeline.sources.crypto_lake import RAW_TABLES
    from market_pipeline.sources.registry import is_converter
    from market_pipeline.stages.raw.profile import profile_shards
    from market_pipeline.stages.rebuild.dry_run import registered_day

    for day, instrument in asked:
        progress.update(progress.task_ids[0], description=f"{day} {instrument.id}")
        if is_converter(instrument.source):
            with TemporaryDirectory(prefix="market-pipeline-analyze-") as scratch:
                raw = registered_day(day, [instrument], settings, Path(scratch))
            rows = raw.profiles.to_dicts()
        else:
            lake = settings.lake_path
            rows = [profile_shards(lake, table, instrument, day) for table in RAW_TABLES]
        profiles = [Profile.from_record(row) for row in rows]
        yield AnalyzedDay(instrument, day, profiles, choose_strategy(profiles))


def _progress(out: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days"),
        TimeElapsedColumn(),
        console=out,
        disable=not out.is_terminal,
    )


def _shown(found: AnalyzedDay) -> Group:
    table = Table(title=f"{found.day} {found.instrument.id}", title_justify="left")
    table.add_column("raw table", no_wrap=True)
    headings = [heading for heading, _ in (*_SHARES, *_MESSAGE_SHARES)]
    for heading in ("rows", "messages", *headings):
        table.add_column(heading, justify="right", no_wrap=True)
    for profile in found.profiles:
        if profile.status != "usable":
            table.add_row(profile.raw_table, profile.status)
            continue
        rows, messages = profile.rows, profile.messages
        shares = [
            share_of(profile, names, whole)
            for kinds, whole in ((_SHARES, rows), (_MESSAGE_SHARES, messages))
            for _, names in kinds
        ]
        table.add_row(profile.raw_table, f"{rows:,}", f"{messages:,}", *shares)
    name = found.strategy.name
    strategy = Text.assemble((name, _STYLES[name]), f": {found.strategy.reason}")
    return Group(table, strategy, *(Text(line) for line in _places(found)), "")


def share_of(profile: Profile, names: Sequence[str], whole: int | None) -> str:
    """What share of the whole is counted in these columns; what is not 0 never looks like it."""
    part = sum(getattr(profile, name) or 0 for name in names)
    if not part or not whole:
        return "0"
    share = part / whole
    return f"{share:.4%}" if share >= _SMALLEST_SHARE else f"<{_SMALLEST_SHARE:.4%}"


def _places(found: AnalyzedDay) -> Iterator[str]:
    """The files that cannot be read, and the first place of each kind of fault."""
    for profile in found.profiles:
        if profile.status == "unusable":
            yield f"  {profile.raw_table}: {profile.failure}"
        first: dict[str, RawPlace] = {}
        for place in profile.places:
            first.setdefault(place.kind, place)
        for kind, place in first.items():
            yield (
                f"  {kind.replace('_', ' ')}: {getattr(profile, kind):,} of {profile.raw_table}, "
                f"first {place.column} {place.value}, expected {place.expected}, in {place.file}, "
                f"row {place.row}"
            )


def _summary(analyzed: Sequence[AnalyzedDay]) -> str:
    names: list[str] = [found.strategy.name for found in analyzed]
    return ", ".join(f"{names.count(name):,} {name}" for name in _STYLES)
