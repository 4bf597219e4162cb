"""The whole chain: every stage of a day, as `market-pipeline run` does it in a process of its own.

A further day of a process is what counts: the first one loads or compiles the kernels.
`python -m benchmarks.chain` is such a process.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from benchmarks.figures import Figure, rate
from benchmarks.generator import SEED
from benchmarks.lake_files import (
    DAY,
    EXCHANGE,
    LOTS_PER_UNIT,
    TICKS_PER_UNIT,
    symbol_of,
    synthetic_lake,
)
from benchmarks.measure import Spread, peak_rss_mb, run_child
from benchmarks.workspace import ROOT, scratch, work_folder
from market_pipeline.cli.days import daily_runs
from market_pipeline.cli.workers import run_days_at_once
from market_pipeline.config.settings import load_settings
from market_pipeline.sources.simulated import SimulationPlan, demo_plan, range_plan, simulate

__all__ = [
    "Task",
    "month_figures",
    "month_task",
    "settings_of",
    "tiny_figures",
    "vendor_figures",
    "vendor_task",
]

_TINY_DAYS = 8
_MONTH = date(2025, 3, 1), date(2025, 3, 31)
_MONTH_INSTRUMENTS = 10
_MONTH_MESSAGES = 1_000
_FURTHER_DAYS = 3
_PEAK_BAR_MB, _PEAK_STRETCH_MB = 600.0, 450.0


@dataclass(frozen=True, slots=True)
class Task:
    """What one process runs: days of a lake one after the other, or in `jobs` processes at once."""

    lake: str
    instruments: list[dict[str, str]]
    days: list[str]
    jobs: int = 1

    @property
    def ids(self) -> list[str]:
        """The ids of the instruments."""
        return [f"{each['venue']}:{each['symbol']}" for each in self.instruments]


def vendor_figures(rows: int, runs: int) -> list[Figure]:
    """The rate and peak memory of a vendor's day of so many rows."""
    answers = [_measured(vendor_task(rows)) for _ in range(runs)]
    group = f"whole chain, a vendor's day of {rows:,} rows"
    further = [cpu_s for answer in answers for cpu_s in answer["cpu_s"][1:]]
    return [
        rate(
            group,
            "a further day of a process",
            Spread.of(rows / cpu_s / 1e6 for cpu_s in further),
            bar=5.0,
            stretch=6.7,
            details={"cpu_s": further, "first_cpu_s": [each["cpu_s"][0] for each in answers]},
        ),
        Figure(
            group,
            "peak memory",
            "MB RSS",
            Spread.of(answer["peak_mb"] for answer in answers),
            bar=_PEAK_BAR_MB,
            stretch=_PEAK_STRETCH_MB,
            more_is_better=False,
        ),
    ]


def tiny_figures(runs: int) -> list[Figure]:
    """What a day of little data costs, and what a second process gains."""
    tiny = _tiny_task()
    alone = [_measured(tiny) for _ in range(runs)]
    at_once = [_measured(Task(**asdict(tiny) | {"jobs": 2})) for _ in range(runs)]
    group = f"whole chain, {_TINY_DAYS} days of two instruments of 100,000 messages"
    pairs = zip(alone, at_once, strict=True)
    return [
        Figure(
            group,
            "a further day of a process",
            "CPU s",
            Spread.of(cpu_s for answer in alone for cpu_s in answer["cpu_s"][1:]),
            more_is_better=False,
        ),
        Figure(
            group,
            "gain of the second process (--jobs 2)",
            "x",
            Spread.of(one["wall_s"] / two["wall_s"] for one, two in pairs),
            bar=1.7,
        ),
    ]


def month_figures() -> list[Figure]:
    """What a day costs whatever is in it, by a month of ten instruments with next to nothing."""
    answer = _measured(month_task())
    group = (
        f"whole chain, a month of {_MONTH_INSTRUMENTS} instruments of {_MONTH_MESSAGES:,} messages"
    )
    return [
        Figure(
            group,
            "a further day of a process",
            "CPU s",
            Spread.of(answer["cpu_s"][1:]),
            bar=1.0,
            more_is_better=False,
        ),
        Figure(
            group, "peak memory", "MB RSS", Spread.of([answer["peak_mb"]]), more_is_better=False
        ),
    ]


