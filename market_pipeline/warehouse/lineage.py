"""What each published partition was made of: the table `lake.lineage`, and how it is written."""

# ruff: noqa: RUF009 - `table_column` makes dataclass fields, which is what belongs there.

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

import duckdb
import polars as pl

from market_pipeline import __version__
from market_pipeline.config.values import JsonValue
from market_pipeline.warehouse.conform import instrument_parts
from market_pipeline.warehouse.records import Identity, table_column
from market_pipeline.warehouse.tables import Table
from market_pipeline.warehouse.working import ensure_table

__all__ = [
    "CODE_VERSIONS",
    "LINEAGE",
    "NOT_FETCHED",
    "NO_ROWS_SHA256",
    "Input",
    "LineageRow",
    "MadeOf",
    "PartName",
    "code_version",
    "commit_properties",
    "files_sha256",
    "lineage_row",
    "record_lineage",
    "rows_sha256",
    "rows_sha256_of_each",
]

CODE_VERSIONS: Mapping[str, int] = {"lake": 2, "books": 5, "quality": 7, "metrics": 2}
"""By schema, the version of the code that makes its tables.

Raise one when published days of that schema are to be made again: their rows would come out
otherwise. What only moves or renames code, or explains it, leaves it alone; a hash of the sources
would rebuild years of days for a comment. A test holds the rows of a simulated day against it.
"""


@dataclass(frozen=True, kw_only=True)
class LineageRow(Identity):
    """What a published table's part of an instrument and day was made of, and by which code."""

    output_table: str = table_column("The published table, e.g. books.bbo.")
    output_sha256: str = table_column("SHA-256 over the hashes of its files, or its rows.")
    input_tables: tuple[str, ...] = table_column(
        "Of each input: the table that holds or registers it."
    )
    input_days: tuple[str, ...] = table_column("Its UTC day: this one, or the day before.")
    input_paths: tuple[str | None, ...] = table_column(
        "Its path below the lake; null unless a raw object."
    )
    input_uris: tuple[str | None, ...] = table_column(
        "Where a raw object lay at the store; null in a folder."
    )
    input_sha256: tuple[str, ...] = table_column("SHA-256 of the object, or as `output_sha256`.")
    parameters: str = table_column("The parameters that decide the rows, a JSON object.")
    code_version: str = table_column("Version of the code that decides the rows.")
    made_key: str = table_column(
        "SHA-256 over inputs, parameters and code_version: what need not be made again."
    )
    package_version: str = table_column("Version of the package that made it.")
    made_at: datetime = table_column("When, UTC; stays if a later run makes the same of it.")


LINEAGE = Table(
    schema="lake",
    name="lineage",
    description="What each published table's instrument and day was made of, and by which code.",
    columns=LineageRow.columns(),
    storage="duckdb",
)

NO_ROWS_SHA256 = hashlib.sha256(b"").hexdigest()
"""The hash of no rows, and of no files."""

NOT_FETCHED = "not fetched"
"""Stands for the hash of an object that the store has, but that could not be fetched."""

PartName = tuple[str, date, str]
"""A part of a published table: the table's name in SQL, the UTC day, and the instrument's id."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a partition.

    Attributes:
        table: The published table that holds it, or that registers it if it is a raw object.
        day: Its UTC day.
        path: Of a raw object, below the lake; None for a table's part of the instrument and day,
            and for an object that could not be fetched.
        sha256: Of the object's bytes, or over the part's files or rows; or `NOT_FETCHED`.
        uri: Where a raw object lay at the store. It is reported and decides nothing: equal bytes
            from elsewhere are the same input.
    """

    table: str
    day: date
    path: str | None
    sha256: str
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class MadeOf:
    """What one instrument's part of a table follows from, beside the code.

    Attributes:
        inputs: In the order they are read.
        parameters: Settings, policies and thresholds that decide the result, as JSON values.
    """

    inputs: tuple[Input, ...]
    parameters: Mapping[str, JsonValue]

    @property
    def parameters_json(self) -> str:
        """The parameters as text that is the same for equal ones."""
        return _json(self.parameters)

    def decisive(self, table: Table) -> dict[str, JsonValue]:
        """All that decides the table's rows, as JSON values: its inputs, parameters and code."""
        inputs = [
            [each.table, each.day.isoformat(), each.path, each.sha256] for each in self.inputs
        ]
        return {"inputs": inputs, "parameters": self.parameters, "code": code_version(table)}

    def key(self, table: Table) -> str:
        """SHA-256 over all that decides the table's rows: equal only if all of it is equal."""
        return hashlib.sha256(_json([*self.decisive(table).values()]).encode()).hexdigest()


