"""Metadata a person reads in the UI: tables, plots, column schemas, links."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from matplotlib.figure import Figure

from market_pipeline.lake.tables import Table

__all__ = ["DOCS", "column_schema", "figure_markdown", "markdown_table"]

DOCS = "https://github.com/market-pipeline/market-pipeline/blob/main/docs"


def column_schema(table: Table) -> dg.TableSchema:
    """The columns of a table with their types and meaning."""
    return dg.TableSchema(
        [dg.TableColumn(c.name, c.type, description=c.description) for c in table.columns]
    )


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """Rows of equal keys as a Markdown table; a bar in a text is escaped."""
    if not rows:
        return dg.MetadataValue.md("none")
    head = list(rows[0])
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [_cell(row[key]) for key in head]
        lines.append(f"| {' | '.join(cells)} |")
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def figure_markdown(figure: Figure, alt: str) -> dg.MarkdownMetadataValue:
    """A figure as a PNG inside Markdown, which the UI shows without fetching anything."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=80, bbox_inches="tight")
    encoded = base64.b64encode(png.getvalue()).decode()
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{encoded})")
