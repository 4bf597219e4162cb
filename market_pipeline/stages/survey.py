"""What must be known of a day before its book can be rebuilt: its steps and its suspected gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.scale import Scale, StepInference
from market_pipeline.errors import MissingDataError
from market_pipeline.instruments import Instrument
from market_pipeline.quality.gaps import GapRule, find_gaps
from market_pipeline.sources.batches import Trades
from market_pipeline.sources.crypto_lake import read_deltas, read_times

__all__ = ["Survey", "survey_day"]


@dataclass(frozen=True, slots=True)
class Survey:
    """The steps of a day and where messages are suspected to be lost.

    Attributes:
        price_scale, size_scale: The tick and lot: configured, or inferred from the data.
        gap_ends_ns: int64, receipt times of the first messages after suspected gaps
            and after long holes without messages or trades.
    """

    price_scale: Scale
    size_scale: Scale
    gap_ends_ns: NDArray[np.int64]


def survey_day(instrument: Instrument, day: date, deltas: Sequence[Path], trades: Trades) -> Survey:
    """Reads a day's delta files once for their times and, where needed, once for their steps.

    Raises:
        MissingDataError: If the files hold no row.
        MarketPipelineError: Whatever reading the files raises.
    """
    origin, receipt, sequence = _message_times(deltas)
    if sequence.size == 0:
        raise MissingDataError(
            "The delta files hold no row",
            next_step="Fetch the day again; if the vendor's file is empty too, report it.",
            exchange=instrument.venue,
            symbol=instrument.symbol,
            day=day,
            file=deltas[0],
            expected="at least one delta row",
            found="0 rows",
        )
    gaps = find_gaps(
        ts_receipt_ns=receipt,
        ts_origin_ns=origin,
        sequence_number=sequence,
        trade_receipt_ns=trades.ts_receipt_ns,
        trade_origin_ns=trades.ts_origin_ns,
        day=day,
        rule=GapRule.from_thresholds(instrument.thresholds),
    )
    price_scale, size_scale = _scales(instrument, deltas)
    # After a hole without any data, too, nobody knows what the book became meanwhile.
    ends = np.ascontiguousarray(gaps.not_observed[:, 1])
    return Survey(price_scale, size_scale, ends)


def _message_times(files: Sequence[Path]) -> tuple[NDArray[np.int64], ...]:
    """(ts_origin_ns, ts_receipt_ns, sequence_number) of the first row of every message."""
    parts: list[tuple[NDArray[np.int64], ...]] = []
    last: tuple[int, int] | None = None
    for origin, receipt, sequence in read_times(files):
        if sequence.size == 0:
            continue
        begins = np.empty(sequence.size, np.bool_)
        begins[0] = last != (sequence[0], receipt[0])
        begins[1:] = (sequence[1:] != sequence[:-1]) | (receipt[1:] != receipt[:-1])
        last = (int(sequence[-1]), int(receipt[-1]))
        parts.append((origin[begins], receipt[begins], sequence[begins]))
    if not parts:
        return tuple(np.empty(0, np.int64) for _ in range(3))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _scales(instrument: Instrument, deltas: Sequence[Path]) -> tuple[Scale, Scale]:
    tick, lot = instrument.tick, instrument.lot
    prices, sizes = StepInference(), StepInference()
    if tick == "infer" or lot == "infer":
        for batch in read_deltas(deltas):
            prices.add(batch.price)
            sizes.add(batch.size)
    return _scale(tick, prices), _scale(lot, sizes)


def _scale(configured: Decimal | Literal["infer"], inferred: StepInference) -> Scale:
    if configured != "infer":
        return Scale.of(configured)
    # A day of nothing but removals shows no lot; any step then represents its sizes, all 0.
    return inferred.scale or Scale.of(Decimal(1))
