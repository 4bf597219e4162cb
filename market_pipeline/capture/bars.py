"""Bars of prints as they come, on the exchange's clock: those of `metrics.bars`, each once closed.

The kernel that adds prints is that of the batch, so that the same prints make the same bars. A bar
is closed once the watermark, the latest event time less the allowed lateness, has passed its end.
What comes for a closed bar is counted and left out: the batch, which waits for the whole day, has
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct

from market_pipeline.books.scale import Scale, to_steps
from market_pipeline.quality.intervals import NS_PER_SECOND, BoolArray, IntArray
from market_pipeline.quality.measures.print_bars import PrintBars
from market_pipeline.sources.venues.records import Trade

__all__ = ["Bar", "BarOperator"]


class Bar(Struct, frozen=True, gc=False):
    """A closed bar, its columns as in `metrics.bars`; without a print there is none."""

    symbol: str
    start_ns: int
    width_seconds: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    open: float
    high: float
    low: float
    close: float
    volume_lots: int
    buy_volume_lots: int
    volume: float
    buy_volume: float
    value: float
    trade_count: int
    first_id: int
    last_id: int
    late_count: int
    off_step_count: int
    outside_market_count: int


@dataclass(slots=True)
class _Open:
    """A bar that is not closed yet."""

    prints: PrintBars
    late: int = 0
    off_step: int = 0
    outside_market: int = 0


@dataclass(slots=True)
class BarOperator:
    """Makes the bars of one symbol and width.

    Attributes:
        allowed_lateness_ns: How far a print may lie behind the latest one and still be in its bar.
        too_late: Prints that came after their bar was closed.
    """

    symbol: str
    price_scale: Scale
    size_scale: Scale
    width_seconds: int = 60
    allowed_lateness_ns: int = 5 * NS_PER_SECOND
    too_late: int = 0
    _bars: dict[int, _Open] = field(default_factory=dict)
    _latest_ns: int = 0
    _closed_until: int = 0
    _rows: int = 0

    @property
    def watermark_ns(self) -> int:
        """No print at or before this instant is waited for."""
        return self._latest_ns - self.allowed_lateness_ns

    @property
    def closed_until_ns(self) -> int:
        """The end of the last bar that was closed."""
        return self._closed_until * self.width_seconds * NS_PER_SECOND

    def take(self, trades: Sequence[Trade]) -> list[Bar]:
        """Adds prints in the order they were received; the bars that this closes, oldest first."""
        # The venue numbers some that it says were none; the batch leaves these out too.
        trades = [each for each in trades if each.price and each.quantity]
        if not trades:
            return []
        time_ns, ids = np.array([(each.ts_origin_ns, each.id or 0) for each in trades], np.int64).T
        is_buy = np.array([each.is_buy for each in trades])
        is_outside = np.array([each.is_market is False for each in trades])
        steps = np.empty((2, len(trades)), np.int64)
        for row, (name, scale) in enumerate(
            (("price", self.price_scale), ("quantity", self.size_scale))
        ):
            to_steps(np.array([getattr(each, name) for each in trades]), scale, steps[row])
        is_off = (steps <= 0).any(axis=0) & ~is_outside
        rows = np.arange(self._rows, self._rows + len(trades))
        self._rows += len(trades)
        bar = time_ns // (self.width_seconds * NS_PER_SECOND)
        is_print = ~(is_outside | is_off)
        is_late = np.zeros(len(trades), bool)
        is_late[is_print] = self._late(bar[is_print], time_ns[is_print])
        for number in sorted(set(bar.tolist())):
            here = bar == number
            if number < self._closed_until:
                self.too_late += int(np.count_nonzero(here))
                continue
            each = self._open(number)
            each.off_step += int(np.count_nonzero(here & is_off))
            each.outside_market += int(np.count_nonzero(here & is_outside))
            each.late += int(np.count_nonzero(here & is_late))
            part = np.flatnonzero(here & is_print)
            each.prints.add(
                time_ns[part], ids[part], rows[part], steps[0, part], steps[1, part], is_buy[part]
            )
        return self._close_until(self.watermark_ns // (self.width_seconds * NS_PER_SECOND))

    def finish(self) -> list[Bar]:
        """Closes all bars: nothing more comes."""
        return self._close_until(max(self._bars, default=0) + 1)

    def _late(self, bar: IntArray, time_ns: IntArray) -> BoolArray:
        """Whether each print comes after one of a later bar."""
        width_ns = self.width_seconds * NS_PER_SECOND
        latest = np.maximum.accumulate(np.append(self._latest_ns // width_ns, bar))[:-1]
        self._latest_ns = max(self._latest_ns, int(time_ns.max(initial=0)))
        is_late: BoolArray = bar < latest
        return is_late

    def _open(self, number: int) -> _Open:
        if number not in self._bars:
            width_ns = self.width_seconds * NS_PER_SECOND
            start_ns = number * width_ns
            self._bars[number] = _Open(PrintBars(start_ns, start_ns + width_ns, width_ns, np.int64))
        return self._bars[number]

    def _close_until(self, number: int) -> list[Bar]:
        closed = [self._bar(each) for each in sorted(self._bars) if each < number]
        self._closed_until = max(self._closed_until, number)
        return [each for each in closed if each is not None]

    def _bar(self, number: int) -> Bar | None:
        opened = self._bars.pop(number)
        prints = opened.prints
        if not prints.trade_count[0]:
            return None
        ticks, lots = prints.prices[0], prints.volumes[0, :2]
        prices, volumes = self.price_scale.to_floats(ticks), self.size_scale.to_floats(lots)
        return Bar(
            symbol=self.symbol,
            start_ns=number * self.width_seconds * NS_PER_SECOND,
            width_seconds=self.width_seconds,
            open_ticks=int(ticks[0]),
            high_ticks=int(ticks[1]),
            low_ticks=int(ticks[2]),
            close_ticks=int(ticks[3]),
            open=float(prices[0]),
            high=float(prices[1]),
            low=float(prices[2]),
            close=float(prices[3]),
            volume_lots=int(lots[0]),
            buy_volume_lots=int(lots[1]),
            volume=float(volumes[0]),
            buy_volume=float(volumes[1]),
            value=float(prints.value[0]),
            trade_count=int(prints.trade_count[0]),
            first_id=int(prints.first_number[0]),
            last_id=int(prints.last_number[0]),
            late_count=opened.late,
            off_step_count=opened.off_step,
            outside_market_count=opened.outside_market,
        )
