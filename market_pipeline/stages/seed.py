"""What a day's book begins with: by default its own first snapshot, or yesterday's closing book."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import polars as pl

from market_pipeline.books.arrow import CHECKPOINT_FORMAT, checksum
from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.keyframe import Keyframe, RebuildState
from market_pipeline.books.scale import Scale
from market_pipeline.books.tables import CHECKPOINTS
from market_pipeline.errors import CheckpointError
from market_pipeline.instruments import Instrument
from market_pipeline.lake.layout import Warehouse
from market_pipeline.lake.published import scan
from market_pipeline.stages.survey import SuspectedGaps

__all__ = ["Seed", "choose_seed", "keyframe_of"]


@dataclass(frozen=True, slots=True)
class Seed:
    """What a day begins with.

    Attributes:
        name: "previous_close", or "first_snapshot" of the day itself.
        state: The state to begin with; None to wait for the first snapshot.
        checksum: SHA-256 of all that the state holds; None without one.
        refused: Why the previous close was not used though the policy asks for it.
    """

    name: Literal["previous_close", "first_snapshot"] = "first_snapshot"
    state: RebuildState | None = None
    checksum: str | None = None
    refused: str | None = None


def choose_seed(
    warehouse: Warehouse,
    instrument: Instrument,
    day: date,
    price_scale: Scale,
    size_scale: Scale,
    gaps: Callable[[], SuspectedGaps],
) -> Seed:
    """The closing book of the day before if the policy asks for it and the two days join.

    They join if that book was valid, and the first message of this day comes after it by sequence
    number and within the time that is not yet a silence.
    """
    if instrument.policies.seed == "first_snapshot":
        return Seed()
    before = day - timedelta(days=1)
    closing = scan(warehouse, CHECKPOINTS, before, [instrument.id]).filter(kind="closing")
    try:
        rows = closing.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        return Seed(refused=f"the closing book of {before} cannot be read: {error}")
    if rows.is_empty():
        return Seed(refused=f"no closing book of {before} is published")
    row = rows.row(0, named=True)
    try:
        close = keyframe_of(row, price_scale, size_scale)
    except CheckpointError as error:
        return Seed(refused=str(error))
    today = gaps()
    pause_ns = today.first_ts_receipt_ns - close.ts_receipt_ns
    if close.flags & INVALIDATING or close.bid_horizon_ticks is None:
        return Seed(refused=f"the closing book of {before} is not valid (flags {close.flags})")
    if close.flags & BookFlag.SNAPSHOT_ONLY:
        return Seed(
            refused=f"the closing book of {before} is the last snapshot of a day without usable "
            "deltas, and nobody knows what came after it"
        )
    if today.first_sequence_number <= close.sequence_number:
        return Seed(
            refused=f"the day begins at sequence number {today.first_sequence_number}, which is "
            f"not after {close.sequence_number} of the closing book"
        )
    if not 0 <= pause_ns <= today.silence_ns:
        return Seed(
            refused=f"the day begins {pause_ns / 1e9:.3f} s after the closing book; "
            f"at most {today.silence_ns / 1e9:.3f} s is no silence"
        )
    state = RebuildState.after_close(close)
    digest = hashlib.sha256(row["checksum"].encode() + state.registers.tobytes())
    return Seed("previous_close", state, digest.hexdigest())


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
    tick, lot = Scale.of(Decimal(row["tick"])), Scale.of(Decimal(row["lot"]))
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
    horizons = [row["bid_horizon_ticks"], row["ask_horizon_ticks"]]
    known = np.array([ticks for ticks in horizons if ticks is not None], np.int64)
    in_ticks = [
        price_scale.steps_from(steps, tick)
        for steps in (keyframe.bid_price_ticks, keyframe.ask_price_ticks, known)
    ]
    in_lots = [
        size_scale.steps_from(steps, lot)
        for steps in (keyframe.bid_size_lots, keyframe.ask_size_lots)
    ]
    bid_ticks, ask_ticks, horizon_ticks = in_ticks
    bid_lots, ask_lots = in_lots
    if (
        bid_ticks is None
        or ask_ticks is None
        or horizon_ticks is None
        or bid_lots is None
        or ask_lots is None
    ):
        raise refused(
            "The checkpoint is not on this day's grid",
            f"tick {price_scale.step}, lot {size_scale.step}",
            f"tick {tick.step}, lot {lot.step}",
        )
    return replace(
        keyframe,
        bid_price_ticks=bid_ticks,
        bid_size_lots=bid_lots,
        ask_price_ticks=ask_ticks,
        ask_size_lots=ask_lots,
        bid_horizon_ticks=int(horizon_ticks[0]) if known.size else None,
        ask_horizon_ticks=int(horizon_ticks[1]) if known.size else None,
    )
