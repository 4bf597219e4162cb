"""The tables that say which raw objects a day has, byte for byte, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from market_pipeline.warehouse.records import Identity, figure, table_column
from market_pipeline.warehouse.tables import Column, Table, View

__all__ = [
    "MANIFEST",
    "MANIFESTS",
    "OPTIONAL_MANIFESTS",
    "RAW_BOOK_DELTAS",
    "RAW_BOOK_SNAPSHOTS",
    "RAW_FUNDING",
    "RAW_OPEN_INTEREST",
    "RAW_TRADES",
    "ManifestRow",
]


@dataclass(frozen=True, kw_only=True)
class ManifestRow(Identity):
    """A raw object of an instrument's day, or that there is none."""

    status: Literal["usable", "unusable", "missing"] = table_column(
        "usable, unusable (see failure) or missing (no object, or not fetched)."
    )
    shard: int | None = figure(
        "Position among the day's objects, from 1; null if missing.", sql_type="INTEGER"
    )
    path: str | None = figure(
        "Path from the local lake, which begins with `..` where the object was converted; null if "
        "missing."
    )
    bytes: int | None = figure("Size of the object.")
    sha256: str | None = figure("SHA-256 of the object's bytes.")
    rows: int | None = figure("Rows according to the Parquet footer; null if unusable.")
    first_ts_receipt_ns: int | None = figure("Earliest receipt time in the footer, ns UTC.")
    last_ts_receipt_ns: int | None = figure("Latest receipt time in the footer, ns UTC.")
    failure_kind: str | None = figure("Class of the error; null if usable.")
    failure: str | None = figure("The error in full; null if usable.")
    made_from: tuple[str, ...] | None = figure(
        "The vendor's files that the object was converted from, each as `sha256  path`; null for "
        "the vendor's own objects."
    )
    converter_notes: tuple[str, ...] | None = figure(
        "What the converter left out or found; null without a converter."
    )
    uri: str | None = figure("Where it lies at the object store; null if the lake is a folder.")
    etag: str | None = figure("The store's tag of these bytes; null if the lake is a folder.")
    version: int | None = figure(
        "1, or one more for each change since; null without a store.", sql_type="INTEGER"
    )
    remark: str | None = figure("What speaks against it at the store; null if nothing does.")

    def failed(self, error: Exception) -> ManifestRow:
        """The row with an error."""
        return replace(self, failure_kind=type(error).__name__, failure=str(error))


def _raw(name: str, what: str) -> Table:
    return Table(
        schema="lake",
        name=name,
        description=f"One row per raw object of {what}, or one row that says there is none.",
        columns=ManifestRow.columns(),
        storage="duckdb",
    )


RAW_BOOK_DELTAS = _raw("raw_book_deltas", "level-2 changes")
RAW_BOOK_SNAPSHOTS = _raw("raw_book_snapshots", "book snapshots")
RAW_TRADES = _raw("raw_trades", "trades")
MANIFESTS = (RAW_BOOK_DELTAS, RAW_BOOK_SNAPSHOTS, RAW_TRADES)
"""What says which raw objects a day was made from."""

RAW_FUNDING = _raw("raw_funding", "funding rates and marks")
RAW_OPEN_INTEREST = _raw("raw_open_interest", "open interest")
OPTIONAL_MANIFESTS = (RAW_FUNDING, RAW_OPEN_INTEREST)
"""The same of what a day may have besides."""

MANIFEST = View(
    schema="lake",
    name="manifest",
    description="The tables of raw objects as one.",
    columns=(Column("asset", "VARCHAR", "The table it is a row of."), *ManifestRow.columns()),
    query=" UNION ALL BY NAME ".join(
        f"SELECT '{table.name}' AS asset, * FROM {table.sql_name}"
        for table in (*MANIFESTS, *OPTIONAL_MANIFESTS)
    ),
)
