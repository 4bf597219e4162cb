"""Measures the comparison across midnight: yesterday's closing book against today's first snapshot.

The closing book is replayed through today's first messages, as if the two days were one, and meets
the first snapshot that stands at the number of one of them. What is lost between the two files, or
is in only one of them, shows there, whatever today's own book was seeded from.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import polars as pl

from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.scale import Scale
from market_pipeline.errors import CheckpointError, MarketPipelineError, is_of_machine
from market_pipeline.quality.figures.comparisons import DayBoundaryFigures
from market_pipeline.quality.findings import Finding, Measured, with_first
from market_pipeline.sources.batches import SnapshotBatch
from market_pipeline.sources.crypto_lake import read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.sources.crypto_lake_trades import read_trade_times
from market_pipeline.stages.rebuild.close_replay import CloseReplay, LevelDifference, replay_close
from market_pipeline.stages.rebuild.day_join import Break, breaks_between, why_not_replayed
from market_pipeline.stages.rebuild.gap_scan import suspect_gaps
from market_pipeline.stages.rebuild.seed import keyframe_of
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_day_boundary"]

_MAX_LEVELS = 20


def measure_day_boundary(day: InstrumentDay) -> Measured:
    """What the comparison across midnight adds to the report; nothing without a closing book.

    What cannot be read is a problem of the boundary, and no error: today's book stands without it.
    """
    if day.record.is_of_snapshots:
        return Measured()
    before = day.day - timedelta(days=1)
    steps = day.record.scales
    try:
        row = day.close_before
        if row is None:
            return Measured()
        close = keyframe_of(row, *steps)
        unusable = why_not_replayed(close)
        if unusable is not None:
            return _not_replayed(Break(f"the closing book of {before} {unusable}"))
        deltas, snapshots = read_deltas(day.delta_files), read_snapshots(day.snapshot_files)
        replay = replay_close(close, deltas, snapshots, *steps)
        problems = list(
            breaks_between(
                close,
                replay.first_ts_receipt_ns,
                replay.first_sequence_number,
                silence_ns=cache(lambda: _silence_ns(day, replay, close)),
                is_right=lambda: replay.is_right,
            )
        )
    except CheckpointError as error:
        text = error.problem.replace("The checkpoint", f"the closing book of {before}")
        return _not_replayed(Break(text, error.found, error.expected))
    except (MarketPipelineError, pl.exceptions.PolarsError, OSError) as error:
        if is_of_machine(error):
            raise
        return _not_replayed(Break(f"what lies around midnight cannot be read: {error}"))
    return _measured(day, close, replay, problems, *steps)


def _not_replayed(problem: Break) -> Measured:
    found = f" (expected {problem.expected}, found {problem.found})" if problem.expected else ""
    figures = DayBoundaryFigures(
        day_boundary_levels=0, day_boundary_problem=f"{problem.text}{found}"
    )
    finding = Finding(
        check="day_boundary",
        place="first",
        value=problem.found,
        expected=problem.expected,
        note=_sentence(problem.text),
    )
    return Measured((figures,), [finding])


def _silence_ns(day: InstrumentDay, replay: CloseReplay, close: Keyframe) -> int:
    """A time between messages up to this is no silence; shorter than the floor none is."""
    floor_ns = round(day.instrument.gap_rule.silence_floor_seconds * 1e9)
    if replay.is_right or replay.first_ts_receipt_ns - close.ts_receipt_ns <= floor_ns:
        return floor_ns  # what a silence is takes a look at the whole day
    trades = day.trades.times if day.trades else read_trade_times([])
    return suspect_gaps(day.messages, trades, day.day, day.instrument.gap_rule).silence_ns


def _measured(
    day: InstrumentDay,
    close: Keyframe,
    replay: CloseReplay,
    problems: list[Break],
    price_scale: Scale,
    size_scale: Scale,
) -> Measured:
    levels, differing = replay.levels, replay.levels_differing
    deviation = replay.figures["snapshot_max_mid_deviation_half_ticks"] / 2
    pause_ns = replay.first_ts_receipt_ns - close.ts_receipt_ns
    figures = DayBoundaryFigures(
        day_boundary_levels=levels,
        day_boundary_mismatch_share=differing / levels if levels else None,
        day_boundary_mid_deviation_ticks=deviation if replay.snapshot else None,
        day_boundary_pause_seconds=pause_ns / 1e9,
        day_boundary_problem="; ".join(problem.text for problem in problems) or None,
    )
    findings = [
        Finding(
            check="day_boundary",
            place="further",
            ts_receipt_ns=replay.first_ts_receipt_ns,
            sequence_number=replay.first_sequence_number,
            file=replay.file.relative_to(day.raw.lake).as_posix(),
            row=replay.row,
            value=problem.found,
            expected=problem.expected,
            note=_sentence(problem.text),
        )
        for problem in problems
    ]
    if replay.snapshot is not None:
        shown = replay.differences[:_MAX_LEVELS]
        findings += _level_findings(day, replay.snapshot, shown, price_scale, size_scale)
    return Measured((figures,), with_first(findings))


def _level_findings(
    day: InstrumentDay,
    snapshot: SnapshotBatch,
    differences: list[LevelDifference],
    price_scale: Scale,
    size_scale: Scale,
) -> list[Finding]:
    """The levels that differ, where they stand in the raw snapshots; ghosts have no column."""
    return [
        Finding(
            check="day_boundary",
            place="further",
            ts_receipt_ns=int(snapshot.ts_receipt_ns[0]),
            sequence_number=int(snapshot.sequence_number[0]),
            file=snapshot.file.relative_to(day.raw.lake).as_posix(),
            row=snapshot.first_row,
            column=None if level.rank is None else f"{level.side}_{level.rank}_size",
            value=_size(level.our_lots, size_scale),
            expected=_size(level.their_lots, size_scale),
            note=f"The {level.side} at {level.price_ticks * price_scale.step:f} of yesterday's "
            "closing book, replayed up to this snapshot, is not the snapshot's.",
        )
        for level in differences
    ]


def _size(lots: int, scale: Scale) -> str:
    return f"{lots * scale.step:f}" if lots else "no level"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
