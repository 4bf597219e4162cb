from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline.sources.simulated import simulate
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.read import current_files
from market_pipeline_tests.defs.workspace import Workspace, raw_file
from market_pipeline_tests.sources.simulated.days import DAY, instrument

pytestmark = pytest.mark.slow

OFF, CUT, SAME = "OFF-USD", "CUT-USD", "SAME-USD"


@dataclass(frozen=True)
class Story:
    """A day that was run, and again after the trades of two instruments of three changed.

    Attributes:
        metadata: Of the asset `trades`, by run.
        counts: By run and symbol, the rows of `books.trades`.
    """

    workspace: Workspace
    metadata: tuple[dict[str, Any], ...]
    counts: tuple[dict[str, int], ...]


def run(workspace: Workspace) -> tuple[dict[str, Any], dict[str, int]]:
    """Runs the day; what the asset says, and what is published then."""
    workspace.run_days(DAY)
    with workspace.instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("trades"))
    metadata = {
        name: [each.data for each in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for name, value in event.asset_materialization.metadata.items()
    }
    rows = workspace.sql("SELECT symbol, count(*) FROM books.trades GROUP BY ALL").rows()
    return metadata, dict(rows)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A price of one instrument is then off the tick, and the trades of another are damaged."""
    root = tmp_path_factory.mktemp("trades")
    markets = [instrument(each) for each in (OFF, CUT, SAME)]
    simulate(root / "lake", markets, DAY, DAY, messages_per_day=1_500, snapshot_interval_s=20.0)
    workspace = Workspace(root / "pipeline", root / "lake")
    workspace.configure(*markets)
    first = run(workspace)
    off, cut = (raw_file(workspace.lake, "trades", symbol, DAY) for symbol in (OFF, CUT))
    rows = pq.read_table(off, partitioning=None)
    at = rows.column_names.index("price")
    price = rows["price"].to_numpy().copy()
    price[3] += 0.0123
    pq.write_table(rows.set_column(at, "price", pa.array(price)), off)
    cut.write_bytes(cut.read_bytes()[:-9])
    return Story(workspace, *zip(first, run(workspace), strict=True))


def test_every_trade_is_published(story: Story):
    """Each raw trade is a row, and the asset's figures and hashes are those of the files."""
    metadata, counts = story.metadata[0], story.counts[0]
    raw = raw_file(story.workspace.lake, "trades", SAME, DAY)
    files = {
        f"SIMULATED:{symbol}": [
            hashlib.sha256(file.read_bytes()).hexdigest()
            for file in current_files(
                story.workspace.warehouse, TABLES["trades"], DAY, [f"SIMULATED:{symbol}"]
            )
        ]
        for symbol in (OFF, SAME)
    }

    assert pq.read_metadata(raw).num_rows == counts[SAME] > 100
    assert (sum(counts.values()), "none", "none") == (
        metadata["rows"],
        metadata["off_grid"],
        metadata["without"],
    )
    assert files[f"SIMULATED:{SAME}"] == metadata["content_sha256"][f"SIMULATED:{SAME}"]
    assert files == story.metadata[1]["content_sha256"]


def test_off_the_tick(story: Story):
    """A price off the tick is published without ticks, counted, and its place named."""
    (row,) = story.workspace.sql(
        "SELECT symbol, price_ticks IS NULL FROM books.trades WHERE price_ticks IS NULL"
    ).rows()
    (place,) = story.metadata[1]["off_grid"]
    counted = {each["instrument"]: each["off tick"] for each in story.metadata[1]["instruments"]}

    assert (OFF, True) == row
    assert {f"SIMULATED:{OFF}": "1"} == counted
    assert ("price", "3") == (place["column"], place["row"])
    assert place["file"].startswith(f"trades/exchange=SIMULATED/symbol={OFF}/")


def test_what_cannot_be_made_is_withdrawn(story: Story):
    """Trades that can be read no more are withdrawn with their book, the unchanged ones kept."""
    assert {OFF: story.counts[0][OFF], SAME: story.counts[0][SAME]} == story.counts[1]
    assert [f"SIMULATED:{SAME}"] == [each["instrument"] for each in story.metadata[1]["unchanged"]]


def test_lineage(story: Story):
    """A file's row of the lineage names the raw trades, the book, its intervals and its record."""
    (row,) = story.workspace.sql(
        "SELECT input_tables FROM lake.lineage WHERE output_table = 'books.trades' AND symbol = ?",
        SAME,
    ).rows()

    assert ["lake.raw_trades", "books.bbo", "books.intervals", "books.rebuilds"] == row[0]
