"""`market-pipeline fetch`: brings raw days from the store into the local lake."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from market_pipeline.cli.options import AsJson, EndDate, InstrumentIds, StartDate, in_order
from market_pipeline.cli.output import bytes_text, console, errors_console, ranges_text
from market_pipeline.errors import MachineError, SettingsError
from market_pipeline.machine import as_machine_error

if TYPE_CHECKING:
    from market_pipeline.config.instruments import Instrument
    from market_pipeline.config.settings import Settings
    from market_pipeline.config.values import JsonValue
    from market_pipeline.stages.raw.download_days import FetchedDay
    from market_pipeline.stages.raw.fetched import FetchedObject
    from market_pipeline.stages.raw.inventory import TableInventory
    from market_pipeline.store.client import Store

__all__ = ["fetch"]

_INTERRUPTED = 130
_REFUSED = 2
_MEANING = {
    "fetched": "downloaded for the first time",
    "changed": "downloaded again, as a further version",
    "unchanged": "here already",
    "gone": "gone from the store, the local copy stays",
    "replaced": "gone from the store, others took its place",
    "waiting": "downloaded, and waits for the rest of its day",
    "unasked": "the store could not be asked, the local copy stays",
    "failed": "could not be downloaded",
}


@dataclass
class _Result:
    """What a fetch did, and what is left to do."""

    tables: Sequence[TableInventory]
    days: list[FetchedDay] = field(default_factory=list)
    seconds: float = 0.0
    blocked_seconds: float = 0.0
    stopped_by: MachineError | None = None

    @property
    def downloaded_bytes(self) -> int:
        return sum(each.downloaded_bytes for day in self.days for each in day.objects)

    @property
    def megabytes_per_second(self) -> float:
        return self.downloaded_bytes / 1e6 / self.seconds if self.seconds else 0.0

    @property
    def is_whole(self) -> bool:
        """Whether all that was asked for is here."""
        there = all(day.is_there for day in self.days) and self.stopped_by is None
        return there and bool(self.days) and not any(table.missing for table in self.tables)

    def failures(self) -> list[str]:
        """A sentence for each thing that could not be fetched."""
        sentences = []
        for day in self.days:
            where = f"{day.of.day} {day.of.instrument.id} {day.of.raw.name}"
            if day.failure is not None:
                sentences.append(f"{where}: {day.failure}")
            sentences += [
                f"{where}: {each.name}: {each.failure}" for each in day.objects if each.failure
            ]
        return sentences


def fetch(
    start_date: StartDate,
    end_date: EndDate = None,
    instrument: InstrumentIds = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Download nothing; show what would be.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring raw days from the object store into the local lake, without running anything.

    What is here already is not downloaded again; stopped at any moment (Ctrl-C, a kill), the same
    command goes on where it was. A run fetches its own days, so this is for having them before.

    Exit code 0: all days of all tables are here, or with --dry-run at the store. 1: something is
    missing or could not be fetched. 2: wrong usage, the store cannot be looked at, or the machine
    refuses (a full disk). 130: stopped by Ctrl-C.
    """
    from market_pipeline.config.settings import load_settings
    from market_pipeline.stages.raw.inventory import take_inventory
    from market_pipeline.store.client import open_store
    from market_pipeline.telemetry.metrics.recording import begin

    start, end = in_order(start_date, end_date)
    settings = load_settings()
    chosen = _of_the_store(settings, instrument or [])
    if settings.store_address is None:
        raise SettingsError(
            [
                "lake_uri is a folder, and its days are read where they lie; set PIPELINE_LAKE_URI "
                "to s3://bucket/prefix, sample or crypto-lake to fetch from a store"
            ]
        )
    begin(settings, "command")
    store = open_store(settings)
    assert store is not None
    with store:
        tables = take_inventory(
            settings.lake_path,
            store,
            chosen,
            start,
            end,
            parallel=settings.lake_parallel_downloads,
        )
        if dry_run:
            _show_plan(tables, as_json=as_json)
            raise typer.Exit(1 if any(each.missing for each in tables) else 0)
        result = _Result(tables)
        try:
            _fetch(store, settings, chosen, result, errors_console() if as_json else console())
        except KeyboardInterrupt:
            errors_console().print("stopped; what has come is kept, the same command goes on")
            raise typer.Exit(_INTERRUPTED) from None
    raise typer.Exit(_report(result, as_json=as_json))


