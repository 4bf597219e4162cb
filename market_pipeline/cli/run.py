"""`market-pipeline run`: every stage of a range of days, and their verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from market_pipeline.cli.days import run_days
from market_pipeline.cli.options import EndDate, InstrumentIds, StartDate, in_order
from market_pipeline.cli.output import (
    console,
    errors_console,
    exit_code,
    print_verdicts,
    ranges_text,
)
from market_pipeline.cli.timings import StepTimes, print_times
from market_pipeline.cli.verdict import read_verdicts
from market_pipeline.cli.workers import default_jobs, run_days_at_once

if TYPE_CHECKING:
    from market_pipeline.config.instruments import Instrument
    from market_pipeline.config.settings import Settings
    from market_pipeline.quality.row import ReportRow
    from market_pipeline.stages.rebuild.dry_run import PlannedDay

__all__ = ["FAILED", "print_failed", "run"]

FAILED = 2


def run(
    start_date: StartDate,
    end_date: EndDate = None,
    instrument: InstrumentIds = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Publish nothing; list what would be repaired.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print JSON instead.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Rebuild also what is unchanged since it was published.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that run days at once; by default what cores and memory allow, two "
            "days for each.",
        ),
    ] = None,
    timings: Annotated[
        bool, typer.Option("--timings", help="Show at the end what each step took.")
    ] = False,
) -> None:
    """Run every stage for a range of days, both ends included, and show the verdicts.

    Exit code 0: every day is available. 1: something is degraded, pending or missing. 2: a run
    failed, or could not start. 130, 143: stopped by Ctrl-C or SIGTERM.

    With --dry-run 0: every day would be rebuilt from its deltas, with no repair but its seed. 1:
    something would be repaired, left open, published from snapshots or set aside, or is not there.
    2: it could not be tried.
    """
    from market_pipeline.config.instruments import load_instruments, select_instruments
    from market_pipeline.config.settings import load_settings

    if as_json and not dry_run:
        raise typer.BadParameter("give it together with --dry-run", param_hint="--json")
    start, end = in_order(start_date, end_date)
    settings = load_settings()
    chosen = select_instruments(load_instruments(settings.instruments_file), instrument or [])
    days, out = _listed_days(_partitions(start, end, settings), chosen), console()
    if dry_run:
        raise typer.Exit(_look(days, chosen, settings, out, as_json=as_json))
    ids = [each.id for each in chosen]
    at_once, times = min(jobs or default_jobs(len(days), settings), len(days)), StepTimes()
    if at_once > 1:
        failed = run_days_at_once(at_once, days, ids, out, settings, force=force, times=times)
    else:
        failed = run_days(days, ids, out, force=force, times=times)
    if timings:
        print_times(out, times, len(days))
    print_failed(failed)
    if len(failed) == len(days):
        raise typer.Exit(FAILED)
    rows = _verdicts([day for day in days if day not in failed], chosen, settings)
    print_verdicts(out, rows)
    raise typer.Exit(FAILED if failed else exit_code(rows))


def _partitions(start: date, end: date, settings: Settings) -> list[date]:
    """The days of a range, all of which have a partition.

    Raises:
        typer.BadParameter: One has none.
    """
    if start < settings.start_date:
        raise typer.BadParameter(
            f"{start} is before the first partition {settings.start_date} (PIPELINE_START_DATE)",
            param_hint="--start-date",
        )
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    if end > yesterday:
        raise typer.BadParameter(
            f"{end} is not over yet: the last whole UTC day is {yesterday}",
            param_hint="--end-date",
        )
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


def _listed_days(days: Sequence[date], instruments: Sequence[Instrument]) -> list[date]:
    """The days on which any of the instruments is listed; says which others are left out.

    Raises:
        typer.BadParameter: There is none.
    """
    for each in instruments:
        left_out = [day for day in days if not each.is_listed_on(day)]
        if left_out:
            text = f"{each.id} is left out where it is not listed: {ranges_text(left_out)}"
            errors_console().print(text, soft_wrap=True)
    found = [day for day in days if any(each.is_listed_on(day) for each in instruments)]
    if not found:
        raise typer.BadParameter(
            "none of the instruments is listed on any of these days; `listed` and `delisted` in "
            "the instruments file say when each is",
            param_hint="--start-date",
        )
    return found


def _verdicts(
    days: Sequence[date], instruments: Sequence[Instrument], settings: Settings
) -> list[ReportRow]:
    """What this run has published: of other days and instruments an earlier one may have."""
    from market_pipeline.config.instruments import listed_on

    ran = {(each.id, day) for day in days for each in listed_on(day, instruments)}
    ids = [each.id for each in instruments]
    rows = read_verdicts(settings, days[0], days[-1], ids)
    return [row for row in rows if (row.instrument_id, row.dt) in ran]


def print_failed(failed: Mapping[date, str]) -> None:
    """Says on standard error which days failed, why, and where their earlier verdicts are."""
    for day, reason in failed.items():
        errors_console().print(f"failed: {day}: {reason}", soft_wrap=True)
    if failed:
        errors_console().print(
            "`market-pipeline verdict` shows what is published of days that failed, by earlier runs"
            " or by steps before the failed one.",
            soft_wrap=True,
        )


def _look(
    days: Sequence[date],
    instruments: Sequence[Instrument],
    settings: Settings,
    out: Console,
    *,
    as_json: bool,
) -> int:
    """Shows what a run of each day would repair and set aside; the exit code."""
    from market_pipeline.config.instruments import listed_on
    from market_pipeline.stages.rebuild.dry_run import dry_run

    planned = []
    for day in days:
        of_day = dry_run(day, listed_on(day, instruments), settings)
        planned += of_day
        if not as_json:
            for each in of_day:
                out.print("\n".join(_planned_lines(each)), soft_wrap=True)
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in planned], indent=2))
    return 0 if all(each.is_plain for each in planned) else 1


def _planned_lines(planned: PlannedDay) -> Iterator[str]:
    """What a dry run says of an instrument and day: how, each repair, the rest, files set aside."""
    record = planned.record
    made = {
        "rebuilt": f"would be rebuilt ({record.strategy}), {record.messages or 0:,} messages",
        "no_data": "could not be rebuilt",
        "quarantined": "would be set aside",
    }[record.outcome]
    yield f"{record.dt} {record.instrument_id}: {made}"
    if record.strategy_reason and record.strategy != "full_deltas":
        yield f"  because: {record.strategy_reason}"
    if record.failure:
        yield f"  failure: {record.failure}"
    for repair in planned.repairs:
        span = f"{_utc(repair['start_ns'])} to {_utc(repair['end_ns'])}"
        yield f"  {span} UTC {repair['cause']} {repair['action']}: {repair['evidence']}"
    if planned.left_out:
        text = ", ".join(
            f"{count:,} {cause} {action}" for (cause, action), count in planned.counts.items()
        )
        yield f"  … and {planned.left_out:,} more; in all {text}"
    for file, reason in planned.set_aside:
        yield f"  would be copied to quarantine: {file}: {reason}"


def _utc(ts_ns: int) -> str:
    seconds, ns = divmod(ts_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns // 1_000_000:03}"
