"""`market-pipeline recording`: the hourly files of a capture: listed, checked, closed, exported.

Their klines are compared with the bars that were published.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_pipeline.cli.options import AsJson
from market_pipeline.cli.output import console, errors_console

if TYPE_CHECKING:
    from market_pipeline.security.ring import KeyRing, Purpose
    from market_pipeline.sources.recording.check import CheckedFile
    from market_pipeline.sources.recording.reader import Damage, Recovered

__all__ = ["recording"]

recording = typer.Typer(
    name="recording",
    help="List, check, close, compare and export the hourly files of a capture.",
    no_args_is_help=True,
)
Places = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PATH]...", exists=True, help="Files or folders; by default those of the lake."
    ),
]


_RECORDINGS = "recordings"
"""What entries of the audit log call them."""


@recording.command("list")
def list_recordings(paths: Places = None, as_json: AsJson = False) -> None:
    """Show what is recorded, a line for each symbol and day.

    A journal that a recorder left, which has what files may lack, counts as a file left open.

    Exit code 0: every file is closed. 1: one is being written, was left open or cannot be read, or
    there is none. 2: wrong usage.
    """
    from market_pipeline.cli._recorded_days import days_table, recorded_days
    from market_pipeline.sources.recording.check import read_facts
    from market_pipeline.sources.recording.journal import JOURNAL_SUFFIX, left_journals

    journals = (
        path
        for place in filter(Path.is_dir, _places(paths))
        for path in sorted(place.rglob(f".*{JOURNAL_SUFFIX}"))
    )
    # Journals first: what one has may be in a file by the time that files are looked at.
    left = list(left_journals(journals))
    days = recorded_days((read_facts(path) for path in _found(paths)), left)
    if as_json:
        typer.echo(json.dumps(days, indent=2))
    elif days:
        console().print(days_table(days))
    else:
        console().print("No recording; `market-pipeline capture` makes some.")
    if left and not as_json:
        console().print(
            "What journals have may be in no file yet: the next start of the recorder on the host "
            "that left them puts it there; so does `market-pipeline recording recover`, also where "
            "the host has another name now.",
            soft_wrap=True,
        )
    are_closed = all(file["state"].is_closed for day in days for file in day["files"])
    raise typer.Exit(0 if days and are_closed else 1)


@recording.command("verify")
def verify_recordings(paths: Places = None, as_json: AsJson = False) -> None:
    """Read every byte of every file, and say which are not as they were written, and where.

    A file that is being written is read up to its last whole block and is no fault.

    Exit code 0: all are as written. 1: one is damaged or was left open, or there is none. 2: wrong
    usage, or a file cannot be opened.
    """
    from market_pipeline.sources.recording.check import CheckedFile, FileState, check_recording

    checked, wrong = list[CheckedFile](), 0
    for path in _found(paths):
        found = check_recording(path)
        is_live = found.state is FileState.WRITTEN
        is_wrong = found.state is FileState.LEFT_OPEN or bool(found.damages and not is_live)
        checked.append(found)
        wrong += is_wrong
        if not as_json:
            _show_checked(found, is_wrong=is_wrong)
    if as_json:
        typer.echo(json.dumps([_checked_record(each) for each in checked], indent=2))
    else:
        console().print(f"{len(checked):,} files, {wrong:,} not as written", highlight=False)
    raise typer.Exit(0 if checked and not wrong else 1)


@recording.command("recover")
def recover_recordings(paths: Places = None, as_json: AsJson = False) -> None:
    """Close the files that a process left open, each at its last whole block.

    What that process had received and not yet put into them is taken from its journal.
    The next start of the recorder does the same. A file that is being written is left alone. One
    that was closed is sealed where the settings seal captures.

    Exit code 0: no file is left open. 1: one is damaged before its end and stays as it is. 2: wrong
    usage, or what the machine refuses.
    """
    from market_pipeline.errors import LakeFileError, WarehouseBusyError
    from market_pipeline.sources.recording import recover
    from market_pipeline.sources.recording.format import PARTIAL_SUFFIX
    from market_pipeline.sources.recording.journal import recover_journals
    from market_pipeline.sources.recording.reader import Damage

    ring = _sealing("captures")
    outcomes, damages = list[dict[str, Any]](), list[Damage]()
    for folder in filter(Path.is_dir, _places(paths)):
        for done in recover_journals(folder, on_damage=damages.append):
            _record_write(_RECORDINGS, done.closed.path)
            outcomes.append(_closed_record(done, ring))
    outcomes += [{"file": str(e.path), "outcome": "damaged", "error": e.found} for e in damages]
    for path in _found(paths):
        if not path.name.endswith(PARTIAL_SUFFIX):
            continue
        _record_write(_RECORDINGS, path)
        try:
            closed = recover(path)
        except FileNotFoundError:
            continue  # its writer has closed it meanwhile
        except WarehouseBusyError:
            outcomes.append({"file": str(path), "outcome": "being written"})
        except LakeFileError as error:
            outcomes.append({"file": str(path), "outcome": "damaged", "error": str(error)})
        else:
            removed = {"file": str(path), "outcome": "removed: it had no whole block"}
            outcomes.append(removed if closed is None else _closed_record(closed, ring))
    if as_json:
        typer.echo(json.dumps(outcomes, indent=2))
    else:
        for outcome in outcomes:
            facts = ", ".join(
                f"{name} {value}" for name, value in outcome.items() if name != "file"
            )
            console().print(f"{outcome['file']}: {facts}", soft_wrap=True, highlight=False)
        console().print(f"{len(outcomes):,} files were not closed", highlight=False)
    raise typer.Exit(int(any(each["outcome"] == "damaged" for each in outcomes)))


def _closed_record(done: Recovered, ring: KeyRing | None) -> dict[str, Any]:
    from market_pipeline.security.sealing import seal_in_place

    if ring is not None:
        seal_in_place(done.closed.path, ring, "captures")
    return {
        "file": str(done.closed.path),
        "outcome": "closed",
        "records": done.closed.records,
        "lost_bytes": done.lost_bytes,
        "sha256": done.closed.sha256,
    }


@recording.command("export")
def export_recordings(
    out: Annotated[Path, typer.Argument(metavar="OUT.gz", help="The file to write.")],
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", exists=True, help="Files or folders of one symbol."),
    ],
    as_json: AsJson = False,
) -> None:
    """Write recordings of one symbol as hftbacktest's collector does: `<receive ns> <frame>`, gzip.

    Frames of all connections and hosts are written once each, in order. A file that is there is
    never replaced. Damaged bytes are passed over. Where the settings seal exports, the file is
    OUT.gz.sealed.

    Exit code 0: written. 1: written, without bytes that are damaged. 2: wrong usage, nothing to
    write, or a file of that name is there.
    """
    from market_pipeline.security.stored import is_stored, sealed_path
    from market_pipeline.sources.recording.heads import Heads, venue_of
    from market_pipeline.sources.recording.reader import read_header
    from market_pipeline.sources.recording.union import (
        by_host,
        export_collector_form,
        received,
        union,
    )

    files = _found(paths)
    if not files:
        raise typer.BadParameter("there is no recording", param_hint="PATH")
    ring = _sealing("exports")
    if is_stored(out) or out.exists():
        raise typer.BadParameter(f"{out} is there; name another file", param_hint="OUT.gz")
    damages: list[Damage] = []
    of = {(header.exchange, header.symbol) for header in map(read_header, files)}
    if len(of) > 1:
        raise typer.BadParameter(f"recordings of {len(of)} symbols", param_hint="PATH")
    heads = Heads(venue_of(of.pop()[0]))
    frames = union(received(by_host(files), damages.append), heads.update_id)
    _record_write("export", out)
    count = export_collector_form(frames, out, ring)
    out = out if ring is None else sealed_path(out)
    for damage in damages:
        _passed_over(damage)
    if as_json:
        record = {"file": str(out), "frames": count, "damaged": len(damages)}
        typer.echo(json.dumps(record, indent=2))
    else:
        console().print(f"{out}: {count:,} frames", soft_wrap=True, highlight=False)
    raise typer.Exit(1 if damages else 0)


@recording.command("klines")
def compare_klines(paths: Places = None, as_json: AsJson = False) -> None:
    """Compare the closed klines that a venue sent with the published one-minute bars.

    Open, high, low, close, volume, buy volume and number of trades are to be the same.

    Exit code 0: all are. 1: one differs, or has no published bar, or there is no kline. 2: wrong
    usage, or a file cannot be read.
    """
    from market_pipeline.sources.recording.reader import read_header

    headers = [(read_header(path), path) for path in _found(paths)]
    of_symbol: dict[tuple[str, str], list[Path]] = {}
    for header, path in headers:
        of_symbol.setdefault((header.exchange, header.symbol), []).append(path)
    compared = [_compared_klines(*of, files) for of, files in sorted(of_symbol.items())]
    if as_json:
        typer.echo(json.dumps(compared, indent=2))
    else:
        for each in compared:
            numbers = ", ".join(
                f"{each[name]:,} {name.replace('_', ' ')}"
                for name in ("equal", "different", "not_published")
            )
            line = f"{each['exchange']} {each['symbol']}: {each['klines']:,} klines, {numbers}"
            console().print(line, soft_wrap=True, highlight=False)
            for minute, found in each["differences"].items():
                text = f"  {minute}: {'; '.join(found)}"
                console().print(text, style="red", soft_wrap=True, highlight=False)
    klines = sum(each["klines"] for each in compared)
    raise typer.Exit(0 if klines and klines == sum(each["equal"] for each in compared) else 1)


def _compared_klines(exchange: str, symbol: str, files: list[Path]) -> dict[str, Any]:
    from market_pipeline.capture.klines import (
        KLINE_SECONDS,
        published_differences,
        recorded_klines,
    )
    from market_pipeline.capture.scales import is_of
    from market_pipeline.config.instruments import load_instruments
    from market_pipeline.config.settings import load_settings
    from market_pipeline.errors import MissingDataError
    from market_pipeline.notebook.metric_loaders import load_bars

    klines = recorded_klines(files, exchange, _passed_over)
    bars = None
    instruments = load_instruments(load_settings().instruments_file)
    ours = [each.id for each in instruments if each.venue == exchange and is_of(each, symbol)]
    if klines and ours:
        first, last = (
            datetime.fromtimestamp(ns // 10**9, UTC) for ns in (min(klines), max(klines))
        )
        with suppress(MissingDataError):
            bars = load_bars(
                *(ours[0], first.date(), last.date()), width_seconds=KLINE_SECONDS, missing="skip"
            ).collect()
    found = {} if bars is None else published_differences(klines, bars)
    differences = {
        f"{datetime.fromtimestamp(start_ns // 10**9, UTC):%Y-%m-%d %H:%M}": each
        for start_ns, each in found.items()
        if each
    }
    equal = sum(each == [] for each in found.values())
    return {
        "exchange": exchange,
        "symbol": symbol,
        "klines": len(klines),
        "equal": equal,
        "different": len(differences),
        "not_published": len(klines) - equal - len(differences),
        "differences": differences,
    }


def _passed_over(damage: Damage) -> None:
    text = f"passed over: {damage.path}, byte {damage.offset}: {damage.found}"
    errors_console().print(text, soft_wrap=True)


def _found(paths: list[Path] | None) -> list[Path]:
    """The recordings in these places, or of the lake, which are about to be read."""
    from market_pipeline.audit.record import record_files
    from market_pipeline.config.settings import load_settings
    from market_pipeline.sources.recording.check import find_recordings

    found = find_recordings(_places(paths))
    record_files(load_settings().data_dir, "read", _RECORDINGS, found)
    return found


def _places(paths: list[Path] | None) -> list[Path]:
    """The places given, or the folder of the lake's recordings where there is one."""
    from market_pipeline.config.settings import load_settings
    from market_pipeline.sources.recording import CONVERTER

    return paths or list(filter(Path.is_dir, [load_settings().lake_path / CONVERTER.name]))


