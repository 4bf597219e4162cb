"""Metadata a person reads in the UI: tables, plots, column schemas, links."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

import dagster as dg
from dagster._core.definitions.metadata import RawMetadataValue

from market_pipeline.books.record import RebuildRecord
from market_pipeline.quality.profile import Profile
from market_pipeline.shown import shown_lines
from market_pipeline.stages.recorded_day import UnchangedDay
from market_pipeline.warehouse.manifest import ManifestRow
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.tables import Table

__all__ = [
    "Line",
    "Metadata",
    "by_instrument",
    "column_lineage",
    "column_schema",
    "column_sources",
    "failure_table",
    "figure_markdown",
    "files_metadata",
    "markdown_text",
    "table_metadata",
    "unchanged_table",
    "without_table",
]

_Figure = TypeVar("_Figure")
_MOST_COLUMNS = 12

Metadata = dict[str, RawMetadataValue]
"""What the UI shows of an output, by name."""

Line = Mapping[str, object]
"""A line of a table in the UI, by the titles of the columns."""

_Shown = dg.TableMetadataValue | dg.TextMetadataValue


def column_schema(table: Table) -> dg.TableSchema:
    """The columns of a table with their types and meaning."""
    return dg.TableSchema(
        [dg.TableColumn(c.name, c.type, description=c.description) for c in table.readable]
    )


def column_lineage(sources: Mapping[str, Sequence[tuple[str, str]]]) -> dg.TableColumnLineage:
    """By column, the assets and columns it comes from."""
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(dg.AssetKey(asset), column) for asset, column in found]
            for name, found in sources.items()
        }
    )


def column_sources(sources: Mapping[str, Sequence[tuple[str, str]]]) -> _Shown:
    """The same as a table of text, because the free UI of Dagster shows no column lineage."""

    def listed(found: Sequence[tuple[str, str]]) -> str:
        parts = []
        for asset in dict.fromkeys(asset for asset, _ in found):
            columns = list(dict.fromkeys(column for of, column in found if of == asset))
            if len(columns) > _MOST_COLUMNS:
                columns = [f"{columns[0]} … {columns[-1]} ({len(columns)})"]
            parts.append(f"{asset}: {', '.join(columns)}")
        return "; ".join(parts)

    return table_metadata(
        [{"column": name, "comes from": listed(found)} for name, found in sources.items()]
    )


def files_metadata(files: Sequence[StagedFile]) -> Metadata:
    """How much is in the files of a table, and by instrument their hashes."""
    return {
        "rows": sum(file.rows for file in files),
        "bytes": sum(file.bytes for file in files),
        "content_sha256": by_instrument(files, lambda file: file.sha256),
    }


def by_instrument(
    files: Sequence[StagedFile], figure: Callable[[StagedFile], _Figure]
) -> dict[str, list[_Figure]]:
    """What is reported of each file, the parts of an instrument together in order."""
    return {
        instrument: [figure(file) for file in parts]
        for instrument, parts in groupby(files, key=lambda file: file.instrument)
    }


def table_metadata(rows: Sequence[Line]) -> _Shown:
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


def unchanged_table(unchanged: Mapping[str, UnchangedDay]) -> _Shown:
    """The instruments that were not made again, and since when they are unchanged."""
    return table_metadata(
        [{"instrument": name, "unchanged": unchanged[name].text} for name in sorted(unchanged)]
    )


def without_table(without: Mapping[str, str]) -> _Shown:
    """Why instruments have nothing here, though they might."""
    return table_metadata(
        [{"instrument": name, "reason": reason} for name, reason in without.items()]
    )


def failure_table(rows: Iterable[ManifestRow | Profile | RebuildRecord]) -> _Shown:
    """The error in full of every row that has one: too long for a column beside figures."""
    return table_metadata(
        [{"instrument": row.instrument_id, "failure": row.failure} for row in rows if row.failure]
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return shown_lines(str(value))


def markdown_text(text: str) -> str:
    """A text of which the UI's Markdown makes no link, no image, no letters of another kind.

    It makes links of bare addresses too, after it has taken escapes away: what they are recognised
    by becomes code. References to characters (`&#x202e;`) stay what they are.
    """
    escaped = re.sub(r"[\\`*~\[\]<&]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", shown_lines(text))
    return re.sub(r"(?:://|@|(?<=www)\.)+", r"`\g<0>`", escaped, flags=re.IGNORECASE)


def figure_markdown(svg: str, alt: str) -> dg.MarkdownMetadataValue:
    """A figure inside Markdown, which the UI shows as an image without fetching anything."""
    encoded = base64.b64encode(svg.encode()).decode()
    return dg.MetadataValue.md(f"![{alt}](data:image/svg+xml;base64,{encoded})")