def code_version(table: Table) -> str:
    """Names the code that makes a table's rows, e.g. `books 1 5d41402a`.

    The last word stands for the names and types of the columns: who adds a column need not think of
    the version.
    """
    columns = "\n".join(f"{column.name} {column.type}" for column in table.readable)
    shape = hashlib.sha256(columns.encode()).hexdigest()[:8]
    return f"{table.schema} {CODE_VERSIONS[table.schema]} {shape}"


def files_sha256(sha256: Iterable[str]) -> str:
    """One hash of a part's files: the SHA-256 of theirs in order, as text."""
    return hashlib.sha256("".join(sha256).encode()).hexdigest()


def rows_sha256(table: Table, rows: pl.DataFrame) -> str:
    """One hash of a small table's rows, whatever their order and that of their columns."""
    return _lines_sha256(_text(table, rows).splitlines())


def rows_sha256_of_each(table: Table, rows: pl.DataFrame) -> dict[str, str]:
    """`rows_sha256` of each instrument's rows by id; one without any has `NO_ROWS_SHA256`.

    To write the rows of all takes little longer than to write those of one.
    """
    lines: dict[str, list[str]] = {}
    names = zip(rows["exchange"].to_list(), rows["symbol"].to_list(), strict=True)
    for (exchange, symbol), line in zip(names, _text(table, rows).split("\n"), strict=False):
        lines.setdefault(f"{exchange}:{symbol}", []).extend(line.splitlines())
    return {instrument: _lines_sha256(own) for instrument, own in lines.items()}


def _text(table: Table, rows: pl.DataFrame) -> str:
    return rows.select(column.name for column in table.columns).write_ndjson()


def _lines_sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def lineage_row(
    table: Table, day: date, instrument: str, made_of: MadeOf, output_sha256: str
) -> LineageRow:
    """A row of `lake.lineage`, made now."""
    exchange, symbol = instrument_parts(instrument)
    inputs = made_of.inputs
    return LineageRow(
        exchange=exchange,
        symbol=symbol,
        dt=day,
        output_table=table.sql_name,
        output_sha256=output_sha256,
        input_tables=tuple(each.table for each in inputs),
        input_days=tuple(each.day.isoformat() for each in inputs),
        input_paths=tuple(each.path for each in inputs),
        input_uris=tuple(each.uri for each in inputs),
        input_sha256=tuple(each.sha256 for each in inputs),
        parameters=made_of.parameters_json,
        code_version=code_version(table),
        made_key=made_of.key(table),
        package_version=__version__,
        made_at=datetime.now(UTC).replace(tzinfo=None),
    )


def record_lineage(
    connection: duckdb.DuckDBPyConnection, rows: Mapping[PartName, LineageRow | None]
) -> None:
    """Replaces what is recorded of parts of tables; None only removes it.

    A row that says the same was made of the same stays as it is, with the time it was made. The
    connection is inside the transaction of `working_file.writing`.
    """
    ensure_table(connection, LINEAGE)
    parts = pl.DataFrame([*rows], ["output_table", "dt", "instrument"], orient="row")
    connection.register("market_pipeline_parts", parts.to_arrow())
    made = LINEAGE.frame(row for row in rows.values() if row is not None)
    connection.register("market_pipeline_lineage", made.to_arrow())
    same = (
        "SELECT 1 FROM {} AS other WHERE other.exchange = own.exchange "
        "AND other.symbol = own.symbol AND other.dt = own.dt "
        "AND other.output_table = own.output_table AND other.made_key = own.made_key "
        "AND other.output_sha256 = own.output_sha256"
    )
    try:
        connection.execute(
            f"DELETE FROM {LINEAGE.sql_name} AS own USING market_pipeline_parts AS part "
            "WHERE own.output_table = part.output_table AND own.dt = part.dt "
            "AND own.exchange || ':' || own.symbol = part.instrument "
            f"AND NOT EXISTS ({same.format('market_pipeline_lineage')})"
        )
        connection.execute(
            f"INSERT INTO {LINEAGE.sql_name} BY NAME SELECT * FROM market_pipeline_lineage AS own "
            f"WHERE NOT EXISTS ({same.format(LINEAGE.sql_name)})"
        )
    finally:
        connection.unregister("market_pipeline_lineage")
        connection.unregister("market_pipeline_parts")


def commit_properties(table: Table, made_of: Mapping[str, MadeOf]) -> dict[str, str]:
    """What a Delta commit says of its files: code, and by instrument inputs and parameters.

    The log forgets commits after a month; `lake.lineage` keeps the same, and the parameters in
    full.
    """
    properties = {
        instrument: {
            "input_sha256": [each.sha256 for each in made.inputs],
            "made_key": made.key(table),
        }
        for instrument, made in sorted(made_of.items())
    }
    return {
        "package_version": __version__,
        "code_version": code_version(table),
        "made_of": json.dumps(properties),
    }


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)
