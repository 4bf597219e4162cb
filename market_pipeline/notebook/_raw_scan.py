"""What must be known of raw rows before their book can be rebuilt: their steps and their gaps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.boundaries import first_rows
from market_pipeline.books.scale import Scale
from market_pipeline.books.step_inference import StepInference
from market_pipeline.config.instruments import GapRule
from market_pipeline.errors import MissingDataError
from market_pipeline.sources.batches import DeltaBatch, TradeTimes
from market_pipeline.stages.rebuild.gap_scan import suspect_gaps

__all__ = ["RawScan", "scan_raw"]

_NO_ROWS = np.empty(0, np.int64)
_NO_SILENCES = np.empty((0, 3), np.int64)


@dataclass(frozen=True, slots=True)
class RawScan:
    """What one pass over the delta rows shows.

    Attributes:
        day: The UTC day of the first message.
        price_scale, size_scale: The steps of `StepInference`; None if not asked for, or if
            every value is 0.
        gap_rows: int64, the first rows of the messages after suspected gaps and long quiet holes.
        silences: int64 (gaps, 3): start_ns, end_ns and trades of the silences before them.
    """

    day: date
    price_scale: Scale | None
    size_scale: Scale | None
    gap_rows: NDArray[np.int64]
    silences: NDArray[np.int64]


def scan_raw(
    batches: Iterable[DeltaBatch],
    trade_times: TradeTimes | None,
    *,
    infer_steps: bool,
) -> RawScan:
    """Reads as much of the delta rows as is needed to say what is asked for.

    Without trades no gap is suspected; with them the pipeline's rule holds, with its defaults.

    Raises:
        MissingDataError: If there is no row.
    """
    source = (batch for batch in batches if batch.sequence_number.size)
    first = next(source, None)
    if first is None:
        raise MissingDataError(
            "There is no delta row", next_step="Give at least one message.", found="0 rows"
        )
    day = datetime.fromtimestamp(int(first.ts_receipt_ns[0]) // 1_000_000_000, UTC).date()
    prices, sizes = StepInference(), StepInference()

    def times() -> Iterator[tuple[NDArray[np.int64], ...]]:
        # Steps and gaps are found in the same pass, because a capture is slow to read.
        for batch in chain([first], source):
            if infer_steps:
                prices.add(batch.price)
                sizes.add(batch.size)
            yield batch.ts_origin_ns, batch.ts_receipt_ns, batch.sequence_number

    gap_rows, silences = _NO_ROWS, _NO_SILENCES
    if trade_times is not None:
        gaps = suspect_gaps(first_rows(times()), trade_times, day, GapRule())
        gap_rows, silences = gaps.rows, gaps.silences
    elif infer_steps:
        for _ in times():
            pass
    return RawScan(day, prices.scale, sizes.scale, gap_rows, silences)
