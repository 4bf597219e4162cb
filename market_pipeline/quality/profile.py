"""What a day's raw tables look like before anything is rebuilt from them."""

from __future__ import annotations

from market_pipeline.books.tables import IDENTITY
from market_pipeline.lake.tables import Column, Table

__all__ = ["PROFILES"]

PROFILES = Table(
    schema="lake",
    name="profiles",
    description="What each raw table of an instrument and day looks like, before any rebuild.",
    columns=(
        *IDENTITY,
        Column("raw_table", "VARCHAR", "book_delta_v2, book or trades."),
        Column("status", "VARCHAR", "usable, unusable (see failure) or missing."),
        Column("rows", "BIGINT", "Rows."),
    ),
    storage="duckdb",
)
