"""Metadata a person reads in the UI: tables, plots, column schemas, links."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
from matplotlib.figure import Figure

from market_pipeline.lake.tables import Table

__all__ = ["column_schema", "failure_table", "figure_markdown", "table_metadata"]


def column_schema(table: Table) -> dg.TableSchema:
    """The columns of a table with their types and meaning."""
    return dg.TableSchema(
        [dg.TableColumn(c.name, c.type, description=c.description) for c in table.readable]
    )


def table_metadata(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue[Any]:
    """Rows of equal keys as a table that the UI always shows; a cell of None is empty.

    Not Markdown: the UI hides Markdown of 1,000 characters or more behind a button, and that of a
    check always.
    """
    if not rows:
        return dg.MetadataValue.text("none")
    return dg.MetadataValue.table(
        [dg.TableRecord({name: _cell(value) for name, value in row.items()}) for row in rows],
        dg.TableSchema([dg.TableColumn(name) for name in rows[0]]),
    )


def failure_table(records: Iterable[Mapping[str, Any]]) -> dg.MetadataValue[Any]:
    """The error in full of every record that has one: too long for a column beside figures."""
    return table_metadata(
        [
            {
                "instrument": f"{record['exchange']}:{record['symbol']}",
                "failure": record["failure"],
            }
            for record in records
            if record["failure"]
        ]
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def figure_markdown(figure: Figure, alt: str) -> dg.MarkdownMetadataValue:
    """A figure as a PNG inside Markdown, which the UI shows without fetching anything."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=80, bbox_inches="tight")
    encoded = base64.b64encode(png.getvalue()).decode()
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{encoded})")
