from __future__ import annotations

from collections.abc import Iterator

import pytest

from market_pipeline.defs.columns import COLUMN_SOURCES
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.sources.crypto_lake_contracts import FUNDING, OPEN_INTEREST
from market_pipeline.tables import TABLES

RAW = {
    "raw_book_deltas": DELTAS,
    "raw_book_snapshots": SNAPSHOTS,
    "raw_trades": TRADES,
    "raw_funding": FUNDING,
    "raw_open_interest": OPEN_INTEREST,
}
# Read where they are published, because it is the closing book of the day before.
BESIDE = {"validation_report": {"book_checkpoints"}, "quality_findings": {"book_checkpoints"}}


def columns_of(asset: str) -> set[str]:
    """The columns of an asset's rows; of a raw asset those of the files it registers."""
    if asset in RAW:
        return set(RAW[asset].columns)
    return {column.name for column in TABLES[asset].readable}


def sources() -> Iterator[tuple[str, str, str, str]]:
    """Each asset, column, and asset and column that it comes from."""
    for asset, columns in COLUMN_SOURCES.items():
        for column, found in columns.items():
            for source, source_column in found:
                yield asset, column, source, source_column


def test_every_derived_asset():
    """Each asset but the raw ones says which columns its own come from."""
    assert set(TABLES) - set(RAW) == set(COLUMN_SOURCES)


def test_columns_exist():
    """Each column, and each it comes from, is one that its table has."""
    unknown = {
        f"{asset}.{column}"
        for row in sources()
        for asset, column in (row[:2], row[2:])
        if column not in columns_of(asset)
    }

    assert set() == unknown


@pytest.fixture
def parents(folder) -> dict[str, set[str]]:
    """By asset, those it is made of according to Dagster."""
    from market_pipeline.definitions import defs

    graph = defs.resolve_asset_graph()
    return {
        node.key.to_user_string(): {key.to_user_string() for key in node.parent_keys}
        for node in graph.asset_nodes
    }


def test_sources_are_upstream(parents: dict[str, set[str]]):
    """Each asset that a column comes from is one that Dagster knows to be upstream."""
    assert set() == {
        (asset, source)
        for asset, _, source, _ in sources()
        if source not in parents[asset] | BESIDE.get(asset, set())
    }


@pytest.mark.usefixtures("folder")
def test_in_the_metadata():
    """The definitions carry it, with the version of the code, for whoever looks in the UI."""
    from market_pipeline.definitions import defs
    from market_pipeline.warehouse.lineage import code_version

    for node in defs.resolve_asset_graph().asset_nodes:
        name = node.key.to_user_string()
        assert code_version(TABLES[name]) == node.code_version
        told = node.metadata.get("dagster/column_lineage")
        found = {
            column: {(dep.asset_key.to_user_string(), dep.column_name) for dep in deps}
            for column, deps in (told.deps_by_column if told else {}).items()
        }
        shown = node.metadata.get("columns_come_from")
        assert list(COLUMN_SOURCES.get(name, {})) == [
            record.data["column"] for record in (shown.records if shown else ())
        ]
        assert {name: set(each) for name, each in COLUMN_SOURCES.get(name, {}).items()} == found
