"""lakeapi beside our kernel: the same arrays, in turn, and both read out after every message.

lakeapi is no dependency of this project: it is installed into an environment of its own, with our
versions of numba and numpy, and answers from a process of its own that lives as long as the pairs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from subprocess import PIPE

import numpy as np
from numpy.typing import NDArray

from benchmarks.days import DayArrays
from benchmarks.figures import Figure, rate
from benchmarks.kernel import collect, kernel_run
from benchmarks.measure import Spread, child_environment, cpu_seconds
from benchmarks.workspace import scratch, work_folder
from market_pipeline.books.state import Deltas

__all__ = ["LAKEAPI", "compare", "lakeapi_figures", "own_python", "rival_python"]

LAKEAPI = "lakeapi==0.22.3"
_TOP_ROWS = 200_000
_PIP_OPTIONS = ("--disable-pip-version-check", "--only-binary", ":all:")


def rival_python() -> Path:
    """The Python of the rivals' environment: lakeapi, with our versions of numba and numpy.

    Raises:
        RuntimeError: If lakeapi cannot be installed.
    """
    return own_python(
        "rivals", [LAKEAPI, *(f"{name}=={version(name)}" for name in ("numba", "numpy"))]
    )


def own_python(name: str, wanted: list[str]) -> Path:
    """The Python of an environment below the work folder, which is made on first use.

    Args:
        name: Of its folder.
        wanted: What is installed into it, as pip is given it.

    Raises:
        RuntimeError: If it cannot be installed.
    """
    folder = work_folder() / name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if not stamp.exists() or stamp.read_text(encoding="utf-8").splitlines() != wanted:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "-qq", "--no-input", *_PIP_OPTIONS, *wanted],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(
                    f"{wanted[0]} could not be installed: {done.stderr.strip()[-300:]}"
                )
        stamp.write_text("\n".join(wanted) + "\n", encoding="utf-8")
    return python


def lakeapi_figures(day: DayArrays, python: Path, pairs: int) -> list[Figure]:
    """Our rate, lakeapi's and their ratio, for best bid and ask and for the top 20."""
    top_rows = min(_TOP_ROWS, day.deltas.sequence_number.size)
    first = Deltas._make(column[:top_rows] for column in day.deltas)
    figures = []
    with scratch() as folder, _worker(day, python, folder, top_rows) as ask:
        ask("results")
        for name, task, deltas, interval_ms, bar in (
            ("best bid and ask", "bests", day.deltas, None, day.bar),
            ("top 20", "tops", first, 0, None),
        ):
            messages, wrong = compare(folder, task, day, deltas, interval_ms)
            run = kernel_run(deltas, interval_ms)
            run()
            seconds = [(cpu_seconds(run), ask(task)) for _ in range(pairs)]
            rows = deltas.sequence_number.size
            group = f"against lakeapi, {day.name}, {rows:,} rows, {name} per message"
            figures += [
                rate(group, "market-pipeline", Spread.of(rows / our / 1e6 for our, _ in seconds)),
                rate(group, "lakeapi", Spread.of(rows / their / 1e6 for _, their in seconds)),
                Figure(
                    group, "ratio", "x", Spread.of(their / our for our, their in seconds), bar=bar
                ),
                Figure(
                    group,
                    f"mismatches in {messages:,} messages",
                    "messages",
                    Spread.of([wrong]),
                    bar=0.0,
                    more_is_better=False,
                ),
            ]
    return figures


@contextmanager
def _worker(
    day: DayArrays, python: Path, folder: Path, top_rows: int
) -> Iterator[Callable[[str], float]]:
    """Starts the other process; what it yields gives it a task and returns its CPU seconds."""
    for name, column in (
        ("received_time", day.deltas.ts_receipt_ns),
        ("sequence_number", day.deltas.sequence_number),
        ("side_is_bid", day.deltas.is_bid),
        ("price", day.price),
        ("size", day.size),
    ):
        np.save(folder / f"{name}.npy", column)
    command = [str(python), "-m", "benchmarks.lakeapi_worker", str(folder), str(top_rows)]
    with subprocess.Popen(
        command, cwd=folder, env=child_environment(), stdin=PIPE, stdout=PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        tasks, answers = process.stdin, process.stdout

        def ask(task: str) -> float:
            tasks.write(f"{task}\n")
            tasks.flush()
            answer = answers.readline()
            if not answer:
                raise RuntimeError(f"the process that runs lakeapi ended in the task {task!r}")
            return float(json.loads(answer)["cpu_s"])

        yield ask


def compare(
    folder: Path, task: str, day: DayArrays, deltas: Deltas, interval_ms: int | None
) -> tuple[int, int]:
    """How many messages either side read out, and at how many the two do not agree.

    Messages are matched by the row they end at, so that a message which only one of the two sees
    is a mismatch. Prices and sizes are both compared.
    """
    bbo, depth = collect(deltas, interval_ms)
    rows = bbo if task == "bests" else depth
    ours = np.stack(
        [rows.bid_price_ticks, rows.bid_size_lots, rows.ask_price_ticks, rows.ask_size_lots], 1
    )
    per_unit = np.array([day.ticks_per_unit, day.lots_per_unit] * 2, np.float64)
    theirs = np.load(folder / f"{task}.npy")
    theirs = np.rint(theirs * per_unit.reshape(1, 4, *[1] * (theirs.ndim - 2))).astype(np.int64)
    _, at_ours, at_theirs = np.intersect1d(
        _message_ends(deltas), np.load(folder / f"{task}_ends.npy"), return_indices=True
    )
    differs = ours[at_ours] != theirs[at_theirs]
    agreeing = int(np.count_nonzero(~differs.reshape(at_ours.size, -1).any(axis=1)))
    messages = len(ours) + len(theirs) - at_ours.size
    return messages, messages - agreeing


def _message_ends(deltas: Deltas) -> NDArray[np.int64]:
    """The row after the last one of each message."""
    sequence, receipt = deltas.sequence_number, deltas.ts_receipt_ns
    ends = (sequence[1:] != sequence[:-1]) | (receipt[1:] != receipt[:-1])
    return np.append(np.flatnonzero(ends) + 1, sequence.size)
