"""The planted faults: each changes what the files say of the market, never the market.

A fault is made by a planter, which sees the batches of its day in order and may hold rows back from
one to the next. Spans are taken on the true receipt clock, so a clock skew, planted last, moves no
other fault. Rows outside a fault's span are those of the day without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import date
from typing import NamedTuple

import numpy as np

from market_pipeline.sources.simulated._message_faults import MESSAGE_FAULTS, planter_of
from market_pipeline.sources.simulated.market import Batch, Deltas, Snapshots
from market_pipeline.sources.simulated.plan import Fault, FaultKind, SimulatedInstrument
from market_pipeline.sources.simulated.planting import (
    IntArray,
    Planter,
    midnight_ns,
    rows_of,
    span_ns,
    within,
)

__all__ = ["OFF_TICK_ROWS", "TRUNCATED_SHARE", "planters"]

OFF_TICK_ROWS = 5
"""So many bid rows off the grid are planted, each removed again by the next message."""
TRUNCATED_SHARE = 0.6
"""So much of its bytes a truncated file keeps."""

_OFF_TICK_DEPTH = 40
_OFF_TICK_LOTS = 100
_NS_PER_SECOND = 1_000_000_000


def planters(
    faults: Sequence[Fault], instrument: SimulatedInstrument, day: date
) -> tuple[Planter, ...]:
    """The planters of one instrument's day, in the order they must be called in."""
    mine = [fault for fault in faults if fault.id == instrument.id and fault.day == day]
    planted: list[Planter] = []
    planted += [_SilenceGap(fault) for fault in mine if fault.kind is FaultKind.SILENCE_GAP]
    planted += [_LateRemovals(fault) for fault in mine if fault.kind is FaultKind.CROSSED_MINUTE]
    planted += [
        _OffTickRows(fault, instrument) for fault in mine if fault.kind is FaultKind.OFF_TICK_PRICE
    ]
    planted += [planter_of(fault, instrument) for fault in mine if fault.kind in MESSAGE_FAULTS]
    planted += [_ClockSkew(fault) for fault in mine if fault.kind is FaultKind.CLOCK_SKEW]
    return tuple(planted)


class _Extra(NamedTuple):
    """A row to add to a message of a batch."""

    message: int
    side_is_bid: bool
    price: float
    size: float


class _SilenceGap:
    def __init__(self, fault: Fault) -> None:
        self._span_ns = span_ns(fault)

    def __call__(self, batch: Batch) -> Batch:
        snapshots = batch.snapshots
        heard = ~within(snapshots.receipt_ns, self._span_ns)
        return replace(
            batch,
            deltas=rows_of(batch.deltas, ~within(batch.deltas.receipt_ns, self._span_ns)),
            snapshots=Snapshots(
                **{part.name: getattr(snapshots, part.name)[heard] for part in fields(snapshots)}
            ),
        )


class _LateRemovals:
    """Holds back every removal of the span, whichever side the market leaves behind."""

    def __init__(self, fault: Fault) -> None:
        self._span_ns = span_ns(fault)
        self._held: set[tuple[bool, float]] = set()

    def __call__(self, batch: Batch) -> Batch:
        deltas = batch.deltas
        inside = within(deltas.receipt_ns, self._span_ns)
        for row in np.flatnonzero(inside):
            level = (bool(deltas.side_is_bid[row]), float(deltas.price[row]))
            if deltas.size[row] == 0:
                self._held.add(level)
            else:
                self._held.discard(level)
        rest = rows_of(deltas, ~(inside & (deltas.size == 0)))
        first_after = int(np.searchsorted(batch.touch.receipt_ns, self._span_ns[1]))
        if self._held and first_after < len(batch.touch.receipt_ns):
            of_message = rest.sequence_number == batch.touch.sequence_number[first_after]
            sides, prices = rest.side_is_bid[of_message], rest.price[of_message]
            self._held.difference_update(zip(sides.tolist(), prices.tolist(), strict=True))
            late = [_Extra(first_after, *level, size=0.0) for level in sorted(self._held)]
            rest = _with_rows(rest, batch, late)
            self._held.clear()
        return replace(batch, deltas=rest)


class _OffTickRows:
    def __init__(self, fault: Fault, instrument: SimulatedInstrument) -> None:
        start_ns, end_ns = span_ns(fault)
        step_ns = (end_ns - start_ns) // OFF_TICK_ROWS
        # Each appears twice: its row, then its removal.
        self._due_ns = [start_ns + step_ns * (turn // 2) for turn in range(2 * OFF_TICK_ROWS)]
        self._numerator, self._denominator = instrument.tick.as_integer_ratio()
        self._size = float(_OFF_TICK_LOTS * instrument.lot)
        self._standing: float | None = None

    def __call__(self, batch: Batch) -> Batch:
        touch = batch.touch
        extra: list[_Extra] = []
        free = 0
        while self._due_ns:
            message = max(int(np.searchsorted(touch.receipt_ns, self._due_ns[0])), free)
            if message >= len(touch.receipt_ns):
                break
            if self._standing is None:
                tenths = int(touch.bid_ticks[message] - _OFF_TICK_DEPTH) * 10 + 3
                self._standing = tenths * self._numerator / (10 * self._denominator)
                extra.append(_Extra(message, True, self._standing, self._size))
            else:
                extra.append(_Extra(message, True, self._standing, 0.0))
                self._standing = None
            self._due_ns.pop(0)
            free = message + 1
        return replace(batch, deltas=_with_rows(batch.deltas, batch, extra))


class _ClockSkew:
    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._span_ns = span_ns(fault)
        self._step_ns = midnight_ns(fault.day) + round(fault.step_at_s * _NS_PER_SECOND)

    def __call__(self, batch: Batch) -> Batch:
        return replace(
            batch,
            deltas=replace(batch.deltas, receipt_ns=self._shown(batch.deltas.receipt_ns)),
            trades=replace(batch.trades, receipt_ns=self._shown(batch.trades.receipt_ns)),
            snapshots=replace(batch.snapshots, receipt_ns=self._shown(batch.snapshots.receipt_ns)),
        )

    def _shown(self, receipt_ns: IntArray) -> IntArray:
        elapsed_s = (receipt_ns - self._span_ns[0]) / _NS_PER_SECOND
        shift_ms = self._fault.offset_ms + self._fault.drift_ppm * elapsed_s / 1_000
        shift_ms = shift_ms + self._fault.step_ms * (receipt_ns >= self._step_ns)
        shift_ns = np.round(shift_ms * 1e6).astype(np.int64)
        return receipt_ns + np.where(within(receipt_ns, self._span_ns), shift_ns, 0)


def _with_rows(deltas: Deltas, batch: Batch, extra: Sequence[_Extra]) -> Deltas:
    """The rows and those of `extra`, in the order the market writes them in."""
    if not extra:
        return deltas
    touch = batch.touch
    message = np.array([row.message for row in extra])
    added = Deltas(
        origin_ms=touch.origin_ms[message],
        receipt_ns=touch.receipt_ns[message],
        sequence_number=touch.sequence_number[message],
        side_is_bid=np.array([row.side_is_bid for row in extra]),
        price=np.array([row.price for row in extra]),
        size=np.array([row.size for row in extra]),
    )
    merged = Deltas(
        **{
            part.name: np.concatenate((getattr(deltas, part.name), getattr(added, part.name)))
            for part in fields(Deltas)
        }
    )
    # By message, bids first, by price: what the market's own rows are sorted by.
    order = np.lexsort((merged.price, ~merged.side_is_bid, merged.sequence_number))
    return rows_of(merged, order)
