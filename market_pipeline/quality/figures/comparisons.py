"""Figures of what the rebuilt book is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from market_pipeline.warehouse.records import Columns, figure

__all__ = [
    "BarFigures",
    "DayBoundaryFigures",
    "ReferenceReplayFigures",
    "SnapshotMatchFigures",
    "SnapshotPrecisionFigures",
    "TradeThroughFigures",
]


@dataclass(frozen=True, kw_only=True)
class SnapshotPrecisionFigures(Columns):
    """Such values of snapshots."""

    snapshot_precision_losses: int | None = figure(
        "Such values of snapshots, which are not used; null on a day of snapshots."
    )
    first_snapshot_precision_loss: str | None = figure(
        "The first of these, with column, value, file and row."
    )


@dataclass(frozen=True, kw_only=True)
class SnapshotMatchFigures(Columns):
    """The later snapshots compared with the rebuilt book."""

    snapshots_compared: int | None = figure("Later snapshots compared with the rebuilt book.")
    snapshots_uncompared: int | None = figure(
        "Snapshots after the seed that were compared with nothing."
    )
    uncompared_share: float | None = figure("Share of the later snapshots; null without one.")
    uncompared_reasons: str | None = figure("Why, in a sentence.")
    first_uncompared_ns: int | None = figure("Receipt time of the first, ns UTC.")
    longest_uncompared_seconds: float | None = figure(
        "Longest time from one compared snapshot to the next while others came."
    )
    longest_uncompared_ns: int | None = figure("Its start, ns UTC.")
    snapshots_misplaced: int | None = figure(
        "Snapshots that disagree at their number and agree at a neighbour of it."
    )
    first_misplaced_ns: int | None = figure("Receipt time of the first of them, ns UTC.")
    snapshots_off_number: int | None = figure(
        "Compared snapshots whose number is not that of a message."
    )
    snapshots_stale: int | None = figure(
        "Snapshots that disagree and repeat the content of an earlier one."
    )
    first_stale_ns: int | None = figure("Receipt time of the first of them, ns UTC.")
    snapshot_matching_share: float | None = figure("Share of their levels equal in price and size.")
    max_mid_deviation_ticks: float | None = figure("Largest difference of the mid to them.")
    ghost_share: float | None = figure("Share of our levels in their window they do not hold.")
    missing_share: float | None = figure(
        "Share of their levels in the known window we do not hold."
    )
    snapshot_size_error: float | None = figure(
        "Size differences of all levels over the snapshots' sizes."
    )
    snapshots_mismatched: int | None = figure("Compared snapshots with a level other than ours.")
    first_mismatch_ns: int | None = figure("Receipt time of the first of them, ns UTC.")
    snapshots_compared_per_hour: tuple[int, ...] | None = figure(
        "Compared snapshots in each UTC hour, 24 entries."
    )
    snapshots_mismatched_per_hour: tuple[int, ...] | None = figure("Mismatches in each UTC hour.")
    snapshot_levels_differing_per_hour: tuple[int, ...] | None = figure(
        "Levels that differed in each UTC hour."
    )


@dataclass(frozen=True, kw_only=True)
class DayBoundaryFigures(Columns):
    """Yesterday's closing book compared with today's feed."""

    day_boundary_levels: int | None = figure(
        "Levels compared across midnight; null without yesterday's closing book."
    )
    day_boundary_mismatch_share: float | None = figure("Share of them that differ.")
    day_boundary_mid_deviation_ticks: float | None = figure(
        "Difference of the mid across midnight."
    )
    day_boundary_pause_seconds: float | None = figure(
        "From yesterday's last message to today's first."
    )
    day_boundary_problem: str | None = figure(
        "Why the two days do not join, levels aside; null if they do."
    )


@dataclass(frozen=True, kw_only=True)
class TradeThroughFigures(Columns):
    """Trades compared with the book."""

    trades_compared: int | None = figure(
        "Taker orders (prints of one side and time) compared with valid books."
    )
    trades_unplaced: int | None = figure(
        "Trades whose exchange time contradicts those around them; not compared."
    )
    trades_through: int | None = figure("Of these, printed outside the book.")
    worst_trade_through_ticks: float | None = figure("Farthest of them from the touch, in ticks.")
    first_trade_through_ns: int | None = figure("Receipt time of the first of them, ns UTC.")
    trade_through_per_hour: tuple[int, ...] | None = figure(
        "Orders outside the book in each UTC hour."
    )
    worst_trade_through_minute_share: float | None = figure(
        "Largest share of them in a minute; null if none has 20 orders."
    )
    worst_trade_through_minute_ns: int | None = figure("Start of that minute of receipt, ns UTC.")


@dataclass(frozen=True, kw_only=True)
class ReferenceReplayFigures(Columns):
    """Sampled minutes rebuilt by the reference replay."""

    reference_minutes: int | None = figure("Minutes rebuilt by the reference replay.")
    reference_messages: int | None = figure("Messages compared in them.")
    reference_differing_messages: int | None = figure("Of these, with another book or flag.")
    reference_first_difference: str | None = figure(
        "The first of them: time, sequence number, ours and the replay's."
    )


@dataclass(frozen=True, kw_only=True)
class BarFigures(Columns):
    """The minute bars of trades."""

    bars: int | None = figure("Minute bars of trades; null without a trades file.")
    bar_violations: int | None = figure("Bars that violate a rule, each counted once.")
    missing_bars: int | None = figure("Minutes without a trade between the first and the last bar.")
    first_bar_violation_ns: int | None = figure("Start of the first such bar, ns UTC.")
