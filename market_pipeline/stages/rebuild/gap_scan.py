"""Where messages of a day are suspected to be lost, which its book must know when it gets there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.boundaries import FirstRows, longest_step
from market_pipeline.books.soundness import Mark, marks_of, sound_times_ns
from market_pipeline.config.instruments import GapRule, Instrument
from market_pipeline.quality.measures.gap import find_gaps
from market_pipeline.quality.measures.snapshots_inside import SnapshotTouches
from market_pipeline.sources.batches import DeltaBatch, TradeTimes
from market_pipeline.sources.crypto_lake import SNAPSHOTS, read_raw

__all__ = ["SuspectedGaps", "before_first_silence", "snapshot_touches", "suspect_gaps"]


@dataclass(frozen=True, slots=True)
class SuspectedGaps:
    """Where messages of a day are suspected to be lost.

    Attributes:
        rows: int64, ascending, counted over all rows of the day: the first rows of the messages
            after suspected gaps and after long silences that nothing explains.
        silences: int64, shape (gaps, 3): start_ns, end_ns and trades of the silences before them.
        silence_ns: A time between messages up to this is no silence.
        first_ts_receipt_ns, first_sequence_number: Of the day's first message, stamps and numbers
            that others contradict apart.
    """

    rows: NDArray[np.int64]
    silences: NDArray[np.int64]
    silence_ns: int
    first_ts_receipt_ns: int
    first_sequence_number: int


def suspect_gaps(
    messages: FirstRows,
    trades: TradeTimes,
    day: date,
    rule: GapRule,
    snapshots: Callable[[], Iterable[SnapshotTouches]] | None = None,
) -> SuspectedGaps:
    """Finds the suspected gaps of a day from its times; there must be a message.

    Args:
        messages: Of the feed, in its order.
        trades: Their times.
        day: The UTC day.
        rule: From when on a silence is suspected.
        snapshots: Opens the snapshots beside the messages, only if there is a silence without a
            trade; None if there are none.

    Raises:
        MarketPipelineError: Whatever reading the snapshots raises.
    """
    number = messages.sequence_number
    marks = marks_of(messages.ts_origin_ns, messages.ts_receipt_ns, number)
    # `int`, because a flag has numpy make int64 of all marks.
    ts_receipt_ns = sound_times_ns(messages.ts_receipt_ns, (marks & int(Mark.BAD_TS_RECEIPT)) != 0)
    ts_origin_ns = sound_times_ns(messages.ts_origin_ns, (marks & int(Mark.BAD_TS_ORIGIN)) != 0)
    gaps = find_gaps(
        ts_receipt_ns=ts_receipt_ns,
        ts_origin_ns=ts_origin_ns,
        sequence_number=number,
        trade_receipt_ns=trades.ts_receipt_ns,
        trade_origin_ns=trades.ts_origin_ns,
        day=day,
        rule=rule,
        snapshots=snapshots,
    )
    is_sound = (marks & int(Mark.BAD_SEQUENCE | Mark.OLD)) == 0
    silences = np.concatenate((gaps.spans, np.insert(gaps.quiet_spans, 2, 0, axis=1)))
    return SuspectedGaps(
        rows=messages.row[gaps.lost_before],
        silences=silences[np.argsort(silences[:, 0])],
        silence_ns=gaps.silence_ns,
        first_ts_receipt_ns=int(ts_receipt_ns[0]),
        first_sequence_number=int(number[np.argmax(is_sound)]),
    )


def snapshot_touches(files: Sequence[Path]) -> Iterator[SnapshotTouches]:
    """Yields the times, numbers and touches of a day's snapshots, whatever they are worth.

    Raises:
        LakeFileError, SchemaError: If a file cannot be used.
    """
    touch = [f"{side}_0_{part}" for side in ("bid", "ask") for part in ("price", "size")]
    columns = ["timestamp", "receipt_timestamp", "sequence_number", *touch]
    for batch in read_raw(files, SNAPSHOTS, columns):
        yield SnapshotTouches(
            ts_origin_ns=batch.arrays["timestamp"],
            ts_receipt_ns=batch.arrays["receipt_timestamp"],
            sequence_number=batch.arrays["sequence_number"],
            touch=np.stack([batch.arrays[name] for name in touch], axis=1),
        )


def before_first_silence(
    batches: Iterable[DeltaBatch],
    instrument: Instrument,
    last_ts_receipt_ns: int | None,
    call: Callable[[], None],
    *,
    has_others: bool = True,
) -> Iterator[DeltaBatch]:
    """Yields the batches, and calls once before the first that a suspected gap may lie in.

    Whether a silence is a gap follows from the whole day, which is costly to look at; a day without
    a time between two rows longer than the least silence, on either clock, has none, and is never
    looked at. Where neither trades nor snapshots can show what was lost, only an outage, or a hole
    longer than `quiet_floor_seconds`, counts.

    Args:
        batches: Of one day, in order.
        instrument: Whose gap rule holds.
        last_ts_receipt_ns: Of the row before the first batch; None if there is none.
        call: Called at most once, in the thread that iterates.
        has_others: Whether the day has trades or snapshots.
    """
    rule = instrument.gap_rule
    least_seconds = rule.silence_floor_seconds
    if not has_others:
        sooner = min(rule.outage_floor_seconds, rule.quiet_floor_seconds)
        least_seconds = max(least_seconds, sooner)
    least_ns = round(least_seconds * 1e9)
    before_ns: list[int | None] = [last_ts_receipt_ns, None]
    source = iter(batches)
    for batch in source:
        # A stamp that others contradict may hide a silence from one clock, but not from both.
        times = batch.ts_receipt_ns, batch.ts_origin_ns
        if max(map(longest_step, times, before_ns)) > least_ns:
            call()
            yield batch
            break
        if batch.ts_receipt_ns.size:
            before_ns = [int(ts_ns[-1]) for ts_ns in times]
        yield batch
        del batch, times  # or it would be held while the next one is decoded
    yield from source
