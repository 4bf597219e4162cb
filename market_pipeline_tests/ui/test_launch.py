from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import psutil
import pytest
import yaml

from market_pipeline.sources.simulated import simulate
from market_pipeline.tables import TABLES
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.defs.workspace import NOT_ASKED_FOR, PATIENCE_SECONDS, Workspace
from market_pipeline_tests.ui.conftest import CLEAN, DAYS, FAULTY, FAULTY_DAY, Server

SENSOR = "new_lake_days"
LANDED, LANDING = DAYS[2], DAYS[1]
WHOLE, PARTIAL, ABSENT = (DAYS[2] + timedelta(days=n) for n in range(1, 4))


@pytest.fixture(scope="module")
def workspace(simulated_lake, tmp_path_factory) -> Workspace:
    """A pipeline of its own on the simulated days."""
    more = {"PIPELINE_CHECKPOINT_SECONDS": "21600"}
    root = tmp_path_factory.mktemp("launch")
    made = Workspace(root, simulated_lake, start_date=DAYS[0], more=more)
    made.configure(CLEAN, FAULTY)
    return made


def dg(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `dg` in the project's folder, which it needs, with the workspace's settings."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("dg")), *arguments],
        cwd=REPOSITORY,
        env=workspace.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


class TestCommands:
    def test_dg_check_defs_passes(self, workspace):
        """`dg check defs` loads the definitions and finds nothing wrong."""
        ended = dg(workspace, "check", "defs")
        assert 0 == ended.returncode, ended.stderr
        assert "All definitions loaded successfully." in ended.stdout

    @pytest.mark.slow
    def test_dg_launch_makes_a_day(self, workspace):
        """`dg launch` publishes a day of an asset, for which it calls what `dagster asset
        materialize` does (`test_real_days` makes every asset by that command).
        """
        ended = dg(workspace, "launch", "--assets", "raw_trades", "--partition", str(FAULTY_DAY))
        assert 0 == ended.returncode, ended.stderr
        found = workspace.sql("SELECT symbol, dt FROM lake.raw_trades ORDER BY symbol").rows()
        assert [(each.symbol, FAULTY_DAY) for each in (CLEAN, FAULTY)] == found


class TestCodeServer:
    def test_the_daemon_and_the_web_server_share_one(self, server):
        """Both connect to one that `dagster dev` started: one of its own the daemon would replace
        each minute.
        """
        commands = [each.cmdline() for each in psutil.Process(server.process.pid).children()]
        given = {
            each[each.index("-m") + 1]: Path(each[each.index("--workspace") + 1]).read_text()
            for each in commands
            if "--workspace" in each
        }
        assert {"dagster_webserver", "dagster._daemon"} == given.keys()
        (locations,) = {text: yaml.safe_load(text)["load_from"] for text in given.values()}.values()
        assert [("grpc_server", "market_pipeline")] == [
            (kind, each["location_name"])
            for location in locations
            for kind, each in location.items()
        ]


class TestAutomation:
    def test_schedule_and_sensor_are_listed_and_off(self, server):
        """The UI offers a schedule, a sensor, and those for alerts; none is on by itself."""
        found = server.graphql(
            """query($repository: RepositorySelector!) {
                repositoryOrError(repositorySelector: $repository) {
                  ... on Repository {
                    schedules { name pipelineName cronSchedule scheduleState { status } }
                    sensors { name targets { pipelineName } sensorState { status } } }
                  ... on PythonError { message } } }""",
            repository=server.repository,
        )["repositoryOrError"]
        assert {
            "schedules": [
                {
                    "name": "yesterday",
                    "pipelineName": "daily_books",
                    "cronSchedule": "30 3 * * *",
                    "scheduleState": {"status": "STOPPED"},
                }
            ],
            "sensors": [
                {
                    "name": name,
                    "targets": [{"pipelineName": "daily_books"}]
                    if name in {SENSOR, "golden_books"}
                    else [],
                    "sensorState": {"status": "STOPPED"},
                }
                for name in (
                    "alert_delivery",
                    "golden_books",
                    "late_day_alerts",
                    SENSOR,
                    "run_alerts",
                    "stopped_capture_alerts",
                )
            ],
        } == found

    def test_sensor_runs_a_day_that_arrived(self, server):
        """Turned on, the sensor runs the day whose files have settled and no day still landing."""
        server.forget()
        server.receive(LANDED)
        server.receive(LANDING, settled=False)
        sensor = switched_on(server)
        try:
            runs = server.eventually(
                lambda: server.runs(sensor_name=SENSOR), "the sensor requests a run"
            )
            assert [(str(LANDED), "daily_books")] == [
                (run["partition"], run["job"]) for run in runs
            ]
            server.eventually(
                lambda: server.runs(sensor_name=SENSOR)[0]["status"] in {"SUCCESS", "FAILURE"},
                "the sensor's run ends",
            )
            (run,) = server.runs(sensor_name=SENSOR)
            assert "SUCCESS" == run["status"]
            assert {CLEAN.symbol, FAULTY.symbol} == set(server.conditions(LANDED))
        finally:
            switch_off(server, sensor)


def switched_on(server: Server) -> str:
    """Turns the sensor on as the UI's switch does; returns its id."""
    told = server.graphql(
        """mutation($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) {
            ... on Sensor { id sensorState { status } } ... on PythonError { message } } }""",
        sensor=server.repository | {"sensorName": SENSOR},
    )["startSensor"]
    assert {"status": "RUNNING"} == told["sensorState"]
    return told["id"]


def switch_off(server: Server, sensor: str) -> None:
    """Turns the sensor off as the UI's switch does."""
    told = server.graphql(
        """mutation($id: String!) { stopSensor(id: $id) {
            ... on StopSensorMutationResult { instigationState { status } }
            ... on PythonError { message } } }""",
        id=sensor,
    )["stopSensor"]
    assert {"status": "STOPPED"} == told["instigationState"]


def missing(server: Server) -> dict[date, set[str]]:
    """Of each of three days, the assets that the UI shows as failed or missing."""
    nodes = server.graphql(
        """{ assetNodes { assetKey { path } assetPartitionStatuses {
            ... on TimePartitionStatuses { ranges { status startKey endKey } } } } }"""
    )["assetNodes"]
    found: dict[date, set[str]] = {}
    for day in (WHOLE, PARTIAL, ABSENT):
        found[day] = {
            node["assetKey"]["path"][-1]
            for node in nodes
            if not any(
                each["status"] == "MATERIALIZED" and each["startKey"] <= str(day) <= each["endKey"]
                for each in node["assetPartitionStatuses"]["ranges"]
            )
        }
    return found


@pytest.mark.slow
class TestFailedAndMissing:
    def test_a_backfill_of_what_is_missing(self, server):
        """Of days with, without and with partial data the daemon runs the one without, and it is
        missing afterwards too; its verdicts are in SQL.
        """
        workspace = server.workspace
        small = {"messages_per_day": 1_500, "snapshot_interval_s": 20.0}
        simulate(workspace.lake, [CLEAN, FAULTY], WHOLE, WHOLE, **small)
        simulate(workspace.lake, [CLEAN], PARTIAL, PARTIAL, **small)
        workspace.run_days(WHOLE, ABSENT)
        before = missing(server)
        launched = server.graphql(
            """mutation($params: LaunchBackfillParams!) {
                launchPartitionBackfill(backfillParams: $params) {
                  ... on LaunchBackfillSuccess { backfillId }
                  ... on PythonError { message } } }""",
            params={
                "partitionNames": [str(day) for day, assets in before.items() if assets],
                "assetSelection": [{"path": [name]} for name in TABLES],
            },
        )["launchPartitionBackfill"]
        (run,) = server.eventually(
            lambda: [
                run
                for run in server.runs(backfill=launched["backfillId"])
                if run["status"] in {"SUCCESS", "FAILURE"}
            ],
            "the backfill's run has ended",
        )

        assert {
            WHOLE: set(),
            PARTIAL: set(),
            ABSENT: set(TABLES) - {"raw_funding", "raw_open_interest"} - NOT_ASKED_FOR,
        } == before
        assert ("SUCCESS", str(ABSENT)) == (run["status"], run["partition"])
        assert 1 == len(server.runs(backfill=launched["backfillId"]))
        assert before == missing(server)
        assert dict.fromkeys((CLEAN.symbol, FAULTY.symbol), "missing") == server.conditions(ABSENT)
