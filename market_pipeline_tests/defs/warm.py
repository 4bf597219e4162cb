"""Imported by the process that the tests' verbs are forked from, so that none need load it.

No code here may start a thread: a forked process would inherit locks that nobody frees. The
definitions and what reads settings when it is imported are left to the verb.
"""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

from market_pipeline.machine import no_garbage_collected

with no_garbage_collected():
    import dagster_duckdb
    import numpy as np
    import pyarrow.dataset
    import requests
    from dagster import DagsterInstance
    from dagster._daemon import controller

    import market_pipeline.alerts.capture
    import market_pipeline.alerts.delivery
    import market_pipeline.cli.app
    import market_pipeline.health.look
    import market_pipeline.health.telling
    import market_pipeline.plots.coverage
    import market_pipeline.plots.mid
    import market_pipeline.plots.valid_time
    import market_pipeline.quality.checks.features
    import market_pipeline.quality.checks.klines
    import market_pipeline.sources.binance_capture.converter
    import market_pipeline.sources.recording.converter
    import market_pipeline.stages.events.day
    import market_pipeline.stages.fidelity.day
    import market_pipeline.stages.metrics.bars
    import market_pipeline.stages.metrics.book_metrics
    import market_pipeline.stages.metrics.contract_states
    import market_pipeline.stages.metrics.information_bars
    import market_pipeline.stages.metrics.trades
    import market_pipeline.stages.raw.day
    import market_pipeline.stages.raw.profile
    import market_pipeline.stages.rebuild.day
    import market_pipeline.stages.triggers.run_requests
    import market_pipeline.stages.unchanged_day
    import market_pipeline.stages.validation.day
    import market_pipeline.telemetry.logs.process_log
    from market_pipeline.books.rebuild import Rebuild
    from market_pipeline.books.scale import Scale
    from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch
    from market_pipeline_tests.defs import workspace  # whose functions are what is called
    from market_pipeline_tests.read_once import read_once

__all__ = ["controller", "dagster_duckdb", "market_pipeline", "pyarrow", "requests", "workspace"]


def _load_kernels() -> None:
    """Rebuilds two messages, for which numba loads the kernels' machine code."""
    numbers, prices = np.arange(1, 3, dtype=np.int64), np.array([99.0, 98.0])
    deltas = DeltaBatch(
        Path(), 0, numbers, numbers, numbers, np.array([True, True]), prices, prices
    )
    levels = np.full((1, 20), 0.0)
    levels[0, 0] = 99.0
    snapshots = SnapshotBatch(
        Path(), 0, numbers[:1], numbers[:1], levels, levels, levels + 1.0, levels
    )
    step = Scale.of(Decimal("0.1"))
    list(Rebuild(step, step).blocks([deltas], [snapshots]))


def _load_dagster() -> None:
    """Opens an instance, for which Dagster loads its stores and their database libraries."""
    with tempfile.TemporaryDirectory() as home, DagsterInstance.local_temp(home):
        pass


with no_garbage_collected():  # a forked process would look at it again, and copy it to do so
    read_once()
    _load_kernels()
    _load_dagster()
