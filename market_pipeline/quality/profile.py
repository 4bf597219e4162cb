"""What a day's raw tables look like before anything is rebuilt from them: `lake.profiles`.

Counts are of rows, and a row counts once for each kind of fault; those about order are of messages.
Figures only; `quality.strategy` and the checks `ordering`, `domain` and `precision` decide by them.
"""

# ruff: noqa: RUF009 - `table_column` and `figure` make dataclass fields, which is what belongs there.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from market_pipeline.quality.findings import Finding, Place
from market_pipeline.quality.measures.domain import VIOLATIONS
from market_pipeline.warehouse.records import Identity, figure, table_column
from market_pipeline.warehouse.tables import Table

__all__ = ["OUTSIDE_DAY", "PROFILES", "Profile", "RawPlace", "place_columns", "profile_of"]

OUTSIDE_DAY = "receipts_outside_day"
"""The column, and the kind of places, of rows received on another UTC day."""


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

    def finding(self, check: str, mark: Place, note: str) -> Finding:
        """The place as a row of `quality.findings`."""
        return Finding(
            check=check,
            place=mark,
            ts_receipt_ns=self.ts_receipt_ns,
            sequence_number=self.sequence_number,
            file=self.file,
            row=self.row,
            column=self.column,
            value=self.value,
            expected=self.expected,
            note=note,
        )


_PLACE_COLUMNS = {
    "place_kinds": "kind",
    "place_files": "file",
    "place_rows": "row",
    "place_columns": "column",
    "place_values": "value",
    "place_expected": "expected",
    "place_ts_receipt_ns": "ts_receipt_ns",
    "place_sequence_numbers": "sequence_number",
}
"""By column of `lake.profiles` what it holds of each place."""


def _of_places(what: str) -> Any:
    return figure(f"Of the first places of each kind of fault: {what}.")


@dataclass(frozen=True, kw_only=True)
class Profile(Identity):
    """One row of `lake.profiles`; the fields are its columns."""

    raw_table: str = table_column("book_delta_v2, book or trades.")
    status: str = table_column("usable, unusable (see failure) or missing.")
    failure_kind: str | None = figure("Class of the error; null if usable.")
    failure: str | None = figure("The error with file and next step; null if usable.")
    rows: int | None = figure("Rows.")
    messages: int | None = figure("Messages of the deltas; rows of the other tables.")
    first_ts_receipt_ns: int | None = figure("Receipt time of the first row, ns UTC.")
    last_ts_receipt_ns: int | None = figure("Receipt time of the last row, ns UTC.")
    first_sequence_number: int | None = figure("Of the first row; of trades the id.")
    last_sequence_number: int | None = figure("Of the last row; of trades the id.")
    sequence_changes: int | None = figure("Messages with another number than the one before.")
    null_rows: int | None = figure("Rows with a null; a snapshot's levels may be null.")
    zero_prices: int | None = figure("Rows whose price is 0.")
    negative_prices: int | None = figure("Rows whose price (or one of them) is below 0.")
    zero_sizes: int | None = figure("Trades of size 0.")
    negative_sizes: int | None = figure("Rows whose size (or one of them) is below 0.")
    not_finite: int | None = figure("Rows with an infinite price or size, or NaN for one.")
    unknown_sides: int | None = figure("Trades that neither buy nor sell.")
    removals: int | None = figure("Deltas of size 0, which remove a level; normal.")
    zero_times: int | None = figure("Rows whose exchange or receipt time is 0.")
    negative_times: int | None = figure("Rows whose exchange or receipt time is below 0.")
    future_times: int | None = figure("Rows later than the day's end and edge_tolerance.")
    times_outside_day: int | None = figure("Rows whose exchange or receipt time is of another day.")
    receipts_outside_day: int | None = figure("Rows received on another UTC day.")
    earliest_outside_ns: int | None = figure("Earliest receipt time of these, ns UTC.")
    latest_outside_ns: int | None = figure("Latest receipt time of these, ns UTC.")
    outside_day: date | None = figure("The UTC day that most of these are of.")
    files_outside_day: tuple[str, ...] | None = figure("Files with most of their rows among these.")
    negative_latencies: int | None = figure("Rows received before they were sent.")
    unordered_messages: int | None = figure("Messages received before the one they follow.")
    unordered_origins: int | None = figure("Messages sent before the one they follow.")
    sequence_backwards: int | None = figure("Messages with a lower number than the one before.")
    duplicate_messages: int | None = figure("Messages (or trade ids) that came before already.")
    disordered_per_hour: tuple[int, ...] | None = figure(
        "Messages unordered, backward or double, by hour."
    )
    first_price: float | None = figure("Median price of the day's first 1,024 rows.")
    last_price: float | None = figure("Median price of the day's last 1,024 rows.")
    prices_per_hour: tuple[float | None, ...] | None = figure(
        "Median price by UTC hour of receipt, of a sample; of snapshots the mid."
    )
    tick_seen: str | None = figure("Coarsest tick of the prices, outliers apart.")
    tick_settled_rows: int | None = figure("Rows that it took until that tick was seen.")
    lot_seen: str | None = figure("Coarsest lot of the sizes, outliers apart.")
    lot_settled_rows: int | None = figure("Rows that it took until that lot was seen.")
    place_kinds: tuple[str, ...] | None = _of_places("the column that counts it")
    place_files: tuple[str, ...] | None = _of_places("the file, as a path below the lake")
    place_rows: tuple[int, ...] | None = _of_places("the file's zero-based row")
    place_columns: tuple[str, ...] | None = _of_places("the column")
    place_values: tuple[str, ...] | None = _of_places("what stands there")
    place_expected: tuple[str, ...] | None = _of_places("what would have been right")
    place_ts_receipt_ns: tuple[int | None, ...] | None = _of_places("receipt time, ns UTC")
    place_sequence_numbers: tuple[int | None, ...] | None = _of_places("sequence number")

    @property
    def places(self) -> list[RawPlace]:
        """The places, those of a kind together."""
        columns = (getattr(self, name) or () for name in _PLACE_COLUMNS)
        return [
            RawPlace(**dict(zip(_PLACE_COLUMNS.values(), values, strict=True)))
            for values in zip(*columns, strict=True)
        ]

    @property
    def domain_violations(self) -> int:
        """Rows outside their domain; a row counts once for each kind of violation."""
        return sum(getattr(self, kind) or 0 for kind in VIOLATIONS)


PROFILES = Table(
    schema="lake",
    name="profiles",
    description=(
        "What each raw table of an instrument and day looks like, before any rebuild. Figures are "
        "null unless the table is usable."
    ),
    columns=Profile.columns(),
    storage="duckdb",
)


def place_columns(places: Sequence[RawPlace]) -> dict[str, list[str | int | None]]:
    """Places as the columns that hold them, one entry a place."""
    return {
        column: [getattr(place, name) for place in places]
        for column, name in _PLACE_COLUMNS.items()
    }


def profile_of(profiles: Sequence[Profile], raw_table: str) -> Profile | None:
    """The row of one raw table among an instrument's of a day, if it is usable and has rows."""
    found = (each for each in profiles if each.raw_table == raw_table)
    return next((each for each in found if each.status == "usable" and each.rows), None)
