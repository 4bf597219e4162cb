from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl
import pytest

from market_pipeline.sources.simulated import simulate
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.read import current_files
from market_pipeline_tests.defs.workspace import Workspace, entry, raw_file
from market_pipeline_tests.sources.simulated.days import DAY, instrument

pytestmark = pytest.mark.slow

ASKS, CUT, SILENT = "ASKS-USD", "CUT-USD", "SILENT-USD"


@dataclass(frozen=True)
class Story:
    """A day of three instruments, of which two ask for events, run twice; then one is damaged.

    Attributes:
        metadata: Of the asset `market_events`, by run.
        files: By run, the published files.
    """

    workspace: Workspace
    metadata: tuple[dict[str, Any], ...]
    files: tuple[list[str], ...]


def run(workspace: Workspace) -> tuple[dict[str, Any], list[str]]:
    workspace.run_days(DAY)
    with workspace.instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("market_events"))
    metadata = {
        name: [each.data for each in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for name, value in event.asset_materialization.metadata.items()
    }
    files = current_files(workspace.warehouse, TABLES["market_events"], DAY)
    return metadata, [str(file) for file in files]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    root = tmp_path_factory.mktemp("events")
    markets = [instrument(each) for each in (ASKS, CUT, SILENT)]
    simulate(root / "lake", markets, DAY, DAY, messages_per_day=1_500, snapshot_interval_s=20.0)
    workspace = Workspace(root / "pipeline", root / "lake")
    asked = [entry(each) | {"market_events": True} for each in markets[:2]]
    workspace.configure(*asked, markets[2])
    runs = [run(workspace), run(workspace)]
    cut = raw_file(workspace.lake, "trades", CUT, DAY)
    cut.write_bytes(cut.read_bytes()[:-9])
    runs.append(run(workspace))
    return Story(workspace, *zip(*runs, strict=True))


def test_of_those_that_ask(story: Story):
    """Only the instruments that ask have rows, each raw row of theirs once, counted by kind."""
    counted = story.metadata[0]["instruments"]
    assert [f"SIMULATED:{symbol}" for symbol in (ASKS, CUT)] == [
        each["instrument"] for each in counted
    ]
    rows = [
        int(each[kind].replace(",", ""))
        for each in counted
        for kind in ("trade", "delta", "snapshot", "clear")
    ]
    assert story.metadata[0]["rows"] == sum(rows) > 3_000


def test_a_rerun_changes_nothing(story: Story):
    """Another run leaves the same files, and one that makes another instrument keeps them."""
    assert story.files[0] == story.files[1]
    assert [f"SIMULATED:{ASKS}"] == [each["instrument"] for each in story.metadata[2]["unchanged"]]


def test_what_cannot_be_made_is_withdrawn(story: Story):
    """Once its trades can be read no more an instrument has no events; the other's are kept."""
    rows = story.workspace.sql("SELECT DISTINCT symbol FROM books.market_events").rows()
    assert [(ASKS,)] == rows
    assert set(story.files[2]) < set(story.files[0])


def test_lineage(story: Story):
    """A file's row of the lineage names the raw files, the book and its checkpoints."""
    (row,) = story.workspace.sql(
        "SELECT input_tables FROM lake.lineage WHERE output_table = 'books.market_events' "
        "AND symbol = ?",
        ASKS,
    ).rows()
    raw = [f"lake.raw_{name}" for name in ("book_deltas", "book_snapshots", "trades")]
    assert [*raw, "books.bbo", "books.checkpoints", "books.rebuilds"] == row[0]


def test_sql_reads_it(story: Story):
    """Kinds, actions and sides are text to whoever reads the table."""
    kinds = story.workspace.sql("SELECT DISTINCT kind FROM books.market_events ORDER BY 1")
    assert ["clear", "delta", "snapshot", "trade"] == kinds.to_series().to_list()
    assert pl.String == kinds.to_series().dtype
