"""The results as a table for the terminal and for docs/benchmarks.md.

`python -m benchmarks.report .bench/results.json` writes them into the page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.workspace import ROOT

__all__ = ["PAGE", "print_results", "update_page"]

PAGE = ROOT / "docs" / "benchmarks.md"
_BEGIN = "<!-- results: written by `python -m benchmarks.report` -->"
_END = "<!-- end of results -->"
_MARK = {True: "yes", False: "**no**", None: ""}

Results = dict[str, Any]


def print_results(results: Results, console: Console) -> None:
    """Prints a table for each group, then what was left out and why."""
    for group, figures in _grouped(results):
        table = Table(title=group, title_justify="left")
        for column in ("what", "unit"):
            table.add_column(column)
        for column in ("median", "range", "bar", "met"):
            table.add_column(column, justify="right")
        for figure in figures:
            style = {True: "green", False: "red", None: ""}[figure["met"]]
            cells = _cells(figure)
            table.add_row(*cells[:-1], f"[{style}]{cells[-1].strip('*')}" if style else "")
        console.print(table)
    for sentence in results["left_out"]:
        console.print(f"Left out: {sentence}")


def update_page(results: Results, page: Path) -> None:
    """Writes the results between the page's two marks; the rest of the page stays.

    Raises:
        ValueError: If the page does not have the marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{page} does not have the marks {_BEGIN!r} and {_END!r}")
    body = "\n".join(_markdown(results))
    page.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")


def _grouped(results: Results) -> Iterable[tuple[str, Iterator[dict[str, Any]]]]:
    return groupby(results["figures"], key=lambda figure: str(figure["group"]))


def _markdown(results: Results) -> Iterator[str]:
    machine = results["machine"]
    commit = f" at commit `{machine['commit']}`" if machine["commit"] else ""
    changes = " with uncommitted changes" if machine["uncommitted_changes"] else ""
    yield (
        f"Taken on {results['taken_on']}{commit}{changes}, on {machine['cores']} cores of "
        f"{machine['cpu']}, {machine['memory_gb']} GB, {machine['system']}, "
        f"load {machine['load_average']:.1f}; Python {machine['python']}, "
        f"numba {machine['numba']}, numpy {machine['numpy']}, pyarrow {machine['pyarrow']}, "
        f"Polars {machine['polars']}."
    )
    for sentence in results["left_out"]:
        yield f"Left out: {sentence}"
    for group, figures in _grouped(results):
        yield f"\n### {group[0].upper()}{group[1:]}"
        yield "| what | unit | median | range | bar | met |"
        yield "|---|---|---:|---:|---:|---|"
        for figure in figures:
            yield f"| {' | '.join(_cells(figure))} |"


def _cells(figure: dict[str, Any]) -> list[str]:
    spread = figure["spread"]
    spans = spread["runs"] > 1
    sign = "≥" if figure["more_is_better"] else "≤"
    bar = "" if figure["bar"] is None else f"{sign} {_number(figure['bar'])}"
    if figure["stretch"] is not None:
        bar += f" ({_number(figure['stretch'])})"
    return [
        figure["name"],
        figure["unit"],
        _number(spread["median"]),
        f"{_number(spread['low'])} to {_number(spread['high'])}" if spans else "",
        bar,
        _MARK[figure["met"]],
    ]


def _number(value: float) -> str:
    """Three digits that matter, without an exponent."""
    for digits, below in ((3, 1), (2, 10), (1, 100)):
        if abs(value) < below and value != round(value):
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def main() -> None:
    """Writes the results of the named JSON file into the page."""
    update_page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), PAGE)


if __name__ == "__main__":
    main()
