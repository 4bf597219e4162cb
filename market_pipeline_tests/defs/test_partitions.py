from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from market_pipeline.quality.evaluate import CHECKS
from market_pipeline.sources.simulated import simulate
from market_pipeline.tables import TABLES
from market_pipeline_tests.defs.workspace import NOT_ASKED_FOR, Finished, Workspace, raw_file
from market_pipeline_tests.sources.simulated.days import DAY, instrument

pytestmark = pytest.mark.slow

WHOLE, TRADES_ONLY, ABSENT = (DAY + timedelta(days=n) for n in range(3))
FIRST, SECOND = instrument("FIRST-USD"), instrument("SECOND-USD", seed=8)
RAW = ("book_delta_v2", "book", "trades")
OPTIONAL = {"raw_funding", "raw_open_interest", *NOT_ASKED_FOR}


def green(workspace: Workspace, day: date) -> set[str]:
    """The assets whose partition of a day is materialized."""
    with workspace.instance() as instance:
        return {
            name
            for name in TABLES
            if str(day) in instance.get_materialized_partitions(dg.AssetKey(name))
        }


def last_checks(workspace: Workspace) -> dict[str, tuple[str | None, str]]:
    """By check, the day and the status of its newest record, which the UI shows as its state."""
    keys = [dg.AssetCheckKey(dg.AssetKey(check.asset), check.name) for check in CHECKS]
    with workspace.instance() as instance:
        newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    return {key.name: (each.partition, each.status.value) for key, each in newest.items()}


def observed(workspace: Workspace) -> dict[str, dg.AssetObservation]:
    """By asset, what the newest run says in place of a materialization."""
    with workspace.instance() as instance:
        (run,) = instance.get_runs(limit=1)
        records = instance.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION
        ).records
        told = [record.event_log_entry.asset_observation for record in records]
    return {each.asset_key.to_user_string(): each for each in told if each is not None}


def verdicts(workspace: Workspace, day: date) -> dict[str, str]:
    """The condition of each instrument in SQL."""
    query = "SELECT symbol, condition FROM quality.validation_report WHERE dt = ?"
    return dict(workspace.sql(query, day).rows())


def move(lake: Path, other: Path, day: date, tables: tuple[str, ...] = RAW) -> None:
    """Takes the raw files of a day out of one lake and puts them into another."""
    for table in tables:
        for each in (FIRST, SECOND):
            folder = raw_file(lake, table, each.symbol, day).parent
            if folder.exists():
                shutil.move(folder, raw_file(other, table, each.symbol, day).parent)


