"""End to end: raw Parquet in, staged zstd Parquet out, as a run without Dagster does it.

Every run is a process of its own, so that its peak memory is its own, with that of the profile that
comes before. It rebuilds a small day first, so that compiled code is loaded and what is timed is
the work. `python -m benchmarks.end_to_end` is such a process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

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
from benchmarks.workspace import scratch
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.stages.raw.register import register_day
from market_pipeline.stages.rebuild.day import rebuild_day
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["Task", "day_figures", "prepare", "thread_figures"]

_NO_DEPTH = 86_400_000  # one row of depth a day is the least that a setting asks for
_WARM_UP_ROWS = 50_000
_PEAK_BAR_MB, _PEAK_STRETCH_MB = 600.0, 450.0


@dataclass(frozen=True, slots=True)
class Task:
    """What one process rebuilds.

    Attributes:
        day: A folder of `synthetic_lake`.
        seeds: Its instruments.
        depth_interval_ms: Of `books.depth`.
        as_vendor: Whether it meets a snapshot every 100 ms, not one a minute, and trades.
        threads: How many instruments at once.
    """

    day: str
    seeds: tuple[int, ...]
    depth_interval_ms: int
    as_vendor: bool = False
    threads: int = 1


_MODES = (
    ("best bid and ask per message", _NO_DEPTH, False, 30.0, 45.0),
    ("+ top 20 per 100 ms", 100, False, 18.0, 25.0),
    ("+ top 20 per message", 0, False, 13.0, 18.0),
    ("best bid and ask, a vendor's day", _NO_DEPTH, True, 20.0, None),
)


def day_figures(rows: int, runs: int) -> list[Figure]:
    """Rates and peak memory of each kind of output for a day of so many rows."""
    day, seeds = str(synthetic_lake(rows)), (SEED,)
    tasks = [Task(day, seeds, interval, vendor) for _, interval, vendor, *_ in _MODES]
    answers = _in_turn(tasks, runs)
    figures = []
    group = f"end to end, {rows:,} rows"
    for (name, _, _, bar, stretch), each in zip(_MODES, answers, strict=True):
        rates = Spread.of(answer["rows"] / answer["cpu_s"] / 1e6 for answer in each)
        details = {"wall_s": [answer["wall_s"] for answer in each]}
        details |= {key: each[-1][key] for key in ("messages", "snapshots_compared", "files")}
        figures.append(rate(group, name, rates, bar=bar, stretch=stretch, details=details))
    for (name, *_), each in zip(_MODES, answers, strict=True):
        figures.append(
            Figure(
                group,
                f"peak memory: {name}",
                "MB RSS",
                Spread.of(answer["peak_mb"] for answer in each),
                bar=_PEAK_BAR_MB,
                stretch=_PEAK_STRETCH_MB,
                more_is_better=False,
            )
        )
    return figures


def thread_figures(rows: int, runs: int) -> list[Figure]:
    """Wall time of two instruments of so many rows each, one after the other and at once."""
    seeds = (SEED, SEED + 1)
    day = str(synthetic_lake(rows, seeds))
    answers = _in_turn([Task(day, seeds, 100, threads=threads) for threads in (1, 2)], runs)
    group = f"two instruments of {rows:,} rows, top 20 per 100 ms"
    figures = [
        Figure(
            group,
            f"threads: {threads}",
            "s wall",
            Spread.of(answer["wall_s"] for answer in each),
            more_is_better=False,
            details={"cpu_s": [answer["cpu_s"] for answer in each]},
        )
        for threads, each in zip((1, 2), answers, strict=True)
    ]
    pairs = zip(*answers, strict=True)
    gain = Spread.of(one["wall_s"] / two["wall_s"] for one, two in pairs)
    return [*figures, Figure(group, "gain of the second thread", "x", gain)]


def _in_turn(tasks: list[Task], runs: int) -> list[list[dict[str, Any]]]:
    """The answers of each task; the tasks take turns, so that all meet the same disturbances."""
    warm_up = {
        seeds: str(synthetic_lake(_WARM_UP_ROWS, seeds)) for seeds in {t.seeds for t in tasks}
    }
    answers: list[list[dict[str, Any]]] = [[] for _ in tasks]
    for _, (task, into) in product(range(runs), zip(tasks, answers, strict=True)):
        with scratch() as folder:
            given = [json.dumps(asdict(task)), warm_up[task.seeds]]
            into.append(run_child("benchmarks.end_to_end", given, folder))
    return answers


def prepare(
    task: Task, folder: Path, profiles: pl.DataFrame | None = None
) -> tuple[RegisteredDay, list[Instrument], Settings, Warehouse]:
    """What `rebuild_day` is given; its profiles are made here if they are not given."""
    instruments = [_instrument(seed) for seed in task.seeds]
    settings = load_settings(
        data_dir=folder,
        depth_interval_ms=task.depth_interval_ms,
        threads=task.threads,
        memory_budget_mb=4096,
    )
    warehouse = Warehouse(folder)
    raw = _raw_day(Path(task.day), instruments, as_vendor=task.as_vendor)
    if profiles is None:
        # The profile comes before any rebuild, and is an asset of its own.
        profiles = TABLES["raw_profiles"].frame(profile_day(raw, instruments, warehouse))
    return replace(raw, profiles=profiles), instruments, settings, warehouse


def _rebuild(task: Task, folder: Path) -> dict[str, Any]:
    """Rebuilds a task's day into a folder and says what it took."""
    prepared = prepare(task, folder)
    cpu, wall = time.process_time(), time.perf_counter()
    rebuilt = rebuild_day(*prepared)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    records = rebuilt.records
    failures = [record.failure for record in records if record.failure]
    snapshots_mismatched = sum(record.snapshots_mismatched or 0 for record in records)
    if failures or snapshots_mismatched:
        raise RuntimeError(
            f"{snapshots_mismatched} snapshots differ from the book. {'; '.join(failures)}"
        )
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "rows": sum(record.rows for record in records),
        "messages": sum(record.messages for record in records),
        "snapshots_compared": sum(record.snapshots_compared for record in records),
        "files": {
            name: {"rows": sum(f.rows for f in each), "bytes": sum(f.bytes for f in each)}
            for name, each in rebuilt.staged.items()
        },
    }


