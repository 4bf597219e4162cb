from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_pipeline.sources.simulated import simulate
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.read import current_files
from market_pipeline_tests.defs.workspace import Workspace, entry, raw_file
from market_pipeline_tests.sources.simulated.days import DAY, instrument

pytestmark = pytest.mark.slow

OFF, CUT, SAME = "OFF-USD", "CUT-USD", "SAME-USD"


@dataclass(frozen=True)
class Story:
    """A day run twice, and again after the trades of two instruments of three changed.

    Attributes:
        trades, events: The metadata of `trades` and of `market_events`, by run.
        counts: By run and symbol, the rows of `books.trades`.
        files: By run, the published files of the events.
    """

    workspace: Workspace
    trades: tuple[dict[str, Any], ...]
    events: tuple[dict[str, Any], ...]
    counts: tuple[dict[str, int], ...]
    files: tuple[list[str], ...]


def said(workspace: Workspace, asset: str) -> dict[str, Any]:
    """The metadata of an asset's newest materialization."""
    with workspace.instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    return {
        name: [each.data for each in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for name, value in event.asset_materialization.metadata.items()
    }


def run(workspace: Workspace) -> tuple[dict[str, Any], dict[str, Any], dict[str, int], list[str]]:
    """Runs the day; what the assets say, and what is published then."""
    workspace.run_days(DAY)
    rows = workspace.sql("SELECT symbol, count(*) FROM books.trades GROUP BY ALL").rows()
    files = current_files(workspace.warehouse, TABLES["market_events"], DAY)
    trades, events = said(workspace, "trades"), said(workspace, "market_events")
    return trades, events, dict(rows), [str(file) for file in files]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Two ask for events. Then a price of the third is off the tick, and the trades of one of the
    two are damaged.
    """
    root = tmp_path_factory.mktemp("trades")
    off, *asking = (instrument(each) for each in (OFF, CUT, SAME))
    small = {"messages_per_day": 1_500, "snapshot_interval_s": 20.0}
    simulate(root / "lake", [off, *asking], DAY, DAY, **small)
    workspace = Workspace(root / "pipeline", root / "lake")
    workspace.configure(off, *(entry(each) | {"market_events": True} for each in asking))
    runs = [run(workspace), run(workspace)]
    changed, cut = (raw_file(workspace.lake, "trades", symbol, DAY) for symbol in (OFF, CUT))
    rows = pq.read_table(changed, partitioning=None)
    at = rows.column_names.index("price")
    price = rows["price"].to_numpy().copy()
    price[3] += 0.0123
    pq.write_table(rows.set_column(at, "price", pa.array(price)), changed)
    cut.write_bytes(cut.read_bytes()[:-9])
    runs.append(run(workspace))
    return Story(workspace, *zip(*runs, strict=True))


class TestTrades:
    def test_every_trade_is_published(self, story: Story):
        """Each raw trade is a row, and the asset's figures and hashes are those of the files."""
        metadata, counts = story.trades[0], story.counts[0]
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
        assert files == story.trades[-1]["content_sha256"]

    def test_off_the_tick(self, story: Story):
        """A price off the tick is published without ticks, counted, and its place named."""
        (row,) = story.workspace.sql(
            "SELECT symbol, price_ticks IS NULL FROM books.trades WHERE price_ticks IS NULL"
        ).rows()
        (place,) = story.trades[-1]["off_grid"]
        counted = {each["instrument"]: each["off tick"] for each in story.trades[-1]["instruments"]}

        assert (OFF, True) == row
        assert {f"SIMULATED:{OFF}": "1"} == counted
        assert ("price", "3") == (place["column"], place["row"])
        assert place["file"].startswith(f"trades/exchange=SIMULATED/symbol={OFF}/")

    def test_what_cannot_be_made_is_withdrawn(self, story: Story):
        """Trades that can be read no more are withdrawn with their book, unchanged ones kept."""
        assert {OFF: story.counts[0][OFF], SAME: story.counts[0][SAME]} == story.counts[-1]
        assert [f"SIMULATED:{SAME}"] == [
            each["instrument"] for each in story.trades[-1]["unchanged"]
        ]

    def test_lineage(self, story: Story):
        """A file's row of the lineage names the raw trades, the book, intervals and record."""
        (row,) = story.workspace.sql(
            "SELECT input_tables FROM lake.lineage WHERE output_table = 'books.trades' "
            "AND symbol = ?",
            SAME,
        ).rows()

        assert ["lake.raw_trades", "books.bbo", "books.intervals", "books.rebuilds"] == row[0]


class TestEvents:
    def test_of_those_that_ask(self, story: Story):
        """Only the instruments that ask have rows, each raw row of theirs once, counted by kind."""
        counted = story.events[0]["instruments"]
        assert [f"SIMULATED:{symbol}" for symbol in (CUT, SAME)] == [
            each["instrument"] for each in counted
        ]
        rows = [
            int(each[kind].replace(",", ""))
            for each in counted
            for kind in ("trade", "delta", "snapshot", "clear")
        ]
        assert story.events[0]["rows"] == sum(rows) > 3_000

    def test_a_rerun_changes_nothing(self, story: Story):
        """Another run leaves the same files, and one that makes another instrument keeps them."""
        assert story.files[0] == story.files[1]
        assert [f"SIMULATED:{SAME}"] == [
            each["instrument"] for each in story.events[2]["unchanged"]
        ]

    def test_what_cannot_be_made_is_withdrawn(self, story: Story):
        """Once its trades can be read no more an instrument has no events; the other's are kept."""
        rows = story.workspace.sql("SELECT DISTINCT symbol FROM books.market_events").rows()
        assert [(SAME,)] == rows
        assert set(story.files[2]) < set(story.files[0])

    def test_lineage(self, story: Story):
        """A file's row of the lineage names the raw files, the book and its checkpoints."""
        (row,) = story.workspace.sql(
            "SELECT input_tables FROM lake.lineage WHERE output_table = 'books.market_events' "
            "AND symbol = ?",
            SAME,
        ).rows()
        raw = [f"lake.raw_{name}" for name in ("book_deltas", "book_snapshots", "trades")]
        assert [*raw, "books.bbo", "books.checkpoints", "books.rebuilds"] == row[0]

    def test_sql_reads_it(self, story: Story):
        """Kinds, actions and sides are text to whoever reads the table."""
        kinds = story.workspace.sql("SELECT DISTINCT kind FROM books.market_events ORDER BY 1")
        assert ["clear", "delta", "snapshot", "trade"] == kinds.to_series().to_list()
        assert pl.String == kinds.to_series().dtype
