"""What a venue says of a contract from time to time: its funding and its open interest.

A row is in force from its receipt until that of the next one, also over midnight, and whoever
looks at an instant knows only what was received before it. Of rows received at one time the last in
the files is in force (the largest `row`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.quality.intervals import day_bounds_ns
from market_pipeline.sources.crypto_lake import RawTable
from market_pipeline.sources.crypto_lake_contracts import (
    FUNDING,
    OPEN_INTEREST,
    read_funding,
    read_open_interest,
)
from market_pipeline.warehouse.manifest import RAW_FUNDING, RAW_OPEN_INTEREST
from market_pipeline.warehouse.records import Identity
from market_pipeline.warehouse.tables import Column, Table

__all__ = ["BOOK_FUNDING", "BOOK_OPEN_INTEREST", "CONTRACT_STATES", "ContractState", "StateRows"]

_KEY = (
    *Identity.columns(),
    Column("ts_origin_ns", "BIGINT", "Exchange time, ns UTC."),
    Column("ts_receipt_ns", "BIGINT", "Time the vendor received it, ns UTC; in force from then."),
    Column("row", "BIGINT", "Its place in the day's files, from 0; the later of one time counts."),
)

BOOK_FUNDING = Table(
    schema="books",
    name="funding",
    description="Funding rate, mark and index price of contracts, by receipt; empty of spot.",
    columns=(
        *_KEY,
        Column("rate", "DOUBLE", "Funding rate of the running period, as the venue has it."),
        Column("next_funding_ns", "BIGINT", "When it is paid, ns UTC; null if not given."),
        Column("mark_price", "DOUBLE", "Mark price; null if not given."),
        Column("index_price", "DOUBLE", "Price of the index; null if not given."),
    ),
    storage="delta",
)

BOOK_OPEN_INTEREST = Table(
    schema="books",
    name="open_interest",
    description="Open interest of contracts, by receipt; empty of spot.",
    columns=(
        *_KEY,
        Column("open_interest", "DOUBLE", "Open contracts, in the venue's unit (base or lots)."),
    ),
    storage="delta",
)


@dataclass(frozen=True, slots=True)
class ContractState:
    """A raw table of states, how it is read, what registers it and what is published of it."""

    raw: RawTable
    read: Callable[[Sequence[Path]], pl.DataFrame]
    manifest: Table
    table: Table


CONTRACT_STATES = {
    "funding": ContractState(FUNDING, read_funding, RAW_FUNDING, BOOK_FUNDING),
    "open_interest": ContractState(
        OPEN_INTEREST, read_open_interest, RAW_OPEN_INTEREST, BOOK_OPEN_INTEREST
    ),
}
"""By the asset that publishes them."""


class StateRows(NamedTuple):
    """The published rows of a day, by receipt, and how many were left out.

    Attributes:
        rows: In the columns of the published table.
        repeated: Rows that repeat another one in all their values.
        other_day: Rows received on another UTC day.
    """

    rows: pl.DataFrame
    repeated: int
    other_day: int

    @classmethod
    def of(cls, raw: pl.DataFrame, table: Table, instrument: Instrument, day: date) -> StateRows:
        """The rows of an instrument's day.

        Args:
            raw: In file order, in the columns of the table from `ts_origin_ns` on, but `row`.
            table: The published one.
            instrument, day: What the rows are of.
        """
        start_ns, end_ns = day_bounds_ns(day)
        own = raw.with_row_index("row").filter(
            pl.col("ts_receipt_ns").is_between(start_ns, end_ns, closed="left")
        )
        once = own.unique(raw.columns, keep="first", maintain_order=True)
        rows = once.sort("ts_receipt_ns", maintain_order=True).with_columns(
            pl.lit(instrument.venue).alias("exchange"),
            pl.lit(instrument.symbol).alias("symbol"),
            pl.lit(day).alias("dt"),
            pl.col("row").cast(pl.Int64),
        )
        names = [column.name for column in table.columns]
        return cls(rows.select(names), own.height - once.height, raw.height - own.height)
