"""Rebuilds one instrument's day: raw files in, staged files and its record out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from market_pipeline import __version__
from market_pipeline.books.arrow import BookArrow
from market_pipeline.books.from_snapshots import SnapshotRebuild
from market_pipeline.books.intervals import Intervals
from market_pipeline.books.rebuild import Pause, Rebuild, RebuildOptions
from market_pipeline.books.rebuild_figures import rebuild_figures
from market_pipeline.books.record import Outcome, RebuildRecord
from market_pipeline.books.scale import Scale
from market_pipeline.books.tables import BBO, REBUILDS
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import CheckpointError, MarketPipelineError, MissingDataError
from market_pipeline.quality.profile import Profile
from market_pipeline.quality.strategy import choose_strategy
from market_pipeline.sources.batches import DeltaBatch
from market_pipeline.sources.crypto_lake import (
    TRADES,
    DeltaCounts,
    count_deltas,
    open_shard,
    read_deltas,
    read_snapshots,
)
from market_pipeline.sources.crypto_lake_trades import read_trade_times
from market_pipeline.sources.registry import gap_evidence
from market_pipeline.stages.published_rows import records_of
from market_pipeline.stages.raw.message_index import day_messages
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.rebuild.from_snapshots import publish_snapshots
from market_pipeline.stages.rebuild.gap_scan import (
    SuspectedGaps,
    before_first_silence,
    day_steps,
    suspect_gaps,
)
from market_pipeline.stages.rebuild.prefetch import read_ahead
from market_pipeline.stages.rebuild.resume import (
    SavedRebuild,
    forget_rebuilds,
    load_rebuild,
    package_digest,
    save_rebuild,
)
from market_pipeline.stages.rebuild.seed import choose_seed
from market_pipeline.stages.rebuild.writer import OUTPUTS, BookWriter
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import MadeOf, files_sha256
from market_pipeline.warehouse.publish import where_it_lies
from market_pipeline.warehouse.staging import StagedFile

__all__ = ["blank_record", "rebuild_instrument"]

# A killed rebuild is resumed from the first keyframe after every so many delta rows. Files are cut
# there, so this is no setting: the same day must give the same files everywhere.
_PART_ROWS = 1 << 24


@dataclass(frozen=True)
class _Raw:
    """The raw files of one instrument and day, checked as far as their footers tell."""

    instrument: Instrument
    day: date
    warehouse: Warehouse
    deltas: list[Path]
    snapshots: list[Path]
    trades: list[Path]
    sha256: list[str]
    counts: DeltaCounts

    @classmethod
    def open(cls, raw: RegisteredDay, instrument: Instrument, warehouse: Warehouse) -> Self:
        deltas, delta_hashes = raw.deltas.files_of(instrument)
        snapshots, snapshot_hashes = raw.snapshots.files_if_any(instrument)
        trades, trade_hashes = raw.trades.files_if_any(instrument)
        counts = count_deltas(deltas)
        if counts.rows == 0:
            raise MissingDataError(
                "The delta files hold no row",
                next_step="Fetch the day again; if the vendor's file is empty too, report it.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
                day=raw.day,
                file=deltas[0],
                expected="at least one delta row",
                found="0 rows",
            )
        # Read only where a gap is suspected, but a file that is none sets the day aside at once.
        for file in trades:
            open_shard(file, TRADES)[0].close()
        hashes = [*delta_hashes, *snapshot_hashes, *trade_hashes]
        return cls(instrument, raw.day, warehouse, deltas, snapshots, trades, hashes, counts)

    @cached_property
    def steps(self) -> tuple[Scale, Scale]:
        """The tick and the lot."""
        return day_steps(self.instrument, self.deltas)

    @cached_property
    def gaps(self) -> SuspectedGaps:
        """The suspected gaps; without the profile's messages it costs a pass over the day."""
        hashes = self.sha256[: len(self.deltas)]
        messages = day_messages(self.warehouse, self.instrument, self.day, self.deltas, hashes)
        trades = read_trade_times(self.trades, self.warehouse.staging_dir)
        return suspect_gaps(self.instrument, self.day, messages, trades, self.snapshots)


def rebuild_instrument(
    day: RegisteredDay,
    instrument: Instrument,
    settings: Settings,
    warehouse: Warehouse,
    made_of: MadeOf,
    progress: Callable[[str], None] = lambda _: None,
    *,
    overlap: bool = False,
    published: Warehouse | None = None,
) -> tuple[dict[str, list[StagedFile]], RebuildRecord]:
    """Rebuilds one instrument's day: its staged files by table, and its `books.rebuilds` row.

    From its deltas, or where they cannot be used from its snapshots, as `choose_strategy` says.
    A rebuild that was killed is resumed from the last part it finished, and gives the same bytes.
    With `overlap` reading and writing have threads of their own, which changes no byte.

    Args:
        day: The raw objects, and what they look like.
        instrument: Whose day.
        settings: How often depth and checkpoints come.
        warehouse: Where to stage.
        made_of: What the books follow from; a killed rebuild is resumed if that is the same.
        progress: Called with a line on what is resumed.
        published: Where the day before is published, if not in `warehouse`.

    Raises:
        MarketPipelineError: If the data is missing or cannot be used; nothing is staged then.
    """
    options = RebuildOptions.of(
        instrument.policies,
        depth_interval_ms=settings.depth_interval_ms,
        keyframe_seconds=settings.checkpoint_seconds,
        ids_prove=gap_evidence(instrument.source).ids_prove,
        day=day.day,
    )
    record = blank_record(instrument, day)
    if record.is_of_snapshots:
        made = publish_snapshots(
            day.snapshots, day.trades, instrument, day.day, options, warehouse, overlap=overlap
        )
        return made.files, _rebuilt(
            record, instrument, day.lake, made.rebuild, made.files, made.sha256, gaps=made.gaps
        )
    # Beyond what decides the rows: the code between two states, and the files that they name.
    made_from = {name: json.dumps(value) for name, value in made_of.decisive(REBUILDS).items()}
    made_from |= {
        "package": f"{__version__} {package_digest()}, pyarrow {pa.__version__}",
        "lake": str(day.lake),
    }
    return _from_deltas(
        day,
        instrument,
        record,
        options,
        warehouse,
        published or warehouse,
        made_from,
        progress,
        overlap=overlap,
    )


