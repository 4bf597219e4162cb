"""The market of one simulated instrument, day after day, as batches in the lake's units.

A day's random numbers come from (seed, instrument, day) alone; its opening book is the closing book
of the day before, so a series of days is a function of its first day too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from market_pipeline.errors import SimulationError
from market_pipeline.sources.simulated._kernel import advance, open_book
from market_pipeline.sources.simulated.plan import SECONDS_PER_DAY, SimulatedInstrument
from market_pipeline.sources.simulated.state import (
    MAX_MESSAGE_ROWS,
    MAX_MESSAGE_TRADES,
    STATE,
    TOP_LEVELS,
    Book,
    Character,
    Output,
)

__all__ = [
    "MAX_MESSAGES_PER_DAY",
    "Batch",
    "Deltas",
    "Market",
    "Snapshots",
    "Touch",
    "Trades",
    "WholeBook",
]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MAX_MESSAGES_PER_DAY = 20_000_000

_MS_PER_DAY = SECONDS_PER_DAY * 1_000
_NS_PER_MS = 1_000_000
_FIRST_SEQUENCE = 5_000_000_000
_FIRST_TRADE_ID = 100_000_000
_MAX_HALF_SPAN = 2**21
_DAILY_VOLATILITY = 0.0035
_USUAL_MESSAGES_PER_DAY = 100_000
_ZONE_LEVELS = 400
_BURST_SHARE = 0.03 / (0.03 + 0.1)  # what the kernel's regime probabilities settle at
_LEAST_GAP_MS = 1.5  # the kernel's 2 ms less what rounding down takes

# Traffic by UTC hour: a first peak as the day turns, quiet before Europe, the height with New York.
_BUSYNESS = (
    1.20, 1.05, 0.90, 0.80, 0.72, 0.68, 0.70, 0.80, 0.92, 0.95, 0.92, 0.90,
    1.00, 1.35, 1.70, 1.65, 1.45, 1.25, 1.10, 1.00, 0.98, 0.92, 0.90, 1.02,
)  # fmt: skip

_BATCH_MESSAGES = 16_384
_BATCH_ROWS = 150_000
_BATCH_SNAPSHOTS = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class Deltas:
    """Changed levels, shape (rows,) each; the rows of one message share the first three.

    Attributes:
        origin_ms: int64, the exchange's time in milliseconds since the epoch.
        receipt_ns: int64, ns since the epoch, not yet rounded as the vendor does.
        sequence_number: int64.
        side_is_bid: bool.
        price, size: float64, the nearest to the decimal; size 0 removes the level.
    """

    origin_ms: IntArray
    receipt_ns: IntArray
    sequence_number: IntArray
    side_is_bid: BoolArray
    price: FloatArray
    size: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """Aggregated trades, shape (trades,) each, times as in `Deltas`; `is_buy` is the taker's."""

    origin_ms: IntArray
    receipt_ns: IntArray
    id: IntArray
    is_buy: BoolArray
    price: FloatArray
    size: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Snapshots:
    """Top 20 after a message, with that message's times and sequence number.

    `levels` is float64, shape (snapshots, 80): bid price, bid size per rank, then asks likewise.
    """

    origin_ms: IntArray
    receipt_ns: IntArray
    sequence_number: IntArray
    levels: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Touch:
    """The market's own touch after every message, whatever the files will say of it.

    Attributes:
        origin_ms, receipt_ns, sequence_number: As in `Deltas`, shape (messages,).
        bid_ticks: int64, the best bid in ticks.
        prices_and_sizes: float64, shape (messages, 4): bid price and size, ask price and size.
        level_counts: int64, shape (messages, 2): populated bid and ask levels.
    """

    origin_ms: IntArray
    receipt_ns: IntArray
    sequence_number: IntArray
    bid_ticks: IntArray
    prices_and_sizes: FloatArray
    level_counts: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some consecutive messages of a day, with the trades and snapshots among them."""

    deltas: Deltas
    trades: Trades
    snapshots: Snapshots
    touch: Touch


class WholeBook(NamedTuple):
    """Every level of a moment, best first, each side as prices and sizes, float64 (levels,)."""

    sequence_number: int
    bids: tuple[FloatArray, FloatArray]
    asks: tuple[FloatArray, FloatArray]


class Market:
    """One instrument's market; `day` is called for consecutive days.

    Args:
        instrument: What trades.
        messages_per_day: How many messages a day has on average.
        snapshot_interval_s: At least so many seconds lie between two snapshots.

    Raises:
        SimulationError: More messages a day than milliseconds allow, or not even one an hour.
    """

    def __init__(
        self, instrument: SimulatedInstrument, messages_per_day: int, snapshot_interval_s: float
    ) -> None:
        self.instrument = instrument
        self._character = _character(instrument, messages_per_day, snapshot_interval_s)
        half_span = self._character.anchor
        self._book = Book(
            levels=np.zeros(2 * half_span, np.int64),
            counts=np.zeros(2, np.int64),
            touched=np.zeros(MAX_MESSAGE_ROWS, np.int64),
            touched_count=np.zeros(1, np.int64),
        )
        self._state = np.zeros(1, STATE)
        self._output = _output()
        self._price = _Scale.of(instrument.tick)
        self._size = _Scale.of(instrument.lot)
        self._opened = False

    def open(self, day: date) -> WholeBook:
        """The book before the first message, which opens on that day unless it is open already."""
        if not self._opened:
            open_book(self._random(day, "opening"), self._character, self._book, self._state)
            self._state["sequence"] = _FIRST_SEQUENCE
            self._state["trade_id"] = _FIRST_TRADE_ID
            self._opened = True
        levels = self._book.levels
        sides = np.flatnonzero(levels > 0)[::-1], np.flatnonzero(levels < 0)
        return WholeBook(
            int(self._state["sequence"][0]),
            *((self._prices(index), self._size.values(abs(levels[index]))) for index in sides),
        )

    def day(self, day: date) -> Iterator[Batch]:
        """The messages of the next day, in order; must be exhausted before the day after."""
        start_ms = round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000
        self.open(day)
        # The last message of the day before may have been sent long before midnight, but the time
        # to the next has no memory of that.
        self._state["origin_ms"] = start_ms
        self._state["receipt_ns"] = start_ms * _NS_PER_MS
        self._state["next_snapshot_ns"] = (
            start_ms * _NS_PER_MS + self._character.snapshot_interval_ns
        )
        random = self._random(day, "messages")
        busyness = np.array([*_BUSYNESS, _BUSYNESS[0]]) / np.mean(_BUSYNESS)
        over = False
        while not over:
            messages, rows, trades, snapshots, over = advance(
                random,
                self._character,
                self._book,
                self._state,
                busyness,
                start_ms,
                start_ms + _MS_PER_DAY,
                self._output,
            )
            yield self._batch(messages, rows, trades, snapshots)

    def _random(self, day: date, purpose: str) -> np.random.Generator:
        text = f"{self.instrument.id} {day.isoformat()} {purpose}"
        digest = int.from_bytes(hashlib.sha256(text.encode()).digest())
        seeds = np.random.SeedSequence([self.instrument.seed, digest])
        return np.random.Generator(np.random.PCG64(seeds))

    def _batch(self, messages: int, rows: int, trades: int, snapshots: int) -> Batch:
        out = self._output
        origin_ms = out.message_origin_ms[:messages].copy()
        receipt_ns = out.message_receipt_ns[:messages].copy()
        sequence = out.message_sequence[:messages].copy()
        of_row = np.repeat(
            np.arange(messages), np.diff(out.message_end[:messages], prepend=np.int64(0))
        )
        taken = out.snapshot_message[:snapshots]
        touch = out.message_touch[:messages]
        return Batch(
            deltas=Deltas(
                origin_ms=origin_ms[of_row],
                receipt_ns=receipt_ns[of_row],
                sequence_number=sequence[of_row],
                side_is_bid=out.row_side[:rows] == 0,
                price=self._prices(out.row_index[:rows]),
                size=self._size.values(out.row_lots[:rows]),
            ),
            trades=Trades(
                origin_ms=out.trade_origin_ms[:trades].copy(),
                receipt_ns=out.trade_receipt_ns[:trades].copy(),
                id=out.trade_id[:trades].copy(),
                is_buy=out.trade_is_buy[:trades].copy(),
                price=self._prices(out.trade_index[:trades]),
                size=self._size.values(out.trade_lots[:trades]),
            ),
            snapshots=Snapshots(
                origin_ms=origin_ms[taken],
                receipt_ns=receipt_ns[taken],
                sequence_number=sequence[taken],
                levels=np.stack(
                    (
                        self._prices(out.snapshot_index[:snapshots]),
                        self._size.values(out.snapshot_lots[:snapshots]),
                    ),
                    axis=2,
                ).reshape(snapshots, 4 * TOP_LEVELS),
            ),
            touch=Touch(
                origin_ms=origin_ms,
                receipt_ns=receipt_ns,
                sequence_number=sequence,
                bid_ticks=touch[:, 0] + self._character.base,
                prices_and_sizes=np.stack(
                    (
                        self._prices(touch[:, 0]),
                        self._size.values(touch[:, 1]),
                        self._prices(touch[:, 2]),
                        self._size.values(touch[:, 3]),
                    ),
                    axis=1,
                ),
                level_counts=touch[:, 4:6].copy(),
            ),
        )

    def _prices(self, index: IntArray) -> FloatArray:
        return self._price.values(index + self._character.base)


@dataclass(frozen=True, slots=True)
class _Scale:
    """A step as a fraction of whole numbers, so that a product is the double nearest to it."""

    numerator: int
    denominator: int

    @classmethod
    def of(cls, step: Decimal) -> _Scale:
        return cls(*step.as_integer_ratio())

    def values(self, steps: IntArray) -> FloatArray:
        return (steps * self.numerator) / self.denominator


def _character(
    instrument: SimulatedInstrument, messages_per_day: int, snapshot_interval_s: float
) -> Character:
    mean_gap_ms = _MS_PER_DAY / messages_per_day if messages_per_day > 0 else math.inf
    if not (24 <= messages_per_day <= MAX_MESSAGES_PER_DAY and snapshot_interval_s > 0):
        raise SimulationError(
            "A simulated day cannot have so many messages or such a snapshot interval",
            exchange=instrument.venue,
            symbol=instrument.symbol,
            expected=f"24 to {MAX_MESSAGES_PER_DAY} messages a day, an interval above 0 s",
            found=f"{messages_per_day} messages a day, an interval of {snapshot_interval_s:g} s",
            next_step="Choose other numbers for the simulation.",
        )
    # A message moves the price by so much of itself whatever the instrument; the number of ticks
    # follows, and with it how many of them are populated: a fine grid is sparse, a coarse one full.
    volatility = instrument.start_ticks * _DAILY_VOLATILITY / math.sqrt(_USUAL_MESSAGES_PER_DAY)
    volatility = min(volatility, 12.0)
    density = min(max(1.2 / max(volatility, 0.1), 0.08), 0.8)
    half_span = min(instrument.start_ticks, _MAX_HALF_SPAN)
    burst_gap_ms = min(40.0, 0.2 * mean_gap_ms)
    calm_gap_ms = (mean_gap_ms - _LEAST_GAP_MS - _BURST_SHARE * burst_gap_ms) / (1 - _BURST_SHARE)
    return Character(
        base=instrument.start_ticks - half_span,
        anchor=half_span,
        zone=min(round(_ZONE_LEVELS / density), half_span // 8),
        density=density,
        volatility=volatility,
        log_lots=math.log(instrument.typical_lots),
        calm_gap_ms=calm_gap_ms,
        burst_gap_ms=burst_gap_ms,
        snapshot_interval_ns=round(snapshot_interval_s * 1e9),
    )


def _output() -> Output:
    trades = MAX_MESSAGE_TRADES * 4_096
    integers = np.int64
    return Output(
        message_origin_ms=np.zeros(_BATCH_MESSAGES, integers),
        message_receipt_ns=np.zeros(_BATCH_MESSAGES, integers),
        message_sequence=np.zeros(_BATCH_MESSAGES, integers),
        message_end=np.zeros(_BATCH_MESSAGES, integers),
        message_touch=np.zeros((_BATCH_MESSAGES, 6), integers),
        row_side=np.zeros(_BATCH_ROWS, integers),
        row_index=np.zeros(_BATCH_ROWS, integers),
        row_lots=np.zeros(_BATCH_ROWS, integers),
        trade_origin_ms=np.zeros(trades, integers),
        trade_receipt_ns=np.zeros(trades, integers),
        trade_id=np.zeros(trades, integers),
        trade_is_buy=np.zeros(trades, np.bool_),
        trade_index=np.zeros(trades, integers),
        trade_lots=np.zeros(trades, integers),
        snapshot_message=np.zeros(_BATCH_SNAPSHOTS, integers),
        snapshot_index=np.zeros((_BATCH_SNAPSHOTS, 2 * TOP_LEVELS), integers),
        snapshot_lots=np.zeros((_BATCH_SNAPSHOTS, 2 * TOP_LEVELS), integers),
    )
