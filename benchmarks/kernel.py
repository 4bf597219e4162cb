"""The kernel alone: integer arrays in, book rows out, one thread, no files.

`kernel_run` is the only place of the benchmarks that calls `advance`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.figures import Figure, rate
from benchmarks.measure import Spread, cpu_seconds
from market_pipeline.books import cursor as at
from market_pipeline.books.cursor import new_cursor
from market_pipeline.books.integers import no_snapshots
from market_pipeline.books.kernel import advance
from market_pipeline.books.levels import empty_levels
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.books.registers import new_registers
from market_pipeline.books.state import (
    BboRows,
    Deltas,
    DepthRows,
    Evidence,
    Feed,
    Marks,
    Outputs,
    Repairs,
    Resync,
    Status,
    as_input,
    int64_columns,
    new_history,
    room_for_bbo,
    room_for_depth,
)

__all__ = ["collect", "kernel_figures", "kernel_run"]

_MODES = (
    ("best bid and ask per message", None, 100.0, 120.0),
    ("top 20 per 100 ms", 100, None, None),
    ("top 20 per message", 0, 70.0, 90.0),
)

Take = Callable[[BboRows, int, DepthRows, int], None]


def kernel_run(deltas: Deltas, depth_interval_ms: int | None) -> Callable[..., int]:
    """A pass of the kernel over all rows from an empty book.

    The outputs are allocated once and written over. What it returns counts the messages, and may be
    given a function that is shown the outputs and how much of them is filled.

    Args:
        deltas: The rows.
        depth_interval_ms: As in `RebuildOptions`: 0 for every message, None for no depth.
    """
    bbo, depth = room_for_bbo(1 << 16), room_for_depth(1 << 13)
    repairs = Repairs._make(int64_columns(4, 7))
    outputs = Outputs(bbo, depth, repairs, Evidence._make(int64_columns(16, 6)))
    marks, no_rows = as_input(Marks._make(int64_columns(0, 2))), np.empty(0, np.int64)
    feed = Feed(as_input(deltas), marks, no_snapshots(), no_rows, no_rows, True, False)
    options = RebuildOptions(
        depth_interval_ms=depth_interval_ms, keyframe_seconds=0, resync=Resync.NEVER
    ).for_kernel()

    def run(take: Take | None = None) -> int:
        registers, levels, history = new_registers(), empty_levels(), new_history()
        cursor, messages = new_cursor(), 0
        while True:
            status = advance(registers, levels, history, feed, cursor, options, outputs)
            bbo_rows, depth_rows = cursor[[at.BBO_ROW, at.DEPTH_ROW]].tolist()
            cursor[at.BBO_ROW :] = 0
            messages += bbo_rows
            if take is not None:
                take(bbo, bbo_rows, depth, depth_rows)
            if status == Status.DONE:
                return messages
            if status != Status.OUTPUT_FULL:
                raise RuntimeError(f"the generator should not lead to {Status(status).name}")

    return run


def collect(deltas: Deltas, depth_interval_ms: int | None) -> tuple[BboRows, DepthRows]:
    """All rows that a pass of the kernel writes."""
    bbos: list[Any] = []
    depths: list[Any] = []

    def take(bbo: BboRows, bbo_rows: int, depth: DepthRows, depth_rows: int) -> None:
        bbos.append([column[:bbo_rows].copy() for column in bbo])
        depths.append([column[:depth_rows].copy() for column in depth])

    kernel_run(deltas, depth_interval_ms)(take)
    joined = (map(np.concatenate, zip(*parts, strict=True)) for parts in (bbos, depths))
    return BboRows._make(next(joined)), DepthRows._make(next(joined))


def kernel_figures(deltas: Deltas, runs: int) -> list[Figure]:
    """Million delta rows per CPU second for each kind of output, the kinds taken in turn."""
    passes = [kernel_run(deltas, interval_ms) for _, interval_ms, *_ in _MODES]
    for each in passes:
        each()
    rows = deltas.sequence_number.size
    rates: list[list[float]] = [[] for _ in passes]
    for _ in range(runs):
        for each, into in zip(passes, rates, strict=True):
            into.append(rows / cpu_seconds(each) / 1e6)
    return [
        rate(f"kernel, {rows:,} rows", name, Spread.of(into), bar=bar, stretch=stretch)
        for (name, _, bar, stretch), into in zip(_MODES, rates, strict=True)
    ]
