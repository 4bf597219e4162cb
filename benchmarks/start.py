"""How long the first row takes in a fresh process, with and without compiled code on disk.

`python -m benchmarks.start` is such a process: it rebuilds one message as a notebook would, and
says how much CPU time that took from the call, and how much the process used altogether.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure
from benchmarks.measure import Spread, run_child
from benchmarks.workspace import scratch
from market_pipeline.books.rebuild import Rebuild
from market_pipeline.books.scale import Scale
from market_pipeline.sources.batches import DeltaBatch

__all__ = ["start_figures"]

_WARM_BAR_S = 0.3


def start_figures(runs: int) -> list[Figure]:
    """Seconds to the first row: a cold and a warm process in turn, each pair in a cache of its own.

    The wall time is from just before the process is made.
    """
    answers: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(runs):
        with scratch() as cache:
            for each in answers.values():
                each.append(_one_start(cache))
    return [
        Figure(
            "first row of a fresh process",
            f"{cache} cache, {what}",
            unit,
            Spread.of(answer[key] for answer in answers[cache]),
            bar=bar if cache == "warm" else None,
            more_is_better=False,
        )
        for cache in answers
        for what, key, unit, bar in (
            ("from the call", "call_cpu_s", "s CPU", _WARM_BAR_S),
            ("from the start of the process", "row_cpu_s", "s CPU", _WARM_BAR_S),
            ("from the start of the process", "wall_s", "s wall", None),
        )
    ]


def _one_start(cache: Path) -> dict[str, float]:
    begin = time.monotonic_ns()
    answer = run_child("benchmarks.start", [], cache, NUMBA_CACHE_DIR=str(cache))
    return answer | {"wall_s": (answer["done_ns"] - begin) / 1e9}


def _first_row() -> None:
    rebuild = Rebuild(Scale(1, 1), Scale(1, 3))
    times = np.full(2, 1_722_470_400_000_000_000)
    message = DeltaBatch(
        Path("none"), 0, times, times, np.ones(2, np.int64), np.array([True, False]),
        np.array([100.0, 100.1]), np.array([1.0, 2.0]),
    )  # fmt: skip
    next(rebuild.blocks([message]))


def main() -> None:
    """Rebuilds the message and prints the times as JSON."""
    called = time.process_time()
    _first_row()
    row = time.process_time()
    answer = {"call_cpu_s": row - called, "row_cpu_s": row, "done_ns": time.monotonic_ns()}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
