"""Rows of any batches written to a Parquet file in row groups of one size.

So the same rows give the same bytes, however they come.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["RowGroups", "arrow_schema"]

_ARROW_TYPES = {
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """Columns by name and type as the schema of a file."""
    return pa.schema([(name, _ARROW_TYPES[kind]) for name, kind in columns.items()])


class RowGroups:
    """Writes to an open file, which it closes; all but the last row group have `rows` rows."""

    def __init__(self, writer: pq.ParquetWriter, rows: int) -> None:
        self.writer = writer
        self._rows = rows
        self._waiting: list[pa.Table] = []

    def write(self, rows: pa.Table) -> None:
        """Takes the next rows, and writes the row groups that are whole."""
        self._waiting.append(rows)
        waiting = sum(part.num_rows for part in self._waiting)
        if waiting >= self._rows:
            table, whole = pa.concat_tables(self._waiting), waiting - waiting % self._rows
            self.writer.write_table(table.slice(0, whole), row_group_size=self._rows)
            self._waiting = [table.slice(whole)] if whole < waiting else []

    def close(self) -> None:
        """Writes what is left to write."""
        if self._waiting:
            self.writer.write_table(pa.concat_tables(self._waiting), row_group_size=self._rows)
        self.writer.close()
