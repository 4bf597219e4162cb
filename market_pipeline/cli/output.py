"""What the verbs share to show: consoles, and the verdict table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from market_pipeline.scrub.scrubber import scrubbed
from market_pipeline.shown import shown_lines

if TYPE_CHECKING:
    from market_pipeline.doctor.finding import Diagnosis
    from market_pipeline.quality.row import ReportRow

__all__ = [
    "bytes_text",
    "console",
    "day_ranges",
    "errors_console",
    "exit_code",
    "findings_table",
    "print_verdicts",
    "range_text",
    "ranges_text",
    "say_if_kernels_compile",
]

_COMPILES = (
    "The kernels are compiled first, once after an installation: some twenty seconds of CPU time."
)
_STYLES = {"available": "green", "degraded": "yellow", "pending": "blue", "missing": "red"}
_STATUS_STYLES = {"ok": "green", "warn": "yellow", "error": "red"}
_PLAIN_WIDTH = 160
_MOST_RANGES = 6
_MOST_TABLE_ROWS = 500
_VERDICT_TEXTS = ("day", "instrument", "condition")
_VERDICT_NUMBERS = ("valid h", "messages", "gap s", "crossed s", "skew ms")


class _PrintableConsole(Console):
    """A console on which no text is markup, and none holds what cannot be printed.

    What is styled is styled by objects of Rich.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        # Before it is folded into a column: in two lines nobody finds a secret.
        return super().render_str(scrubbed(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else shown_lines(text), style, control)


def console() -> Console:
    """Standard output; wide and plain where it is not a terminal."""
    found = _PrintableConsole()
    if found.is_terminal:
        return found
    return _PrintableConsole(width=_PLAIN_WIDTH, color_system=None)


def errors_console() -> Console:
    """Standard error."""
    return _PrintableConsole(stderr=True)


def exit_code(rows: Sequence[ReportRow]) -> int:
    """0 if there are days and all are available, else 1."""
    return 0 if rows and all(row.condition == "available" for row in rows) else 1


def ranges_text(days: Iterable[date]) -> str:
    """Days as a few ranges and how many there are, e.g. `2024-08-01..08-31 (31)`."""
    ordered = sorted(set(days))
    if not ordered:
        return "none"
    ranges = [range_text(*each) for each in day_ranges(ordered)]
    more = f" … {len(ranges) - _MOST_RANGES:,} more" if len(ranges) > _MOST_RANGES else ""
    return f"{', '.join(ranges[:_MOST_RANGES])}{more} ({len(ordered):,})"


def day_ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """Consecutive days as ranges, both ends included, in order."""
    ordered = sorted(set(days))
    breaks = [
        number
        for number, (day, later) in enumerate(pairwise(ordered), 1)
        if later - day > timedelta(days=1)
    ]
    starts = [0, *breaks] if ordered else []
    ends = [*breaks, len(ordered)]
    return [(ordered[begin], ordered[end - 1]) for begin, end in zip(starts, ends, strict=False)]


def range_text(first: date, last: date) -> str:
    """A range as `2024-08-08`, `2024-08-01..08-31` or `2024-12-30..2025-01-02`."""
    if first == last:
        return first.isoformat()
    end = last.isoformat()
    return f"{first.isoformat()}..{end[5:] if first.year == last.year else end}"


def bytes_text(count: int) -> str:
    """A number of bytes with a decimal unit, e.g. `12.3 MB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def print_verdicts(out: Console, rows: Sequence[ReportRow]) -> None:
    """Print each instrument and day with the reasons, as a table unless there are many.

    Rich takes 2 ms to lay out a row, so many come as plain lines, with the reasons below.
    """
    if len(rows) <= _MOST_TABLE_ROWS:
        out.print(_verdict_table(rows))
        return
    lines = [(*_VERDICT_TEXTS, *_VERDICT_NUMBERS), *map(_verdict_cells, rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    reasons: list[tuple[str, ...]] = [(), *map(_why, rows)]
    for cells, why in zip(lines, reasons, strict=True):
        texts = map(str.ljust, cells[: len(_VERDICT_TEXTS)], widths)
        numbers = map(str.rjust, cells[len(_VERDICT_TEXTS) :], widths[len(_VERDICT_TEXTS) :])
        line = "  ".join((*texts, *numbers)).rstrip()
        out.file.write(shown_lines("\n    ".join((line, *why))) + "\n")


def _verdict_table(rows: Sequence[ReportRow]) -> Table:
    """A line per instrument and day, with the reasons below the condition they led to."""
    table = Table(title="Verdict", show_lines=True, title_justify="left")
    for column in _VERDICT_TEXTS:
        table.add_column(column, no_wrap=True)
    for column in _VERDICT_NUMBERS:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    for row in rows:
        day, instrument, condition, *numbers = _verdict_cells(row)
        styled = Text(condition, _STYLES.get(condition, ""))
        table.add_row(day, instrument, styled, *numbers, "\n".join(_why(row)))
    return table


def _verdict_cells(row: ReportRow) -> tuple[str, ...]:
    return (
        row.dt.isoformat(),
        row.instrument_id,
        row.condition or "",
        _number(None if row.valid_seconds is None else row.valid_seconds / 3600, 2),
        f"{row.messages:,}" if row.messages is not None else "",
        _number(row.gap_seconds, 1),
        _number(row.crossed_seconds, 1),
        _number(row.skew_p50_ms, 1),
    )


def _why(row: ReportRow) -> tuple[str, ...]:
    return (*row.reasons, *(f"(warning) {each}" for each in row.warnings))


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:,.{decimals}f}"


def findings_table(findings: Iterable[Diagnosis]) -> Table:
    """What was looked at, how it is, what was found and what to do."""
    table = Table(show_lines=True)
    for column in ("what", "status", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for each in findings:
        status = Text(each.status, _STATUS_STYLES[each.status])
        table.add_row(each.name, status, each.found, each.next_step)
    return table


def say_if_kernels_compile(out: Console) -> None:
    """Says what is waited for on the first use after an installation."""
    # Imports the compiler, which `--help` need not wait for.
    from market_pipeline.jit import is_compiled

    if not is_compiled(Path(__file__).parents[1] / "books"):
        out.print(_COMPILES, soft_wrap=True)
