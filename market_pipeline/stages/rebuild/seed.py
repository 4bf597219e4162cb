"""What a day's book begins with: by default its own first snapshot, or yesterday's closing book."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl

from market_pipeline.books.arrow import CHECKPOINT_FORMAT, checksum
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.books.scale import Scale, scales_of
from market_pipeline.books.tables import CHECKPOINTS
from market_pipeline.errors import CheckpointError, is_of_machine
from market_pipeline.sources.crypto_lake import read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.stages.rebuild.close_replay import replay_close
from market_pipeline.stages.rebuild.day_join import breaks_between, why_not_replayed
from market_pipeline.stages.rebuild.raw_files import RawFiles
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan

__all__ = ["Seed", "choose_seed", "closing_book", "keyframe_of"]


@dataclass(frozen=True, slots=True)
class Seed:
    """What a day begins with.

    Attributes:
        name: "previous_close", or "first_snapshot" of the day itself.
        state: The state to begin with; None to wait for the first snapshot.
        refused: Why the previous close was not used though the policy asks for it.
    """

    name: Literal["previous_close", "first_snapshot"] = "first_snapshot"
    state: RebuildState | None = None
    refused: str | None = None


def choose_seed(warehouse: Warehouse, raw: RawFiles) -> Seed:
    """The closing book of the day before if the policy asks for it and the two days join.

    Whether they do says `stages.rebuild.day_join`, which the check `day_boundary` goes by too.

    Args:
        warehouse: Where the day before is published.
        raw: The day's raw files. They tell whether anything was lost in a silence at midnight;
            without deltas and snapshots a silence is enough to refuse.

    Raises:
        MarketPipelineError: Whatever reading the raw files raises.
    """
    if raw.instrument.policies.seed == "first_snapshot":
        return Seed()
    close = _close_before(warehouse, raw)
    if isinstance(close, str):
        return Seed(refused=close)

    def is_right() -> bool:
        if not raw.deltas or not raw.snapshots:
            return False
        feeds = read_deltas(raw.deltas), read_snapshots(raw.snapshots)
        return replay_close(close, *feeds, raw.price_scale, raw.size_scale).is_right

    breaks = breaks_between(
        close,
        raw.gaps.first_ts_receipt_ns,
        raw.gaps.first_sequence_number,
        silence_ns=lambda: raw.gaps.silence_ns,
        is_right=is_right,
    )
    refused = "; ".join(each.text for each in breaks)
    if refused:
        return Seed(refused=refused)
    return Seed("previous_close", RebuildState.after_close(close))


def _close_before(warehouse: Warehouse, raw: RawFiles) -> Keyframe | str:
    """The closing book of the day before; or why there is none to begin with."""
    before = raw.day - timedelta(days=1)
    try:
        row = closing_book(warehouse, raw.instrument.id, before)
        if row is None:
            return f"no closing book of {before} is published"
        close = keyframe_of(row, raw.price_scale, raw.size_scale)
    except CheckpointError as error:
        return str(error)
    unusable = why_not_replayed(close)
    if unusable is not None:
        return f"the closing book of {before} {unusable}"
    return close


def closing_book(warehouse: Warehouse, instrument: str, day: date) -> dict[str, Any] | None:
    """The row of `books.checkpoints` that a published day of an instrument ended with, if any.

    Raises:
        CheckpointError: It cannot be read.
        OSError: What is the machine's (`errors.is_of_machine`): a day must not differ because too
            many files were open.
    """
    try:
        rows = scan(warehouse, CHECKPOINTS, day, [instrument]).filter(kind="closing").collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        if is_of_machine(error):
            raise
        raise CheckpointError(
            f"The checkpoint cannot be read: {error}",
            next_step="Materialize the books of that day again.",
            day=day,
        ) from error
    return None if rows.is_empty() else rows.row(0, named=True)


def keyframe_of(row: Mapping[str, Any], price_scale: Scale, size_scale: Scale) -> Keyframe:
    """A row of `books.checkpoints` as a keyframe in the given tick and lot.

    Raises:
        CheckpointError: It is of another format, its book has another checksum than the row says,
            or a price or size is not on the given grid.
    """

    def refused(problem: str, expected: object, found: object) -> CheckpointError:
        return CheckpointError(
            problem,
            next_step="Materialize the books of that day again.",
            exchange=row["exchange"],
            symbol=row["symbol"],
            day=row["dt"],
            expected=str(expected),
            found=str(found),
        )

    if row["format_version"] != CHECKPOINT_FORMAT:
        raise refused(
            "The checkpoint is of another format", CHECKPOINT_FORMAT, row["format_version"]
        )
    tick, lot = scales_of(row["tick"], row["lot"])
    keyframe = Keyframe(
        kind=row["kind"],
        ts_origin_ns=row["ts_origin_ns"],
        ts_receipt_ns=row["ts_receipt_ns"],
        sequence_number=row["sequence_number"],
        messages=row["messages"],
        flags=row["flags"],
        **{
            name: np.array(row[name], np.int64)
            for name in ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
        },
        bid_horizon_ticks=row["bid_horizon_ticks"],
        ask_horizon_ticks=row["ask_horizon_ticks"],
    )
    actual = checksum(keyframe, tick, lot)
    if actual != row["checksum"]:
        raise refused("The checkpoint is damaged", row["checksum"], actual)
    on_grid = _on_grid(keyframe, (tick, lot), (price_scale, size_scale))
    if on_grid is None:
        raise refused(
            "The checkpoint is not on this day's grid",
            f"tick {price_scale.step}, lot {size_scale.step}",
            f"tick {tick.step}, lot {lot.step}",
        )
    return on_grid


def _on_grid(
    keyframe: Keyframe, steps: tuple[Scale, Scale], grid: tuple[Scale, Scale]
) -> Keyframe | None:
    """A keyframe in another tick and lot; None if a price or a size is no whole number of them."""
    (tick, lot), (price_scale, size_scale) = steps, grid
    horizons = [keyframe.bid_horizon_ticks, keyframe.ask_horizon_ticks]
    bid_ticks = price_scale.steps_from(keyframe.bid_price_ticks, tick)
    ask_ticks = price_scale.steps_from(keyframe.ask_price_ticks, tick)
    known = np.array([ticks for ticks in horizons if ticks is not None], np.int64)
    horizon_ticks = price_scale.steps_from(known, tick)
    bid_lots = size_scale.steps_from(keyframe.bid_size_lots, lot)
    ask_lots = size_scale.steps_from(keyframe.ask_size_lots, lot)
    if bid_ticks is None or ask_ticks is None or horizon_ticks is None:
        return None
    if bid_lots is None or ask_lots is None:
        return None
    return replace(
        keyframe,
        bid_price_ticks=bid_ticks,
        bid_size_lots=bid_lots,
        ask_price_ticks=ask_ticks,
        ask_size_lots=ask_lots,
        bid_horizon_ticks=int(horizon_ticks[0]) if known.size else None,
        ask_horizon_ticks=int(horizon_ticks[1]) if known.size else None,
    )
