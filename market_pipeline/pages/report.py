"""The report page: one day of all instruments as one HTML file that fetches nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from market_pipeline.pages.environment import page_environment
from market_pipeline.pages.reading import PageDay
from market_pipeline.quality.row import ReportRow
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
    template = page_environment().get_template("report.html.j2")
    text = template.generate(day=day, rows=rows, unvalidated=unvalidated, days=days)
    with written_whole(file) as page:
        page.writelines(part.encode() for part in text)
