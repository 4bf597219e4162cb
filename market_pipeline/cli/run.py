"""`market-pipeline run`: a range of days in one process, with a progress bar."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from datetime import UTC, date, datetime, timedelta
from io import TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO
from uuid import uuid4

import typer
from dotenv import dotenv_values
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from market_pipeline.cli.output import console, errors_console, exit_code, print_verdicts
from market_pipeline.cli.signals import shield_from_sigint, stoppable
from market_pipeline.cli.verdict import InstrumentIds, read_verdicts
from market_pipeline.config.instruments import Instrument, load_instruments, select_instruments
from market_pipeline.config.settings import ENV_FILE, Settings, load_settings
from market_pipeline.errors import SettingsError
from market_pipeline.machine import as_machine_error, require_open_files
from market_pipeline.warehouse.locks import locking

if TYPE_CHECKING:
    import dagster as dg

    from market_pipeline.stages.rebuild.dry_run import PlannedDay

__all__ = ["FAILED", "dagster_instance", "print_failed", "run", "run_days"]

_DAY = ["%Y-%m-%d"]
FAILED = 2
_NO_STEP_FAILED = "the run stopped before a step failed; see its log in the UI"
_UNKEPT = "Exception while writing logger call to event log: "


def run(
    start_date: Annotated[datetime, typer.Option(formats=_DAY, help="First UTC day.")],
    end_date: Annotated[datetime, typer.Option(formats=_DAY, help="Last UTC day, inclusive.")],
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
) -> None:
    """Run every stage for a range of days, both ends included, and show the verdicts.

    Exit code 0: every day is available. 1: something is degraded, pending or missing. 2: a run
    failed, or could not start. 130, 143: stopped by Ctrl-C or SIGTERM.

    With --dry-run 0: every day would be rebuilt from its deltas, with no repair but its seed. 1:
    something would be repaired, left open, published from snapshots or set aside, or is not there.
    2: it could not be tried.
    """
    if as_json and not dry_run:
        raise typer.BadParameter("give it together with --dry-run", param_hint="--json")
    start, end = start_date.date(), end_date.date()
    if end < start:
        raise typer.BadParameter(f"{end} is before {start}", param_hint="--end-date")
    settings = load_settings()
    chosen = select_instruments(load_instruments(settings.instruments_file), instrument or [])
    ids = [each.id for each in chosen]
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
    days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
    out = console()
    if dry_run:
        raise typer.Exit(_look(days, chosen, settings, out, as_json=as_json))
    failed = run_days(days, ids, out, force=force)
    print_failed(failed)
    rows = []
    if len(failed) < len(days):
        # What is published of a day that failed may be the verdict of an earlier run.
        found = read_verdicts(settings, start, end, ids)
        rows = [row for row in found if row.dt not in failed]
        print_verdicts(out, rows)
    raise typer.Exit(FAILED if failed else exit_code(rows))


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
    # It compiles or loads the kernels, which `--help` need not wait for.
    from market_pipeline.stages.rebuild.dry_run import dry_run  # noqa: PLC0415

    planned = []
    for day in days:
        of_day = dry_run(day, instruments, settings)
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
        "rebuilt": f"would be rebuilt ({record['strategy']}), {record['messages'] or 0:,} messages",
        "no_data": "could not be rebuilt",
        "quarantined": "would be set aside",
    }[record["outcome"]]
    yield f"{record['dt']} {record['exchange']}:{record['symbol']}: {made}"
    if record["strategy_reason"] and record["strategy"] != "full_deltas":
        yield f"  because: {record['strategy_reason']}"
    if record["failure"]:
        yield f"  failure: {record['failure']}"
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


def run_days(
    days: Sequence[date], ids: Sequence[str], out: Console, *, force: bool = False
) -> dict[date, str]:
    """Runs the daily job for each day in this process; the days that failed, with their reasons.

    A bar on a terminal, a line per day without one.

    Raises:
        typer.Exit: SIGINT or SIGTERM came; no further day is begun.
    """
    # Dagster takes a second to import the definitions, which `--help` need not wait for.
    from market_pipeline.definitions import defs  # noqa: PLC0415
    from market_pipeline.defs.failures import first_failure  # noqa: PLC0415

    require_open_files()
    job = defs.resolve_job_def("daily_books")
    config = {
        "resources": {"pipeline": {"config": {"instruments": list(ids), "force": force}}},
        # What went wrong is printed once, below the table, and stands in the run's own log.
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    failed: dict[date, str] = {}
    with dagster_instance() as instance, _progress(out) as progress:
        shield_from_sigint(instance.compute_log_manager)
        task = progress.add_task("", total=len(days) * len(job.nodes))
        for number, day in enumerate(days, start=1):
            with stoppable(day):
                progress.update(task, description=f"{day}")
                run_id = str(uuid4())
                instance.add_event_listener(run_id, _listener(progress, task, day))
                with redirect_stderr(_Errors(sys.stderr)) as errors:
                    try:
                        result = job.execute_in_process(
                            run_id=run_id,
                            partition_key=day.isoformat(),
                            instance=instance,
                            run_config=config,
                            raise_on_error=False,
                        )
                        if not result.success:
                            failed[day] = first_failure(result.all_events) or _NO_STEP_FAILED
                    except Exception as error:  # Dagster's own: it could not keep what happened
                        ours = as_machine_error(error)
                        if ours is None:
                            raise
                        failed[day] = str(ours)
            if errors.unkept and failed.get(day) == _NO_STEP_FAILED:
                failed[day] = _why_unkept(errors.unkept[0])
            progress.update(task, completed=number * len(job.nodes))
            if not out.is_terminal:
                out.print(f"{day} {'failed' if day in failed else 'done'} ({number}/{len(days)})")
    return failed


def _why_unkept(reason: str) -> str:
    return str(
        as_machine_error(RuntimeError(reason)) or f"Dagster could not keep an event: {reason}"
    )


def dagster_home() -> str | None:
    """DAGSTER_HOME, which as with Dagster's own commands `.env` may name; None if it is not set.

    Raises:
        SettingsError: It is no absolute path of a folder.
    """
    home = os.environ.get("DAGSTER_HOME") or dotenv_values(ENV_FILE).get("DAGSTER_HOME")
    if home and not (Path(home).is_absolute() and Path(home).is_dir()):
        raise SettingsError(
            [f"environment: DAGSTER_HOME: expected the absolute path of a folder, found {home}"]
        )
    return home


def dagster_instance() -> dg.DagsterInstance:
    """The instance of DAGSTER_HOME, where the UI finds the runs; without one, a passing one."""
    from dagster import DagsterInstance  # noqa: PLC0415

    home = dagster_home()
    if not home:
        return DagsterInstance.ephemeral()
    os.environ["DAGSTER_HOME"] = home
    # Two processes that open a new instance at once both set its databases up, and spoil them.
    with locking(Path(home) / ".market-pipeline.lock"):
        instance = DagsterInstance.get()
        instance.get_runs_count()
        instance.event_log_storage.get_maximum_record_id()
    return instance


class _Errors(TextIOBase):
    """Standard error without what Dagster prints of events that it cannot keep.

    That is why the run ends, and is reported as the reason of its failure.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.unkept: list[str] = []

    def write(self, text: str) -> int:
        if not text.startswith(_UNKEPT):
            return self._stream.write(text)
        self.unkept.append(text.removeprefix(_UNKEPT).partition("\n")[0])
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def _progress(out: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
        console=out,
        disable=not out.is_terminal,
    )


def _listener(progress: Progress, task: TaskID, day: date) -> Callable[[dg.EventLogEntry], None]:
    """Moves the bar with each step, and says how far a fetch is: beside the bar, or as lines."""
    from market_pipeline.defs.raw.assets import FETCHING  # noqa: PLC0415

    def listen(entry: dg.EventLogEntry) -> None:
        if entry.dagster_event is not None and entry.dagster_event.is_step_success:
            progress.advance(task)
            progress.update(task, description=f"{day}")
        elif entry.user_message.startswith(FETCHING):
            text = f"{day} {entry.step_key}: {entry.user_message.removeprefix(FETCHING)}"
            progress.update(task, description=text)
            if not progress.console.is_terminal:
                progress.console.print(text, soft_wrap=True)

    return listen
