"""The planted faults that touch whole messages, single values, snapshots and trades.

Which rows they touch follows from the span alone, so the same plan gives the same bytes. Each acts
on messages of one batch; a batch holds thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from market_pipeline.sources.simulated.market import Batch
from market_pipeline.sources.simulated.plan import Fault, FaultKind, SimulatedInstrument
from market_pipeline.sources.simulated.planting import IntArray, Planter, rows_of, span_ns, within

__all__ = ["LOST_ONE_IN", "MESSAGE_FAULTS", "SPIKE_FACTOR", "TRADES_OFF_TICKS", "planter_of"]

LOST_ONE_IN = 100
"""So many messages of a span come for each that is lost, by the sequence number's remainder."""
TRADES_OFF_TICKS = 50
SPIKE_FACTOR = 100_000.0


def planter_of(fault: Fault, instrument: SimulatedInstrument) -> Planter:
    """The planter of a fault of one of these kinds."""
    return MESSAGE_FAULTS[fault.kind](fault, instrument)


class _LostMessages:
    def __init__(self, fault: Fault, instrument: SimulatedInstrument) -> None:
        self._span = span_ns(fault)

    def __call__(self, batch: Batch) -> Batch:
        inside = within(batch.deltas.receipt_ns, self._span)
        lost = inside & (_scrambled(batch.deltas.sequence_number) % LOST_ONE_IN == 0)
        return replace(batch, deltas=rows_of(batch.deltas, ~lost))


class _Once:
    """A fault of the first message, row or trade of a span."""

    def __init__(self, fault: Fault, instrument: SimulatedInstrument) -> None:
        self._span = span_ns(fault)
        self._done = False

    def _first(self, receipt_ns: IntArray) -> int | None:
        """The first row in the span; None if there is none here, or it was met before."""
        rows = np.flatnonzero(within(receipt_ns, self._span))
        if self._done or rows.size == 0:
            return None
        self._done = True
        return int(rows[0])

    def _first_two(self, batch: Batch) -> list[int] | None:
        """Where the first message in the span and the one after it begin and end; None as above."""
        messages = np.flatnonzero(np.diff(batch.deltas.sequence_number, prepend=-1))
        first = self._first(batch.deltas.receipt_ns[messages])
        if first is None or first + 1 == messages.size:
            return None
        ends: list[int] = np.append(messages, len(batch.deltas.price))[first : first + 3].tolist()
        return ends


class _SwappedMessages(_Once):
    def __call__(self, batch: Batch) -> Batch:
        bounds = self._first_two(batch)
        if bounds is None:
            return batch
        begin, middle, end = bounds
        order = np.arange(len(batch.deltas.price))
        order[begin:end] = np.concatenate((order[middle:end], order[begin:middle]))
        return replace(batch, deltas=rows_of(batch.deltas, order))


class _DoubleMessage(_Once):
    def __call__(self, batch: Batch) -> Batch:
        bounds = self._first_two(batch)
        if bounds is None:
            return batch
        begin, after, end = bounds
        # Behind the next message: next to itself it would be one message of twice the rows.
        order = np.insert(np.arange(len(batch.deltas.price)), end, np.arange(begin, after))
        return replace(batch, deltas=rows_of(batch.deltas, order))


class _BadValue(_Once):
    def __call__(self, batch: Batch) -> Batch:
        row = self._first(batch.deltas.receipt_ns)
        if row is None:
            return batch
        size = batch.deltas.size.copy()
        size[row] = -1.0
        return replace(batch, deltas=replace(batch.deltas, size=size))


class _StaleSnapshot:
    def __init__(self, fault: Fault, instrument: SimulatedInstrument) -> None:
        start_ns, self._end_ns = span_ns(fault)
        self._span = (start_ns, self._end_ns)
        self._old: np.ndarray | None = None
        self._done = False

    def __call__(self, batch: Batch) -> Batch:
        snapshots = batch.snapshots
        inside = np.flatnonzero(within(snapshots.receipt_ns, self._span))
        if self._old is None and inside.size:
            self._old = snapshots.levels[inside[0]].copy()
        is_over = bool((batch.touch.receipt_ns >= self._end_ns).any())
        if self._done or self._old is None or not is_over or inside.size == 0:
            return batch
        self._done = True
        levels = snapshots.levels.copy()
        levels[inside[-1]] = self._old
        return replace(batch, snapshots=replace(snapshots, levels=levels))


class _TradesOff:
    def __init__(self, fault: Fault, instrument: SimulatedInstrument) -> None:
        self._span = span_ns(fault)
        self._tick = float(instrument.tick)
        self._decimals = -int(instrument.tick.as_tuple().exponent)

    def __call__(self, batch: Batch) -> Batch:
        trades = batch.trades
        away = np.where(trades.is_buy, -TRADES_OFF_TICKS, TRADES_OFF_TICKS) * self._tick
        moved = np.round(trades.price + away, self._decimals)
        price = np.where(within(trades.receipt_ns, self._span), moved, trades.price)
        return replace(batch, trades=replace(trades, price=price))


class _VolumeSpike(_Once):
    def __call__(self, batch: Batch) -> Batch:
        row = self._first(batch.trades.receipt_ns)
        if row is None:
            return batch
        size = batch.trades.size.copy()
        size[row] *= SPIKE_FACTOR
        return replace(batch, trades=replace(batch.trades, size=size))


def _scrambled(sequence_number: IntArray) -> IntArray:
    """A number for each message that no pattern of the market is in step with."""
    mixed = (sequence_number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return mixed.astype(np.int64)


MESSAGE_FAULTS: dict[FaultKind, Callable[[Fault, SimulatedInstrument], Planter]] = {
    FaultKind.LOST_MESSAGES: _LostMessages,
    FaultKind.SWAPPED_MESSAGES: _SwappedMessages,
    FaultKind.DOUBLE_MESSAGE: _DoubleMessage,
    FaultKind.BAD_VALUE: _BadValue,
    FaultKind.STALE_SNAPSHOT: _StaleSnapshot,
    FaultKind.TRADES_OFF: _TradesOff,
    FaultKind.VOLUME_SPIKE: _VolumeSpike,
}
"""The planters of these kinds."""
