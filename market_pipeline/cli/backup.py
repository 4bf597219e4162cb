"""`market-pipeline backup`: states of what could not be made again, and folders made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from market_pipeline.cli.options import AsJson
from market_pipeline.cli.output import bytes_text, console, errors_console
from market_pipeline.errors import MarketPipelineError

if TYPE_CHECKING:
    from market_pipeline.backup.restore import Checked
    from market_pipeline.config.settings import Settings
    from market_pipeline.security.ring import KeyRing

__all__ = ["backup"]

backup = typer.Typer(
    name="backup",
    help="Make, list, verify, restore and prune backups.",
    no_args_is_help=True,
)
State = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A state, as `backup list` shows it; the newest by default."),
]


@backup.command("create")
def create(
    raw: Annotated[
        bool, typer.Option("--raw", help="Also the raw days of the lake, and all else in it.")
    ] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="Also the published tables, which runs make again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy what is new of what never changes, and archive what changes; nothing is stopped for it.

    Copied once: closed recordings, golden samples, full files of the audit log, rows of live
    captures. Archived each time: the working database, alerts, Dagster's history, the newest audit
    entries, the ring of keys, sealed secrets, the instruments file and `config.yaml`. Never `.env`,
    nor a master key: keep these elsewhere, without them nobody opens what is sealed.

    Exit code 0: made. 1: made, and something is left out. 2: wrong usage, or it could not be made.
    """
    from market_pipeline.backup.create import create as create_state
    from market_pipeline.config.env_copies import dagster_home

    settings = _settings()
    home = dagster_home()
    with _shown(as_json=as_json) as progress:
        made = create_state(
            settings, Path(home) if home else None, raw=raw, tables=tables, progress=progress
        )
    if as_json:
        typer.echo(json.dumps(made._asdict(), indent=2))
    else:
        console().print(
            f"{made.state}: {made.copied:,} files copied ({bytes_text(made.copied_bytes)}), "
            f"{made.there:,} were there, {made.archived:,} archived "
            f"({bytes_text(made.archived_bytes)})",
            soft_wrap=True,
        )
    _show_faults(made.left_out, "left out")
    raise typer.Exit(1 if made.left_out else 0)


@backup.command("list")
def list_states(as_json: AsJson = False) -> None:
    """Show every state, oldest first.

    Exit code 0: shown. 1: there is none, or one cannot be read. 2: wrong usage.
    """
    from market_pipeline.backup.states import States

    _, folder, ring = _opened()
    states, shown, faults = States(folder, ring), [], []
    for name in states.names():
        try:
            manifest = states.read(name)
        except (MarketPipelineError, OSError) as error:
            faults.append(str(error))
            continue
        size = sum(entry.size for entry in manifest.entries)
        shown.append(
            {
                "state": name,
                "files": len(manifest.entries),
                "bytes": size,
                "left_out": len(manifest.left_out),
                "made_by": manifest.by,
            }
        )
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
    else:
        _show_states(shown)
    _show_faults(faults, "not read")
    raise typer.Exit(1 if faults or not shown else 0)


