"""`market-pipeline prune`: removes days that are older than they are to be kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from market_pipeline.cli.output import bytes_text, console, errors_console, ranges_text
from market_pipeline.errors import StoreError
from market_pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from market_pipeline.stages.prune import Held, Planned
    from market_pipeline.store.client import Store

__all__ = ["prune"]

_KINDS = ("derived", "raw", "quarantine", "staging", "replaced")


def prune(
    older_than: Annotated[
        int | None,
        typer.Option(min=1, metavar="DAYS", help="Days to keep, raw and derived, for this once."),
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Show what is older than it is to be kept, and with --yes remove it.

    PIPELINE_KEEP_RAW_DAYS and PIPELINE_KEEP_DERIVED_DAYS say how long; without them days are kept
    for ever. Raw files of a store go if the store still has the same bytes, published days if their
    raw files can be had, and what else is the last copy stays. A lake that is a folder is yours and
    never touched. What killed runs left and what no reader can need goes too.

    Exit code 0: done, or shown. 1: something could not be looked at or removed; run it again. 2:
    wrong usage, or it could not be done.
    """
    if dry_run and yes:
        raise typer.BadParameter("give one of --dry-run and --yes", param_hint="--yes")
    # They take long to load, which `--help` need not wait for.
    from market_pipeline.lake.layout import Warehouse  # noqa: PLC0415
    from market_pipeline.stages.holdings import take_stock  # noqa: PLC0415
    from market_pipeline.stages.prune import Retention, carry_out, plan  # noqa: PLC0415

    settings = load_settings()
    retention = Retention(
        today=datetime.now(UTC).date(),
        keep_raw_days=older_than or settings.keep_raw_days,
        keep_derived_days=older_than or settings.keep_derived_days,
        also_last_copies=also_last_copies,
    )
    out = errors_console() if as_json else console()
    with ExitStack() as stack:
        store = _store(settings)
        if store is not None and not isinstance(store, StoreError):
            stack.enter_context(store)
        stock = take_stock(settings, retention, store)
    planned = plan(stock.held, retention)
    if not as_json:
        _show(out, planned, retention.keep_raw_days, retention.keep_derived_days)
    kept = retention.keep_derived_days
    if kept is not None and kept <= settings.lake_horizon_days:
        errors_console().print(
            f"note: the sensor looks {settings.lake_horizon_days:,} days back "
            f"(PIPELINE_LAKE_HORIZON_DAYS), and would have days run again that are kept for "
            f"{kept:,}",
            markup=False,
            soft_wrap=True,
        )
    for failure in stock.failures:
        errors_console().print(f"not looked at: {failure}", markup=False, soft_wrap=True)
    failed: list[tuple[Held, str]] = []
    if yes:
        _confirm(planned)
        warehouse = Warehouse(settings.data_dir)
        with out.status("removing") as status:
            failed = carry_out(
                planned,
                warehouse,
                timeout_seconds=settings.lock_timeout_seconds,
                progress=lambda told: status.update(f"removing {told}"),
            )
    for held, reason in failed:
        told = f"not removed: {held.name} {held.instrument} {held.day}: {reason}"
        errors_console().print(told, markup=False, soft_wrap=True)
    if as_json:
        record = {
            "keep_raw_days": retention.keep_raw_days,
            "keep_derived_days": retention.keep_derived_days,
            "removed": yes,
            "items": [each.as_json() for each in planned],
            "not_looked_at": stock.failures,
            "not_removed": [f"{held.name} {held.day}: {reason}" for held, reason in failed],
        }
        typer.echo(json.dumps(record, indent=2))
    else:
        _show_end(out, planned, done=yes)
    raise typer.Exit(1 if stock.failures or failed else 0)


def _store(settings: Settings) -> Store | StoreError | None:
    """The store, or why there is none to ask: then nothing can be proven to be there."""
    if settings.store_address is None:
        return None
    from market_pipeline.store.client import open_store  # noqa: PLC0415

    try:
        return open_store(settings)
    except StoreError as error:
        return error


def _confirm(planned: Sequence[Planned]) -> None:
    """Has the number of last copies typed before they go for good."""
    last = [each for each in planned if each.goes and each.held.last_copy is not None]
    if not last:
        return
    size = bytes_text(sum(each.held.bytes for each in last))
    told = f"{len(last):,} of these are last copies ({size}): nothing can give them again."
    typer.echo(told, err=True)
    typed = typer.prompt("Type their number to remove them, anything else to stop", err=True)
    if typed.strip().replace(",", "") != str(len(last)):
        raise typer.BadParameter(
            "the number is another one, and nothing was removed", param_hint="--also-last-copies"
        )


def _show(
    out: Console, planned: Sequence[Planned], raw_days: int | None, derived_days: int | None
) -> None:
    for name, keep in (("raw", raw_days), ("derived", derived_days)):
        kept = "kept for ever" if keep is None else f"kept for {keep:,} days"
        out.print(f"{name} days: {kept}", highlight=False)
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
        days = [each.held.day for each in group if each.held.day is not None]
        example = next((each.held.example for each in group if each.held.example), None)
        table.add_row(
            "[red]goes[/]" if goes else "[green]stays[/]",
            f"{kind} {name}".strip(),
            instrument,
            ranges_text(days) if days else "",
            f"{sum(each.held.files for each in group):,}",
            bytes_text(sum(each.held.bytes for each in group)),
            (f"{why} ({example})" if example else why).replace("[", "\\["),
        )
    out.print(table)


def _grouped(
    planned: Sequence[Planned],
) -> list[tuple[tuple[bool, str, str, str, str], list[Planned]]]:
    def key(each: Planned) -> tuple[bool, str, str, str, str]:
        held = each.held
        name = "" if held.kind in {"staging", "quarantine", "derived"} else held.name
        return each.goes, held.kind, name, held.instrument or "", each.why

    order = sorted(
        planned, key=lambda each: (not each.goes, _KINDS.index(each.held.kind), key(each)[1:])
    )
    return [(of, list(group)) for of, group in groupby(order, key)]


def _show_end(out: Console, planned: Sequence[Planned], *, done: bool) -> None:
    goes = [each.held for each in planned if each.goes]
    if not goes:
        out.print("Nothing to remove.")
        return
    size = bytes_text(sum(each.bytes for each in goes if each.kind != "derived"))
    later = bytes_text(sum(each.bytes for each in goes if each.kind == "derived"))
    verb = "Freed" if done else "Would free"
    told = f"{verb} {size} at once"
    if any(each.kind == "derived" for each in goes):
        told += (
            f"; {later} of published files stay a week for running readers, and the first prune "
            "after that frees them"
        )
    out.print(f"{told}.", highlight=False, soft_wrap=True)
    if not done:
        out.print("Nothing was removed: give --yes for that.")
