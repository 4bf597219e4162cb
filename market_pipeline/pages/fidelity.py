"""The fidelity page: how far a book is from a golden one, as one HTML file that fetches nothing."""

from __future__ import annotations

from pathlib import Path

from market_pipeline.pages.environment import page_environment
from market_pipeline.plots.fidelity import GRADES, plot_fidelity
from market_pipeline.quality.fidelity.report import FIDELITY_REPORT, Comparison
from market_pipeline.warehouse.layout import written_whole

__all__ = ["write_fidelity_page"]


def write_fidelity_page(file: Path, found: Comparison) -> None:
    """Writes the page of one pair: its grade, the plots, every figure, and what was compared.

    Every text is escaped. The same comparison gives the same page. A file that is there stays until
    the new one is whole.

    Args:
        file: Where to; as every file of ours only its owner may read it.
        found: The comparison.

    Raises:
        OSError: The file cannot be written.
    """
    pair = found.pair
    environment = page_environment()
    environment.globals |= {"grades": GRADES}
    text = environment.get_template("fidelity.html.j2").generate(
        book=found.other,
        pair=pair,
        facts=[
            (column.name, column.description, getattr(pair, column.name))
            for column in FIDELITY_REPORT.columns
            if column.name in pair.names()
        ],
        metrics=sorted(found.metrics, key=lambda each: -(each.ratio or 0.0)),
        plot=plot_fidelity(found).as_inline(),
    )
    with written_whole(file) as page:
        page.writelines(part.encode() for part in text)
