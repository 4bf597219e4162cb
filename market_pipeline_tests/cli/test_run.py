from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from market_pipeline.sources.simulated import simulate
from market_pipeline.warehouse.locks import holding
from market_pipeline_tests.cli.conftest import GOOD, NONE, Runs
from market_pipeline_tests.defs.workspace import (
    Finished,
    Workspace,
    days_arguments,
    entry,
    raw_file,
)
from market_pipeline_tests.sources.simulated.days import DAY, NEXT_DAY, instrument
from market_pipeline_tests.stages.rebuild.test_quarantine import digest


def line_of(finished: Finished, *words: str) -> str:
    """The first line of the output that holds all the words, cells split by one bar."""
    return next(
        line.replace("│", "|")
        for line in finished.output.splitlines()
        if all(word in line for word in words)
    )


def copied(workspace: Workspace, root: Path, **more: str) -> Workspace:
    """A pipeline with the same instruments and lake, which has published nothing yet."""
    fresh = Workspace(root, workspace.lake, more=more)
    fresh.instruments_file.write_text(workspace.instruments_file.read_text())
    return fresh


@pytest.fixture(scope="module")
def failed(workspace: Workspace, runs: Runs) -> Finished:
    """A run whose steps fail, because another process keeps the warehouse for too long."""
    workspace.more["PIPELINE_LOCK_TIMEOUT_SECONDS"] = "0.2"
    try:
        with holding(workspace.warehouse, "working"):
            return workspace.run_days(DAY, DAY, "--instrument", GOOD)
    finally:
        del workspace.more["PIPELINE_LOCK_TIMEOUT_SECONDS"]


@pytest.mark.slow
class TestRuns:
    def test_0_all_available(self, runs: Runs):
        """A run whose days are all available says so in its table and ends with 0."""
        cells = [cell.strip() for cell in line_of(runs.good, GOOD).split("|")]

        assert (0, "") == (runs.good.exit_code, runs.good.errors)
        assert ["2025-03-03", GOOD, "available"] == cells[1:4]

    def test_1_missing(self, runs: Runs):
        """A range, both ends included, whose days are missing shows them and ends with 1."""
        assert (1, "") == (runs.missing.exit_code, runs.missing.errors)
        for day in ("2025-03-04", "2025-03-05"):
            assert "missing" in line_of(runs.missing, day, GOOD)

    def test_1_pending(self, runs: Runs):
        """A day whose files are not due yet is pending, and ends with 1."""
        assert (1, "") == (runs.pending.exit_code, runs.pending.errors)
        assert "pending" in line_of(runs.pending, "2025-03-03", NONE)

    def test_plain_lines_without_a_terminal(self, runs: Runs):
        """Into a file or a pipe goes a line per day and no escape sequence."""
        assert ["2025-03-04 done (1/2)", "2025-03-05 done (2/2)"] == [
            line for line in runs.missing.output.splitlines() if " done " in line
        ]
        assert "\x1b" not in runs.missing.output + runs.missing.errors
        assert 160 >= max(map(len, runs.missing.output.splitlines()))

    def test_what_a_run_leaves(self, workspace: Workspace, runs: Runs):
        """Its events tell each table once, and all that it and Dagster write is the user's."""
        with closing(sqlite3.connect(workspace.home / "event_log.db")) as database:
            (outputs,) = database.execute(
                "SELECT max(length(event)) FROM event_logs WHERE dagster_event_type = 'STEP_OUTPUT'"
            ).fetchone()
            (of_a_run,) = database.execute(
                "SELECT max(bytes) FROM "
                "(SELECT sum(length(event)) AS bytes FROM event_logs GROUP BY run_id)"
            ).fetchone()
        of_readers = {workspace.warehouse.catalogue, workspace.warehouse.catalogue_log}
        written = {
            *(each for each in workspace.home.rglob("*") if each.name != "dagster.yaml"),
            *(each for each in workspace.data_dir.rglob("*") if each not in of_readers),
        }

        assert 0 == runs.good.exit_code
        assert (True, True) == (2_000 > outputs, 550_000 > of_a_run), (outputs, of_a_run)
        assert {0o600, 0o700} == {each.stat().st_mode & 0o777 for each in written}

    def test_2_a_step_fails(self, failed: Finished):
        """A run that fails says which day and step, shows no earlier verdict, ends with 2."""
        assert (2, "2025-03-03 failed (1/1)\n") == (failed.exit_code, failed.output)
        assert failed.errors.startswith("failed: 2025-03-03: register_raw: ")
        assert "working.lock" in failed.errors
        assert "Traceback" not in failed.errors

    def test_2_says_what_to_do(self, failed: Finished):
        """The reason of a failed run is the whole error, which ends with what to do next."""
        assert "working was in use by another process for 0.2 s" in failed.errors
        assert "Wait for the other run to end" in failed.errors

    def test_2_a_damaged_working_database(self, workspace: Workspace, tmp_path: Path):
        """A working database that cannot be opened is an error of ours with the next step."""
        broken = copied(workspace, tmp_path / "broken")
        broken.warehouse.prepare()
        broken.warehouse.working_database.write_bytes(b"no database" * 1_000)
        finished = broken.run_days(DAY)

        assert 2 == finished.exit_code
        assert "move it away to start afresh" in finished.errors
        assert "Traceback" not in finished.errors


