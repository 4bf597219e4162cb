"""The simulated venue as a source: the frames that it would send, in the form of Binance spot."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from operator import attrgetter, itemgetter

import msgspec
import numpy as np

from market_pipeline.capture.replay import Given, replay_settings
from market_pipeline.config.settings import Settings
from market_pipeline.errors import VenueError
from market_pipeline.quality.intervals import day_bounds_ns
from market_pipeline.sources.recording.format import Record, RecordKind
from market_pipeline.sources.simulated.market import Deltas, Market, Trades
from market_pipeline.sources.simulated.plan import SimulatedInstrument, demo_plan
from market_pipeline.sources.venues.binance import BINANCE_SPOT
from market_pipeline.sources.venues.venue import Kind

__all__ = ["SIMULATED", "simulated", "simulated_day", "simulated_settings"]

SIMULATED = replace(BINANCE_SPOT, name="simulated", exchange="SIMULATED")
_STREAMS = (Kind.DEPTH, Kind.TRADES)

_MESSAGES_PER_DAY = 100_000
_SNAPSHOTS_S = 86_400.0
"""Its snapshots have 20 levels and are not used: the whole book before the first message is."""


def simulated(
    instruments: Iterable[SimulatedInstrument], day: date, messages_per_day: int
) -> Iterator[Given]:
    """Yields what the venue sends in a day, in the order of receipt.

    Raises:
        SimulationError: See `Market`.
    """
    sources = [
        _of_instrument(lane, Market(each, messages_per_day, _SNAPSHOTS_S), day)
        for lane, each in enumerate(instruments)
    ]
    return heapq.merge(*sources, key=attrgetter("at_ns"))


def simulated_day(symbols: Iterable[str]) -> Iterator[Given]:
    """The first day of the demo, of these of its instruments and without its faults."""
    plan = demo_plan()
    chosen = [each for each in plan.instruments if each.symbol in set(symbols)]
    return simulated(chosen, plan.start, _MESSAGES_PER_DAY)


def simulated_settings(settings: Settings) -> Settings:
    """`replay_settings` for the symbols that the settings name, or for all.

    Raises:
        VenueError: The venue has no such symbol.
        SettingsError: Rows of another replay lie there.
    """
    known = [each.symbol for each in demo_plan().instruments]
    symbols = settings.capture.symbols or tuple(known)
    unknown = [symbol for symbol in symbols if symbol not in known]
    if unknown:
        raise VenueError(
            "The simulated venue has no such symbol",
            address=SIMULATED.name,
            expected=", ".join(known),
            found=", ".join(unknown),
            next_step="Set PIPELINE_CAPTURE__SYMBOLS, or give --symbol.",
        )
    return replay_settings(settings, SIMULATED, symbols, _STREAMS)


def _of_instrument(lane: int, market: Market, day: date) -> Iterator[Given]:
    frames = _Frames(market.instrument)
    latest_ns, _ = day_bounds_ns(day)
    whole = market.open(day)
    levels = (frames.levels(*side) for side in (whole.bids, whole.asks))
    body = dict(zip(("bids", "asks"), levels, strict=True))
    snapshot = {"lastUpdateId": whole.sequence_number, **body}
    last_id = whole.sequence_number

    def given(kind: RecordKind, what: Kind, payload: dict[str, object]) -> Given:
        symbol = market.instrument.symbol
        text = msgspec.json.encode(payload)
        record = Record(kind, latest_ns, latest_ns, lane + 1, f"{what}:{symbol}", text)
        return Given(latest_ns, lane, SIMULATED.name, symbol, record)

    yield given(RecordKind.SNAPSHOT, Kind.SNAPSHOT, snapshot)
    for batch in market.day(day):
        sent = heapq.merge(
            frames.trades(batch.trades), frames.depth(batch.deltas, last_id), key=itemgetter(0)
        )
        for at_ns, what, payload in sent:
            latest_ns = max(latest_ns, at_ns)
            yield given(RecordKind.FRAME, what, payload)
        if batch.deltas.sequence_number.size:
            last_id = int(batch.deltas.sequence_number[-1])


_Sent = tuple[int, Kind, dict[str, object]]


class _Frames:
    """Writes messages as frames, with prices and sizes as exact decimals."""

    def __init__(self, instrument: SimulatedInstrument) -> None:
        self._symbol = instrument.symbol
        self._places = [_places(step) for step in (instrument.tick, instrument.lot)]

    def levels(self, prices: Iterable[float], sizes: Iterable[float]) -> list[list[str]]:
        price_places, size_places = self._places
        return [
            [f"{price:.{price_places}f}", f"{size:.{size_places}f}"]
            for price, size in zip(prices, sizes, strict=True)
        ]

    def depth(self, deltas: Deltas, last_id: int) -> Iterator[_Sent]:
        ids = deltas.sequence_number
        begin = 0
        borders = np.flatnonzero(np.diff(ids, append=-1)) + 1
        for end in borders.tolist():
            part, is_bid = slice(begin, end), deltas.side_is_bid[begin:end]
            bids, asks = (
                self.levels(deltas.price[part][side], deltas.size[part][side])
                for side in (is_bid, ~is_bid)
            )
            yield self._sent(
                *(int(deltas.receipt_ns[begin]), int(deltas.origin_ms[begin]), Kind.DEPTH),
                {"U": last_id + 1, "u": int(ids[begin]), "b": bids, "a": asks},
            )
            begin, last_id = end, int(ids[begin])

    def trades(self, trades: Trades) -> Iterator[_Sent]:
        texts = self.levels(trades.price, trades.size)
        for at, (price, size) in enumerate(texts):
            origin_ms = int(trades.origin_ms[at])
            yield self._sent(
                *(int(trades.receipt_ns[at]), origin_ms, Kind.TRADES),
                {
                    **{"t": int(trades.id[at]), "T": origin_ms, "p": price, "q": size},
                    "m": not trades.is_buy[at],
                },
            )

    def _sent(self, at_ns: int, origin_ms: int, kind: Kind, data: dict[str, object]) -> _Sent:
        topic = SIMULATED.channel(kind).topic.replace("$lower", self._symbol.lower())
        head = {"E": origin_ms, "s": self._symbol}
        return at_ns, kind, {"stream": topic, "data": {**head, **data}}


def _places(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
