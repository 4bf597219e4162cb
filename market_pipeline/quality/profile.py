"""What a day's raw tables look like before anything is rebuilt from them: `lake.profiles`.

Counts are of rows, and a row counts once for each kind of fault; those about order are of messages.
Figures only; `quality.strategy` and the checks `ordering`, `domain` and `precision` decide by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from market_pipeline.books.tables import IDENTITY
from market_pipeline.quality.measures.domain import VIOLATIONS
from market_pipeline.warehouse.tables import Column, Table

__all__ = [
    "OUTSIDE_DAY",
    "PROFILES",
    "RawPlace",
    "domain_violations",
    "place_columns",
    "places_of",
    "profile_of",
]

OUTSIDE_DAY = "receipts_outside_day"
"""The column, and the kind of places, of rows received on another UTC day."""

_ROWS = "Rows whose"
_PLACE = "Of the first places of each kind of fault: "


@dataclass(frozen=True, slots=True)
class RawPlace:
    """One place in a raw file at which a fault was found.

    Attributes:
        kind: The column of `lake.profiles` that counts it.
        file: As a path below the lake.
        row: Zero-based row of that file.
        column: The column's name in the file.
        value: What stands there, as text.
        expected: What would have been right, or what stands before it.
        ts_receipt_ns, sequence_number: Of the row; null if they are.
    """

    kind: str
    file: str
    row: int
    column: str
    value: str
    expected: str
    ts_receipt_ns: int | None
    sequence_number: int | None


_PLACE_COLUMNS = {
    "kind": Column("place_kinds", "VARCHAR[]", _PLACE + "the column that counts it."),
    "file": Column("place_files", "VARCHAR[]", _PLACE + "the file, as a path below the lake."),
    "row": Column("place_rows", "BIGINT[]", _PLACE + "the file's zero-based row."),
    "column": Column("place_columns", "VARCHAR[]", _PLACE + "the column."),
    "value": Column("place_values", "VARCHAR[]", _PLACE + "what stands there."),
    "expected": Column("place_expected", "VARCHAR[]", _PLACE + "what would have been right."),
    "ts_receipt_ns": Column("place_ts_receipt_ns", "BIGINT[]", _PLACE + "receipt time, ns UTC."),
    "sequence_number": Column("place_sequence_numbers", "BIGINT[]", _PLACE + "sequence number."),
}

PROFILES = Table(
    schema="lake",
    name="profiles",
    description=(
        "What each raw table of an instrument and day looks like, before any rebuild. Figures are "
        "null unless the table is usable."
    ),
    columns=(
        *IDENTITY,
        Column("raw_table", "VARCHAR", "book_delta_v2, book or trades."),
        Column("status", "VARCHAR", "usable, unusable (see failure) or missing."),
        Column("failure_kind", "VARCHAR", "Class of the error; null if usable."),
        Column("failure", "VARCHAR", "The error with file and next step; null if usable."),
        Column("rows", "BIGINT", "Rows."),
        Column("messages", "BIGINT", "Messages of the deltas; rows of the other tables."),
        Column("first_ts_receipt_ns", "BIGINT", "Receipt time of the first row, ns UTC."),
        Column("last_ts_receipt_ns", "BIGINT", "Receipt time of the last row, ns UTC."),
        Column("first_sequence_number", "BIGINT", "Of the first row; of trades the id."),
        Column("last_sequence_number", "BIGINT", "Of the last row; of trades the id."),
        Column("sequence_changes", "BIGINT", "Messages with another number than the one before."),
        Column("null_rows", "BIGINT", "Rows with a null; a snapshot's levels may be null."),
        Column("zero_prices", "BIGINT", f"{_ROWS} price is 0."),
        Column("negative_prices", "BIGINT", f"{_ROWS} price (or one of them) is below 0."),
        Column("zero_sizes", "BIGINT", "Trades of size 0."),
        Column("negative_sizes", "BIGINT", f"{_ROWS} size (or one of them) is below 0."),
        Column("not_finite", "BIGINT", "Rows with an infinite price or size, or NaN for one."),
        Column("unknown_sides", "BIGINT", "Trades that neither buy nor sell."),
        Column("removals", "BIGINT", "Deltas of size 0, which remove a level; normal."),
        Column("zero_times", "BIGINT", f"{_ROWS} exchange or receipt time is 0."),
        Column("negative_times", "BIGINT", f"{_ROWS} exchange or receipt time is below 0."),
        Column("future_times", "BIGINT", "Rows later than the day's end and edge_tolerance."),
        Column(
            "times_outside_day", "BIGINT", f"{_ROWS} exchange or receipt time is of another day."
        ),
        Column(OUTSIDE_DAY, "BIGINT", "Rows received on another UTC day."),
        Column("earliest_outside_ns", "BIGINT", "Earliest receipt time of these, ns UTC."),
        Column("latest_outside_ns", "BIGINT", "Latest receipt time of these, ns UTC."),
        Column("outside_day", "DATE", "The UTC day that most of these are of."),
        Column("files_outside_day", "VARCHAR[]", "Files with most of their rows among these."),
        Column("negative_latencies", "BIGINT", "Rows received before they were sent."),
        Column("unordered_messages", "BIGINT", "Messages received before the one they follow."),
        Column("unordered_origins", "BIGINT", "Messages sent before the one they follow."),
        Column("sequence_backwards", "BIGINT", "Messages with a lower number than the one before."),
        Column("duplicate_messages", "BIGINT", "Messages (or trade ids) that came before already."),
        Column(
            "disordered_per_hour", "BIGINT[]", "Messages unordered, backward or double, by hour."
        ),
        Column("first_price", "DOUBLE", "Median price of the day's first 1,024 rows."),
        Column("last_price", "DOUBLE", "Median price of the day's last 1,024 rows."),
        Column(
            "prices_per_hour",
            "DOUBLE[]",
            "Median price by UTC hour of receipt, of a sample; of snapshots the mid.",
        ),
        Column("tick_seen", "VARCHAR", "Coarsest tick of the prices, outliers apart."),
        Column("tick_settled_rows", "BIGINT", "Rows that it took until that tick was seen."),
        Column("lot_seen", "VARCHAR", "Coarsest lot of the sizes, outliers apart."),
        Column("lot_settled_rows", "BIGINT", "Rows that it took until that lot was seen."),
        *_PLACE_COLUMNS.values(),
    ),
    storage="duckdb",
)


def place_columns(places: Sequence[RawPlace]) -> dict[str, list[Any]]:
    """Places as the columns that hold them, one entry a place."""
    return {
        column.name: [getattr(place, name) for place in places]
        for name, column in _PLACE_COLUMNS.items()
    }


def places_of(profile: Mapping[str, Any]) -> list[RawPlace]:
    """The places of a row of `lake.profiles`."""
    names = [each.name for each in fields(RawPlace)]
    lists = [profile[_PLACE_COLUMNS[name].name] or [] for name in names]
    return [
        RawPlace(**dict(zip(names, values, strict=True))) for values in zip(*lists, strict=True)
    ]


def profile_of(profiles: Sequence[Mapping[str, Any]], raw_table: str) -> Mapping[str, Any] | None:
    """The row of one raw table among an instrument's of a day, if it is usable and has rows."""
    return next(
        (
            profile
            for profile in profiles
            if profile["raw_table"] == raw_table
            and profile["status"] == "usable"
            and profile["rows"]
        ),
        None,
    )


def domain_violations(profile: Mapping[str, Any]) -> int:
    """Rows outside their domain; a row counts once for each kind of violation."""
    return sum(profile[kind] or 0 for kind in VIOLATIONS)