@pytest.mark.slow
class TestStopped:
    @pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
    def test_in_the_middle_of_a_day(
        self, workspace: Workspace, tmp_path: Path, sent: signal.Signals
    ):
        """Stopped in the first of two days it ends with 128 + the signal, and begins no other."""
        fresh = copied(workspace, tmp_path / "fresh")
        running = fresh.start(*days_arguments(DAY, NEXT_DAY), "--instrument", GOOD)
        running.until(fresh.warehouse.working_database.exists)
        os.kill(running.process.pid, sent)
        finished = running.finish()
        with fresh.instance() as instance:
            runs = [(run.tags["dagster/partition"], run.status) for run in instance.get_runs()]

        assert 128 + sent == finished.exit_code
        assert f"stopped by {sent.name} at {DAY}: what was published stays" in finished.errors
        assert "Traceback" not in finished.errors
        assert [(f"{DAY}", DagsterRunStatus.FAILURE)] == runs


class TestMachine:
    """What the machine refuses ends with 2 and an error of ours."""

    @pytest.mark.slow
    def test_full_disk(self, workspace: Workspace, tmp_path: Path):
        """A file that may not grow is told with its path, without a table, also in the UI."""
        # Its messages take 160 bytes each, in the data folder and in the one of temporary files,
        # whichever is full first; the log of Dagster's events takes up to 4.1 MB.
        day = {"messages_per_day": 40_000, "snapshot_interval_s": 20.0}
        simulate(tmp_path / "lake", [instrument("GOOD-USD")], DAY, DAY, **day)
        more = {"TMPDIR": f"{tmp_path}"}
        full = Workspace(tmp_path / "full", tmp_path / "lake", more=more)
        full.instruments_file.write_text(workspace.instruments_file.read_text())
        finished = full.limited(resource.RLIMIT_FSIZE, 5_000_000, *days_arguments(DAY)).finish()
        with full.instance() as instance:
            (run,) = instance.get_runs()
            failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        errors = [each.get_dagster_event().step_failure_data.error for each in failures]

        assert (2, f"{DAY} failed (1/1)\n") == (finished.exit_code, finished.output)
        assert finished.errors.startswith(f"failed: {DAY}: raw_"), finished.errors
        assert f"MachineError: A file may not grow so large (file={tmp_path}" in finished.errors
        assert "bytes that are free now" in finished.errors
        assert "Free some space" in finished.errors
        assert "Traceback" not in finished.errors
        assert {("MachineError", None)} == {
            (error.cause.cls_name, error.cause.cause) for error in errors
        }

    def test_too_few_files(self, workspace: Workspace, tmp_path: Path):
        """A limit of open files that no run fits in is refused before the run."""
        few = copied(workspace, tmp_path / "few")
        finished = few.limited(resource.RLIMIT_NOFILE, 64, *days_arguments(DAY)).finish()

        assert (2, "") == (finished.exit_code, finished.output)
        assert finished.errors.startswith("error: No further file can be opened (expected=128 ")
        assert 1 == len(finished.errors.splitlines())

    @pytest.mark.parametrize("verb", ["run", "verdict", "coverage", "alerts list"])
    def test_folder_that_cannot_be_made(self, workspace: Workspace, tmp_path: Path, verb):
        """A data folder that cannot be made is told with its path, whatever is asked for."""
        closed = copied(workspace, tmp_path / "closed", PIPELINE_DATA_DIR="/dev/null/data")
        finished = closed.run(*(days_arguments(DAY) if verb == "run" else verb.split()))

        assert 2 == finished.exit_code
        assert "The system refused a file or folder: " in finished.errors
        assert "(file=/dev/null" in finished.errors
        assert "Traceback" not in finished.errors


