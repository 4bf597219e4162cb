"""What a published table is: its SQL name, its columns and their meaning, where it is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import polars as pl
import pyarrow as pa

__all__ = ["Column", "Computed", "Macro", "Record", "Table", "View"]

Record = Mapping[str, object]
"""A row by column name, as Arrow, Polars and DuckDB take and give it."""

_ARROW_TYPES: dict[str, pa.DataType] = {
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "TINYINT": pa.int8(),
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
class Computed:
    """A DOUBLE column that is not stored: readers get `steps * multiplier / divisor`.

    The three are BIGINT columns of the same table. Whole steps take a third of the room of floats
    and are written three times as fast; divided last, the float is the one nearest to the decimal.
    """

    column: Column
    steps: str
    multiplier: str
    divisor: str

    @property
    def sql(self) -> str:
        """The value as a SQL expression."""
        return f'"{self.steps}" * "{self.multiplier}" / "{self.divisor}"'

    @property
    def expression(self) -> pl.Expr:
        """The value as a Polars expression."""
        steps = pl.col(self.steps) * pl.col(self.multiplier)
        return (steps / pl.col(self.divisor)).alias(self.column.name)


class _Row(Protocol):
    def as_record(self) -> Record: ...


@dataclass(frozen=True, slots=True)
class Table:
    """A product of the pipeline that users query as `schema.name`.

    `storage` is "delta" for big data (streamed Parquet files, one per day and instrument, committed
    to a Delta table) and "duckdb" for small tables (rows replaced in one transaction).
    Every table has the columns exchange, symbol and dt. `columns` are stored; whoever reads the
    table gets the `computed` ones behind them.
    """

    schema: str
    name: str
    description: str
    columns: tuple[Column, ...]
    storage: Literal["delta", "duckdb"]
    computed: tuple[Computed, ...] = ()

    def __hash__(self) -> int:
        """Of its name: that of all its columns takes a hundred times as long."""
        return hash((self.schema, self.name))

    @property
    def readable(self) -> tuple[Column, ...]:
        """The columns that readers get: the stored ones, then the computed ones."""
        return (*self.columns, *(each.column for each in self.computed))

    def with_computed(
        self, rows: pl.LazyFrame, columns: Collection[str] | None = None
    ) -> pl.LazyFrame:
        """Stored rows with the computed columns, or with those of them that are among `columns`."""
        made = [
            each.expression
            for each in self.computed
            if columns is None or each.column.name in columns
        ]
        return rows.with_columns(made) if made else rows

    @property
    def sql_name(self) -> str:
        """The name in SQL, e.g. `books.bbo`."""
        return f"{self.schema}.{self.name}"

    @property
    def arrow_schema(self) -> pa.Schema:
        """The stored columns as an Arrow schema, in order."""
        return pa.schema([(column.name, _ARROW_TYPES[column.type]) for column in self.columns])

    def empty(self) -> pl.DataFrame:
        """A frame of these columns and types without a row."""
        return self.frame([])

    def frame(self, rows: Iterable[Record | _Row]) -> pl.DataFrame:
        """Rows as a frame with exactly these columns and types."""
        return pl.DataFrame(self.arrow(rows))

    def arrow(self, rows: Iterable[Record | _Row]) -> pa.Table:
        """As `frame`, for Arrow, which takes half as long: it refuses the values that fit none."""
        records = [row if isinstance(row, Mapping) else row.as_record() for row in rows]
        return pa.Table.from_pylist(records, schema=self.arrow_schema)


@dataclass(frozen=True, slots=True)
class View:
    """A query over tables, that users read as `schema.name`; `columns` are what it returns."""

    schema: str
    name: str
    description: str
    columns: tuple[Column, ...]
    query: str

    @property
    def readable(self) -> tuple[Column, ...]:
        """The columns that readers get."""
        return self.columns

    @property
    def sql_name(self) -> str:
        """The name in SQL, e.g. `quality.coverage`."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Macro:
    """A query with parameters, that users read as `FROM name(…)`."""

    name: str
    description: str
    parameters: str
    query: str

    @property
    def sql(self) -> str:
        """What makes it."""
        return f"CREATE OR REPLACE MACRO {self.name}({self.parameters}) AS TABLE {self.query}"
