"""`market-pipeline audit`: what was read and written, and whether the log of it can be trusted."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from os.path import realpath
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from market_pipeline.cli.options import AsJson
from market_pipeline.cli.output import console, errors_console
from market_pipeline.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

    from market_pipeline.audit.chain import Entry
    from market_pipeline.audit.verify import Anchor, Verified

__all__ = ["audit"]

audit = typer.Typer(
    name="audit",
    help="Verify and show the log of every access to data.",
    no_args_is_help=True,
)

_SHOWN_WHAT = 120
_SHOWN_RANGES = 10


@audit.command("verify")
def verify_log(
    anchor: Annotated[
        list[str] | None,
        typer.Option(metavar="SEQUENCE:CODE", help="One noted elsewhere; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every entry of the audit log, and that it has the anchors of the runs.

    Exit code 0: all are as they were written, and every anchor is there. 1: something was changed,
    deleted, moved, put in or cut off; it says where. 2: there is no log, or its key is not set.
    """
    from market_pipeline.audit.record import AUDIT_FOLDER, chain_key, outdated_settings
    from market_pipeline.audit.verify import verify
    from market_pipeline.config.settings import load_settings

    settings = load_settings()
    folder = settings.data_dir / AUDIT_FOLDER
    given = [_given(each) for each in anchor or ()]
    noted = [*_noted_by_runs(folder), *given]
    _require(folder, noted)
    found = verify(folder, key := chain_key(settings, settings.data_dir), noted)
    outdated = outdated_settings(settings.data_dir, found.settings)
    if outdated:  # or a component has started while the log was read
        outdated = outdated_settings(settings.data_dir, verify(folder, key).settings)
    found.faults += outdated
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        _show(found)
    kinds = {each.kind for each in found.faults}
    raise typer.Exit(2 if kinds == {"unchecked"} else 1 if kinds else 0)


@audit.command("show")
def show(
    last: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 50,
    action: Annotated[str | None, typer.Option(help="Only read, write, delete and so on.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries of the audit log, unchecked.

    Exit code 0: shown. 1: there is none. 2: wrong usage, or it cannot be read.
    """
    from market_pipeline.audit.chain import ACTIONS
    from market_pipeline.audit.record import AUDIT_FOLDER
    from market_pipeline.audit.verify import read_entries
    from market_pipeline.config.settings import load_settings

    if action is not None and action not in ACTIONS:
        raise typer.BadParameter(f"expected one of {', '.join(ACTIONS)}", param_hint="--action")
    entries = read_entries(load_settings().data_dir / AUDIT_FOLDER)
    newest = deque((each for each in entries if action in (None, each.action)), maxlen=last)
    if as_json:
        typer.echo(json.dumps([_described(each) for each in newest], indent=2))
    elif newest:
        console().print(_table(newest))
    else:
        console().print("The audit log has no such entry.")
    raise typer.Exit(0 if newest else 1)


def _given(text: str) -> Anchor:
    from market_pipeline.audit.verify import Anchor

    sequence, _, code = text.partition(":")
    if not (sequence.isdecimal() and code):
        raise typer.BadParameter("expected SEQUENCE:CODE", param_hint="--anchor")
    return Anchor(int(sequence), code, "--anchor")


def _noted_by_runs(folder: Path) -> Iterator[Anchor]:
    """The anchors of this log in Dagster's event log, if there is one."""
    from market_pipeline.audit.verify import Anchor
    from market_pipeline.cli.days import dagster_home, dagster_instance

    if not dagster_home():
        return
    from market_pipeline.defs.anchors import noted_anchors

    with dagster_instance() as instance:
        for run_id, noted in noted_anchors(instance):
            # The folder may be named by way of a link, then or now.
            if realpath(noted["folder"]) == realpath(folder):
                yield Anchor(noted["sequence"], noted["code"], f"run {run_id}")


def _require(folder: Path, noted: Sequence[Anchor]) -> None:
    """A log that is gone is a fault where anchors say that there was one."""
    from market_pipeline.audit.log import log_files

    if not log_files(folder) and not noted:
        raise AuditError(
            "There is no audit log",
            next_step="Check PIPELINE_DATA_DIR and PIPELINE_AUDIT.",
            file=folder,
        )


def _show(found: Verified) -> None:
    out = console()
    for each in found.faults:
        where = f"{each.file}:{each.line}: " if each.file else ""
        errors_console().print(f"{each.kind}: {where}{each.found}", soft_wrap=True)
    out.print(
        f"{found.entries:,} entries in {found.files:,} files, the last is {found.last:,}; "
        f"{found.anchors:,} anchors, the last one confirms entry {found.anchored:,}",
        soft_wrap=True,
    )
    if found.plain:
        out.print(
            f"{found.plain:,} entries were written without a master key: their order is proven as "
            "far as an anchor or an entry with a key follows, and no author",
            soft_wrap=True,
        )
    if found.unproven:
        ranges = [f"{first:,} to {last:,}" for first, last in found.unproven[-_SHOWN_RANGES:]]
        more = len(found.unproven) - len(ranges)
        out.print(
            f"behind entries with a key are some without: {', '.join(ranges)}"
            f"{f' and {more:,} ranges before' if more else ''}; they are of processes without the "
            "master key, or of whoever may write there",
            soft_wrap=True,
        )
    if found.torn_bytes:
        out.print(
            f"{found.torn_bytes:,} bytes at the end are of a process that was killed; the next "
            "entry accounts for them",
            soft_wrap=True,
        )
    out.print(f"{len(found.faults):,} faults" if found.faults else "No fault was found.")


def _table(entries: Sequence[Entry] | deque[Entry]) -> Table:
    table = Table(title="Audit", title_justify="left")
    for name in ("entry", "time", "user", "by", "why", "action"):
        table.add_column(name, no_wrap=True)
    table.add_column("what", overflow="fold", ratio=1)
    for each in entries:
        what = json.dumps(each.what)
        table.add_row(
            f"{each.sequence:,}",
            each.time[:19],
            each.user,
            each.component,
            each.why,
            each.action,
            what if len(what) <= _SHOWN_WHAT else f"{what[:_SHOWN_WHAT]}…",
        )
    return table


def _described(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}
