"""The tables that say which raw objects a day has, byte for byte, and where they came from."""

from __future__ import annotations

from market_pipeline.warehouse.tables import Column, Table, View

__all__ = ["MANIFEST", "MANIFESTS", "RAW_BOOK_DELTAS", "RAW_BOOK_SNAPSHOTS", "RAW_TRADES"]

_COLUMNS = (
    Column("exchange", "VARCHAR", "Venue, upper case."),
    Column("symbol", "VARCHAR", "Symbol at the venue, upper case."),
    Column("dt", "DATE", "UTC day of receipt."),
    Column(
        "status",
        "VARCHAR",
        "usable, unusable (see failure) or missing (no object, or not fetched).",
    ),
    Column("shard", "INTEGER", "Position among the day's objects, from 1; null if missing."),
    Column(
        "path",
        "VARCHAR",
        "Path from the local lake, which begins with `..` where the object was converted; null if "
        "missing.",
    ),
    Column("bytes", "BIGINT", "Size of the object."),
    Column("sha256", "VARCHAR", "SHA-256 of the object's bytes."),
    Column("rows", "BIGINT", "Rows according to the Parquet footer; null if unusable."),
    Column("first_ts_receipt_ns", "BIGINT", "Earliest receipt time in the footer, ns UTC."),
    Column("last_ts_receipt_ns", "BIGINT", "Latest receipt time in the footer, ns UTC."),
    Column("failure_kind", "VARCHAR", "Class of the error; null if usable."),
    Column("failure", "VARCHAR", "The error in full; null if usable."),
    Column(
        "made_from",
        "VARCHAR[]",
        "The vendor's files that the object was converted from, each as `sha256  path`; null for "
        "the vendor's own objects.",
    ),
    Column(
        "converter_notes",
        "VARCHAR[]",
        "What the converter left out or found; null without a converter.",
    ),
    Column("uri", "VARCHAR", "Where it lies at the object store; null if the lake is a folder."),
    Column("etag", "VARCHAR", "The store's tag of these bytes; null if the lake is a folder."),
    Column("version", "INTEGER", "1, or one more for each change since; null without a store."),
    Column("remark", "VARCHAR", "What speaks against it at the store; null if nothing does."),
)


def _raw(name: str, what: str) -> Table:
    return Table(
        schema="lake",
        name=name,
        description=f"One row per raw object of {what}, or one row that says there is none.",
        columns=_COLUMNS,
        storage="duckdb",
    )


RAW_BOOK_DELTAS = _raw("raw_book_deltas", "level-2 changes")
RAW_BOOK_SNAPSHOTS = _raw("raw_book_snapshots", "book snapshots")
RAW_TRADES = _raw("raw_trades", "trades")
MANIFESTS = (RAW_BOOK_DELTAS, RAW_BOOK_SNAPSHOTS, RAW_TRADES)
"""What says which raw objects a day was made from."""

MANIFEST = View(
    schema="lake",
    name="manifest",
    description="The three tables of raw objects as one.",
    columns=(Column("asset", "VARCHAR", "The table it is a row of."), *_COLUMNS),
    query=" UNION ALL BY NAME ".join(
        f"SELECT '{table.name}' AS asset, * FROM {table.sql_name}" for table in MANIFESTS
    ),
)