def _from_deltas(
    day: RegisteredDay,
    instrument: Instrument,
    record: RebuildRecord,
    options: RebuildOptions,
    warehouse: Warehouse,
    published: Warehouse,
    made_from: Mapping[str, str],
    progress: Callable[[str], None],
    *,
    overlap: bool,
) -> tuple[dict[str, list[StagedFile]], RebuildRecord]:
    """The staged files of a day of deltas, and its record."""
    raw = _Raw.open(day, instrument, warehouse)
    prices, sizes = raw.steps
    seed = choose_seed(
        published,
        instrument,
        day.day,
        prices,
        sizes,
        lambda: raw.gaps,
        deltas=raw.deltas,
        snapshots=raw.snapshots,
    )
    scales = {"tick": format(prices.step, "f"), "lot": format(sizes.step, "f")}
    saved = _saved(warehouse, instrument, day.day, made_from, progress)
    rebuild = Rebuild(prices, sizes, options, start=saved.state if saved else seed.state)
    intervals = Intervals(
        instrument, day.day, prices, options.resync, start=saved.intervals if saved else None
    )
    arrow = BookArrow(instrument, day.day, prices, sizes)
    finished = saved.files if saved else None
    with BookWriter(
        warehouse, instrument.id, arrow, intervals, scales, finished, overlap=overlap
    ) as output:
        if not (saved and saved.done):
            _write_parts(raw, rebuild, intervals, output, made_from, overlap=overlap)
    return output.files, _rebuilt(
        record,
        instrument,
        day.lake,
        rebuild,
        output.files,
        raw.sha256,
        seed=seed.name if rebuild.figures["seeded"] else None,
        seed_refused=seed.refused,
        streamed_row_groups=raw.counts.streamed_row_groups,
        bytes_in_flight=raw.counts.bytes_in_flight,
    )


def _write_parts(
    raw: _Raw,
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
            save_rebuild(raw.warehouse, raw.instrument, raw.day, made_from, state)
    except MarketPipelineError:
        # The raw data itself is bad: nothing made of it will be resumed.
        output.discard()
        forget_rebuilds(raw.warehouse, [raw.instrument], raw.day)
        raise


def _parts(
    raw: _Raw, rebuild: Rebuild, intervals: Intervals, output: BookWriter, *, overlap: bool
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
    warehouse: Warehouse,
    instrument: Instrument,
    day: date,
    made_from: Mapping[str, str],
    progress: Callable[[str], None],
) -> SavedRebuild | None:
    """The rebuild to resume; what cannot be resumed is reported, and passed over."""
    try:
        saved = load_rebuild(warehouse, instrument, day, made_from)
    except CheckpointError as error:
        progress(f"{instrument.id}: {error}")
        return None
    if saved is None:
        return None
    files = {
        name: [where_it_lies(warehouse, OUTPUTS[name][0], day, file) for file in parts]
        for name, parts in saved.files.items()
    }
    there = {name: [file for file in parts if file is not None] for name, parts in files.items()}
    gone = sum(len(parts) - len(there[name]) for name, parts in files.items())
    if gone:
        progress(f"{instrument.id}: starts over: {gone} finished files are gone")
        return None
    progress(f"{instrument.id}: resumed after {saved.state.rows:,} rows")
    return replace(saved, files=there)


def blank_record(
    instrument: Instrument, day: RegisteredDay, outcome: Outcome = "rebuilt"
) -> RebuildRecord:
    """A row of `books.rebuilds` that says no more than whose it is, and how it is to be made."""
    strategy = choose_strategy(records_of(day.profiles, instrument, Profile))
    return RebuildRecord(
        exchange=instrument.venue,
        symbol=instrument.symbol,
        dt=day.day,
        outcome=outcome,
        strategy=strategy.name,
        strategy_reason=strategy.reason,
        policies=instrument.policies.model_dump_json(),
        code_version=__version__,
    )


def _rebuilt(
    record: RebuildRecord,
    instrument: Instrument,
    lake: Path,
    rebuild: Rebuild | SnapshotRebuild,
    files: Mapping[str, list[StagedFile]],
    input_sha256: Sequence[str],
    **others: Any,
) -> RebuildRecord:
    """The record with the figures of a rebuild, the files it left, and what else is given."""
    columns = vars(rebuild_figures(rebuild, lake)) | {
        "tick": format(rebuild.price_scale.step, "f"),
        "lot": format(rebuild.size_scale.step, "f"),
        "tick_inferred": instrument.tick == "infer",
        "lot_inferred": instrument.lot == "infer",
        "input_sha256": tuple(input_sha256),
        "output_sha256": files_sha256(file.sha256 for file in files[BBO.sql_name]),
    }
    return replace(record, **columns | others)
