"""Rows of a published table as typed objects: each field of a dataclass is a column."""

# ruff: noqa: RUF009 - `table_column` makes dataclass fields, which is what belongs there.

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from datetime import date, datetime
from types import NoneType, UnionType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

import polars as pl

from market_pipeline.warehouse.tables import Column, Record

__all__ = ["Columns", "Identity", "figure", "table_column"]

_SQL_TYPES: dict[object, str] = {
    int: "BIGINT",
    float: "DOUBLE",
    str: "VARCHAR",
    bool: "BOOLEAN",
    date: "DATE",
    datetime: "TIMESTAMP",
}


def table_column(
    description: str, sql_type: str | None = None, *, default: object = MISSING
) -> Any:
    """A field that is a column of a published table; its SQL type follows from its own, if none is
    given.
    """
    return field(default=default, metadata={"description": description, "sql_type": sql_type})


def figure(description: str, sql_type: str | None = None) -> Any:
    """A column that is null where it was not measured."""
    return table_column(description, sql_type, default=None)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of a table that belong together, or a row of such groups; None is SQL's null."""

    @classmethod
    def groups(cls) -> list[type[Columns]]:
        """The groups that a row is composed of, in its order."""
        return [base for base in cls.__bases__ if issubclass(base, Columns)]

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names in the order in which a row names its groups."""
        return tuple(_fields(cls))

    @classmethod
    def columns(cls) -> tuple[Column, ...]:
        """The columns as a table has them."""
        hints = get_type_hints(cls)
        return tuple(
            Column(
                name,
                each.metadata["sql_type"] or _sql_type(hints[name]),
                each.metadata["description"],
            )
            for name, each in _fields(cls).items()
        )

    @classmethod
    def taken_from(cls, source: Columns, **others: object) -> Self:
        """The columns that another row has under the same names, and others given here."""
        same = {name: getattr(source, name) for name in cls.names() if name not in others}
        return cls(**same, **others)

    @classmethod
    def from_record(cls, record: Record) -> Self:
        """The row back from a dict of columns, as read from DuckDB, Polars or Arrow.

        Columns that this version does not know are left out; those it misses are None.
        """
        known = {name: record[name] for name in cls.names() if name in record}
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in known.items()
            }
        )

    @classmethod
    def read(cls, frame: pl.DataFrame) -> list[Self]:
        """The rows of a frame."""
        return [cls.from_record(record) for record in frame.iter_rows(named=True)]

    def as_record(self) -> Record:
        """The row as a dict of columns, lists in place of tuples."""
        values = {name: getattr(self, name) for name in self.names()}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }


@dataclass(frozen=True, kw_only=True)
class Identity(Columns):
    """Whose day a row is about; every table has these columns."""

    exchange: str = table_column("Venue, upper case.")
    symbol: str = table_column("Symbol at the venue, upper case.")
    dt: date = table_column("UTC day of receipt.")

    @property
    def instrument_id(self) -> str:
        """The instrument as VENUE:SYMBOL."""
        return f"{self.exchange}:{self.symbol}"


def _fields(group: type[Columns]) -> dict[str, Field[object]]:
    """The fields of a group: those of each base in turn, which dataclasses put in another order."""
    inherited = {name: each for base in group.groups() for name, each in _fields(base).items()}
    return inherited | {each.name: each for each in fields(group)}


def _sql_type(hint: object) -> str:
    """The SQL type of a Python one; that of an optional one is the same."""
    if isinstance(hint, UnionType) or NoneType in get_args(hint):
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    if get_origin(hint) is tuple:
        return f"{_sql_type(get_args(hint)[0])}[]"
    return "VARCHAR" if get_origin(hint) is Literal else _SQL_TYPES[hint]
