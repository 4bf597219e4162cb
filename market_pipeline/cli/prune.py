"""`market-pipeline prune`: removes days that are older than they are to be kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from market_pipeline.cli.days import dagster_instance
from market_pipeline.cli.options import AsJson
from market_pipeline.cli.output import bytes_text, console, errors_console, ranges_text
from market_pipeline.errors import StoreError

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings
    from market_pipeline.config.values import JsonValue
    from market_pipeline.stages.retention.prune import Candidate, Planned, Retention
    from market_pipeline.store.client import Store

__all__ = ["prune"]

_KINDS = ("derived", "raw", "recording", "quarantine", "staging", "replaced")
_NAMELESS = frozenset({"derived", "recording", "quarantine", "staging"})


def prune(
    older_than: Annotated[
        int | None,
        typer.Option(min=1, metavar="DAYS", help="Days to keep all but recordings, for this once."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing, as without --yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed.")] = False,
    also_last_copies: Annotated[
        bool,
        typer.Option(
            "--also-last-copies",
            help="Also what could not be had again; with --yes their number is asked for.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is older than it is to be kept, and with --yes remove it.

    PIPELINE_KEEP_RAW_DAYS, PIPELINE_KEEP_DERIVED_DAYS, PIPELINE_KEEP_RUN_DAYS and
    PIPELINE_CAPTURE__KEEP_DAYS say how long; without them all is kept for ever. Raw files of a
    store go if it still has the same bytes, published days if their raw files can be had, runs if a
    later one made their day, recordings if their day was converted; what else is the last copy
    stays. A lake that is a folder is yours and never touched, but for recordings. What killed runs
    left and what no reader can need goes too.

    Exit code 0: done, or shown. 1: something could not be looked at or removed; run it again. 2:
    wrong usage, or it could not be done.
    """
    from market_pipeline.config.settings import load_settings
    from market_pipeline.stages.retention.candidates import find_candidates
    from market_pipeline.stages.retention.prune import plan

    if dry_run and yes:
        raise typer.BadParameter("give one of --dry-run and --yes", param_hint="--yes")
    settings = load_settings()
    retention = _retention(settings, older_than, also_last_copies=also_last_copies)
    out = errors_console() if as_json else console()
    with ExitStack() as stack:
        found = find_candidates(settings, retention, _store(settings, stack))
    planned = plan(found.candidates, retention)
    keep_run_days = older_than or settings.keep_run_days
    runs = _old_runs(keep_run_days, planned, retention)
    if not as_json:
        _show(out, planned, retention, keep_run_days, len(runs))
    _note_horizon(retention.keep_derived_days, settings.lake_horizon_days)
    failed = _remove(planned, runs, settings, out) if yes else []
    _show_failures(found.failures, failed)
    if as_json:
        of_runs = {"keep_run_days": keep_run_days, "runs": len(runs), "removed": yes}
        record = _record(retention, of_runs, planned, found.failures, failed)
        typer.echo(json.dumps(record, indent=2))
    else:
        _show_end(out, planned, len(runs), done=yes)
    raise typer.Exit(1 if found.failures or failed else 0)


def _retention(settings: Settings, older_than: int | None, *, also_last_copies: bool) -> Retention:
    from market_pipeline.stages.retention.prune import Retention

    return Retention(
        today=datetime.now(UTC).date(),
        keep_raw_days=older_than or settings.keep_raw_days,
        keep_derived_days=older_than or settings.keep_derived_days,
        also_last_copies=also_last_copies,
        keep_recording_days=settings.capture.keep_days,
    )


def _record(
    retention: Retention,
    of_runs: Mapping[str, JsonValue],
    planned: Sequence[Planned],
    not_looked_at: Sequence[str],
    failed: Sequence[tuple[Candidate, str]],
) -> dict[str, JsonValue]:
    return {
        "keep_raw_days": retention.keep_raw_days,
        "keep_derived_days": retention.keep_derived_days,
        "keep_recording_days": retention.keep_recording_days,
        **of_runs,
        "items": [each.as_json() for each in planned],
        "not_looked_at": not_looked_at,
        "not_removed": [f"{each.name} {each.day}: {reason}" for each, reason in failed],
    }


def _show_failures(not_looked_at: Sequence[str], failed: Sequence[tuple[Candidate, str]]) -> None:
    """On standard error, what could not be looked at and what could not be removed."""
    for failure in not_looked_at:
        errors_console().print(f"not looked at: {failure}", soft_wrap=True)
    for candidate, reason in failed:
        text = f"not removed: {candidate.name} {candidate.instrument} {candidate.day}: {reason}"
        errors_console().print(text, soft_wrap=True)


def _note_horizon(keep_days: int | None, horizon_days: int) -> None:
    """Says so if the sensor would have days run again that go."""
    if keep_days is not None and keep_days <= horizon_days:
        errors_console().print(
            f"note: the sensor looks {horizon_days:,} days back (PIPELINE_LAKE_HORIZON_DAYS), and "
            f"would have days run again that are kept for {keep_days:,}",
            soft_wrap=True,
        )


