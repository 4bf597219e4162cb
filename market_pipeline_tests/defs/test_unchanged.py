from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from market_pipeline.sources.simulated import simulate
from market_pipeline.tables import TABLES
from market_pipeline.telemetry.logs.search import Search
from market_pipeline.warehouse.read import current_files
from market_pipeline_tests.defs.runs import run_under_way
from market_pipeline_tests.defs.workspace import NOT_ASKED_FOR, Finished, Workspace, entry, raw_file
from market_pipeline_tests.sources.simulated.days import DAY, instrument

pytestmark = pytest.mark.slow

RAW, TICK, DAMAGED, SAME = (f"SIMULATED:{name}-USD" for name in ("RAW", "TICK", "DAMAGED", "SAME"))
IDS = {RAW, TICK, DAMAGED, SAME}

BIG = tuple(
    name for name, table in TABLES.items() if table.storage == "delta" and name not in NOT_ASKED_FOR
)
STAGES = (
    *("raw_profiles", "book_bbo", "trades", "information_bars", "validation_report"),
    *("book_metrics", "bars"),
)


@dataclass(frozen=True)
class Seen:
    """A run, and what there is after it.

    Attributes:
        finished: How it ended.
        said: The log of its process.
        metadata: That of each asset it materialized.
        checks: How many checks it evaluated.
        published: A digest of each asset's rows or file names.
        versions: The newest commit of each big table.
        lineage: The rows of `lake.lineage`.
    """

    finished: Finished
    said: list[str]
    metadata: dict[str, dict[str, Any]]
    checks: int
    published: dict[str, str]
    versions: dict[str, str]
    lineage: list[tuple[Any, ...]]

    def kept(self, asset: str) -> set[str]:
        """The instruments that the asset's metadata says are unchanged."""
        value = self.metadata[asset]["unchanged"]
        return set() if value == "none" else {row.data["instrument"] for row in value}


def seen(workspace: Workspace, *more: str) -> Seen:
    """Runs the day."""
    finished = workspace.run_days(DAY, DAY, *more)
    with workspace.instance() as instance:
        run, *_ = instance.get_runs(limit=1)
        logs = instance.all_logs(run.run_id)
    events = [entry.dagster_event for entry in logs if entry.dagster_event]
    made = [
        event.step_materialization_data.materialization
        for event in events
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
    ]
    return Seen(
        finished,
        [line.message for _, line in Search(run=run.run_id).lines(workspace.data_dir / "logs")],
        {
            each.asset_key.to_user_string(): {
                name: getattr(value, "records", value.value)
                for name, value in each.metadata.items()
            }
            for each in made
        },
        sum(event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION for event in events),
        workspace.published(DAY),
        {
            name: max(
                path.name
                for path in workspace.warehouse.table_dir(TABLES[name]).glob("_delta_log/*.json")
            )
            for name in BIG
        },
        workspace.sql("FROM lake.lineage ORDER BY ALL").rows(),
    )


