"""Figures of the raw tables, which a day without a book has too."""

# ruff: noqa: RUF009 - `figure` makes dataclass fields, which is what belongs there.

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from market_pipeline.warehouse.records import Columns, figure

__all__ = [
    "DeliveryFigures",
    "DomainFigures",
    "IdentityFigures",
    "ListingFigures",
    "OutsideDayFigures",
    "RawOrderFigures",
    "SchemaFigures",
    "SeenStepFigures",
]


@dataclass(frozen=True, kw_only=True)
class ListingFigures(Columns):
    """From when until when data of the instrument is expected, as the instruments file says."""

    expected_seconds: float | None = figure(
        "Seconds of the UTC day in which the instrument is listed."
    )
    listed_ns: int | None = figure("When it began to trade, ns UTC; null: not stated.")
    delisted_ns: int | None = figure("When it ceased to trade, ns UTC; null: not stated.")


@dataclass(frozen=True, kw_only=True)
class SchemaFigures(Columns):
    """The raw tables that cannot be read."""

    unreadable_tables: int | None = figure(
        "Raw tables with a file that cannot be read, or has other columns."
    )
    first_unreadable_table: str | None = figure("The error of the first of them.")


@dataclass(frozen=True, kw_only=True)
class DeliveryFigures(Columns):
    """What speaks against the raw objects at the store."""

    delivery_remarks: tuple[str, ...] | None = figure(
        "What speaks against raw objects at the store; null if the lake is a folder."
    )


@dataclass(frozen=True, kw_only=True)
class DomainFigures(Columns):
    """Raw values outside their domain."""

    domain_violations: int | None = figure("Raw values outside their domain, of all tables.")
    first_domain_violation: str | None = figure("The first, with file, row, column and value.")


@dataclass(frozen=True, kw_only=True)
class RawOrderFigures(Columns):
    """Messages that stand wrong in the raw files."""

    unordered_messages: int | None = figure("Messages received before the one they stand behind.")
    duplicate_messages: int | None = figure("Messages that came before already.")
    unordered_per_hour: tuple[int, ...] | None = figure(
        "Unordered, double and backward messages by UTC hour."
    )


@dataclass(frozen=True, kw_only=True)
class OutsideDayFigures(Columns):
    """Rows outside the UTC day."""

    deltas_outside_day: int | None = figure("Delta rows received outside the UTC day.")
    snapshots_outside_day: int | None = figure("Snapshot rows received outside the UTC day.")
    trades_outside_day: int | None = figure("Trades received outside the UTC day.")
    outside_day_share: float | None = figure("The largest share of these in a table's rows.")
    outside_day_table: str | None = figure(
        "That table: deltas, snapshots or trades; null if all rows are inside."
    )
    outside_day: date | None = figure("The UTC day that most of its rows outside are of.")
    earliest_outside_ns: int | None = figure("Earliest receipt time of the rows outside, ns UTC.")
    latest_outside_ns: int | None = figure("Latest receipt time of the rows outside, ns UTC.")
    files_outside_day: tuple[str, ...] | None = figure(
        "Raw files most of whose rows are outside; null if all rows are inside."
    )


@dataclass(frozen=True, kw_only=True)
class IdentityFigures(Columns):
    """Whether files and prices are of this day and this instrument."""

    files_twice: int | None = figure("Raw files with the bytes or rows of another of the day.")
    trade_files_twice: int | None = figure("Of these, trades.")
    first_file_twice: str | None = figure("The first of these, and the other.")
    repeated_trades: int | None = figure(
        "Trades whose id came before already; null if there are no ids."
    )
    files_elsewhere: int | None = figure(
        "Raw files whose bytes another day, instrument or table has too."
    )
    files_elsewhere_doubtful: int | None = figure(
        "Of these, files that neither times nor prices show to belong here."
    )
    first_file_elsewhere: str | None = figure(
        "The first of these, doubtful ones before others, and the other place."
    )
    first_price: float | None = figure("Median of the day's first prices, of snapshots the mids.")
    price_day_before: float | None = figure(
        "Mid of the closing book of the day before, or its last raw prices."
    )
    price_day_before_apart: float | None = figure(
        "How many times the larger of both is the smaller."
    )
    price_tables_apart: float | None = figure(
        "The same between two raw tables of the day, the median over hours."
    )
    price_tables: str | None = figure("The two tables that are farthest apart.")
    foreign_price_table: str | None = figure(
        "The table that stands alone with its prices; null without one."
    )


@dataclass(frozen=True, kw_only=True)
class SeenStepFigures(Columns):
    """Tick and lot as the raw values show them."""

    tick_seen: str | None = figure("Coarsest tick of the prices, outliers apart.")
    lot_seen: str | None = figure("Coarsest lot of the sizes, outliers apart.")
    tick_day_before: str | None = figure("The tick_seen of the day before; null if unknown.")
    lot_day_before: str | None = figure("The lot_seen of the day before; null if unknown.")
    step_change: str | None = figure(
        "How they changed overnight or during the day; null if chance explains it."
    )
