"""`market-pipeline compare`: how far one book of an instrument is from another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from market_pipeline.cli.options import DAY_FORMATS, AsJson
from market_pipeline.cli.output import console, errors_console

if TYPE_CHECKING:
    from market_pipeline.quality.fidelity.report import Comparison, FidelityMetric

__all__ = ["compare"]

_STYLES = {"pass": "green", "warn": "yellow", "fail": "red"}
_SHOWN = 12
_NUMBERS = ("figure", "bound", "ratio")


_Golden = Annotated[
    str,
    typer.Argument(
        metavar="GOLDEN",
        help="The book that is right: `VENUE:SYMBOL`, `VENUE:SYMBOL@DATA_FOLDER`, a capture, or a "
        "folder of captures.",
    ),
]
_Other = Annotated[
    str, typer.Argument(metavar="OTHER", help="The book that is measured; given alike.")
]
_Day = Annotated[
    datetime | None, typer.Option(formats=DAY_FORMATS, help="The UTC day of published books.")
]
_Whose = Annotated[
    str | None,
    typer.Option(
        metavar="VENUE:SYMBOL",
        help="Whose lines of a capture to take; default the one of the published book.",
    ),
]
_Page = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False, readable=False, help="Also write an HTML page with plots to this file."
    ),
]


def compare(
    golden: _Golden,
    other: _Other,
    day: _Day = None,
    instrument: _Whose = None,
    page: _Page = None,
    as_json: AsJson = False,
) -> None:
    """Compare two books of one instrument: messages, time grids, distributions.

    A published book is `VENUE:SYMBOL`, of another data folder `VENUE:SYMBOL@FOLDER`, and needs
    `--day`. A capture is a file `….gz` of Binance's streams, or a folder of such files, whose names
    are their order.

    Messages are paired by update id, and each of 20 levels a side is compared after each pair; then
    mid, spread and sizes on grids of 10 and 100 ms, and at last distributions against the distance
    of the golden book from itself. Each figure is graded by its ratio to its bound: pass up to 1,
    warn up to 2, fail above. The worst grade is that of the books.

    - `market-pipeline compare BINANCE:BTC-USDT@other/data BINANCE:BTC-USDT --day 2024-08-08`
    - `market-pipeline compare captures/btcusdt_20240808.gz BINANCE:BTC-USDT --day 2024-08-08`
    - `market-pipeline compare a.gz b.gz --instrument BINANCE:BTC-USDT --json`

    Exit code 0: pass. 1: warn or fail, or nothing was comparable. 2: a book could not be read.
    """
    from market_pipeline.notebook import compared

    with _progress() as progress:
        found = compared.compare(
            *(golden, other, day.date() if day else None), instrument=instrument, progress=progress
        )
    if page is not None:
        from market_pipeline.pages.fidelity import write_fidelity_page

        write_fidelity_page(page.absolute(), found)
    if as_json:
        typer.echo(json.dumps(_as_json(found), indent=2))
    else:
        _print(console(), found)
    raise typer.Exit(0 if found.pair.grade == "pass" else 1)


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Shows how many messages were read; nothing where nobody looks."""
    shown = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,} messages"),
        TimeElapsedColumn(),
        console=errors_console(),
        transient=True,
        disable=not errors_console().is_terminal,
    )
    tasks = {}
    with shown:

        def advance(stage: str, messages: int) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(f"compare by {stage}", total=None)
            shown.advance(tasks[stage], messages)

        yield advance


def _as_json(found: Comparison) -> dict[str, object]:
    """The columns of both tables; an infinite ratio is a text, because JSON has none."""

    def plain(record: object) -> object:
        if isinstance(record, dict):
            return {key: plain(value) for key, value in record.items()}
        return "infinite" if record == float("inf") else record

    pair = {"book": found.other, **found.pair.as_record()}
    metrics = [dict(each.as_record()) for each in found.metrics]
    return {**{key: plain(value) for key, value in pair.items()}, "metrics": [*map(plain, metrics)]}


def _print(out: Console, found: Comparison) -> None:
    pair = found.pair
    out.print(Text(found.title))
    grade = pair.grade or "not comparable"
    out.print(Text(grade, _STYLES.get(grade, "")), Text(pair.reason))
    for note in pair.notes:
        out.print(Text(f"note: {note}"))
    out.print(_summary(found))
    shown = _worst(found.metrics)
    table = Table(title="The worst figures", title_justify="left")
    table.add_column("figure of", no_wrap=True)
    for column in _NUMBERS:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("grade", no_wrap=True)
    table.add_column("where", overflow="fold")
    for metric in shown:
        table.add_row(
            metric.title,
            f"{metric.value:,.6g}",
            f"{metric.bound:,.4g}",
            f"{metric.ratio:,.4g}",
            Text(metric.grade or "", _STYLES.get(metric.grade or "", "")),
            metric.place,
        )
    out.print(table)
    out.print(Text(f"{len(found.metrics)} figures in all; --json prints every one."))


def _summary(found: Comparison) -> Table:
    """What was compared: messages, time, clocks."""
    pair = found.pair
    table = Table(box=None, show_header=False, pad_edge=False)
    by_number = pair.matched_by == "number"
    rows = {
        "messages": f"{pair.matched:,} in both, {pair.compared:,} compared, "
        f"{pair.only_golden:,} only golden, {pair.only_other:,} only other"
        if by_number
        else "not paired",
        "time": f"{pair.common_seconds:,.3f} s in common, valid in both "
        f"{pair.both_valid_seconds:,.3f} s, only golden {pair.golden_only_seconds:,.3f} s, only "
        f"other {pair.other_only_seconds:,.3f} s",
        "grids": f"on {pair.clock} time",
        "clock shift": ", ".join(
            f"{name} {shift / 1e6:,.6f} ms"
            for name, shift in (
                ("receipt", pair.receipt_shift_ns),
                ("exchange", pair.exchange_shift_ns),
            )
            if shift is not None
        )
        or "not known",
        "first divergence": "none"
        if pair.first_divergence_ns is None
        else f"message {pair.first_divergence_number}, {pair.first_divergence_side} "
        f"{pair.first_divergence_level}",
    }
    for title, text in rows.items():
        table.add_row(title, text)
    return table


def _worst(metrics: list[FidelityMetric]) -> list[FidelityMetric]:
    """The figures with the highest ratios."""
    graded = [each for each in metrics if each.ratio is not None]
    return sorted(graded, key=lambda each: -(each.ratio or 0.0))[:_SHOWN]
