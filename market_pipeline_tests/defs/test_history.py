"""Which runs of an instance may be forgotten, in a real one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from market_pipeline.defs.history import forget_runs, old_runs
from market_pipeline_tests.defs.runs import finished_run

DAY, NEXT_DAY = date(2024, 8, 8), date(2024, 8, 9)
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def every(_: str) -> bool:
    """Every day is published."""
    return True


def run(
    instance: dg.DagsterInstance,
    day: date,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.SUCCESS,
    instruments: Sequence[str] = (),
    job_name: str = "daily_books",
    **tags: str,
) -> str:
    """The id of a run of a day that is recorded now."""
    asked = {"instruments": list(instruments)}
    made = dg.DagsterRun(
        job_name=job_name,
        status=status,
        tags={"dagster/partition": str(day)} | {f"dagster/{name}": tags[name] for name in tags},
        run_config={"resources": {"pipeline": {"config": asked}}},
    )
    return instance.add_run(made).run_id


def test_all_but_the_last_of_a_day(instance: dg.DagsterInstance):
    """Earlier and failed runs go; the last that succeeded stays, for each choice of instruments,
    and so does one that has not ended.
    """
    first, last = run(instance, DAY), run(instance, DAY)
    failed = run(instance, DAY, dg.DagsterRunStatus.FAILURE)
    of_one = run(instance, DAY, instruments=["BINANCE:BTC-USDT"])
    other = run(instance, NEXT_DAY)
    run(instance, DAY, dg.DagsterRunStatus.STARTED)
    found = old_runs(instance, LATER, every)

    assert [failed, first] == found
    assert {last, of_one, other}.isdisjoint(found)


def test_what_was_materialized_last(instance: dg.DagsterInstance):
    """A run that failed stays while no later one materialized what it had, of any asset."""
    finished_run(instance, DAY, fails=True)
    finished_run(instance, DAY, without={"book_bbo"})
    before = old_runs(instance, LATER, every)
    partial, failed = (each.run_id for each in instance.get_runs())
    finished_run(instance, DAY)

    assert ([], [partial, failed]) == (before, old_runs(instance, LATER, every))


def test_young_runs_stay(instance: dg.DagsterInstance):
    """A run that ended after the instant stays, whatever followed it."""
    run(instance, DAY)
    run(instance, DAY)

    assert [] == old_runs(instance, datetime.now(UTC) - timedelta(days=1), every)


def test_of_days_that_are_gone(instance: dg.DagsterInstance):
    """The last run of a day goes too once the day is published no more."""
    finished_run(instance, DAY)
    (gone,) = instance.get_runs()
    finished_run(instance, NEXT_DAY)

    assert [gone.run_id] == old_runs(instance, LATER, lambda day: day == str(NEXT_DAY))


def test_of_others(instance: dg.DagsterInstance):
    """Runs of another project that shares the instance stay, whatever came of them."""
    for status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE):
        run(instance, DAY, status, job_name="another")
        run(instance, DAY, status, job_name="another")

    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["north"]))
    def theirs() -> None:
        """An asset that is none of ours, with other partitions."""

    dg.materialize([theirs], instance=instance, partition_key="north")
    dg.materialize([theirs], instance=instance, partition_key="north")

    assert [] == old_runs(instance, LATER, every)


@pytest.mark.parametrize(
    ("status", "goes"),
    [(BulkActionStatus.REQUESTED, False), (BulkActionStatus.COMPLETED_FAILED, True)],
)
def test_of_a_backfill(instance: dg.DagsterInstance, status, goes):
    """A run stays while its backfill is under way, which counts its runs that failed."""
    backfill = PartitionBackfill(
        "backfill",
        status=status,
        from_failure=False,
        tags={},
        backfill_timestamp=0.0,
        partition_names=[str(DAY)],
    )
    instance.add_backfill(backfill)
    failed = run(instance, DAY, dg.DagsterRunStatus.FAILURE, backfill="backfill")

    assert ([failed] if goes else []) == old_runs(instance, LATER, every)


def size_of_log(folder: Path) -> int:
    """The bytes of the event log, with its log of changes."""
    return sum(path.stat().st_size for path in folder.glob("event_log.db*"))


def test_forget(on_disk: dg.DagsterInstance, tmp_path: Path):
    """Runs, events and logs are gone, the file is smaller, and the others are as they were."""
    finished_run(on_disk, DAY)
    finished_run(on_disk, DAY)
    last, first = (each.run_id for each in on_disk.get_runs())
    before, kept = size_of_log(tmp_path), len(on_disk.all_logs(last))
    forget_runs(on_disk, old_runs(on_disk, LATER, every))

    assert [last] == [each.run_id for each in on_disk.get_runs()]
    assert (kept, 0) == (len(on_disk.all_logs(last)), len(on_disk.all_logs(first)))
    assert {str(DAY)} == on_disk.get_materialized_partitions(dg.AssetKey("book_bbo"))
    assert [last] == [path.name for path in (tmp_path / "storage").iterdir()]
    assert before > size_of_log(tmp_path)


def test_forget_in_no_time(on_disk: dg.DagsterInstance, tmp_path: Path, monkeypatch):
    """If there is no time to make the file smaller it stays as large, and nothing else differs."""
    monkeypatch.setattr("market_pipeline.defs.history._VACUUM_SECONDS", 0.0)
    finished_run(on_disk, DAY)
    finished_run(on_disk, DAY)
    last = on_disk.get_runs()[0].run_id
    before = size_of_log(tmp_path)
    forget_runs(on_disk, old_runs(on_disk, LATER, every))

    assert [last] == [each.run_id for each in on_disk.get_runs()]
    assert before <= size_of_log(tmp_path)


@pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")
def test_what_checks_said(on_disk: dg.DagsterInstance):
    """What a check said of a day goes with its run, unless it said nothing since."""
    key = dg.AssetCheckKey(dg.AssetKey("raw_trades"), "gap")
    daily = dg.DailyPartitionsDefinition("2024-01-01")

    @dg.asset(
        name="raw_trades",
        check_specs=[dg.AssetCheckSpec("gap", asset="raw_trades", partitions_def=daily)],
        partitions_def=daily,
    )
    def raw_trades() -> dg.MaterializeResult:
        """An asset with a check."""
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])

    for day in (DAY, DAY, NEXT_DAY):
        dg.materialize([raw_trades], instance=on_disk, partition_key=str(day))
    next_day, last, _ = (each.run_id for each in on_disk.get_runs())
    forget_runs(on_disk, [each.run_id for each in on_disk.get_runs()])
    said = on_disk.event_log_storage.get_asset_check_execution_history(key, limit=10)

    assert [next_day, last] == [each.run_id for each in said]