def _remove(
    planned: list[Planned], runs: list[str], settings: Settings, out: Console
) -> list[tuple[Candidate, str]]:
    """Removes what goes, after asking for last copies; what could not be removed, and why."""
    from market_pipeline.audit.record import record
    from market_pipeline.stages.retention.prune import carry_out
    from market_pipeline.warehouse.layout import Warehouse

    _confirm(planned)
    with out.status(Text("removing")) as status:
        failed = carry_out(
            planned,
            Warehouse(settings.data_dir, settings.lock_timeout_seconds),
            progress=lambda path: status.update(Text(f"removing {path}")),
        )
        if runs:
            status.update(Text(f"removing the history of {len(runs):,} runs"))
            record(settings.data_dir, "delete", {"kind": "runs", "runs": runs})
            _forget_runs(runs)
    return failed


def _store(settings: Settings, stack: ExitStack) -> Store | StoreError | None:
    """The store, or why there is none to ask: then nothing can be proven to be there."""
    if settings.store_address is None:
        return None
    from market_pipeline.store.client import open_store
    from market_pipeline.telemetry.metrics.recording import begin

    try:
        begin(settings, "command")
        store = open_store(settings)
        return stack.enter_context(store) if store is not None else None
    except StoreError as error:
        return error


def _old_runs(keep_days: int | None, planned: Sequence[Planned], retention: Retention) -> list[str]:
    """The runs whose history goes; none unless a setting or an option says how long it is kept."""
    if keep_days is None:
        return []
    from market_pipeline.defs.history import old_runs

    stays = {
        f"{each.candidate.day}"
        for each in planned
        if each.candidate.kind == "derived" and not each.goes
    }
    kept_from = retention.keeps_from("derived")
    with dagster_instance() as instance:
        return old_runs(
            instance,
            datetime.now(UTC) - timedelta(days=keep_days),
            lambda day: kept_from is None or day >= f"{kept_from}" or day in stays,
        )


def _forget_runs(run_ids: Sequence[str]) -> None:
    from market_pipeline.defs.history import forget_runs

    with dagster_instance() as instance:
        forget_runs(instance, run_ids)


def _confirm(planned: Sequence[Planned]) -> None:
    """Has the number of last copies typed before they go for good."""
    last = [each for each in planned if each.goes and each.candidate.last_copy is not None]
    if not last:
        return
    size = bytes_text(sum(each.candidate.bytes for each in last))
    text = f"{len(last):,} of these are last copies ({size}): nothing can give them again."
    typer.echo(text, err=True)
    typed = typer.prompt("Type their number to remove them, anything else to stop", err=True)
    if typed.strip().replace(",", "") != str(len(last)):
        raise typer.BadParameter(
            "the number is another one, and nothing was removed", param_hint="--also-last-copies"
        )


def _show(
    out: Console,
    planned: Sequence[Planned],
    retention: Retention,
    keep_run_days: int | None,
    runs: int,
) -> None:
    for name, keep, due in (
        ("raw days", retention.keep_raw_days, ""),
        ("derived days", retention.keep_derived_days, ""),
        ("recordings", retention.keep_recording_days, ""),
        ("history of runs", keep_run_days, f", {runs:,} go"),
    ):
        kept = "kept for ever" if keep is None else f"kept for {keep:,} days{due}"
        out.print(f"{name}: {kept}", highlight=False)
    if not planned:
        return
    table = Table(title_justify="left", title="What is due")
    for column in ("", "what", "of"):
        table.add_column(column, no_wrap=True)
    table.add_column("days", overflow="fold")
    for column in ("files", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    for (goes, kind, name, instrument, why), group in _grouped(planned):
        days = [each.candidate.day for each in group if each.candidate.day is not None]
        example = next((each.candidate.example for each in group if each.candidate.example), None)
        table.add_row(
            Text("goes", "red") if goes else Text("stays", "green"),
            f"{kind} {name}".strip(),
            instrument,
            ranges_text(days) if days else "",
            f"{sum(each.candidate.files for each in group):,}",
            bytes_text(sum(each.candidate.bytes for each in group)),
            f"{why} ({example})" if example else why,
        )
    out.print(table)


def _grouped(
    planned: Sequence[Planned],
) -> list[tuple[tuple[bool, str, str, str, str], list[Planned]]]:
    def key(each: Planned) -> tuple[bool, str, str, str, str]:
        candidate = each.candidate
        name = "" if candidate.kind in _NAMELESS else candidate.name
        return each.goes, candidate.kind, name, candidate.instrument or "", each.why

    order = sorted(
        planned, key=lambda each: (not each.goes, _KINDS.index(each.candidate.kind), key(each)[1:])
    )
    return [(of, list(group)) for of, group in groupby(order, key)]


def _show_end(out: Console, planned: Sequence[Planned], runs: int, *, done: bool) -> None:
    goes = [each.candidate for each in planned if each.goes]
    if not goes and not runs:
        out.print("Nothing to remove.")
        return
    size = bytes_text(sum(each.bytes for each in goes if each.kind != "derived"))
    later = bytes_text(sum(each.bytes for each in goes if each.kind == "derived"))
    verb = "Freed" if done else "Would free"
    text = f"{verb} {size} at once"
    if any(each.kind == "derived" for each in goes):
        text += (
            f"; {later} of published files stay a week for running readers, and the first prune "
            "after that frees them"
        )
    out.print(f"{text}.", highlight=False, soft_wrap=True)
    if not done:
        out.print("Nothing was removed: give --yes for that.")
