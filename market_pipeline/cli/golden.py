"""`market-pipeline golden`: labelled spans of recordings that are kept, verified and merged."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from market_pipeline.cli.options import AsJson
from market_pipeline.cli.output import bytes_text, console, errors_console

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings
    from market_pipeline.golden.figures import Figures
    from market_pipeline.golden.manifest import Manifest
    from market_pipeline.golden.regime import Regime
    from market_pipeline.golden.verify import Verified

__all__ = ["golden"]

golden = typer.Typer(
    name="golden",
    help="Keep, list, verify and merge labelled spans of recordings.",
    no_args_is_help=True,
)
_TIME_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the new sample.")]
Label = Annotated[
    str | None, typer.Option(help="What is to be remembered of it, such as `FOMC day`.")
]
_GAPS = ("found", "filled", "left")


@golden.command("record")
def record(
    name: Name,
    instrument: Annotated[
        str,
        typer.Option(metavar="VENUE:SYMBOL", help="As `recording list` has it: BINANCE:BTCUSDT."),
    ],
    start: Annotated[
        datetime | None, typer.Option(formats=_TIME_FORMATS, help="UTC; by default the first file.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option(formats=_TIME_FORMATS, help="UTC, excluded; as well.")
    ] = None,
    label: Label = None,
    as_json: AsJson = False,
) -> None:
    """Copy the recordings of a span into a sample of its own, with hashes and figures.

    Files are kept whole; what counts of them is the span. All hosts' files that lie in the lake are
    taken; without a span, those that are not being written. No sample is ever replaced, and none is
    ever pruned.

    Exit code 0: kept, and it meets every threshold. 1: kept, and below a threshold. 2: wrong usage,
    nothing recorded, or a recording that is damaged or not closed.
    """
    from market_pipeline.config.settings import load_settings
    from market_pipeline.golden.keep import keep

    exchange, separator, symbol = instrument.partition(":")
    if not separator or not symbol:
        raise typer.BadParameter("expected VENUE:SYMBOL", param_hint="--instrument")
    if (start is None) != (end is None) or (start and end and end <= start):
        raise typer.BadParameter("give both, the end after the start", param_hint="--start, --end")
    span = (_ns(start), _ns(end)) if start and end else None
    settings = load_settings()
    _record_write(settings, name, of=instrument)
    manifest = keep(
        settings.lake_path, settings.data_dir, name, (exchange, symbol), span, label or ""
    )
    _show_kept(settings, manifest, as_json=as_json)


@golden.command("merge")
def merge_samples(
    name: Name,
    samples: Annotated[
        list[str],
        typer.Argument(metavar="SAMPLE...", help="Names of samples, or folders of such."),
    ],
    label: Label = None,
    as_json: AsJson = False,
) -> None:
    """Make one sample of several hosts' samples of the same streams, each filling the others' gaps.

    `frames.parquet` has the file that each frame came from, `gaps.jsonl` every gap and who filled
    it. The samples that it is made of stay.

    Exit code 0: merged, and it meets every threshold. 1: merged, and below a threshold. 2: wrong
    usage, or a sample is of another symbol or is not as it was kept.
    """
    from market_pipeline.config.settings import load_settings
    from market_pipeline.golden.keep import merge

    settings = load_settings()
    folders = [_folder(settings, each) for each in samples]
    _record_write(settings, name, merged_from=[str(each) for each in folders])
    _show_kept(settings, merge(settings.data_dir, name, folders, label), as_json=as_json)


@golden.command("list")
def list_samples(as_json: AsJson = False) -> None:
    """Show every sample with its label and its regime.

    Exit code 0: shown. 1: there is none, or a manifest cannot be read. 2: wrong usage.
    """
    from market_pipeline.config.settings import load_settings
    from market_pipeline.errors import LakeFileError
    from market_pipeline.golden.keep import GOLDEN_FOLDER
    from market_pipeline.golden.manifest import MANIFEST, read_manifest
    from market_pipeline.golden.regime import regime_of

    settings, found, failed = load_settings(), [], 0
    for path in sorted((settings.data_dir / GOLDEN_FOLDER).glob(f"[!.]*/{MANIFEST}")):
        try:
            manifest = read_manifest(path.parent)
        except LakeFileError as error:
            failed += 1
            errors_console().print(str(error), soft_wrap=True)
            continue
        _record_read(settings, manifest)
        found.append((manifest, regime_of(settings.data_dir, manifest)))
    if as_json:
        typer.echo(json.dumps([_summary(*each) for each in found], indent=2))
    elif found:
        console().print(_table(found))
    else:
        console().print("No golden sample; `market-pipeline golden record` keeps one.")
    raise typer.Exit(0 if found and not failed else 1)


@golden.command("verify")
def verify_sample(
    sample: Annotated[str, typer.Argument(metavar="SAMPLE", help="Its name, or its folder.")],
    as_json: AsJson = False,
) -> None:
    """Read every byte of a sample, measure it again, and compare it with manifest and thresholds.

    The thresholds are the settings of the section `golden`.

    Exit code 0: it is as it was kept and meets every threshold. 1: something was changed, or it is
    below a threshold. 2: wrong usage, or its manifest cannot be read.
    """
    from msgspec import to_builtins

    from market_pipeline.config.settings import load_settings
    from market_pipeline.golden.regime import regime_of
    from market_pipeline.golden.verify import verify

    settings = load_settings()
    found = verify(_folder(settings, sample), settings.golden)
    _record_read(settings, found.manifest)
    regime = regime_of(settings.data_dir, found.manifest)
    if as_json:
        record = _summary(found.manifest, regime) | {
            "ok": found.ok,
            "changes": to_builtins(found.changes),
            "thresholds": to_builtins(found.thresholds),
            "figures": to_builtins(found.figures),
        }
        typer.echo(json.dumps(record, indent=2))
    else:
        _show_verified(found, regime)
    raise typer.Exit(0 if found.ok else 1)


def _folder(settings: Settings, sample: str) -> Path:
    """The folder of a sample that is named, or of one that lies elsewhere."""
    from market_pipeline.golden.keep import GOLDEN_FOLDER
    from market_pipeline.golden.manifest import MANIFEST

    named = settings.data_dir / GOLDEN_FOLDER / sample
    return Path(sample) if (Path(sample) / MANIFEST).is_file() else named


def _record_write(settings: Settings, name: str, **what: object) -> None:
    """Records a sample that is about to be made."""
    from market_pipeline.audit.record import record

    record(settings.data_dir, "write", {"table": "golden", "sample": name} | what)


def _record_read(settings: Settings, manifest: Manifest) -> None:
    """Records which files, by their hashes, a sample is made of."""
    from market_pipeline.audit.record import record

    files = {each.path: each.sha256 for each in manifest.files}
    what = {"table": "golden", "sample": manifest.name, "files": files}
    record(settings.data_dir, "read", what)


def _ns(time: datetime) -> int:
    return int(time.replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def _show_kept(settings: Settings, manifest: Manifest, *, as_json: bool) -> None:
    from msgspec import to_builtins

    from market_pipeline.golden.regime import regime_of
    from market_pipeline.golden.verify import thresholds

    _record_read(settings, manifest)
    regime = regime_of(settings.data_dir, manifest)
    met = thresholds(manifest.figures, settings.golden)
    if as_json:
        record = _summary(manifest, regime) | {
            "thresholds": to_builtins(met),
            "figures": to_builtins(manifest.figures),
        }
        typer.echo(json.dumps(record, indent=2))
    else:
        console().print(_table([(manifest, regime)]))
        _show_gaps(manifest.figures)
        for each in met:
            if not each.ok:
                text = f"below a threshold: {each.name} {each.found}, expected {each.limit}"
                errors_console().print(text, soft_wrap=True)
    raise typer.Exit(0 if all(each.ok for each in met) else 1)


def _summary(manifest: Manifest, regime: Regime) -> dict[str, Any]:
    from msgspec import to_builtins

    from market_pipeline.golden.manifest import utc

    gaps = manifest.figures.gaps
    return {
        "name": manifest.name,
        "label": manifest.label,
        "exchange": manifest.exchange,
        "symbol": manifest.symbol,
        "start": utc(manifest.start_ns),
        "end": utc(manifest.end_ns),
        "hours": manifest.figures.hours,
        "messages": manifest.figures.messages,
        "gaps": {name: getattr(gaps, name) for name in _GAPS},
        "files": len(manifest.files),
        "bytes": sum(each.size_bytes for each in manifest.files),
        "merged_from": sorted(manifest.merged_from.values()),
        "regime": to_builtins(regime),
    }


def _table(samples: Iterable[tuple[Manifest, Regime]]) -> Table:
    table = Table(title="Golden samples", title_justify="left")
    for name in ("name", "of", "start UTC"):
        table.add_column(name, no_wrap=True)
    for name in ("hours", "messages", "found", "filled", "left", "size"):
        table.add_column(name, justify="right")
    table.add_column("regime")
    table.add_column("label", overflow="fold", ratio=1)
    for manifest, regime in samples:
        each = _summary(manifest, regime)
        table.add_row(
            each["name"],
            f"{each['exchange']}:{each['symbol']}",
            each["start"],
            f"{each['hours']:.2f}",
            f"{each['messages']:,}",
            *(f"{each['gaps'][name]:,}" for name in _GAPS),
            bytes_text(each["bytes"]),
            _regime_text(regime),
            each["label"],
        )
    return table


def _regime_text(regime: Regime) -> str:
    """Both figures, and what share of the days before was below each."""
    parts = []
    for value, unit, rank in (
        (regime.message_rate, "/s", regime.rate_rank),
        (regime.volatility and regime.volatility * 1e4, " bp/min", regime.volatility_rank),
    ):
        if value is not None:
            above = "" if rank is None else f" (above {rank:.0%} of {regime.days} days)"
            parts.append(f"{value:,.2f}{unit}{above}")
    return ", ".join(parts)


def _show_gaps(figures: Figures) -> None:
    """The hours in which something was missing, and which files their frames came from."""
    rows = [
        (hour.hour, stream, each, hour.frames)
        for hour in figures.gaps_by_hour
        for stream, each in hour.gaps.items()
    ]
    if not rows:
        return
    table = Table(title="Gaps by hour", title_justify="left")
    for name in ("hour UTC", "stream"):
        table.add_column(name, no_wrap=True)
    for name in _GAPS:
        table.add_column(name, justify="right")
    table.add_column("frames from", overflow="fold", ratio=1)
    for hour, stream, gaps, frames in rows:
        counts = (f"{getattr(gaps, name):,}" for name in _GAPS)
        origins = ", ".join(f"{file} {count:,}" for file, count in frames.items())
        table.add_row(hour, stream, *counts, origins)
    console().print(table)


def _show_verified(found: Verified, regime: Regime) -> None:
    out = console()
    out.print(_table([(found.manifest, regime)]))
    _show_gaps(found.figures)
    table = Table(title="Thresholds", title_justify="left")
    for name in ("threshold", "expected", "found", ""):
        table.add_column(name)
    for each in found.thresholds:
        value = "unknown" if each.found is None else f"{each.found:,.6g}"
        table.add_row(each.name, each.limit, value, "ok" if each.ok else "below")
    out.print(table)
    for change in found.changes:
        text = f"changed: {change.file}, {change.place}: {change.found}"
        out.print(text, style="red", soft_wrap=True, highlight=False)
    out.print("passes" if found.ok else "does not pass", highlight=False)