@backup.command("verify")
def verify(
    state: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this state; all by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read every byte of all states, open what is sealed, and compare it with what was copied.

    Exit code 0: all is as it was copied. 1: something is not, and is named, or there is no state.
    2: wrong usage.
    """
    from market_pipeline.backup.restore import verify as verify_states
    from market_pipeline.backup.states import States

    settings, folder, ring = _opened()
    names = [state] if state else States(folder, ring).names()
    _record(settings, folder, "verified", names)
    with _shown(as_json=as_json) as progress:
        found = verify_states(folder, ring, names, progress)
    _show(found, "verified", as_json=as_json)
    raise typer.Exit(1 if found.faults or not names else 0)


@backup.command("restore")
def restore(
    target: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="An empty folder, or one that is made.")
    ],
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Make folders of a state again: `data`, `dagster_home`, `lake`, and the files of settings.

    Each file has the bytes that were copied, or is left out and named. Point PIPELINE_DATA_DIR and
    DAGSTER_HOME there, and go on.

    Exit code 0: restored. 1: restored, but for what is not whole in the backup, or there is no
    state. 2: wrong usage, a folder that is not empty, or no key opens the backup.
    """
    from market_pipeline.backup.restore import restore as restore_state
    from market_pipeline.backup.states import States

    settings, folder, ring = _opened()
    names = [state] if state else States(folder, ring).names()[-1:]
    if not names:
        errors_console().print(f"There is no state in {folder}.", soft_wrap=True)
        raise typer.Exit(1)
    _record(settings, folder, f"restored to {target.absolute()}", names)
    with _shown(as_json=as_json) as progress:
        found = restore_state(folder, ring, names[0], target.absolute(), progress)
    _show(found, "restored", as_json=as_json)
    raise typer.Exit(1 if found.faults else 0)


@backup.command("prune")
def prune(
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the copies that no state names any more, and with --yes remove them.

    They are of files that were pruned, or written to, before the oldest state was made. `create`
    removes none: a copy may be the last one there is.

    Exit code 0: done, or shown. 2: wrong usage, or a state cannot be read, so nobody knows.
    """
    from market_pipeline.audit.record import record
    from market_pipeline.backup.restore import unnamed
    from market_pipeline.backup.states import States
    from market_pipeline.security.stored import remove_stored, stored_size
    from market_pipeline.warehouse.locks import locking

    settings, folder, ring = _opened()
    with locking(folder, name="the backup folder"):
        found = list(unnamed(folder, ring, States(folder, ring).names()))
        size = sum(stored_size(path) for path in found)
        if yes and found:
            what = {
                "kind": "backup",
                "folder": str(folder),
                "copies": [each.name for each in found],
            }
            record(settings.data_dir, "delete", what)
            for path in found:
                remove_stored(path)
    if as_json:
        listed = [str(path) for path in found]
        typer.echo(json.dumps({"copies": listed, "bytes": size, "removed": yes}, indent=2))
    else:
        done = "removed" if yes else "would go; --yes removes them"
        console().print(f"{len(found):,} copies, {bytes_text(size)}: {done}", soft_wrap=True)


def _settings() -> Settings:
    from market_pipeline.config.settings import load_settings

    return load_settings()


def _opened() -> tuple[Settings, Path, KeyRing | None]:
    """The settings, the backup folder, and the keys that open it."""
    from market_pipeline.backup.create import backup_folder
    from market_pipeline.backup.restore import ring_for

    settings = _settings()
    folder = backup_folder(settings)
    return settings, folder, ring_for(settings, folder)


def _record(settings: Settings, folder: Path, done: str, names: list[str]) -> None:
    from market_pipeline.audit.record import record

    what = {"kind": "backup", "folder": str(folder), "done": done, "states": names}
    record(settings.data_dir, "read", what)


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Callable[[str], object]]:
    """Where what is done next is shown."""
    out = errors_console() if as_json else console()
    with out.status(Text("looking")) as status:
        yield lambda text: status.update(Text(text))


def _show(found: Checked, done: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found._asdict(), indent=2))
    else:
        text = f"{found.files:,} files {done}, {bytes_text(found.bytes)}"
        console().print(f"{text}, of {', '.join(found.states) or 'no state'}", soft_wrap=True)
    _show_faults(found.faults, f"not {done}")


def _show_faults(faults: list[str], what: str) -> None:
    for fault in faults:
        errors_console().print(f"{what}: {fault}", soft_wrap=True)


def _show_states(shown: list[dict[str, Any]]) -> None:
    table = Table(title="States", title_justify="left")
    table.add_column("state", no_wrap=True)
    for column in ("files", "size", "left out"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in shown:
        counts = (f"{each['files']:,}", bytes_text(each["bytes"]), f"{each['left_out']:,}")
        table.add_row(each["state"], *counts)
    console().print(table if shown else "No state; `market-pipeline backup create` makes one.")
