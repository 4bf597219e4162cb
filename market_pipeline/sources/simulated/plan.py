"""What to simulate: the instruments, the faults to plant, and the plan of the demo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial

from pydantic import ValidationError

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import SimulationError

__all__ = [
    "SECONDS_PER_DAY",
    "Fault",
    "FaultKind",
    "SimulatedInstrument",
    "SimulationPlan",
    "demo_plan",
    "range_plan",
]

SECONDS_PER_DAY = 86_400
_MIN_START_TICKS = 2_000
_MAX_START_TICKS = 2**40
_MAX_STEP_DIGITS = 6


class FaultKind(StrEnum):
    """A fault that can be planted in one instrument's day; each leaves the market itself alone."""

    SILENCE_GAP = "silence_gap"
    """No delta and no book row for a while; trades go on, sequence numbers jump, and levels that
    changed meanwhile stay wrong in a rebuilt book until they are touched or it is resynced."""

    CROSSED_MINUTE = "crossed_minute"
    """Removals are lost for a while, so levels the market has left stand across the touch of a
    rebuilt book; all arrive late with the first message afterwards, and `book` is right throughout.
    """

    CLOCK_SKEW = "clock_skew"
    """The receipt clock of all three tables is off by an offset, a linear drift and one step."""

    OFF_TICK_PRICE = "off_tick_price"
    """Five bid rows stand three tenths of a tick off the price grid, 40 ticks below the touch; the
    next message removes each, so ten rows in all carry such a price."""

    LOST_MESSAGES = "lost_messages"
    """One message in a hundred is lost for a while, with no silence to show it; levels it reported
    stay wrong in a rebuilt book until they are updated again."""

    SWAPPED_MESSAGES = "swapped_messages"
    """The first message of the span stands behind the one after it."""

    DOUBLE_MESSAGE = "double_message"
    """The first message of the span stands twice, one time behind the other."""

    BAD_VALUE = "bad_value"
    """The first delta row of the span has a size below 0."""

    STALE_SNAPSHOT = "stale_snapshot"
    """The last `book` row of the span shows the levels of the first one."""

    TRADES_OFF = "trades_off"
    """Trades print 50 ticks beyond the far side of the touch for a while."""

    VOLUME_SPIKE = "volume_spike"
    """The first trade of the span is a hundred thousand times its size."""

    TRUNCATED_FILE = "truncated_file"
    """The day's last delta shard is cut at 60 % of its bytes and is no Parquet file any more."""

    MISSING_DAY = "missing_day"
    """No file at all of that instrument and day, though its market went on."""


