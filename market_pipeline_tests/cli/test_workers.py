"""Days that are run by several processes at once."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from market_pipeline.cli import workers
from market_pipeline.cli.workers import default_jobs
from market_pipeline.config.settings import load_settings
from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.defs.workspace import Running, Workspace, days_arguments
from market_pipeline_tests.sources.simulated.days import DAY, instrument

DAYS = [DAY + timedelta(days=number) for number in range(3)]
WHOLE = (*days_arguments(DAYS[0], DAYS[-1]), "--jobs", "2")
PUBLISHED = "SELECT * EXCLUDE (made_at) FROM lake.lineage ORDER BY ALL"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of one instrument."""
    made = tmp_path_factory.mktemp("lake")
    small = {"messages_per_day": 8_000, "snapshot_interval_s": 20.0}
    simulate(made, [instrument("GOOD-USD")], DAYS[0], DAYS[-1], **small)
    return made


def fresh(root: Path, lake: Path) -> Workspace:
    """A pipeline that has published nothing yet."""
    made = Workspace(root, lake, more={"PIPELINE_CHECKPOINT_SECONDS": "21600"})
    made.configure(instrument("GOOD-USD"))
    return made


def processes(running: Running) -> list[psutil.Process]:
    """Those that a verb started to run days."""
    with suppress(psutil.Error):  # one of them ends meanwhile
        below = psutil.Process(running.process.pid).children(recursive=True)
        return [each for each in below if "cli.worker " in " ".join(each.cmdline())]
    return []


def at_work(running: Running, workspace: Workspace) -> list[psutil.Process]:
    """The two processes of a verb, once they have begun a day."""
    running.until(lambda: len(processes(running)) == 2 and workspace.warehouse.state_dir.exists())
    return processes(running)


def in_a_day(started: list[psutil.Process], workspace: Workspace) -> list[psutil.Process]:
    """Those of a verb's processes that write books just now."""
    staging = str(workspace.warehouse.staging_dir)
    with suppress(psutil.Error):
        return [
            each
            for each in started
            if any(file.path.startswith(staging) for file in each.open_files())
        ]
    return []


@pytest.mark.slow
class TestRun:
    def test_publishes_what_one_process_does(self, lake: Path, tmp_path: Path):
        """Files and rows are the same, each day is named once, and the table is in order."""
        alone, at_once = fresh(tmp_path / "alone", lake), fresh(tmp_path / "at_once", lake)
        two = days_arguments(*DAYS[:2])
        ended = [made.run(*two, "--jobs", jobs) for made, jobs in ((alone, "1"), (at_once, "2"))]
        lines = [each.output.splitlines() for each in ended]
        tables = [[line for line in each if " done (" not in line] for each in lines]

        assert [0, 0] == [each.exit_code for each in ended]
        assert tables[0] == tables[1]
        assert [f"{day} done" for day in DAYS[:2]] == sorted(
            line.partition(" (")[0] for line in lines[1] if " done (" in line
        )
        assert alone.sql(PUBLISHED).equals(at_once.sql(PUBLISHED))

    @pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
    def test_ends_all_when_it_is_asked_to_stop(
        self, lake: Path, tmp_path: Path, sent: signal.Signals
    ):
        """The days under way are ended, no process is left, and one line says so."""
        workspace = fresh(tmp_path / "stopped", lake)
        running = workspace.start(*WHOLE)
        started = at_work(running, workspace)
        os.kill(running.process.pid, sent)
        finished = running.finish()

        assert (2, 128 + sent) == (len(started), finished.exit_code)
        assert [] == [each for each in started if each.is_running()]
        assert f"stopped by {sent.name} at {DAYS[0]} to {DAYS[-1]}: " in finished.errors
        assert 1 == finished.errors.count("stopped by")
        assert "Traceback" not in finished.errors

    def test_ends_with_a_verb_that_is_killed(self, lake: Path, tmp_path: Path):
        """Processes whose verb is gone end too, and the next run finds nothing in its way."""
        workspace = fresh(tmp_path / "killed", lake)
        running = workspace.start(*WHOLE)
        started = at_work(running, workspace)
        running.kill()
        _, left = psutil.wait_procs(started, timeout=120)

        assert (2, []) == (len(started), left)
        assert 0 == workspace.run(*days_arguments(DAYS[0])).exit_code

    def test_goes_on_without_a_process_that_died(self, lake: Path, tmp_path: Path):
        """The day of a process that is killed has failed with the reason; the others are done."""
        workspace = fresh(tmp_path / "died", lake)
        running = workspace.start(*WHOLE)
        started = at_work(running, workspace)
        found: list[psutil.Process] = []
        running.until(lambda: bool(found.extend(in_a_day(started, workspace)) or found))
        found[0].kill()
        finished = running.finish()

        assert 2 == finished.exit_code
        assert "the process that ran it was ended by SIGKILL" in finished.errors
        assert [1, 2] == [finished.output.count(f" {word} (") for word in ("failed", "done")]

    def test_what_cannot_start(self, lake: Path, tmp_path: Path):
        """What keeps the first process from its work is reported once, with 2."""
        workspace = fresh(tmp_path / "broken", lake)
        (workspace.home / "dagster.yaml").write_text("event_log_storage: {module: no_such_module}")
        finished = workspace.run(*WHOLE)

        assert (2, "") == (finished.exit_code, finished.output)
        assert "no_such_module" in finished.errors or "event_log_storage" in finished.errors


class TestDefault:
    @pytest.mark.parametrize(
        ("days", "threads", "free_mb", "jobs"),
        [
            (1, 8, 64_000, 1),
            (3, 8, 64_000, 1),
            (4, 8, 64_000, 2),
            (365, 8, 64_000, 8),
            (365, 1, 64_000, 1),
            (365, 8, 4_000, 3),
            (365, 8, 100, 1),
            (365, 8, None, 8),
        ],
    )
    def test_what_cores_and_memory_allow(self, monkeypatch, tmp_path, days, threads, free_mb, jobs):
        """Two days for each process, no more than threads, and all of them fit the memory."""
        monkeypatch.setattr(workers, "_free_mb", lambda: free_mb)
        settings = load_settings(data_dir=tmp_path, threads=threads, memory_budget_mb=1_024)
        assert jobs == default_jobs(days, settings)

    def test_the_systems_figure(self):
        """Where the system says how much memory is free, it is less than there is."""
        free_mb = workers._free_mb()
        assert free_mb is None or 0 < free_mb <= psutil.virtual_memory().total // 1_000_000