class TestDryRun:
    def test_0_nothing_but_the_seed(self, workspace: Workspace, tmp_path: Path):
        """A good day is listed with its seed, ends with 0, and no data folder is made."""
        fresh = copied(workspace, tmp_path / "fresh")
        finished = fresh.run_days(DAY, DAY, "--instrument", GOOD, "--dry-run")
        head, *repairs = finished.output.splitlines()

        assert (0, "") == (finished.exit_code, finished.errors)
        assert head.startswith(f"{DAY} {GOOD}: would be rebuilt (full_deltas), ")
        assert [" UTC NOT_SEEDED seed: "] == re.findall(r" UTC \w+ \w+: ", "\n".join(repairs))
        assert not fresh.data_dir.exists()

    def test_1_json(self, workspace: Workspace, tmp_path: Path):
        """With --json it is an array, one object each; a day without files ends with 1."""
        fresh = copied(workspace, tmp_path / "fresh")
        finished = fresh.run_days(DAY, DAY, "--dry-run", "--json")
        told = json.loads(finished.output)

        assert (1, "") == (finished.exit_code, finished.errors)
        assert [(f"{DAY}", GOOD, "rebuilt"), (f"{DAY}", NONE, "no_data")] == [
            (each["day"], each["instrument"], each["outcome"]) for each in told
        ]
        assert [["NOT_SEEDED"], []] == [
            [repair["cause"] for repair in each["repairs"]] for each in told
        ]

    def test_who_is_not_listed(self, workspace: Workspace, tmp_path: Path):
        """A day goes without it, and says so; with nobody else it is refused."""
        fresh = copied(workspace, tmp_path / "fresh")
        gone = {**entry(instrument("GOOD-USD")), "delisted": f"{DAY}"}
        fresh.configure(gone, instrument("NONE-USD"))
        left = fresh.run_days(DAY, DAY, "--dry-run")
        nobody = fresh.run_days(DAY, DAY, "--dry-run", "--instrument", GOOD)

        assert (1, 1) == (left.exit_code, left.output.count(f"{DAY} SIMULATED:"))
        assert f"{GOOD} is left out where it is not listed: {DAY} (1)" in left.errors
        assert (2, "") == (nobody.exit_code, nobody.output)
        assert "none of the instruments is listed" in nobody.errors

    def test_1_a_file_would_be_set_aside(self, workspace: Workspace, tmp_path: Path):
        """A damaged file is named on a line of its own, and left where it is."""
        broken = copied(workspace, tmp_path / "broken")
        broken.lake = tmp_path / "lake"
        shutil.copytree(workspace.lake, broken.lake)
        file = raw_file(broken.lake, "book_delta_v2", "GOOD-USD", DAY)
        file.write_bytes(b"none")
        shutil.rmtree(broken.lake / "book")
        finished = broken.run_days(DAY, DAY, "--instrument", GOOD, "--dry-run")

        assert 1 == finished.exit_code
        assert f"{DAY} {GOOD}: would be set aside" in finished.output
        assert "would be copied to quarantine: book_delta_v2/exchange=SIMULATED/" in finished.output
        assert not broken.data_dir.exists()

    @pytest.mark.slow
    def test_nothing_published_changes(self, workspace: Workspace, runs: Runs):
        """Beside a published day a look changes no byte but of what is kept about the look."""

        def digests() -> dict[str, object]:
            found = digest(workspace.data_dir)
            about = {"audit", "logs", "metrics"}
            return {name: each for name, each in found.items() if name.split("/")[0] not in about}

        before = digests()
        finished = workspace.run_days(DAY, DAY, "--instrument", GOOD, "--dry-run")

        assert (0, 0) == (runs.good.exit_code, finished.exit_code)
        assert before == digests()


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (
                (*days_arguments(DAY), "--instrument", "X:Y"),
                "error: An instrument was asked for that is not configured (expected=one of "
                "SIMULATED:GOOD-USD, SIMULATED:NONE-USD, found=X:Y).",
            ),
            (days_arguments(NEXT_DAY, DAY), "2025-03-03 is before 2025-03-04"),
            (days_arguments(date(2024, 6, 30)), "is before the first partition"),
            (("run", "--end-date", "2025-03-03"), "Missing option '--start-date'"),
            (("run", "--start-date", "03.03.25", "--end-date", "2025-03-03"), "does not match"),
            ((*days_arguments(DAY), "--json"), "give it together with --dry-run"),
        ],
        ids=["unknown instrument", "end before start", "before all", "no start", "no date", "json"],
    )
    def test_arguments(self, workspace: Workspace, arguments, text):
        """What cannot be run is refused at once with 2 and a message, not a traceback."""
        finished = workspace.run(*arguments)

        assert (2, "") == (finished.exit_code, finished.output)
        assert text in finished.errors
        assert "Traceback" not in finished.errors

    @pytest.mark.parametrize("days", [0, 400])
    def test_a_day_that_is_not_over(self, workspace: Workspace, days):
        """Today and the future have no partition yet: refused like a day before the first one."""
        finished = workspace.run_days(datetime.now(UTC).date() + timedelta(days=days))

        assert 2 == finished.exit_code
        assert "Traceback" not in finished.errors

    def test_unusable_instruments_file(self, workspace: Workspace, tmp_path: Path):
        """Every problem of the instruments file is told, and nothing is run."""
        broken = Workspace(tmp_path / "broken", workspace.lake)
        broken.configure(
            {"venue": "binance", "symbol": "BTC-USDT", "source": "crypto_lake"},
            {"venue": "BINANCE", "symbol": "BTC-USDT", "source": "crypto_lake", "tik": 0.1},
        )
        finished = broken.run_days(DAY)

        assert (2, "") == (finished.exit_code, finished.output)
        assert finished.errors.startswith("error: The instruments file has 2 problems")
        assert "unknown key tik; did you mean tick?" in finished.errors
        assert not broken.data_dir.exists()

    def test_unusable_settings(self, workspace: Workspace, tmp_path: Path):
        """Every problem of the settings is told at once, with its source and key."""
        broken = copied(workspace, tmp_path / "x", PIPELINE_THREADS="0", PIPELINE_LAKE="x")
        finished = broken.run_days(DAY)

        assert (2, "") == (finished.exit_code, finished.output)
        assert "2 settings are not usable" in finished.errors
        assert "PIPELINE_THREADS" in finished.errors
        assert "PIPELINE_LAKE is not a known key" in finished.errors

    def test_unusable_dagster_home(self, workspace: Workspace, tmp_path: Path):
        """A DAGSTER_HOME that is not there is told as an error, with 2."""
        broken = copied(workspace, tmp_path / "broken", DAGSTER_HOME=str(tmp_path / "nowhere"))
        finished = broken.run_days(DAY)

        assert 2 == finished.exit_code
        assert "Traceback" not in finished.errors
