"""The real daemon, ended in the middle of a run: it ends, and the next run makes the day whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import dagster as dg
import psutil
import pytest

from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.conftest import REPOSITORY
from market_pipeline_tests.defs.workspace import PATIENCE_SECONDS, Workspace
from market_pipeline_tests.sources.simulated.days import instrument

DAY = date(2025, 3, 3)
DAEMON = ["-m", "dagster._daemon", "run"]
DEV = ["-m", "dagster", "dev", "-h", "127.0.0.1", "-p", "0"]
slow, attack = pytest.mark.slow, pytest.mark.attack
ENDED = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


def eventually(happened: Callable[[], object], what: str) -> None:
    """Waits until something is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def is_profile(staged: Path) -> bool:
    """Whether a staged file is the index of messages, which the profile writes while it reads."""
    return ".messages" in staged.name


def is_rebuild(staged: Path) -> bool:
    """Whether it is of the books."""
    return not is_profile(staged)


@pytest.mark.parametrize(
    ("command", "number", "under_way"),
    [
        pytest.param(DAEMON, signal.SIGTERM, is_profile, id="daemon-profile", marks=slow),
        pytest.param(DAEMON, signal.SIGTERM, is_rebuild, id="daemon-rebuild", marks=attack),
        pytest.param(DEV, signal.SIGINT, is_rebuild, id="dev-rebuild", marks=slow),
    ],
)
def test_ended(
    tmp_path: Path,
    command: list[str],
    number: signal.Signals,
    under_way: Callable[[Path], bool],
):
    """No process goes on or keeps a lock, the run is no success, and the next one succeeds."""
    workspace = Workspace(tmp_path / "pipeline", tmp_path / "lake", start_date=DAY)
    market = instrument("GOOD-USD")
    workspace.configure(market)
    simulate(workspace.lake, [market], DAY, DAY, messages_per_day=60_000, snapshot_interval_s=20.0)
    with workspace.instance() as instance, (tmp_path / "log").open("wb") as log:
        leader = subprocess.Popen(
            [sys.executable, *command],
            cwd=REPOSITORY,
            env=workspace.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            days = ("--from", str(DAY), "--to", str(DAY), "--noprompt")
            asked = workspace.command(
                *("dagster", "job", "backfill", "-j", "daily_books"),
                *("-w", str(REPOSITORY / "workspace.yaml"), *days),
            )
            assert 0 == asked.returncode, asked.stderr
            staging = workspace.warehouse.staging_dir
            eventually(lambda: any(map(under_way, staging.glob("*"))), "nothing began")
            family = psutil.Process(leader.pid).children(recursive=True)

            os.killpg(leader.pid, number)

            leader.wait(PATIENCE_SECONDS)
            eventually(lambda: not any(map(is_alive, family)), "a process goes on")
        finally:
            if leader.poll() is None:
                os.killpg(leader.pid, signal.SIGKILL)
        statuses = {run.status for run in instance.get_runs()}
    again = workspace.run_days(DAY)
    assert statuses <= {*ENDED, dg.DagsterRunStatus.STARTED}, (tmp_path / "log").read_text()
    assert 0 == again.exit_code, again.errors
    assert "available" in again.output


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