@dataclass(frozen=True)
class Story:
    """What there was after each of four steps.

    Attributes:
        workspace: As the last step left it.
        before, after: The newest records of the checks, without and with a run of the absent day.
        absent: That run, run twice.
        green: The green assets of each day then.
        told: The observations of the second run of the absent day.
        pending: The verdicts of the absent day before it was due, and after.
        arrived: The green assets of the absent day, after its files came and it was run.
    """

    workspace: Workspace
    before: dict[str, tuple[str | None, str]]
    after: dict[str, tuple[str | None, str]]
    absent: Finished
    green: dict[date, set[str]]
    told: dict[str, dg.AssetObservation]
    pending: list[dict[str, str]]
    arrived: set[str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A day with everything, one with trades alone and one with nothing are run."""
    root = tmp_path_factory.mktemp("partitions")
    more = {"PIPELINE_CHECKPOINT_SECONDS": "21600", "PIPELINE_DEPTH_INTERVAL_MS": "60000"}
    workspace = Workspace(root / "pipeline", root / "lake", start_date=WHOLE, more=more)
    workspace.configure(FIRST, SECOND)
    small = {"messages_per_day": 1_500, "snapshot_interval_s": 20.0}
    simulate(workspace.lake, [FIRST, SECOND], WHOLE, ABSENT, **small)
    aside = root / "aside"
    move(workspace.lake, aside, TRADES_ONLY, RAW[:2])
    move(workspace.lake, aside, ABSENT)
    workspace.run_days(WHOLE, TRADES_ONLY)
    before = last_checks(workspace)

    workspace.more["PIPELINE_VENDOR_LAG_HOURS"] = "1000000"
    workspace.run_days(ABSENT)
    pending = [verdicts(workspace, ABSENT)]
    del workspace.more["PIPELINE_VENDOR_LAG_HOURS"]
    absent = workspace.run_days(ABSENT)
    pending.append(verdicts(workspace, ABSENT))
    after, told = last_checks(workspace), observed(workspace)
    found = {day: green(workspace, day) for day in (WHOLE, TRADES_ONLY, ABSENT)}

    move(aside, workspace.lake, ABSENT)
    workspace.run_days(ABSENT)
    return Story(workspace, before, after, absent, found, told, pending, green(workspace, ABSENT))


class TestGreen:
    def test_a_whole_day(self, story: Story):
        """A day with data is green in every asset."""
        assert set(TABLES) == story.green[WHOLE]

    def test_each_asset_for_itself(self, story: Story):
        """Of a day that has nothing but trades these are green with their profile, no book is; what
        is optional always is.
        """
        assert {"raw_trades", "raw_profiles"} | OPTIONAL == story.green[TRADES_ONLY]

    def test_no_data_at_all(self, story: Story):
        """A day without any raw file stays missing in every asset but those that are optional,
        however often it is run.
        """
        assert OPTIONAL == story.green[ABSENT]

    def test_the_verdict_is_in_sql(self, story: Story):
        """Its verdicts are published all the same: pending, and missing once it is due."""
        symbols = (FIRST.symbol, SECOND.symbol)

        assert [dict.fromkeys(symbols, each) for each in ("pending", "missing")] == story.pending

    def test_the_run_says_why(self, story: Story):
        """The run succeeds, and says of each asset that there is no data, with its figures."""
        assert (1, "") == (story.absent.exit_code, story.absent.errors)
        assert f"{ABSENT} done (1/1)" in story.absent.output
        assert {name: str(ABSENT) for name in set(TABLES) - OPTIONAL} == {
            name: each.partition for name, each in story.told.items()
        }
        assert (
            f"book_bbo: no instrument of this run has data of {ABSENT}; it is not materialized."
            == story.told["book_bbo"].description
        )
        (first, second) = story.told["raw_trades"].metadata["failures"].records
        assert [FIRST.symbol, SECOND.symbol] == [
            each.data["instrument"].partition(":")[2] for each in (first, second)
        ]
        assert "There is no trades file" in first.data["failure"]

    def test_the_run_was_a_whole_one(self, story: Story):
        """A run that published every table and materialized only some has seen all of the day."""
        from market_pipeline.defs.ran import last_whole_run_s

        instruments = [each.as_instrument() for each in (FIRST, SECOND)]
        with story.workspace.instance() as instance:
            assert last_whole_run_s(instance, TRADES_ONLY, instruments) is not None

    def test_it_is_green_once_it_has_data(self, story: Story):
        """After its files came the day is run as any other."""
        assert set(TABLES) == story.arrived


class TestChecks:
    def test_older_results_stand(self, story: Story):
        """After a day without data each check still has its last result, and none is skipped."""
        assert {"SUCCEEDED", "FAILED"} >= {status for _, status in story.after.values()}
        assert story.before == story.after
        assert {"gap", "completeness", "freshness", "bars"} <= set(story.after)

    def test_of_assets_with_data_alone(self, story: Story):
        """Of the day with trades alone no check was evaluated: no asset of one has data."""
        assert str(TRADES_ONLY) not in {day for day, _ in story.before.values()}

    def test_a_check_that_was_asked_of_nobody(self, story: Story):
        """One that could be asked of no instrument of any day has no record at all."""
        assert "delivery" not in story.before


def test_a_day_that_lost_its_files(story: Story, tmp_path: Path):
    """A green day stays green, is withdrawn in SQL, and the checks of what is gone fail."""
    workspace = story.workspace
    move(workspace.lake, tmp_path, WHOLE)
    workspace.run_days(WHOLE)
    checks = last_checks(workspace)
    books = workspace.sql("SELECT DISTINCT dt FROM books.bbo").to_series()

    assert set(TABLES) == green(workspace, WHOLE)
    assert {FIRST.symbol: "missing", SECOND.symbol: "missing"} == verdicts(workspace, WHOLE)
    assert WHOLE not in books
    assert [(str(WHOLE), "FAILED")] * 2 == [
        checks["completeness"],
        checks["freshness"],
    ]
    assert str(ABSENT) == checks["gap"][0]
