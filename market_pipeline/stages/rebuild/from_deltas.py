"""Rebuilds an instrument's day from its deltas, part by part, so that a killed one is resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from market_pipeline.books.intervals import Intervals
from market_pipeline.books.rebuild import Pause, Rebuild, RebuildOptions
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.books.tables import BOOK_FILES
from market_pipeline.errors import CheckpointError, MarketPipelineError
from market_pipeline.sources.batches import DeltaBatch
from market_pipeline.sources.crypto_lake import read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.stages.rebuild.gap_scan import before_first_silence
from market_pipeline.stages.rebuild.prefetch import read_ahead
from market_pipeline.stages.rebuild.raw_files import RawFiles
from market_pipeline.stages.rebuild.resume import (
    SavedRebuild,
    forget_rebuilds,
    load_rebuild,
    save_rebuild,
)
from market_pipeline.stages.rebuild.writer import BookWriter
from market_pipeline.telemetry.metrics.recording import record
from market_pipeline.telemetry.metrics.table import (
    CHECKPOINT_DURATION,
    RECOVERY_DURATION,
    RESUMED_REBUILDS,
)
from market_pipeline.warehouse.publish import where_it_lies
from market_pipeline.warehouse.staging import StagedFile

__all__ = ["publish_deltas"]

# A killed rebuild is resumed from the first keyframe after every so many delta rows. Files are cut
# there, so this is no setting: the same day must give the same files everywhere.
_PART_ROWS = 1 << 24


def publish_deltas(
    raw: RawFiles,
    options: RebuildOptions,
    seed: RebuildState | None,
    made_from: Mapping[str, str],
    progress: Callable[[str], None],
    *,
    overlap: bool = False,
) -> tuple[dict[str, list[StagedFile]], Rebuild]:
    """Stages the tables of a day of deltas: by table, and the rebuild with its figures.

    Args:
        raw: The raw files; there must be a delta.
        options: The rules of the rebuild.
        seed: What the book begins with; None for its own first snapshot.
        made_from: What the output follows from; a killed rebuild is resumed if that is the same.
        progress: Called with a line on what is resumed.
        overlap: Whether reading and writing have threads of their own.

    Raises:
        MarketPipelineError: A file cannot be used; nothing is staged then.
    """
    saved = _saved(raw, made_from, progress)
    start, under_way = (saved.state, saved.intervals) if saved else (seed, None)
    rebuild = Rebuild(raw.price_scale, raw.size_scale, options, start=start)
    intervals = Intervals(raw.instrument, raw.day, raw.price_scale, options.resync, start=under_way)
    with BookWriter(raw, intervals, saved.files if saved else None, overlap=overlap) as output:
        if not (saved and saved.done):
            _write_parts(raw, rebuild, intervals, output, made_from, overlap=overlap)
    return output.files, rebuild


def _write_parts(
    raw: RawFiles,
    rebuild: Rebuild,
    intervals: Intervals,
    output: BookWriter,
    made_from: Mapping[str, str],
    *,
    overlap: bool,
) -> None:
    """Writes the day part by part, each with the state that a killed rebuild is resumed from."""
    try:
        for is_last in _parts(raw, rebuild, intervals, output, overlap=overlap):
            output.finish_part(last=is_last)
            state = SavedRebuild(rebuild.state(), intervals.state(), output.files, is_last)
            began_s = time.perf_counter()
            save_rebuild(raw.warehouse, raw.instrument, raw.day, made_from, state)
            took_s = time.perf_counter() - began_s
            record(CHECKPOINT_DURATION, took_s, venue=raw.instrument.venue)
    except MarketPipelineError:
        # The raw data itself is bad: nothing made of it will be resumed.
        output.discard()
        forget_rebuilds(raw.warehouse, [raw.instrument], raw.day)
        raise


def _parts(
    raw: RawFiles, rebuild: Rebuild, intervals: Intervals, output: BookWriter, *, overlap: bool
) -> Iterator[bool]:
    """Rebuilds the book, and yields at the end of each part whether it is the day's last."""

    def suspect() -> None:
        rebuild.suspect_gaps(raw.gaps.rows)
        intervals.know_silences(raw.gaps.silences)

    done = rebuild.figures
    if done["gaps"]:
        suspect()  # an interval under way may tell of a silence before
    batches: Iterator[DeltaBatch] = before_first_silence(
        read_ahead(read_deltas(raw.deltas, done["rows"]), overlap=overlap),
        raw.instrument,
        done["last_ts_receipt_ns"] if done["rows"] else None,
        suspect,
        has_others=bool(raw.trades or raw.snapshots),
    )
    snapshots = read_ahead(read_snapshots(raw.snapshots, done["snapshots"]), overlap=overlap)
    part_end = done["rows"] + _PART_ROWS
    for block in rebuild.blocks(batches, snapshots):
        if not isinstance(block, Pause):
            output.write(block)
        elif block.last or rebuild.figures["rows"] >= part_end:
            part_end = rebuild.figures["rows"] + _PART_ROWS
            yield block.last


def _saved(
    raw: RawFiles, made_from: Mapping[str, str], progress: Callable[[str], None]
) -> SavedRebuild | None:
    """The rebuild to resume; what cannot be resumed is reported, and passed over."""
    name, began_s = raw.instrument.id, time.perf_counter()
    try:
        saved = load_rebuild(raw.warehouse, raw.instrument, raw.day, made_from)
    except CheckpointError as error:
        progress(f"{name}: {error}")
        return None
    if saved is None:
        return None
    there: dict[str, list[StagedFile]] = {}
    gone = 0
    for table in BOOK_FILES:
        files = saved.files[table.sql_name]
        found = [where_it_lies(raw.warehouse, table, raw.day, file) for file in files]
        there[table.sql_name] = [file for file in found if file is not None]
        gone += found.count(None)
    if gone:
        progress(f"{name}: starts over: {gone} finished files are gone")
        return None
    progress(f"{name}: resumed after {saved.state.rows:,} rows")
    record(RESUMED_REBUILDS, 1, venue=raw.instrument.venue, instrument=name)
    record(RECOVERY_DURATION, time.perf_counter() - began_s, venue=raw.instrument.venue)
    return replace(saved, files=there)
