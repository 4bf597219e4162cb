"""The machine code of what is made of frames, loaded before there are any to miss."""

from __future__ import annotations

from itertools import islice

import numpy as np

from market_pipeline.books.levels import ASK, BID, empty_levels
from market_pipeline.books.live_levels import drop_beyond
from market_pipeline.books.scale import to_steps
from market_pipeline.capture.bars import BarOperator
from market_pipeline.capture.operators import Bars, BestQuotes
from market_pipeline.capture.pipeline import Event, Operator
from market_pipeline.capture.simulated import SIMULATED, simulated_day
from market_pipeline.capture.touch_metrics import TouchMetrics
from market_pipeline.sources.venues.reading import FrameReader

__all__ = ["load_kernels"]

_SYMBOL = "BTC-USDT-PERP"
_MESSAGES = 200
"""Of the simulated venue: enough for a book, an interval of metrics and a bar."""


def load_kernels(*, with_metrics: bool) -> None:
    """Has the machine code of books, bars and metrics loaded, or compiled where there is none.

    All threads wait for much of that: tenths of a second where it is loaded, and half a minute on
    the first start on a machine. So it is done with messages that nobody needs.

    Args:
        with_metrics: Whether metrics are made, too.
    """
    reader = FrameReader(SIMULATED)
    metrics = TouchMetrics(_SYMBOL, 1) if with_metrics else None
    quotes = BestQuotes(_SYMBOL, reader, metrics=metrics)
    bars = Bars(
        _SYMBOL, reader, lambda scales: BarOperator(_SYMBOL, *scales), lambda: quotes.scales
    )
    given = [
        (each.record.payload, each.at_ns) for each in islice(simulated_day([_SYMBOL]), _MESSAGES)
    ]
    events = [Event(frame, reader.classify(frame), at_ns) for frame, at_ns in given]
    operators: list[Operator] = [quotes, *([] if metrics is None else [metrics]), bars]
    for operator in operators:
        list(operator.take(events))
        list(operator.finish())
    _load_rarer(quotes)


def _load_rarer(quotes: BestQuotes) -> None:
    """What a whole book, a checksum, a venue's depth and a size that is no whole lot need."""
    assert quotes.book is not None and quotes.scales is not None
    quotes.book.sides()
    quotes.book.checksum()
    for side in (BID, ASK):
        drop_beyond(empty_levels(), side, 1)
    to_steps(np.array([np.nan]), quotes.scales[1], np.empty(1, np.int64))
