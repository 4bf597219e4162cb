"""One ordered stream of a day's trades and book events: the rows of `books.market_events`.

Order is receipt order as recorded. Messages are in the order of their file rows, on a receipt clock
that never runs back. A trade comes after all messages received before it, so just before it a
reader has the book that `books.trades` has beside it; at the same receipt time the trade comes
first. Trades of one receipt time are in the order of their file rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from market_pipeline.books import event_rows as at
from market_pipeline.books.arrow import identity_columns
from market_pipeline.books.event_rows import (
    EventRows,
    TradeFeed,
    new_event_place,
    room_for_events,
    write_events,
    write_trades,
)
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.replay import Replayed
from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale, to_steps
from market_pipeline.books.state import read_only
from market_pipeline.books.tables import MARKET_EVENTS
from market_pipeline.books.walk import levels_of, sides_of
from market_pipeline.quality.intervals import time_order
from market_pipeline.sources.batches import Trades
from market_pipeline.sources.crypto_lake import TRADES
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.stages.rebuild.replay import DayReplay, PublishedDay

__all__ = ["DayEvents", "EventBatch", "day_events"]

_BATCH_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Some rows of `books.market_events`, and the clock that they are ordered by, int64 (n,)."""

    clock_ns: NDArray[np.int64]
    rows: pa.RecordBatch


def day_events(
    day: PublishedDay,
    *,
    message: int = 0,
    from_ns: int = -(2**63),
    until_ns: int = 2**63 - 1,
    folder: Path | None = None,
) -> Iterator[EventBatch]:
    """The events of a published day, from its raw files.

    Args:
        day: The day.
        message: The number of its first message that is received at `from_ns` or later.
        from_ns, until_ns: As for `DayEvents`.
        folder: Where the file lies from which the trades are mapped, see `mapped`.

    Raises:
        MissingDataError: The day was published from its snapshots, or raw files are gone.
        CheckpointError: A message leads to another row than the published one.
        MarketPipelineError: Whatever reading the raw files raises.
    """
    record, replay = day.record, DayReplay(day, message, changes=True)
    events = DayEvents(
        record.exchange,
        record.symbol,
        record.dt,
        *record.scales,
        read_trades(day.files(TRADES), folder, with_ids=True),
        from_ns=from_ns,
        until_ns=until_ns,
    )
    return events.batches(replay.book(), replay.until())


class DayEvents:
    """Turns one instrument's replayed day, and its trades, into events.

    Args:
        exchange, symbol, day: Whose.
        price_scale, size_scale: The tick and the lot of that day.
        trades: All of that day's, with their ids.
        from_ns, until_ns: Of the receipt clock: events before and from there on are left out.
        batch_rows: All batches but the last have so many rows, however the blocks are cut.

    Raises:
        ValueError: The trades were read without their ids.
    """

    def __init__(
        self,
        exchange: str,
        symbol: str,
        day: date,
        price_scale: Scale,
        size_scale: Scale,
        trades: Trades,
        *,
        from_ns: int = -(2**63),
        until_ns: int = 2**63 - 1,
        batch_rows: int = _BATCH_ROWS,
    ) -> None:
        if trades.id is None:
            raise ValueError("the trades were read without their ids")
        self._identity = exchange, symbol, day
        self._scales = price_scale, size_scale
        self._trades, self._ids = trades, trades.id
        order = time_order(trades.ts_receipt_ns)
        if order is None:
            order = np.arange(trades.price.size, dtype=np.int32)
        columns = trades.ts_origin_ns, trades.ts_receipt_ns, trades.is_buy, order
        self._feed = TradeFeed._make(read_only(column) for column in columns)
        first = np.searchsorted(trades.ts_receipt_ns, from_ns, sorter=order)
        self._place = new_event_place(int(first))
        self._range_ns = np.int64(from_ns), np.int64(until_ns)
        self._rows = room_for_events(batch_rows)

    def batches(self, start: Keyframe, blocks: Iterable[Replayed]) -> Iterator[EventBatch]:
        """The events, from the book that the first block begins with.

        Raises:
            MarketPipelineError: Whatever replaying the blocks raises.
        """
        bids = start.bid_price_ticks, start.bid_size_lots
        asks = start.ask_price_ticks, start.ask_size_lots
        levels, place = levels_of(bids, asks), self._place
        status = at.BLOCK_DONE
        for block in blocks:
            place[at.MESSAGE] = place[at.NEXT_CHANGE] = 0
            messages, changes = block.messages, block.changes
            while True:
                status = write_events(
                    messages, changes, block.clock_ns, block.first, self._feed, levels,
                    self._rows, place, *self._range_ns,
                )  # fmt: skip
                if status == at.ROWS_FULL:
                    yield self._written()
                elif status == at.BOOK_FULL:
                    levels = levels_of(*sides_of(levels))
                else:
                    break
            if status == at.ENDED:
                break
        while not write_trades(self._feed, self._rows, place, self._range_ns[1] - 1):
            yield self._written()
        if place[at.COUNT]:
            yield self._written()

    def _written(self) -> EventBatch:
        count = int(self._place[at.COUNT])
        self._place[at.COUNT] = 0
        rows = EventRows._make(column[:count].copy() for column in self._rows)
        return EventBatch(rows.clock_ns, self._arrow(rows))

    def _arrow(self, rows: EventRows) -> pa.RecordBatch:
        is_trade = rows.action == at.ACTIONS.index("T")
        trade = rows.file_row[is_trade]
        is_clear = rows.action == at.ACTIONS.index("R")
        values = []
        for scale, steps, of_trades in (
            (self._scales[0], rows.price_ticks, self._trades.price),
            (self._scales[1], rows.size_lots, self._trades.quantity),
        ):
            given = of_trades[trade]
            of_trade = np.empty(trade.size, np.int64)
            to_steps(np.ascontiguousarray(given), scale, of_trade)
            steps[is_trade] = of_trade
            is_off = (steps == NOT_REPRESENTABLE) | is_clear
            floats = scale.to_floats(np.where(is_off, 0, steps))
            # A trade's price that is not on the tick is given as the source has it.
            floats[is_trade] = np.where(is_off[is_trade], given, floats[is_trade])
            values.append((pa.array(steps, mask=is_off), pa.array(floats, mask=is_off & ~is_trade)))
        ids = np.full(rows.kind.size, -1, np.int64)
        ids[is_trade] = self._ids[trade]
        (ticks, price), (lots, size) = values
        columns = [
            *identity_columns(*self._identity, rows.kind.size),
            pa.array(rows.ts_origin_ns),
            pa.array(rows.ts_receipt_ns),
            pa.array(rows.sequence_number, mask=is_trade),
            _named(rows.kind, at.KINDS),
            _named(rows.action, at.ACTIONS),
            _named(rows.side, at.SIDES),
            ticks,
            lots,
            price,
            size,
            pa.array(rows.flags),
            pa.array(rows.book_flags),
            pa.array(rows.message, mask=rows.message < 0),
            pa.array(rows.file_row, mask=rows.file_row < 0),
            pa.array(ids, mask=~is_trade),
        ]
        return pa.RecordBatch.from_arrays(columns, names=MARKET_EVENTS.arrow_schema.names)


def _named(codes: NDArray[np.int8], names: tuple[str, ...]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names))