def _instrument(seed: int) -> Instrument:
    return Instrument(
        venue=EXCHANGE,
        symbol=symbol_of(seed),
        source="crypto_lake",
        tick=Decimal(1) / TICKS_PER_UNIT,
        lot=Decimal(1) / LOTS_PER_UNIT,
    )


def _raw_day(day: Path, instruments: Iterable[Instrument], *, as_vendor: bool) -> RegisteredDay:
    def registered(lake: Path, raw: RawTable, asset: str) -> RawObjects:
        table = TABLES[asset]
        rows = [row for each in instruments for row in register_day(lake, raw, each, DAY)]
        return RawObjects(lake, table.frame(rows))

    lake = day / "lake"
    return RegisteredDay(
        day=DAY,
        lake=day,
        deltas=registered(lake, DELTAS, "raw_book_deltas"),
        snapshots=registered(lake if as_vendor else day / "seed", SNAPSHOTS, "raw_book_snapshots"),
        trades=registered(lake if as_vendor else day / "seed", TRADES, "raw_trades"),
    )


def main() -> None:
    """Rebuilds the small day, then the task given as JSON, and prints what it took as JSON."""
    given, warm_up = sys.argv[1:]
    task = Task(**json.loads(given))
    _rebuild(replace(task, day=warm_up), Path("warm-up"))
    answer = _rebuild(task, Path("data"))
    sys.stdout.write(json.dumps(answer | {"peak_mb": peak_rss_mb()}) + "\n")


if __name__ == "__main__":
    main()