@dataclass(frozen=True)
class Story:
    """Four runs of one day: the first, the same again, forced, and after three things changed."""

    workspace: Workspace
    first: Seen
    again: Seen
    forced: Seen
    changed: Seen
    damaged: Path


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Then one instrument has other raw bytes, one another tick, one a damaged published file."""
    root = tmp_path_factory.mktemp("unchanged")
    markets = [instrument(each.partition(":")[2]) for each in (RAW, TICK, DAMAGED, SAME)]
    simulate(root / "lake", markets, DAY, DAY, messages_per_day=1_500, snapshot_interval_s=20.0)
    more = {"PIPELINE_CHECKPOINT_SECONDS": "21600", "PIPELINE_DEPTH_INTERVAL_MS": "60000"}
    workspace = Workspace(root / "pipeline", root / "lake", more=more)
    workspace.configure(*markets)
    first = seen(workspace)
    with workspace.instance() as instance:
        run_under_way(instance, DAY)  # else the verb would find the day unchanged without a run
    runs = [first, seen(workspace), seen(workspace, "--force")]

    file = raw_file(workspace.lake, "book_delta_v2", "RAW-USD", DAY)
    rows = pq.read_table(file, partitioning=None)
    pq.write_table(rows.slice(0, rows.num_rows - 1), file)
    finer = {**entry(markets[1]), "tick": "0.05"}
    workspace.configure(markets[0], finer, *markets[2:])
    (damaged,) = current_files(workspace.warehouse, TABLES["book_bbo"], DAY, [DAMAGED])
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    return Story(workspace, *runs, seen(workspace), damaged)


def test_every_output_names_its_inputs(story: Story):
    """Each derived table has a row for each instrument, and names what its rows are of."""
    recorded = story.workspace.sql("SELECT DISTINCT output_table FROM lake.lineage").to_series()
    raw = {name for name in TABLES if name.startswith("raw_")} - {"raw_profiles"}
    absent = raw | NOT_ASKED_FOR
    derived = {table.sql_name for name, table in TABLES.items() if name not in absent}

    assert derived == set(recorded)
    assert len(derived) * len(IDS) == len(story.first.lineage)


def test_again_makes_nothing(story: Story):
    """The second run of a day publishes nothing: the same files, commits, rows and lineage."""
    ends = [(each.finished.exit_code, each.finished.errors) for each in (story.first, story.again)]

    assert "" == ends[0][1]
    assert ends[0] == ends[1]
    assert story.first.published == story.again.published
    assert story.first.versions == story.again.versions
    assert story.first.lineage == story.again.lineage


def test_again_says_so(story: Story):
    """Each stage says of each instrument since when it is unchanged, in the log and metadata."""
    told = [line for line in story.again.said if "unchanged since 20" in line]

    assert len(STAGES) * len(IDS) == len(told)
    assert [set()] * len(STAGES) == [story.first.kept(name) for name in STAGES]
    assert [IDS] * len(STAGES) == [story.again.kept(name) for name in STAGES]


def test_again_materializes_and_checks(story: Story):
    """All the same every asset is materialized, with its figures, and every check evaluated."""
    figures = ("rows", "bytes", "content_sha256")

    assert set(TABLES) == set(story.again.metadata)
    assert story.first.checks == story.again.checks > 0
    for name in BIG:
        first, again = story.first.metadata[name], story.again.metadata[name]
        assert [first[each] for each in figures] == [again[each] for each in figures]
    assert (
        story.first.metadata["validation_report"]["verdicts"]
        == story.again.metadata["validation_report"]["verdicts"]
    )


def test_forced_makes_the_same(story: Story):
    """With --force nothing is kept, and the same bytes are made of the same: no new commit."""
    assert not [line for line in story.forced.said if "unchanged since" in line]
    assert [set()] * len(STAGES) == [story.forced.kept(name) for name in STAGES]
    assert story.first.published == story.forced.published
    assert story.first.versions == story.forced.versions
    assert story.first.lineage == story.forced.lineage


def test_what_changed_is_made(story: Story):
    """Other raw bytes, another tick or a damaged published file: made again, and only that."""
    assert {DAMAGED, SAME} == story.changed.kept("raw_profiles") - {TICK}
    assert {SAME} == story.changed.kept("book_bbo")
    assert {DAMAGED, SAME} == story.changed.kept("trades")
    assert {DAMAGED, SAME} == story.changed.kept("validation_report")
    assert {DAMAGED, SAME} == story.changed.kept("book_metrics")


def test_what_changed_is_published(story: Story):
    """Files and lineage of the two changed instruments are others, those of the others are not."""

    def by_id(rows: list[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
        return {id_: [row for row in rows if f"{row[0]}:{row[1]}" == id_] for id_ in IDS}

    before, after = by_id(story.first.lineage), by_id(story.changed.lineage)

    assert {RAW, TICK} == {id_ for id_ in IDS if before[id_] != after[id_]}


def test_a_damaged_file_is_whole_again(story: Story):
    """The bytes are what the file's name says, and all of the table can be read."""
    (row,) = story.workspace.sql(
        "SELECT count(*) FROM books.bbo WHERE symbol = 'DAMAGED-USD'"
    ).rows()

    assert row[0] > 0
    assert pq.read_metadata(story.damaged).num_rows == row[0]
