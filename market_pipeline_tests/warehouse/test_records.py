"""Rows as typed objects: their columns, and their way from and to records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from market_pipeline.warehouse.records import Columns, Identity, figure, table_column
from market_pipeline.warehouse.tables import Column


@dataclass(frozen=True, kw_only=True)
class Counts(Columns):
    """Figures of a measurement."""

    messages: int | None = figure("Messages.")
    shares: tuple[float | None, ...] | None = figure("Shares by hour.")


@dataclass(frozen=True, kw_only=True)
class Verdict(Columns):
    """What is said of them."""

    is_right: bool | None = figure("Whether they are right.")
    kind: Literal["one", "other"] = table_column("Which kind.")


@dataclass(frozen=True, kw_only=True)
class Row(Identity, Verdict, Counts):
    """A row of both."""


ROW = Row(exchange="X", symbol="Y", dt=date(2024, 8, 8), kind="one", messages=3, shares=(0.5, None))


def test_columns_follow_from_the_fields():
    """In the order in which the row names its groups, with the SQL type of each annotation."""
    assert Identity.columns() == Row.columns()[:3]
    assert ("VARCHAR", "VARCHAR", "DATE") == tuple(each.type for each in Identity.columns())
    assert (
        Column("is_right", "BOOLEAN", "Whether they are right."),
        Column("kind", "VARCHAR", "Which kind."),
        Column("messages", "BIGINT", "Messages."),
        Column("shares", "DOUBLE[]", "Shares by hour."),
    ) == Row.columns()[3:]
    assert tuple(each.name for each in Row.columns()) == Row.names()


def test_a_record_and_back():
    """Lists stand for tuples in a record; unknown columns are left out, and missing ones null."""
    record = ROW.as_record()

    assert list(Row.names()) == list(record)
    assert [0.5, None] == record["shares"]
    assert ROW == Row.from_record(record | {"some_later_figure": 1})
    del record["messages"]
    assert Row.from_record(record).messages is None


def test_a_group_is_taken_from_a_row():
    """What another row has by the same name is not named again."""
    assert Counts(messages=3, shares=(1.0,)) == Counts.taken_from(ROW, shares=(1.0,))


def test_whose_row_it_is():
    """The instrument by venue and symbol."""
    assert "X:Y" == ROW.instrument_id
