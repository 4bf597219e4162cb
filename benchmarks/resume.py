"""What it costs to save a rebuild between its parts, and how soon a killed one goes on.

`python -m benchmarks.resume` is a process that rebuilds: `whole`, or `killed` as soon as it has
saved the first part, or `resumed` after that.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl

from benchmarks.end_to_end import Task, prepare
from benchmarks.figures import Figure
from benchmarks.generator import SEED
from benchmarks.lake_files import synthetic_lake
from benchmarks.measure import Spread, run_child
from benchmarks.workspace import scratch
from market_pipeline.books.rebuild import Rows
from market_pipeline.stages.rebuild import from_deltas
from market_pipeline.stages.rebuild.day import rebuild_day
from market_pipeline.stages.rebuild.resume import SavedRebuild
from market_pipeline.stages.rebuild.writer import BookWriter

__all__ = ["resume_figures"]

_ROWS = 20_000_000
_DEPTH_INTERVAL_MS = 100
_PROFILES = Path("profiles.parquet")


def resume_figures(runs: int) -> list[Figure]:
    """Milliseconds and share of saving, and seconds from a start to the first new row."""
    saved, started, resumed = [], [], []
    for _ in range(runs):
        with scratch() as folder:
            saved.append(run_child(__name__, ["whole"], folder))
        with scratch() as folder:
            _kill(folder)
            begin_ns = time.monotonic_ns()
            answer = run_child(__name__, ["resumed"], folder)
            started.append((answer["first_row_ns"] - begin_ns) / 1e9)
            resumed.append(answer["first_row_cpu_s"])
    group = f"a rebuild of {_ROWS:,} rows, saved and resumed"
    shares = [100 * sum(each["save_cpu_s"]) / each["cpu_s"] for each in saved]
    most_ms = [1e3 * max(each["save_cpu_s"]) for each in saved]
    details = {"levels": saved[-1]["levels"]}
    return [
        Figure(group, name, unit, Spread.of(values), bar, stretch, False, details)
        for name, unit, values, bar, stretch in (
            ("saving, the longest time", "ms CPU", most_ms, 100.0, 10.0),
            ("saving, of all", "% of CPU s", shares, 1.0, None),
            ("from a start after kill -9 to the first new row", "s wall", started, 1.0, None),
            ("from a start after kill -9 to the first new row", "s CPU", resumed, None, None),
        )
    ]


def _kill(folder: Path) -> None:
    try:
        run_child(__name__, ["killed"], folder)
    except RuntimeError as error:
        if f"exit code {-signal.SIGKILL}" not in str(error):
            raise


def _rebuild(on_save: Callable[[float, SavedRebuild], None]) -> float:
    """Rebuilds the day, and says what it took; `on_save` is told what a part's saving took."""
    task = Task(str(synthetic_lake(_ROWS)), (SEED,), _DEPTH_INTERVAL_MS)
    known = pl.read_parquet(_PROFILES) if _PROFILES.exists() else None
    prepared = prepare(task, Path("data"), known)
    if known is None:
        prepared[0].profiles.write_parquet(_PROFILES)
    save = from_deltas.save_rebuild

    def timed(*given: Any) -> None:
        before = time.process_time()
        save(*given)
        on_save(time.process_time() - before, given[-1])

    with patch.object(from_deltas, "save_rebuild", timed):
        before = time.process_time()
        failures = [record.failure for record in rebuild_day(*prepared).records if record.failure]
    if failures:
        raise RuntimeError("; ".join(failures))
    return time.process_time() - before


def _whole() -> dict[str, Any]:
    took: list[float] = []
    levels: list[int] = []

    def on_save(cpu_s: float, saved: SavedRebuild) -> None:
        took.append(cpu_s)
        levels[:] = saved.state.bid_price_ticks.size, saved.state.ask_price_ticks.size

    return {"cpu_s": _rebuild(on_save), "save_cpu_s": took, "levels": levels}


def _killed() -> dict[str, Any]:
    _rebuild(lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    raise RuntimeError("the rebuild saved nothing")


def _resumed() -> dict[str, Any]:
    rows: list[tuple[int, float]] = []
    write = BookWriter.write

    def timed(writer: BookWriter, block: Rows) -> None:
        rows.append((time.monotonic_ns(), time.process_time()))
        write(writer, block)

    with patch.object(BookWriter, "write", timed):
        _rebuild(lambda *_: None)
    first_row_ns, first_row_cpu_s = rows[0]
    return {"first_row_ns": first_row_ns, "first_row_cpu_s": first_row_cpu_s}


def main() -> None:
    """Does what is asked for and prints what it took as JSON."""
    what = {"whole": _whole, "killed": _killed, "resumed": _resumed}[sys.argv[1]]
    sys.stdout.write(json.dumps(what()) + "\n")


if __name__ == "__main__":
    main()
