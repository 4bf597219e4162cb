"""The report page: one day of all instruments as one HTML file that fetches nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from market_pipeline.pages.reading import PageDay
from market_pipeline.plots.colours import CONDITIONS, LETTERS
from market_pipeline.quality.row import VALIDATION_REPORT, ReportRow
from market_pipeline.shown import shown_lines
from market_pipeline.warehouse.layout import written_whole

__all__ = ["write_report_page"]


def write_report_page(
    file: Path,
    day: date,
    rows: Sequence[ReportRow],
    unvalidated: Sequence[str],
    days: Iterable[PageDay],
) -> None:
    """Writes the page, one instrument after another, so that only one is held in memory.

    Every text is escaped, whoever wrote it, and what cannot be printed is written out. The same day
    gives the same page. A file that is there stays until the new one is whole.

    Args:
        file: Where to; as every file of ours only its owner may read it.
        day: The UTC day.
        rows: The verdicts for the table at the top.
        unvalidated: Instruments without a verdict of that day.
        days: What is reported of each of `rows`, in their order.

    Raises:
        OSError: The file cannot be written.
    """
    template = _environment().get_template("report.html.j2")
    text = template.generate(day=day, rows=rows, unvalidated=unvalidated, days=days)
    with written_whole(file) as page:
        page.writelines(part.encode() for part in text)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("market_pipeline.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "conditions": CONDITIONS,
        "letters": LETTERS,
        "figures": [(each.name, each.description) for each in VALIDATION_REPORT.columns],
    }
    environment.filters |= {"moment": _moment, "value": _value, "thousandths": _thousandths}
    return environment


def _printable(shown: object) -> object:
    return shown_lines(shown) if type(shown) is str else shown  # not of a figure, which is Markup


def _moment(ts_ns: int | None) -> str:
    """An instant of the day, to the nanosecond."""
    if ts_ns is None:
        return ""
    seconds, ns = divmod(ts_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns:09}"


def _thousandths(figure: float | None) -> str:
    """Seconds, hours or milliseconds, to three decimals; nothing for a null."""
    return "" if figure is None else f"{figure:,.3f}"


def _value(value: object) -> str:
    """A figure as a person reads it; nothing for a null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6f}".rstrip("0").rstrip(".")
    if isinstance(value, tuple | list):
        return ", ".join(_value(each) or "-" for each in value)
    return str(value)
