from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from market_pipeline.config.instruments import load_instruments
from market_pipeline.config.settings import Settings
from market_pipeline.metrics.contract_states import CONTRACT_STATES
from market_pipeline.sources.simulated import simulate
from market_pipeline.stages.unchanged_day import is_unchanged_day
from market_pipeline.tables import TABLES
from market_pipeline.warehouse import lineage
from market_pipeline.warehouse.read import current_files
from market_pipeline.warehouse.working import writing
from market_pipeline_tests.defs.runs import run_under_way
from market_pipeline_tests.defs.workspace import Workspace, entry, raw_file
from market_pipeline_tests.published_day import MINUTES
from market_pipeline_tests.sources.simulated.days import DAY, instrument

pytestmark = pytest.mark.slow

MARKETS = [instrument("ONE-USD"), instrument("TWO-USD")]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A day of two instruments that was run once."""
    root = tmp_path_factory.mktemp("unchanged")
    simulate(root / "lake", MARKETS, DAY, DAY, messages_per_day=1_500, snapshot_interval_s=20.0)
    workspace = Workspace(root / "pipeline", root / "lake")
    workspace.configure(*MARKETS)
    workspace.run_days(DAY)
    return workspace


def is_unchanged(workspace: Workspace, **settings: object) -> bool:
    return is_unchanged_day(
        DAY,
        load_instruments(workspace.instruments_file),
        Settings(data_dir=workspace.data_dir, lake_uri=str(workspace.lake), **MINUTES | settings),
        workspace.warehouse,
    )


@contextmanager
def other_bytes(file: Path):
    """One bit of a file is another one meanwhile, its size and time of change are not."""
    whole, times = file.read_bytes(), file.stat()
    file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    yield
    file.write_bytes(whole)


def runs(workspace: Workspace) -> int:
    with workspace.instance() as instance:
        return instance.get_runs_count()


def test_nothing_changed(published: Workspace):
    """A day that was published and is as it was is unchanged."""
    assert is_unchanged(published)


@pytest.mark.parametrize("table", ["book_delta_v2", "book", "trades"])
def test_another_raw_file(published: Workspace, table: str):
    """Other bytes of the same size and time of any table are another day."""
    with other_bytes(raw_file(published.lake, table, "ONE-USD", DAY)):
        assert not is_unchanged(published)


@pytest.mark.parametrize("setting", [{"checkpoint_seconds": 7_200}, {"reference_minutes": 1}])
def test_another_setting(published: Workspace, setting: dict[str, int]):
    """Settings that decide rows of the books or of the report are another day."""
    assert not is_unchanged(published, **setting)


def test_another_option_of_an_instrument(published: Workspace):
    """So are an instrument's options, and one more instrument."""
    published.configure(MARKETS[0], {**entry(MARKETS[1]), "tick": "0.05"})
    assert not is_unchanged(published)
    published.configure(*MARKETS, instrument("NEW-USD"))
    assert not is_unchanged(published)
    published.configure(*MARKETS)


@pytest.mark.parametrize("schema", sorted(lineage.CODE_VERSIONS))
def test_another_version_of_the_code(published: Workspace, monkeypatch, schema: str):
    """So is each schema's code."""
    later = {**lineage.CODE_VERSIONS, schema: lineage.CODE_VERSIONS[schema] + 1}
    monkeypatch.setattr(lineage, "CODE_VERSIONS", later)

    assert not is_unchanged(published)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, of in TABLES.items()
        if of.storage == "delta" and name not in {*CONTRACT_STATES, "market_events"}
    ],
)
def test_a_published_file(published: Workspace, name: str):
    """A published file that is damaged or gone is to be made again."""
    (file,) = current_files(published.warehouse, TABLES[name], DAY, ["SIMULATED:TWO-USD"])
    with other_bytes(file):
        assert not is_unchanged(published)
    away = file.rename(file.with_suffix(".away"))
    assert not is_unchanged(published)
    away.rename(file)


@pytest.mark.parametrize("name", [name for name, of in TABLES.items() if of.storage == "duckdb"])
def test_published_rows(published: Workspace, name: str):
    """Rows that are gone from a small table, the manifests among them, are to be made again."""
    table = TABLES[name].sql_name
    with writing(published.warehouse) as connection:
        before = connection.sql(f"FROM {table}").pl()
        connection.execute(f"DELETE FROM {table} WHERE symbol = 'TWO-USD'")
    changed = is_unchanged(published)
    with writing(published.warehouse) as connection:
        connection.execute(f"DELETE FROM {table}")
        connection.execute(f"INSERT INTO {table} SELECT * FROM before")

    # A day without findings has no row of them to lose.
    assert changed == (before.filter(symbol="TWO-USD").is_empty())


def test_the_verb_starts_no_run(published: Workspace):
    """The verb says so, ends as the run did, and leaves no run; with --force there is one."""
    before = runs(published)
    again = published.run_days(DAY)

    assert f"{DAY} unchanged, no run was needed\n" in again.output
    assert before == runs(published)
    forced = published.run_days(DAY, DAY, "--force")
    assert (again.exit_code, before + 1) == (forced.exit_code, runs(published))


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE])
def test_after_a_run_that_did_not_end(published: Workspace, status: dg.DagsterRunStatus):
    """Whatever it published, a day whose last run was killed or failed is run."""
    with published.instance() as instance:
        run_under_way(instance, DAY, status)
    before = runs(published)
    published.run_days(DAY)

    assert before + 1 == runs(published)