def _report(result: _Result, *, as_json: bool) -> int:
    """Prints what a fetch did; returns its exit code."""
    if as_json:
        typer.echo(json.dumps(_as_json(result), indent=2))
    else:
        _show(console(), result)
    for sentence in result.failures():
        errors_console().print(f"failed: {sentence}", soft_wrap=True)
    if result.stopped_by is not None:
        errors_console().print(f"error: {result.stopped_by}", soft_wrap=True)
        return _REFUSED
    return 0 if result.is_whole else 1


def _of_the_store(settings: Settings, ids: Sequence[str]) -> list[Instrument]:
    """The instruments asked for whose days are at the store; says which others are left out."""
    from market_pipeline.config.instruments import load_instruments, select_instruments
    from market_pipeline.sources.registry import is_converter

    chosen = []
    for each in select_instruments(load_instruments(settings.instruments_file), ids):
        if is_converter(each.source):
            text = f"{each.id} is left out: its source {each.source} is a converter, not the store"
            errors_console().print(text, soft_wrap=True)
        else:
            chosen.append(each)
    return chosen


def _record(settings: Settings, day: FetchedDay) -> None:
    """Records the objects of a day that came, once their hashes are known."""
    from market_pipeline.audit.record import record

    came = {each.uri: each.sha256 for each in day.objects if each.action in {"fetched", "changed"}}
    if came:
        what = {"table": day.of.raw.name, "day": f"{day.of.day}", "objects": came}
        record(settings.data_dir, "write", what | {"instruments": [day.of.instrument.id]})


def _fetch(
    store: Store,
    settings: Settings,
    instruments: Sequence[Instrument],
    result: _Result,
    out: Console,
) -> None:
    """Fetches what the inventory lists; a bar on a terminal, a line for each day without one."""
    from market_pipeline.security.master import sealing_ring
    from market_pipeline.stages.raw.download_days import fetch_days, to_fetch
    from market_pipeline.stages.raw.fetched import FetchProgress

    wanted = to_fetch(result.tables, instruments)
    left_bytes = sum(each.bytes - each.local_bytes for each in result.tables)
    progress, began, blocked = FetchProgress(), time.monotonic(), store.blocked_seconds
    with _bar(out) as bar:
        task = bar.add_task("", total=left_bytes)
        days = fetch_days(
            store,
            settings.lake_path,
            wanted,
            progress,
            parallel=settings.lake_parallel_downloads,
            ring=sealing_ring(settings, "raw"),
            while_waiting=lambda: bar.update(
                task, completed=min(progress.arrived_bytes, left_bytes)
            ),
        )
        try:
            for number, day in enumerate(days, start=1):
                result.days.append(day)
                of = day.of
                _record(settings, day)
                text = f"{of.day} {of.instrument.id} {of.raw.name}"
                bar.update(task, description=text)
                if not out.is_terminal:
                    out.print(f"{text}: {_day_text(day)} ({number:,}/{len(wanted):,})")
        except Exception as error:
            result.stopped_by = as_machine_error(error)
            if result.stopped_by is None:
                raise
        finally:
            days.close()  # type: ignore[attr-defined]  # a generator: it ends the downloads
    result.seconds = time.monotonic() - began
    result.blocked_seconds = store.blocked_seconds - blocked


def _bar(out: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=out,
        disable=not out.is_terminal,
    )


def _day_text(day: FetchedDay) -> str:
    if day.failure is not None:
        return "its objects are not known"
    counts = {
        action: sum(each.action == action for each in day.objects)
        for action in _MEANING
        if any(each.action == action for each in day.objects)
    }
    text = ", ".join(f"{count:,} {action}" for action, count in counts.items())
    came = sum(each.downloaded_bytes for each in day.objects)
    return f"{text or 'nothing'}{f', {bytes_text(came)}' if came else ''}"


