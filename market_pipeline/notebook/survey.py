"""What must be known of raw rows before their book can be rebuilt: their steps and their gaps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.scale import Scale, StepInference
from market_pipeline.errors import MissingDataError
from market_pipeline.instruments import Thresholds
from market_pipeline.quality.gaps import GapRule, find_gaps
from market_pipeline.quality.intervals import running_time_ns
from market_pipeline.sources.batches import DeltaBatch

__all__ = ["RawSurvey", "survey"]

_NO_ROWS = np.empty(0, np.int64)
_NO_SILENCES = np.empty((0, 3), np.int64)


@dataclass(frozen=True, slots=True)
class RawSurvey:
    """What one pass over the delta rows shows.

    Attributes:
        day: The UTC day of the first message.
        price_scale, size_scale: The coarsest steps that fit all rows; None if not asked for, or if
            every value is 0.
        gap_rows: int64, the first rows of the messages after suspected gaps and long quiet holes.
        silences: int64 (gaps, 3): start_ns, end_ns and trades of the silences before them.
    """

    day: date
    price_scale: Scale | None
    size_scale: Scale | None
    gap_rows: NDArray[np.int64]
    silences: NDArray[np.int64]


def survey(
    batches: Iterable[DeltaBatch],
    trade_times: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    *,
    infer_steps: bool,
) -> RawSurvey:
    """Reads as much of the delta rows as is needed to say what is asked for.

    Without trades no gap is suspected; with them the pipeline's rule holds, with its defaults.

    Raises:
        MissingDataError: If there is no row.
    """
    first: DeltaBatch | None = None
    prices, sizes, messages = StepInference(), StepInference(), _Messages()
    for batch in batches:
        if batch.sequence_number.size == 0:
            continue
        first = first or batch
        if infer_steps:
            prices.add(batch.price)
            sizes.add(batch.size)
        if trade_times is not None:
            messages.add(batch)
        if trade_times is None and not infer_steps:
            break
    if first is None:
        raise MissingDataError(
            "There is no delta row", next_step="Give at least one message.", found="0 rows"
        )
    day = datetime.fromtimestamp(int(first.ts_receipt_ns[0]) // 1_000_000_000, UTC).date()
    gap_rows, silences = _NO_ROWS, _NO_SILENCES
    if trade_times is not None:
        gap_rows, silences = messages.gaps(day, *trade_times)
    return RawSurvey(day, prices.scale, sizes.scale, gap_rows, silences)


class _Messages:
    """The first row of every message."""

    def __init__(self) -> None:
        self._rows = 0
        self._last: tuple[int, int] | None = None
        self._parts: list[tuple[NDArray[np.int64], ...]] = []

    def add(self, batch: DeltaBatch) -> None:
        """Takes the messages that begin in a batch into account."""
        sequence, receipt = batch.sequence_number, batch.ts_receipt_ns
        begins = np.empty(sequence.size, np.bool_)
        begins[0] = self._last != (sequence[0], receipt[0])
        begins[1:] = (sequence[1:] != sequence[:-1]) | (receipt[1:] != receipt[:-1])
        rows = self._rows + np.flatnonzero(begins)
        self._parts.append((rows, batch.ts_origin_ns[begins], receipt[begins], sequence[begins]))
        self._last = (int(sequence[-1]), int(receipt[-1]))
        self._rows += sequence.size

    def gaps(
        self, day: date, trade_origin_ns: NDArray[np.int64], trade_receipt_ns: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows after suspected gaps and quiet holes, and the silences before them."""
        rows, origin, receipt, sequence = map(np.concatenate, zip(*self._parts, strict=True))
        found = find_gaps(
            ts_receipt_ns=receipt,
            ts_origin_ns=origin,
            sequence_number=sequence,
            trade_receipt_ns=trade_receipt_ns,
            trade_origin_ns=trade_origin_ns,
            day=day,
            rule=GapRule.from_thresholds(Thresholds()),
        )
        # After a hole without any data, too, nobody knows what the book became meanwhile.
        ends_ns = found.not_observed[:, 1]
        silences = np.concatenate((found.spans, np.insert(found.quiet_spans, 2, 0, axis=1)))
        return (
            rows[np.searchsorted(running_time_ns(receipt), ends_ns)],
            silences[np.argsort(silences[:, 0])],
        )
