"""Times the rebuild and prints million delta rows per CPU second; JSON beside the table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.generator import synthetic_deltas
from market_pipeline.books.kernel import advance
from market_pipeline.books.levels import empty_levels
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.books.state import (
    DEPTH_LEVELS,
    BboRows,
    Deltas,
    DepthRows,
    Resync,
    Snapshots,
    Status,
    new_registers,
)

_REPEATS = 5


def kernel_run(deltas: Deltas, depth_interval_ms: int) -> Callable[[], int]:
    """One pass of the kernel over all rows, outputs reused; returns how many messages came out."""
    bbo = BboRows._make([*_int64(1 << 16, 7), np.empty(1 << 16, np.uint16)])
    sides = [np.empty((1 << 13, DEPTH_LEVELS), np.int64) for _ in range(4)]
    depth = DepthRows._make([*_int64(1 << 13, 3), *sides, np.empty(1 << 13, np.uint16)])
    none = np.empty((0, DEPTH_LEVELS), np.int64)
    snapshots = Snapshots(*_int64(0, 2), np.empty(0, np.bool_), none, none, none, none)
    options = RebuildOptions(
        depth_interval_ms=depth_interval_ms, keyframe_seconds=0, resync=Resync.NEVER
    ).for_kernel()
    gaps = np.empty(0, np.int64)

    def run() -> int:
        registers, levels = new_registers(), empty_levels()
        row = messages = 0
        while True:
            status, row, _, written, _ = advance(
                registers, levels, deltas, row, snapshots, 0, False, gaps, True, options,
                bbo, 0, depth, 0,
            )  # fmt: skip
            messages += written
            if status == Status.DONE:
                return messages
            if status != Status.OUTPUT_FULL:
                raise RuntimeError(f"the generator should not lead to {Status(status).name}")

    return run


def _int64(rows: int, count: int) -> list[np.ndarray]:
    return [np.empty(rows, np.int64) for _ in range(count)]


def cpu_seconds(run: Callable[[], object]) -> float:
    """The median CPU time of several runs, after one that is not counted."""
    run()
    times = []
    for _ in range(_REPEATS):
        before = time.process_time()
        run()
        times.append(time.process_time() - before)
    return statistics.median(times)


def main() -> None:
    """Run the benchmarks and write their results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=5_000_000, help="delta rows of the day")
    arguments.add_argument("--json", type=Path, help="write the results here too")
    given = arguments.parse_args()
    deltas = synthetic_deltas(given.rows)
    results = {}
    for name, interval_ms in (
        ("kernel, best bid and ask per message", 86_400_000),
        ("kernel, top 20 per 100 ms", 100),
        ("kernel, top 20 per message", 0),
    ):
        seconds = cpu_seconds(kernel_run(deltas, interval_ms))
        results[name] = round(given.rows / seconds / 1e6, 1)
    table = Table(title=f"{given.rows:,} synthetic delta rows, median of {_REPEATS}")
    table.add_column("what")
    table.add_column("M rows / CPU s", justify="right")
    for name, rate in results.items():
        table.add_row(name, f"{rate:,.1f}")
    Console().print(table)
    machine = {
        "python": platform.python_version(),
        "numba": numba.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if given.json:
        given.json.write_text(json.dumps({"rows": given.rows, **machine, **results}, indent=2))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
