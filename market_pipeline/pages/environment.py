"""How the templates of pages are filled in: escaped, printable, figures as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from market_pipeline.plots.colours import CONDITIONS, LETTERS
from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.shown import shown_lines

__all__ = ["page_environment"]


def page_environment() -> Environment:
    """Templates of this folder, whose texts are escaped, and what cannot be printed written out."""
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
