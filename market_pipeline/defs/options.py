"""What every asset has in common: where it belongs, who owns it, how its table is published."""

from __future__ import annotations

from typing import TypedDict

from market_pipeline.defs.columns import COLUMN_SOURCES
from market_pipeline.defs.describe import Metadata, column_lineage, column_schema, column_sources
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.lineage import code_version

__all__ = ["OWNERS", "options"]

OWNERS = ["team:market-data"]


class AssetOptions(TypedDict):
    """Arguments that `asset` and `AssetOut` share."""

    description: str
    group_name: str
    kinds: set[str]
    owners: list[str]
    tags: dict[str, str]
    io_manager_key: str
    metadata: Metadata
    code_version: str


def options(name: str) -> AssetOptions:
    """The arguments of an `AssetOut`, or of an `asset`, that follow from the asset's table."""
    table = TABLES[name]
    big = table.storage == "delta"
    sources = COLUMN_SOURCES.get(name)
    return {
        "description": table.description,
        "group_name": table.schema,
        "kinds": {"parquet", "deltalake"} if big else {"duckdb"},
        "owners": OWNERS,
        "tags": {"layer": table.schema},
        "io_manager_key": "lake_tables" if big else "small_tables",
        "code_version": code_version(table),
        "metadata": {
            "schema": table.schema,
            "partition_expr": "dt",
            "dagster/column_schema": column_schema(table),
            **(
                {
                    "dagster/column_lineage": column_lineage(sources),
                    "columns_come_from": column_sources(sources),
                }
                if sources
                else {}
            ),
        },
    }