_WHOLE_DAY = (FaultKind.TRUNCATED_FILE, FaultKind.MISSING_DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedInstrument:
    """One instrument of the simulated venue.

    Attributes:
        symbol: As a folder name of the lake, such as BTC-USDT-PERP.
        tick, lot: The exact steps of its prices and sizes.
        start_price: The mid price the first day opens near; a whole number of ticks. Over months
            the price is drawn back towards it.
        seed: Any whole number from 0. Instruments with equal seeds still differ by their symbol.
        typical_lots: The median size of a level at the touch, in lots.
        venue: As a folder name of the lake.

    Raises:
        SimulationError: A value cannot be used.
    """

    symbol: str
    tick: Decimal
    lot: Decimal
    start_price: Decimal
    seed: int
    typical_lots: int = 500
    venue: str = "SIMULATED"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem is not None:
            raise SimulationError(
                f"A simulated instrument cannot be used: {problem}",
                exchange=self.venue,
                symbol=self.symbol,
                next_step="Correct the instrument of the simulation.",
            )

    def _problem(self) -> str | None:
        try:
            instrument = self.as_instrument()
        except ValidationError as error:
            return "; ".join(
                f"{detail['loc'][0]}: {detail['msg']}" for detail in error.errors(include_url=False)
            )
        for name, step in (("tick", instrument.tick), ("lot", instrument.lot)):
            if not isinstance(step, Decimal) or len(step.as_tuple().digits) > _MAX_STEP_DIGITS:
                return (
                    f"{name}: expected a number of at most {_MAX_STEP_DIGITS} digits, found {step}"
                )
        ticks = self.start_price / self.tick
        if ticks != ticks.to_integral_value() or not _MIN_START_TICKS <= ticks <= _MAX_START_TICKS:
            return (
                f"start_price: expected a whole number of ticks from {_MIN_START_TICKS} to "
                f"{_MAX_START_TICKS}, found {ticks}"
            )
        if self.seed < 0:
            return f"seed: expected a whole number from 0, found {self.seed}"
        if self.typical_lots < 1:
            return f"typical_lots: expected at least 1, found {self.typical_lots}"
        return None

    @property
    def id(self) -> str:
        """`VENUE:SYMBOL`."""
        return f"{self.venue}:{self.symbol}"

    @property
    def start_ticks(self) -> int:
        """The start price in ticks."""
        return int(self.start_price / self.tick)

    def as_instrument(self) -> Instrument:
        """The entry of the instruments file that makes the pipeline read these days."""
        return Instrument(
            venue=self.venue,
            symbol=self.symbol,
            source="simulated",
            tick=self.tick,
            lot=self.lot,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of one instrument's day.

    Attributes:
        kind: What goes wrong.
        symbol, venue: The instrument it happens to.
        day: The UTC day it happens on.
        at_s, duration_s: When it begins, in seconds after midnight of the true receipt time, and
            how long it lasts; both 0 for TRUNCATED_FILE and MISSING_DAY, which concern the day.
        offset_ms: CLOCK_SKEW: added to receipt times from `at_s` on.
        drift_ppm: CLOCK_SKEW: microseconds the receipt clock gains a second from `at_s` on.
        step_ms, step_at_s: CLOCK_SKEW: added from `step_at_s` (seconds after midnight) on. At the
            end of the span the clock is set right again, which is a step of its own.

    Raises:
        SimulationError: The times or figures do not make such a fault.
    """

    kind: FaultKind
    symbol: str
    day: date
    at_s: float = 0.0
    duration_s: float = 0.0
    offset_ms: float = 0.0
    drift_ppm: float = 0.0
    step_ms: float = 0.0
    step_at_s: float = 0.0
    venue: str = "SIMULATED"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem is not None:
            raise SimulationError(
                f"A {self.kind} fault cannot be planted: {problem}",
                exchange=self.venue,
                symbol=self.symbol,
                day=self.day,
                next_step="Correct the fault of the simulation.",
            )

    def _problem(self) -> str | None:
        skew = (self.offset_ms, self.drift_ppm, self.step_ms, self.step_at_s)
        if self.kind is not FaultKind.CLOCK_SKEW and any(skew):
            return "only a clock skew has an offset, a drift or a step"
        if self.kind in _WHOLE_DAY:
            timed = self.at_s or self.duration_s
            return "it concerns the whole day and takes no times" if timed else None
        if not (self.at_s >= 0 and self.duration_s > 0 and self.end_s <= SECONDS_PER_DAY):
            return (
                f"it must begin and end within the day, found {self.at_s:g} s to {self.end_s:g} s"
            )
        if self.kind is FaultKind.CLOCK_SKEW:
            if not any(skew[:3]):
                return "a clock skew needs an offset, a drift or a step"
            if self.step_ms and not self.at_s <= self.step_at_s < self.end_s:
                return f"its step at {self.step_at_s:g} s is not within it"
        return None

    @property
    def id(self) -> str:
        """`VENUE:SYMBOL`."""
        return f"{self.venue}:{self.symbol}"

    @property
    def end_s(self) -> float:
        """When it is over, in seconds after midnight."""
        return self.at_s + self.duration_s


@dataclass(frozen=True, slots=True)
class SimulationPlan:
    """Instruments, faults and the first and last day (both inclusive) of a simulation."""

    instruments: tuple[SimulatedInstrument, ...]
    faults: tuple[Fault, ...]
    start: date
    end: date


# When a fault begins in seconds after midnight, and how long it lasts, if not in the afternoon.
_TIMES_S: dict[FaultKind, tuple[float, float]] = {
    FaultKind.SILENCE_GAP: (9.5 * 3600, 300),
    FaultKind.CROSSED_MINUTE: (11.25 * 3600, 60),
    FaultKind.CLOCK_SKEW: (300, SECONDS_PER_DAY - 600),
    **dict.fromkeys(_WHOLE_DAY, (0, 0)),
}
_AFTERNOON_S = 14 * 3600, 600

# Tick, lot, start price and typical lots of the instruments, in turn.
_GRIDS = (
    ("0.1", "0.001", "98350.0", 400),
    ("0.01", "0.001", "3640.00", 6_000),
    ("0.01", "0.01", "210.00", 2_000),
    ("0.0001", "1", "2.1500", 900),
)


def _typical_fault(kind: FaultKind, symbol: str, day: date) -> Fault:
    """A fault of a kind at its usual time of a day."""
    at_s, duration_s = _TIMES_S.get(kind, _AFTERNOON_S)
    plain = partial(Fault, kind=kind, symbol=symbol, day=day, at_s=at_s, duration_s=duration_s)
    if kind is FaultKind.CLOCK_SKEW:
        return plain(offset_ms=-1_200, drift_ppm=-60, step_ms=250, step_at_s=16 * 3600)
    return plain()


def _instrument(symbol: str, number: int) -> SimulatedInstrument:
    tick, lot, price, lots = _GRIDS[number % len(_GRIDS)]
    return SimulatedInstrument(
        symbol=symbol,
        tick=Decimal(tick),
        lot=Decimal(lot),
        start_price=Decimal(price),
        seed=20250106,
        typical_lots=lots,
    )


def demo_plan() -> SimulationPlan:
    """Three days of two instruments: BTC-USDT-PERP is clean, ETH-USDT-PERP has a fault every day.

    2025-01-06 has a silence of five minutes at 09:30 and off-tick prices from 14:00 to 14:10;
    2025-01-07 a crossed minute at 11:15 and a receipt clock that is wrong from 00:05 to 23:55;
    2025-01-08 a truncated delta file.
    """
    instruments = _instrument("BTC-USDT-PERP", 0), _instrument("ETH-USDT-PERP", 1)
    first, second, third = date(2025, 1, 6), date(2025, 1, 7), date(2025, 1, 8)
    faults = tuple(
        _typical_fault(kind, instruments[1].symbol, day)
        for kind, day in (
            (FaultKind.SILENCE_GAP, first),
            (FaultKind.OFF_TICK_PRICE, first),
            (FaultKind.CROSSED_MINUTE, second),
            (FaultKind.CLOCK_SKEW, second),
            (FaultKind.TRUNCATED_FILE, third),
        )
    )
    return SimulationPlan(instruments, faults, start=first, end=third)


def range_plan(
    start: date, end: date, instruments: int, kinds: Sequence[FaultKind] = ()
) -> SimulationPlan:
    """A range of days of so many instruments, with one fault a day, the kinds in turn.

    The faults go to the instruments in turn as well, but for the first one, which is always clean
    where there are others.

    Args:
        start, end: First and last UTC day, both inclusive.
        instruments: How many; `SIM001-USDT-PERP` is the first.
        kinds: The faults to plant; none leaves every day clean.
    """
    made = tuple(
        _instrument(f"SIM{number + 1:03}-USDT-PERP", number) for number in range(instruments)
    )
    faulty = made[1:] or made
    faults = []
    for number in range((end - start).days + 1 if kinds else 0):
        symbol = faulty[number % len(faulty)].symbol
        kind = kinds[number % len(kinds)]
        faults.append(_typical_fault(kind, symbol, start + timedelta(days=number)))
    return SimulationPlan(made, tuple(faults), start, end)
