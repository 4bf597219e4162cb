"""How things are measured: CPU time, spreads, peak memory, and processes that begin afresh.

CPU time counts all threads of the process and, unlike wall time, hardly depends on what else the
machine does.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.workspace import ROOT
from market_pipeline.machine import peak_rss_mb

__all__ = ["Spread", "child_environment", "cpu_seconds", "peak_rss_mb", "run_child"]

_LEAST_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several runs and the range they are in."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of one value or more."""
        each = list(values)
        return cls(statistics.median(each), min(each), max(each), len(each))


def cpu_seconds(run: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> float:
    """The mean CPU time of a run, repeated until a quarter of a second is timed.

    Args:
        run: What is timed.
        prepare: Called before every run and not timed.
    """
    total, count = 0.0, 0
    while total < _LEAST_SECONDS:
        prepare()
        before = time.process_time()
        run()
        total += time.process_time() - before
        count += 1
    return total / count


def child_environment() -> dict[str, str]:
    """The caller's variables without its PIPELINE_ settings, and this repository to import from."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PIPELINE_")}
    return kept | {"PYTHONPATH": str(ROOT)}


def run_child(
    module: str, arguments: Iterable[object], folder: Path, **environment: str
) -> dict[str, Any]:
    """Runs a module in a fresh process and returns the JSON object it prints last.

    Args:
        module: What `python -m` is given.
        arguments: Its arguments.
        folder: The current folder of the process; one without `.env` and `config.yaml`, so that
            the caller's settings have no part in it.
        environment: Variables beside the caller's.

    Raises:
        RuntimeError: If the process fails; the text holds what it wrote to standard error.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=folder,
        env=child_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} failed with exit code {done.returncode}:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
