"""What a published table is: its SQL name, its columns and their meaning, where it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
import pyarrow as pa

__all__ = ["Column", "Table"]

_ARROW_TYPES: dict[str, pa.DataType] = {
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "USMALLINT": pa.uint16(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "BIGINT[]": pa.list_(pa.int64()),
    "DOUBLE[]": pa.list_(pa.float64()),
    "VARCHAR[]": pa.list_(pa.string()),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name with the unit in it, its DuckDB type, and one sentence of meaning."""

    name: str
    type: str
    description: str


@dataclass(frozen=True, slots=True)
class Table:
    """A product of the pipeline that users query as `schema.name`.

    `storage` is "delta" for big data (streamed Parquet files, one per day and instrument, committed
    to a Delta table) and "duckdb" for small tables (rows replaced in one transaction).
    Every table has the columns exchange, symbol and dt.
    """

    schema: str
    name: str
    description: str
    columns: tuple[Column, ...]
    storage: Literal["delta", "duckdb"]

    @property
    def sql_name(self) -> str:
        """The name in SQL, e.g. `books.bbo`."""
        return f"{self.schema}.{self.name}"

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns as an Arrow schema, in order."""
        return pa.schema([(column.name, _ARROW_TYPES[column.type]) for column in self.columns])

    def frame(self, records: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
        """Records (column name to value) as a frame with exactly these columns and types."""
        rows = pa.Table.from_pylist(list(records), schema=self.arrow_schema)
        return pl.DataFrame(rows)