def vendor_task(rows: int, message_rows: int | None = None) -> Task:
    """A vendor's day of so many rows, and the same day again; see `synthetic_lake`."""
    instrument = {
        "venue": EXCHANGE,
        "symbol": symbol_of(SEED),
        "source": "crypto_lake",
        "tick": str(1 / TICKS_PER_UNIT),
        "lot": str(1 / LOTS_PER_UNIT),
    }
    lake = synthetic_lake(rows, message_rows=message_rows) / "lake"
    return Task(str(lake), [instrument], [DAY.isoformat()] * (1 + _FURTHER_DAYS))


def _tiny_task() -> Task:
    plan = demo_plan()
    end = plan.start + timedelta(days=_TINY_DAYS - 1)
    return _simulated_task("tiny", replace(plan, end=end, faults=()), messages=100_000)


def month_task() -> Task:
    """A month of ten instruments with little data."""
    return _simulated_task("month", range_plan(*_MONTH, _MONTH_INSTRUMENTS), _MONTH_MESSAGES)


def _simulated_task(name: str, plan: SimulationPlan, messages: int) -> Task:
    """The days of a plan, simulated once."""
    count = (plan.end - plan.start).days + 1
    days = [plan.start + timedelta(days=number) for number in range(count)]
    lake = work_folder() / "days" / name
    if not lake.is_dir():
        partial = lake.with_name(f"{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        simulate(partial, plan.instruments, plan.start, plan.end, messages_per_day=messages)
        partial.rename(lake)
    instruments = [
        each.as_instrument().model_dump(
            mode="json", include={"venue", "symbol", "source", "tick", "lot"}
        )
        for each in plan.instruments
    ]
    return Task(str(lake), instruments, [day.isoformat() for day in days])


def _measured(task: Task) -> dict[str, Any]:
    with scratch() as folder:
        variables = settings_of(task, folder, folder / "data")
        arguments = [json.dumps(asdict(task))]
        return run_child("benchmarks.chain", arguments, folder, **variables)


def settings_of(task: Task, folder: Path, data_dir: Path) -> dict[str, str]:
    """The variables of a process that runs the days of a task; its other files are in `folder`."""
    home = folder / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", home)
    instruments = folder / "instruments.yaml"
    instruments.write_text(yaml.safe_dump({"instruments": task.instruments}), encoding="utf-8")
    return {
        "DAGSTER_HOME": str(home),
        "PIPELINE_DATA_DIR": str(data_dir),
        "PIPELINE_LAKE_URI": task.lake,
        "PIPELINE_INSTRUMENTS_FILE": str(instruments),
        "PIPELINE_START_DATE": "2000-01-01",
    }


def _run(task: Task) -> dict[str, Any]:
    """Runs a task's days and says what each took, or all of them if they are run at once."""
    ids, days = task.ids, [date.fromisoformat(day) for day in task.days]
    out = Console(file=sys.stderr)
    begun = time.perf_counter()
    if task.jobs > 1:
        failed = run_days_at_once(task.jobs, days, ids, out, load_settings(), force=True)
        cpu_s: Sequence[float] = []
    else:
        failed, cpu_s = {}, []
        before = time.process_time()
        with daily_runs(ids, force=True) as runs:  # one instance for all, as `run` has it
            for day in days:
                if (reason := runs.run(day, lambda _: None)) is not None:
                    failed[day] = reason
                now = time.process_time()
                cpu_s.append(now - before)
                before = now
    if failed:
        raise RuntimeError(f"days failed: {failed}")
    wall_s = time.perf_counter() - begun
    return {"cpu_s": cpu_s, "wall_s": wall_s, "peak_mb": peak_rss_mb()}


def main() -> None:
    """Runs the task given as JSON, and prints what it took as JSON."""
    os.umask(0o077)
    answer = _run(Task(**json.loads(sys.argv[1])))
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
