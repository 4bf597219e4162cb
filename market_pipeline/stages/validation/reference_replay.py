"""Rebuilds sampled minutes of a published day with the reference book; compares every message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

import numpy as np
import polars as pl

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.marking import LastSnapshot
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.books.scale import Scale
from market_pipeline.config.instruments import Policies
from market_pipeline.errors import CheckpointError, MarketPipelineError
from market_pipeline.quality.figures.comparisons import ReferenceReplayFigures
from market_pipeline.quality.findings import Finding, Measured, with_first
from market_pipeline.quality.measures.reference_replay import (
    BBO_COLUMNS,
    DEPTH_COLUMNS,
    Comparison,
    Difference,
    compare,
)
from market_pipeline.quality.reference.book import plain_rebuild
from market_pipeline.quality.reference.feed import (
    Levels,
    Message,
    Snapshot,
    mark_messages,
    mark_snapshots,
    messages_of,
    rows_of,
    snapshots_of,
)
from market_pipeline.quality.reference.soundness import LOOKAHEAD, Stamps
from market_pipeline.quality.reference.state import LEAST_MESSAGE_WORK, PlainBook
from market_pipeline.quality.words import measured, number_of, time_text
from market_pipeline.sources.crypto_lake import DELTAS, open_shard, read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.stages.rebuild.seed import keyframe_of
from market_pipeline.stages.validation._reference_start import Start, lot, starts_of
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_reference_replay"]

LEAST_WORK = 16_000
"""So much `PlainBook.work` is done for a day, shared among its instruments: plain Python takes
about 0.2 s for it …"""
LEAST_OF_ONE = 1_600
"""… but this much, a hundred messages or so, for each of them …"""
_ROWS_OF_WORK = 1_200
"""… or one for so many rows of a huge day, which takes about a tenth of its rebuild."""

_MINUTE_NS = timedelta(minutes=1) // timedelta(microseconds=1) * 1_000


@dataclass(frozen=True, slots=True)
class _Minute:
    """What the comparison of a minute says; `difference` is the first, in words."""

    messages: int
    differing: int
    difference: str | None = None
    finding: Finding | None = None


def measure_reference_replay(day: InstrumentDay) -> Measured:
    """Compares sampled minutes of the published book with what a plain rebuild makes of them.

    The first minute of the day is one, and `reference_minutes - 1` begin at published keyframes.
    They share the work that a day may cost (`LEAST_WORK`), so that a busy minute is compared up to
    its part of that; an instrument with a small share has as much fewer minutes, drawn from these.
    Each is rebuilt from the raw rows and snapshots by the policies that the day was published with.
    Where messages are suspected to be lost is not found out again, because that
    follows from the whole day; it is taken from `books.intervals`. Nor is what later evidence says:
    a minute is compared up to the first row that is in doubt (SNAPSHOT_MISMATCH, OUT_OF_ORDER).

    Not asked of a day of snapshots only: its rows are those snapshots, and nothing was rebuilt. Nor
    where a raw file cannot be read any more, which is a finding.
    """
    count = day.settings.reference_minutes
    if count == 0 or day.record.is_of_snapshots:
        return Measured()
    try:
        minutes = _minutes(day, count)
    except MarketPipelineError as error:
        note = f"No minute could be rebuilt: {error}"
        return Measured(findings=[Finding(check="reference_replay", place="first", note=note)])
    differences = [minute.difference for minute in minutes if minute.difference]
    findings = [minute.finding for minute in minutes if minute.finding]
    figures = ReferenceReplayFigures(
        reference_minutes=len(minutes),
        reference_messages=sum(minute.messages for minute in minutes),
        reference_differing_messages=sum(minute.differing for minute in minutes),
        reference_first_difference=differences[0] if differences else None,
    )
    return Measured((figures,), with_first(findings))


def _minutes(day: InstrumentDay, count: int) -> list[_Minute]:
    record, scales = day.record, day.record.scales
    # A day of an earlier version does not tell them.
    policies = (
        Policies.model_validate_json(record.policies)
        if record.policies
        else day.instrument.policies
    )
    options = RebuildOptions.of(
        policies, depth_interval_ms=None, keyframe_seconds=0, day=day.day
    ).for_kernel()
    most = max(_least_work(day), measured(record.rows) // _ROWS_OF_WORK)
    chosen = min(count, -(-count * most // LEAST_WORK))
    most //= chosen
    minutes = []
    with_first = lot(day, "first") % count < chosen
    for start in starts_of(day, chosen, options.snapshot_patience_ns, with_first=with_first):
        book = PlainBook(
            resync=policies.resync,
            crossed_resync_ns=options.crossed_resync_ns,
            patience_ns=options.snapshot_patience_ns,
            uncross=options.uncross,
            day_ns=(options.day_start_ns, options.day_end_ns),
            epoch=start.epoch,
        )
        if start.checkpoint is not None:
            try:
                keyframe = keyframe_of(start.checkpoint, *scales)
                book.go_on_from(keyframe, of_the_day=start.message > 0)
            except CheckpointError as error:
                minutes.append(_damaged(start.checkpoint, error))
                continue
        minutes.append(_compared(day, start, book, scales, most))
    return minutes


def _least_work(day: InstrumentDay) -> int:
    """The instrument's share of what the day may cost, by how many have a book to be compared."""
    rebuilt = day.books.rebuilds.filter(outcome="rebuilt").height
    return max(LEAST_WORK // max(rebuilt, 1), LEAST_OF_ONE)


def _damaged(checkpoint: Mapping[str, Any], error: CheckpointError) -> _Minute:
    """A stored book that is not what its checksum says counts as a message that differs."""
    finding = Finding(
        check="reference_replay",
        place="first",
        ts_receipt_ns=checkpoint["ts_receipt_ns"],
        sequence_number=checkpoint["sequence_number"],
        value=error.found,
        expected=error.expected,
        note=str(error),
    )
    return _Minute(0, 1, f"{_where(finding)}: {error}", finding)


def _compared(
    day: InstrumentDay,
    start: Start,
    book: PlainBook,
    scales: tuple[Scale, Scale],
    most: int,
) -> _Minute:
    """Rebuilds a minute with a book to begin with."""
    bbo = _minute_of(day, start.message, max(most // LEAST_MESSAGE_WORK, 1))
    last = None
    if start.checkpoint is not None and book.last_sequence is not None and start.message > 0:
        last = Stamps(book.last_sequence, book.last[0], start.checkpoint["ts_origin_ns"])
    messages, whole = _messages(day, start, scales, bbo.height, last, most)
    published = [message for message in messages if not message.marks.is_old]
    bbo = bbo if whole else bbo.head(len(published))
    gaps = _gaps(day, start.message, start.message + bbo.height)
    for at, message in enumerate(published):
        message.after_gap = start.message + at in gaps
    comparison = compare(
        book,
        # A message under way is compared, but not behind any number of snapshots.
        plain_rebuild(book, messages, _snapshots(day, start, book, scales), 2 * most),
        bbo,
        _depth_of(day, bbo),
        *scales,
        most,
    )
    if comparison.first is None:
        return _Minute(comparison.messages, comparison.differing)
    return _different(day, start, published, comparison, comparison.first)


def _messages(
    day: InstrumentDay,
    start: Start,
    scales: tuple[Scale, Scale],
    rows: int,
    last: Stamps | None,
    most: int,
) -> tuple[list[Message], bool]:
    """The messages that so many published rows come of, marked by those around them.

    Returns:
        The messages, and whether all of them are within `most` rows or the feed ends before; else
        they are those within.
    """
    feed = messages_of(rows_of(read_deltas(day.delta_files, start.row), *scales))
    messages: list[Message] = []
    beyond, wanted = 0, rows + LOOKAHEAD
    while True:
        for message in islice(feed, wanted - len(messages)):
            if message.first_row + len(message.rows) > most:
                beyond += 1
                del message.rows[1:]  # only looked at to mark those before
            messages.append(message)
            if beyond == LOOKAHEAD:
                break
        is_end = len(messages) < wanted
        mark_messages(messages, last)
        within = messages[: len(messages) - (beyond if is_end else LOOKAHEAD)]
        found = sum(not each.marks.is_old for each in within)
        if found >= rows or is_end or beyond:
            return within, found >= rows or not beyond
        wanted *= 2


def _snapshots(
    day: InstrumentDay, start: Start, book: PlainBook, scales: tuple[Scale, Scale]
) -> Iterator[Snapshot]:
    """The snapshots to come; the book knows how to get the content of the latest ones before.

    Only one that disagrees asks for it, and to read them takes longer than most minutes.
    """

    def marked_from(place: int, before: LastSnapshot | None) -> Iterator[Snapshot]:
        last, epoch = None, 0
        if before is not None:
            epoch = before.epoch
            if before.ts_receipt_ns is not None:
                last = Stamps(before.sequence_number, before.ts_receipt_ns, before.ts_receipt_ns)
        raw = snapshots_of(read_snapshots(day.snapshot_files, place), *scales)
        return mark_snapshots(raw, last, epoch)

    def contents() -> list[tuple[Levels, Levels]]:
        met = marked_from(start.remembered, start.before_remembered)
        return [
            (each.bids, each.asks)
            for each in islice(met, start.snapshot - start.remembered)
            if each.usable and each.placeable
        ]

    book.contents_before = contents
    return marked_from(start.snapshot, start.before_snapshot)


def _different(
    day: InstrumentDay,
    start: Start,
    messages: Sequence[Message],
    comparison: Comparison,
    first: Difference,
) -> _Minute:
    """Says where a minute differs first: the message, its raw rows, and both books."""
    file, row, raw_rows = None, None, ""
    if first.at < len(messages):
        message = messages[first.at]
        file, row, last = _raw_place(day, start.row + message.first_row, len(message.rows))
        named = f"row {row}" if row == last else f"rows {row} to {last}"
        raw_rows = f" ({named} of {file})"
    finding = Finding(
        check="reference_replay",
        place="first",
        ts_receipt_ns=first.row.ts_receipt_ns,
        sequence_number=first.row.sequence_number,
        file=file,
        row=row,
        value=first.published,
        expected=first.expected,
        note=f"Message {start.message + first.at} of the day is the first of "
        f"{comparison.differing:,} that differ among the "
        f"{number_of(comparison.messages, 'message')} compared in this minute.",
    )
    text = (
        f"{_where(finding)}, message {start.message + first.at}: published {first.published}; "
        f"plain rebuild {first.expected}{raw_rows}"
    )
    return _Minute(comparison.messages, comparison.differing, text, finding)


def _where(finding: Finding) -> str:
    return f"at {time_text(finding.ts_receipt_ns)}, sequence number {finding.sequence_number}"


# --- what is read -----------------------------------------------------------------------------


def _minute_of(day: InstrumentDay, message: int, most: int) -> pl.DataFrame:
    """The rows of `books.bbo` from a message on, a minute of them but at most so many."""
    rows = day.books.bbo.of(day.instrument.id, BBO_COLUMNS).slice(message, most).collect()
    received_ns = rows["ts_receipt_ns"].to_numpy()
    later = np.flatnonzero(received_ns - received_ns[:1] >= _MINUTE_NS)
    return rows.head(int(later[0])) if later.size else rows


def _depth_of(day: InstrumentDay, bbo: pl.DataFrame) -> pl.DataFrame:
    """The published depth of the time of some messages, which may hold that of others too."""
    time = pl.col("ts_receipt_ns")
    in_time = time.is_between(bbo["ts_receipt_ns"].min(), bbo["ts_receipt_ns"].max())
    return day.books.depth.of(day.instrument.id, DEPTH_COLUMNS).filter(in_time).collect()


def _gaps(day: InstrumentDay, first: int, end: int) -> set[int]:
    """The messages of the day from `first` to before `end` that are inside an interval GAP.

    All of its messages and not its first alone: where a snapshot ends a gap and the next message
    comes after another one, it is a single interval.
    """
    spans = (
        day.books.intervals.of(day.instrument.id)
        .filter(cause=BookFlag.GAP.name)
        .select("first_message", last=pl.col("first_message") + pl.col("messages") - 1)
        .filter(pl.col("first_message") < end, pl.col("last") >= first)
        .collect()
    )
    return {
        message
        for start, last in spans.iter_rows()
        for message in range(max(start, first), min(last + 1, end))
    }


def _raw_place(day: InstrumentDay, row: int, count: int) -> tuple[str, int, int]:
    """The file of a row of the day's deltas, and the first and the last of so many rows there."""
    for file in day.delta_files:
        parquet, _ = open_shard(file, DELTAS)
        with parquet:
            rows = parquet.metadata.num_rows
        if row < rows:
            return file.relative_to(day.raw.lake).as_posix(), row, min(row + count, rows) - 1
        row -= rows
    raise AssertionError("a row that was read is in one of the files")
