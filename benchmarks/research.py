"""What a researcher does with a published day: its tables, `replay`, and `compare`, from files.

`python -m benchmarks.research WHAT TASK` is a process of its own, so that memory is one thing's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.chain import Task, settings_of, vendor_task
from benchmarks.figures import Figure
from benchmarks.measure import Spread, peak_rss_mb, run_child
from benchmarks.workspace import scratch
from market_pipeline import compare, replay, update_counts
from market_pipeline.books.player import Message
from market_pipeline.cli.days import run_days
from market_pipeline.cli.timings import StepTimes

__all__ = ["research_figures"]

_REBUILD, _TABLES = "rebuild_books", ("trades", "bars", "measure_day")
_DEPTH = 5
_LEVELS = 50
_SHORT_ROWS = (10, 4)


def research_figures(rows: int, runs: int) -> list[Figure]:
    """What the tables of a vendor's day cost beside its rebuild, and how fast it is read again.

    Args:
        rows: Of the deltas of the day.
        runs: Of each.
    """
    found = _found(vendor_task(rows), runs, ("callback", "touch", "updates", "loop", "compare"))
    days = found["publish"]["steps"]
    group = f"research on a vendor's day of {rows:,} rows"
    ratio = Spread.of(sum(each[name] for name in _TABLES) / each[_REBUILD] for each in days)
    figures = [
        Figure(
            group,
            "trades, bars and metrics over the rebuild",
            "x CPU",
            ratio,
            bar=1.0,
            more_is_better=False,
        )
    ]
    for what, name, bar in (
        ("callback", "replay through a compiled callback", 1.0),
        ("touch", "replay of the touch through a compiled callback", 1.0),
        ("updates", f"updates counted by level, {_LEVELS} levels", None),
        ("loop", f"replay through a Python loop, {_DEPTH} levels", None),
        ("compare", "compared with itself", None),
    ):
        rates = Spread.of(found[what]["messages"] / s / 1e6 for s in found[what]["cpu_s"])
        peak = Spread.of([found[what]["peak_mb"]])
        figures += [
            Figure(group, name, "M messages / CPU s", rates, bar=bar),
            Figure(group, f"peak memory: {name}", "MB RSS", peak, more_is_better=False),
        ]
    return figures + [_of_short_messages(rows // 4, runs, most) for most in _SHORT_ROWS]


def _of_short_messages(rows: int, runs: int, message_rows: int) -> Figure:
    """Replay through a compiled callback of a day of short messages and a snapshot a minute."""
    callback = _found(vendor_task(rows, message_rows), runs, ("callback",))["callback"]
    messages = callback["messages"]
    return Figure(
        f"research on a day of {rows:,} rows, at most {message_rows} a message",
        f"replay through a compiled callback, {rows / messages:.1f} rows a message",
        "M messages / CPU s",
        Spread.of(messages / cpu_s / 1e6 for cpu_s in callback["cpu_s"]),
        bar=1.0,
    )


def _found(task: Task, runs: int, asked: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What processes of their own answer of a published day, and of publishing it."""
    with scratch() as folder:
        variables = settings_of(task, folder, folder / "data")
        return {
            what: run_child(
                "benchmarks.research", (what, json.dumps(asdict(task)), runs), folder, **variables
            )
            for what in ("publish", *asked)
        }


def _publish(task: Task, runs: int) -> dict[str, Any]:
    """What the steps of the day took, but the first time, which loads the kernels."""
    days = []
    for _ in range(1 + runs):
        times, out = StepTimes(), Console(file=sys.stderr)
        failed = run_days([_day(task)], task.ids, out, force=True, times=times)
        if failed:
            raise RuntimeError(f"the day failed: {failed}")
        days.append(times.cpu_s)
    return {"steps": days[1:]}


def _day(task: Task) -> date:
    return date.fromisoformat(task.days[0])


def _count(state: np.ndarray, message: Message, _levels: object) -> bool:
    state[0] += 1
    state[1] += message.flags == 0
    return False


def _called_back(task: Task) -> int:
    state = np.zeros(2, np.int64)
    return int(replay(task.ids, *_span(task), on_message=_count, state=state)[0])


def _of_touch(task: Task) -> int:
    state = np.zeros(2, np.int64)
    return int(replay(task.ids, *_span(task), depth=1, on_message=_count, state=state)[0])


def _updates(task: Task) -> int:
    counts = update_counts(task.ids, *_span(task), limit=_LEVELS)
    return int(counts.unique("ts_interval_ns")["message_count"].sum())


def _looped(task: Task) -> int:
    return sum(1 for _ in replay(task.ids, *_span(task), depth=_DEPTH))


def _span(task: Task) -> tuple[str, str]:
    day = _day(task)
    return f"{day}T00:00:00Z", f"{day + timedelta(days=1)}T00:00:00Z"


def _compared(task: Task) -> int:
    (instrument,) = task.ids
    return compare(instrument, instrument, _day(task)).pair.matched


def _timed(run: Callable[[Task], int], task: Task, runs: int) -> dict[str, Any]:
    """CPU seconds but of the first time, and the most memory of all."""
    cpu_s, messages = [], 0
    for _ in range(1 + runs):
        before = time.process_time()
        messages = run(task)
        cpu_s.append(time.process_time() - before)
    return {"messages": messages, "cpu_s": cpu_s[1:], "peak_mb": peak_rss_mb()}


def main() -> None:
    """Does what is named for a task given as JSON, and prints what it took as JSON."""
    os.umask(0o077)
    what, task, runs = sys.argv[1], Task(**json.loads(sys.argv[2])), int(sys.argv[3])
    timed = {
        "callback": _called_back,
        "touch": _of_touch,
        "updates": _updates,
        "loop": _looped,
        "compare": _compared,
    }
    answer = _publish(task, runs) if what == "publish" else _timed(timed[what], task, runs)
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