def _record_write(table: str, file: Path) -> None:
    """Records a file that is about to be written, or changed."""
    from market_pipeline.audit.record import record_files
    from market_pipeline.config.settings import load_settings

    record_files(load_settings().data_dir, "write", table, [file.absolute()])


def _sealing(purpose: Purpose) -> KeyRing | None:
    from market_pipeline.config.settings import load_settings
    from market_pipeline.security.master import sealing_ring

    return sealing_ring(load_settings(), purpose)


def _checked_record(found: CheckedFile) -> dict[str, Any]:
    return {
        "file": str(found.path),
        "state": found.state,
        "bytes": found.size_bytes,
        "sha256": found.sha256,
        "records": found.records,
        "damages": [
            {"offset": each.offset, "bytes": each.size_bytes, "found": each.found}
            for each in found.damages
        ],
    }


def _show_checked(found: CheckedFile, *, is_wrong: bool) -> None:
    style = "red" if is_wrong else ""
    text = f"{found.path}: {found.state}, {found.records:,} records"
    console().print(text, style=style, soft_wrap=True, highlight=False)
    for damage in found.damages:
        place = f"bytes {damage.offset:,} to {damage.offset + damage.size_bytes:,}"
        console().print(f"  {place}: {damage.found}", style=style, soft_wrap=True, highlight=False)
