"""From what is published of an instrument and day back to the raw objects, as `lake.lineage` says.

What was made of something and what is there now are two things: another run may have published one
table anew and left the next as it was. So of every input is reported whether it is still there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

import duckdb
from msgspec import to_builtins

from market_pipeline.config.values import JsonValue
from market_pipeline.warehouse.conform import instrument_parts
from market_pipeline.warehouse.lineage import LINEAGE, NOT_FETCHED, LineageRow
from market_pipeline.warehouse.manifest import MANIFEST
from market_pipeline.warehouse.working_file import frame_of

__all__ = ["Link", "NamedInput", "State", "read_chain"]

State = Literal["there", "replaced", "gone", "not fetched"]

# From what is read last to what is read first.
_SCHEMAS = ("metrics", "quality", "books", "lake")


@dataclass(frozen=True, slots=True)
class NamedInput:
    """One input of a published partition.

    Attributes:
        table: The table that holds it, or that registers it if it is a raw object.
        day: Its UTC day.
        path, uri: Of a raw object: below the lake, and at the store it came from.
        sha256: What it was when it was read.
        state: Whether it is there as it was read, or with another hash, or no more.
        sha256_now: What is there instead of it; None unless it was replaced.
        vendor_files: The files that a converter made the raw object from, each as `sha256  path`.
    """

    table: str
    day: date
    path: str | None
    uri: str | None
    sha256: str
    state: State
    sha256_now: str | None
    vendor_files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A published table's part of an instrument and day, and what it was made of.

    Attributes:
        table: Its name.
        sha256: Over the hashes of its files, or its rows.
        code_version, package_version: What made it.
        made_at: When, UTC.
        parameters: What was in force.
        inputs: In the order they were read.
    """

    table: str
    sha256: str
    code_version: str
    package_version: str
    made_at: datetime
    parameters: Mapping[str, JsonValue]
    inputs: tuple[NamedInput, ...]

    @property
    def is_up_to_date(self) -> bool:
        """Whether every input is still there as it was read."""
        return all(each.state in {"there", "not fetched"} for each in self.inputs)

    def as_json(self) -> Mapping[str, JsonValue]:
        """All of it as JSON values."""
        return {**to_builtins(self), "made_at": f"{self.made_at.isoformat()}Z"}


def read_chain(connection: duckdb.DuckDBPyConnection, instrument: str, day: date) -> list[Link]:
    """The links of an instrument's day, those first that are made of the others.

    Args:
        connection: To the catalogue, from `connect`.
        instrument: Its id.
        day: The UTC day.

    Returns:
        Nothing too, if the catalogue was made before lineage was recorded.

    Raises:
        PublishError: The id is none.
    """
    exchange, symbol = instrument_parts(instrument)
    before = day - timedelta(days=1)
    values = [exchange, symbol, before, day]
    own = "exchange = ? AND symbol = ? AND dt BETWEEN ? AND ?"
    try:
        rows = LineageRow.read(
            frame_of(connection.execute(f"FROM {LINEAGE.sql_name} WHERE {own}", values))
        )
    except duckdb.CatalogException:
        return []
    objects = {
        (f"lake.{name}", path): (sha256, tuple(made_from or ()))
        for name, path, sha256, made_from in connection.execute(
            f"SELECT asset, path, sha256, made_from FROM {MANIFEST.sql_name} "
            f"WHERE {own} AND path IS NOT NULL",
            values,
        ).fetchall()
    }
    tables = {(row.output_table, row.dt): row.output_sha256 for row in rows}

    def named(
        table: str, day_text: str, path: str | None, uri: str | None, sha256: str
    ) -> NamedInput:
        of_day, made_from = date.fromisoformat(day_text), ()
        if sha256 == NOT_FETCHED:
            return NamedInput(table, of_day, path, uri, sha256, "not fetched", None, ())
        if path is None:
            now = tables.get((table, of_day))
        else:
            now, made_from = objects.get((table, path), (None, ()))
        if now == sha256:
            return NamedInput(table, of_day, path, uri, sha256, "there", None, made_from)
        state: State = "gone" if now is None else "replaced"
        return NamedInput(table, of_day, path, uri, sha256, state, now, ())

    return sorted((_link(row, named) for row in rows if row.dt == day), key=_place)


def _link(row: LineageRow, named: Callable[..., NamedInput]) -> Link:
    columns = ("input_tables", "input_days", "input_paths", "input_uris", "input_sha256")
    return Link(
        table=row.output_table,
        sha256=row.output_sha256,
        code_version=row.code_version,
        package_version=row.package_version,
        made_at=row.made_at,
        parameters=json.loads(row.parameters),
        inputs=tuple(
            named(*each) for each in zip(*(getattr(row, name) for name in columns), strict=True)
        ),
    )


def _place(link: Link) -> tuple[int, Sequence[str]]:
    schema, _, name = link.table.partition(".")
    return _SCHEMAS.index(schema), name
