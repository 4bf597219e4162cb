"""What a rebuild comes to: its registers as columns of `books.rebuilds`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from market_pipeline.books.from_snapshots import SnapshotRebuild
from market_pipeline.books.rebuild import Rebuild
from market_pipeline.books.record import KernelFigures
from market_pipeline.books.scale import Scale

__all__ = ["rebuild_figures"]

_MID = "snapshot_max_mid_deviation_half_ticks"


def rebuild_figures(rebuild: Rebuild | SnapshotRebuild, lake: Path | None = None) -> KernelFigures:
    """The figures of a rebuild so far; each register that is a column by the same name, and others.

    Everything about a comparison is None where there was none: no snapshot at all, no mismatch,
    or none in which anything differed. The seed is taken to be the day's own first snapshot.

    Args:
        rebuild: From deltas or from snapshots.
        lake: What the files of refused values are named below; None for their paths as they are.
    """
    figures = rebuild.figures
    columns: dict[str, Any] = {
        # The time or number of a first or longest one is 0 where there is none.
        name: (figures[name] or None) if name.startswith(("first_", "longest_")) else figures[name]
        for name in KernelFigures.names()
        if name in figures
    }
    compared, their_size = bool(figures["snapshots_compared"]), figures["snapshot_size_lots"]
    columns |= {
        "crossed_seconds": figures["crossed_ns"] / 1e9,
        "locked_seconds": figures["locked_ns"] / 1e9,
        "min_latency_ms": figures["min_latency_ns"] / 1e6,
        "max_latency_ms": figures["max_latency_ns"] / 1e6,
        "longest_uncompared_seconds": figures["longest_uncompared_duration_ns"] / 1e9,
        "uncompared_reasons": _uncompared_reasons(figures),
        "max_mid_deviation_ticks": figures[_MID] / 2 if compared else None,
        "snapshot_size_error": figures["snapshot_size_error_lots"] / their_size
        if their_size
        else None,
        **{name: tuple(counts) for name, counts in rebuild.hourly_figures.items()},
    }
    for name, value in _of_seed(rebuild):
        columns[name] = value if figures["seeded"] else None
    has_worst = figures["worst_mismatch_levels_differing"] + figures[_MID] > 0
    for place, is_known in (("first", figures["snapshots_mismatched"] > 0), ("worst", has_worst)):
        for name, value in _of_mismatch(f"{place}_mismatch", rebuild):
            columns[name] = value if is_known else None
    for column, count in (("price", rebuild.off_tick), ("size", rebuild.off_lot)):
        files = (each.file.relative_to(lake) if lake else each.file for each in count.first)
        columns |= {
            f"{column}_losses": count.losses,
            f"{column}_loss_files": tuple(file.as_posix() for file in files),
            f"{column}_loss_rows": tuple(each.row for each in count.first),
            f"{column}_loss_values": tuple(each.value for each in count.first),
        }
    return KernelFigures(**columns)


def _of_seed(rebuild: Rebuild | SnapshotRebuild) -> Iterator[tuple[str, str | float | None]]:
    figures = rebuild.figures
    yield "seed", "first_snapshot"
    for name in ("seed_sequence_number", "seed_ts_receipt_ns"):
        yield name, figures[name]
    for name, side in (("low", "bid"), ("high", "ask")):
        ticks = figures[f"{side}_horizon_ticks"]
        yield f"known_{name}_price", float(ticks * rebuild.price_scale.step) if ticks else None


def _of_mismatch(
    name: str, rebuild: Rebuild | SnapshotRebuild
) -> Iterator[tuple[str, str | float | None]]:
    figures = rebuild.figures
    for column, figure in (
        ("ns", "ts_receipt_ns"),
        ("sequence_number", "sequence_number"),
        ("levels_differing", "levels_differing"),
    ):
        yield f"{name}_{column}", figures[f"{name}_{figure}"]
    for column, whose in (("ours", "our"), ("theirs", "their")):
        steps = rebuild.price_scale, rebuild.size_scale
        yield f"{name}_{column}", _touch_text(figures, f"{name}_{whose}", *steps)


def _uncompared_reasons(figures: Mapping[str, int]) -> str | None:
    """Why snapshots after the seed were compared with nothing, in words."""
    reasons = {
        "snapshots_unusable": "are no book",
        "snapshots_bad_number": "have a number that contradicts those around it",
        "snapshots_passed": "have a number that had passed",
        "snapshots_never_reached": "have a number that never came",
    }
    texts = [f"{figures[name]:,} {why}" for name, why in reasons.items() if figures[name]]
    return ", ".join(texts) if texts and figures["snapshots_uncompared"] else None


def _touch_text(
    figures: Mapping[str, int], prefix: str, price_scale: Scale, size_scale: Scale
) -> str:
    """Best bid and ask with their sizes, such as "bid 100.0 x 1.5, ask 100.5 x 2.0"."""
    sides = []
    for side in ("bid", "ask"):
        size = figures[f"{prefix}_{side}_lots"] * size_scale.step
        price = figures[f"{prefix}_{side}_ticks"] * price_scale.step
        sides.append(f"{side} {price:f} x {size:f}" if size else f"no {side}")
    return ", ".join(sides)