def _show(out: Console, result: _Result) -> None:
    table = Table(title="Fetched", title_justify="left")
    table.add_column("what became of an object", no_wrap=True)
    for column in ("objects", "size", "downloaded"):
        table.add_column(column, justify="right", no_wrap=True)
    for action, objects in _by_action(result).items():
        table.add_row(
            f"{action}: {_MEANING[action]}",
            f"{len(objects):,}",
            bytes_text(sum(each.bytes or 0 for each in objects)),
            bytes_text(sum(each.downloaded_bytes for each in objects)),
        )
    out.print(table)
    out.print(
        f"{bytes_text(result.downloaded_bytes)} in {result.seconds:,.1f} s, "
        f"{result.megabytes_per_second:,.1f} MB/s; limits delayed downloads for "
        f"{result.blocked_seconds:,.1f} s",
        highlight=False,
    )
    _show_missing(out, result.tables)


def _show_missing(out: Console, tables: Sequence[TableInventory]) -> None:
    for each in tables:
        if each.missing:
            out.print(
                f"missing: {each.instrument} {each.raw_table}: {ranges_text(each.missing)}",
                highlight=False,
            )


def _by_action(result: _Result) -> dict[str, list[FetchedObject]]:
    objects = [each for day in result.days for each in day.objects]
    found = {action: [each for each in objects if each.action == action] for action in _MEANING}
    return {action: each for action, each in found.items() if each}


def _show_plan(tables: Sequence[TableInventory], *, as_json: bool) -> None:
    """What would be fetched."""
    if as_json:
        plan = [
            {
                "instrument": each.instrument,
                "raw_table": each.raw_table,
                "days": [day.isoformat() for day in _days_to_come(each)],
                "objects": each.objects - sum(day.local_objects for day in each.days.values()),
                "bytes": each.bytes - each.local_bytes,
                "missing": [day.isoformat() for day in each.missing],
            }
            for each in tables
        ]
        typer.echo(json.dumps(plan, indent=2))
        return
    table = Table(title="Would be fetched", title_justify="left")
    for column in ("instrument", "table"):
        table.add_column(column, no_wrap=True)
    table.add_column("days", overflow="fold")
    for column in ("objects", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in tables:
        table.add_row(
            each.instrument,
            each.raw_table,
            ranges_text(_days_to_come(each)),
            f"{each.objects - sum(day.local_objects for day in each.days.values()):,}",
            bytes_text(each.bytes - each.local_bytes),
        )
    out = console()
    out.print(table)
    out.print(f"{bytes_text(sum(each.bytes - each.local_bytes for each in tables))} in all")
    _show_missing(out, tables)


def _days_to_come(table: TableInventory) -> list[date]:
    return [day for day, found in table.days.items() if found.local_objects < found.objects]


def _as_json(result: _Result) -> dict[str, JsonValue]:
    return {
        "objects": [
            {
                "instrument": day.of.instrument.id,
                "raw_table": day.of.raw.name,
                "day": day.of.day.isoformat(),
                "name": each.name,
                "action": each.action,
                "bytes": each.bytes,
                "downloaded_bytes": each.downloaded_bytes,
                "version": each.version,
                "sha256": each.sha256,
                "path": None if each.path is None else str(each.path),
                "failure": None if each.failure is None else str(each.failure),
            }
            for day in result.days
            for each in day.objects
        ],
        "missing": [
            {
                "instrument": each.instrument,
                "raw_table": each.raw_table,
                "days": [day.isoformat() for day in each.missing],
            }
            for each in result.tables
            if each.missing
        ],
        "failures": result.failures(),
        "downloaded_bytes": result.downloaded_bytes,
        "seconds": round(result.seconds, 3),
        "megabytes_per_second": round(result.megabytes_per_second, 1),
        "blocked_seconds": round(result.blocked_seconds, 3),
    }
