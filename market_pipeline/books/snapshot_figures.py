"""What snapshots and the feed's order come to in a rebuild: their columns of `books.rebuilds`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from market_pipeline.books.from_snapshots import SnapshotRebuild
from market_pipeline.books.rebuild import Rebuild
from market_pipeline.books.scale import Scale

__all__ = ["snapshot_columns", "touch_text"]

# Counters that are 0 where there is none.
_FIRST = (
    "first_uncompared_ns",
    "longest_uncompared_ns",
    "first_misplaced_ns",
    "first_misplaced_sequence_number",
    "first_stale_ns",
    "first_stale_sequence_number",
    "first_old_ns",
    "first_old_sequence_number",
    "first_restart_ns",
    "first_split_ns",
    "first_bad_sequence_ns",
)
_MID = "snapshot_max_mid_deviation_half_ticks"


def snapshot_columns(rebuild: Rebuild | SnapshotRebuild) -> dict[str, Any]:
    """The columns of `books.rebuilds` about snapshots and order, without counters of those names.

    Everything about a comparison is None where there was none: no snapshot at all, no mismatch,
    or none in which anything differed.
    """
    figures = rebuild.figures
    compared, their_size = bool(figures["snapshots_compared"]), figures["snapshot_size_lots"]
    has_worst = figures["worst_mismatch_levels_differing"] + figures[_MID] > 0
    return {
        "max_mid_deviation_ticks": figures[_MID] / 2 if compared else None,
        "snapshot_size_error": figures["snapshot_size_error_lots"] / their_size
        if their_size
        else None,
        **{name: figures[name] or None for name in _FIRST},
        "longest_uncompared_seconds": figures["longest_uncompared_duration_ns"] / 1e9,
        "uncompared_reasons": _uncompared_reasons(figures),
        **rebuild.hourly_figures,
        **dict(_place("first", rebuild, is_known=figures["snapshots_mismatched"] > 0)),
        **dict(_place("worst", rebuild, is_known=has_worst)),
    }


def _place(
    place: str, rebuild: Rebuild | SnapshotRebuild, *, is_known: bool
) -> Iterator[tuple[str, Any]]:
    figures = rebuild.figures
    name = f"{place}_mismatch"
    for column, figure in (
        ("ns", "ts_receipt_ns"),
        ("sequence_number", "sequence_number"),
        ("levels_differing", "levels_differing"),
    ):
        yield f"{name}_{column}", figures[f"{name}_{figure}"] if is_known else None
    for column, whose in (("ours", "our"), ("theirs", "their")):
        text = touch_text(figures, f"{name}_{whose}", rebuild.price_scale, rebuild.size_scale)
        yield f"{name}_{column}", text if is_known else None


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


def touch_text(
    figures: Mapping[str, int], prefix: str, price_scale: Scale, size_scale: Scale
) -> str:
    """Best bid and ask with their sizes, such as "bid 100.0 x 1.5, ask 100.5 x 2.0"."""
    sides = []
    for side in ("bid", "ask"):
        size = figures[f"{prefix}_{side}_lots"] * size_scale.step
        price = figures[f"{prefix}_{side}_ticks"] * price_scale.step
        sides.append(f"{side} {price:f} x {size:f}" if size else f"no {side}")
    return ", ".join(sides)
