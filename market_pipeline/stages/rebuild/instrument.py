"""Rebuilds one instrument's day: raw files in, staged files and its record out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from market_pipeline import __version__
from market_pipeline.books.arrow import BookArrow
from market_pipeline.books.from_snapshots import SnapshotRebuild
from market_pipeline.books.integers import OffStepCount
from market_pipeline.books.intervals import Intervals
from market_pipeline.books.rebuild import Pause, Rebuild, RebuildOptions
from market_pipeline.books.scale import Scale
from market_pipeline.books.snapshot_figures import snapshot_columns
from market_pipeline.books.tables import BBO, REBUILDS
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import CheckpointError, MarketPipelineError, MissingDataError
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
from market_pipeline.stages.published_rows import of_instrument
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
) -> tuple[dict[str, list[StagedFile]], dict[str, Any]]:
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
        overlap: Whether reading and writing overlap.
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
    record = blank_record(instrument, day) | {"outcome": "rebuilt"}
    if record["strategy"] == "snapshots_only":
        files, figures = _from_snapshots(day, instrument, options, warehouse, overlap=overlap)
    else:
        # Beyond what decides the rows: the code between two states, and the files that they name.
        made_from = made_of.decisive(REBUILDS) | {
            "package": [__version__, package_digest(), pa.__version__],
            "lake": str(day.lake),
        }
        files, figures = _from_deltas(
            day,
            instrument,
            options,
            warehouse,
            published or warehouse,
            made_from,
            progress,
            overlap=overlap,
        )
    return files, record | figures


def _from_deltas(
    day: RegisteredDay,
    instrument: Instrument,
    options: RebuildOptions,
    warehouse: Warehouse,
    published: Warehouse,
    made_from: Mapping[str, Any],
    progress: Callable[[str], None],
    *,
    overlap: bool,
) -> tuple[dict[str, list[StagedFile]], dict[str, Any]]:
    """The staged files of a day of deltas, and what its record says of them."""
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
    return output.files, _figures(rebuild, day.lake) | {
        **scales,
        "tick_inferred": instrument.tick == "infer",
        "lot_inferred": instrument.lot == "infer",
        "seed": seed.name if rebuild.figures["seeded"] else None,
        "seed_refused": seed.refused,
        "streamed_row_groups": raw.counts.streamed_row_groups,
        "bytes_in_flight": raw.counts.bytes_in_flight,
        "input_sha256": raw.sha256,
        "output_sha256": files_sha256(file.sha256 for file in output.files[BBO.sql_name]),
    }


def _from_snapshots(
    day: RegisteredDay,
    instrument: Instrument,
    options: RebuildOptions,
    warehouse: Warehouse,
    *,
    overlap: bool,
) -> tuple[dict[str, list[StagedFile]], dict[str, Any]]:
    """The staged files of a day of snapshots, and what its record says of them."""
    made = publish_snapshots(
        day.snapshots, day.trades, instrument, day.day, options, warehouse, overlap=overlap
    )
    return made.files, _figures(made.rebuild, day.lake) | {
        "tick": format(made.rebuild.price_scale.step, "f"),
        "lot": format(made.rebuild.size_scale.step, "f"),
        "tick_inferred": instrument.tick == "infer",
        "lot_inferred": instrument.lot == "infer",
        "seed": "first_snapshot",
        "gaps": made.gaps,
        "input_sha256": made.sha256,
        "output_sha256": files_sha256(file.sha256 for file in made.files[BBO.sql_name]),
    }


def _write_parts(
    raw: _Raw,
    rebuild: Rebuild,
    intervals: Intervals,
    output: BookWriter,
    made_from: Mapping[str, Any],
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
    made_from: Mapping[str, Any],
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


def blank_record(instrument: Instrument, day: RegisteredDay) -> dict[str, Any]:
    """A row of `books.rebuilds` that says no more than whose it is, and how it is to be made."""
    blank = dict.fromkeys(column.name for column in REBUILDS.columns)
    profiles = day.profiles.filter(of_instrument(instrument)).to_dicts()
    strategy = choose_strategy(profiles)
    return blank | {
        "exchange": instrument.venue,
        "symbol": instrument.symbol,
        "dt": day.day,
        "strategy": strategy.name,
        "strategy_reason": strategy.reason,
        "policies": instrument.policies.model_dump_json(),
        "code_version": __version__,
    }


def _figures(rebuild: Rebuild | SnapshotRebuild, lake: Path) -> dict[str, Any]:
    figures = rebuild.figures
    seeded = bool(figures["seeded"])
    horizon = [
        float(ticks * rebuild.price_scale.step) if seeded and ticks else None
        for ticks in (figures["bid_horizon_ticks"], figures["ask_horizon_ticks"])
    ]
    same = (
        "rows",
        "messages",
        "snapshots",
        "snapshots_unusable",
        "snapshots_unplaced",
        "snapshots_uncompared",
        "snapshots_off_number",
        "snapshots_misplaced",
        "snapshots_stale",
        "repeated_messages",
        "late_messages",
        "stale_messages",
        "restarts",
        "split_messages",
        "bad_sequences",
        "bad_receipt_stamps",
        "bad_origin_stamps",
        "outside_day_messages",
        "resyncs",
        "levels_learned",
        "gaps",
        "crossed_messages",
        "locked_messages",
        "uncrossed_levels",
        "negative_latency_messages",
        "unknown_removals",
        "snapshots_compared",
        "snapshots_mismatched",
        "snapshot_levels",
        "snapshot_levels_matching",
        "snapshot_levels_missing",
        "snapshot_levels_ours",
        "snapshot_levels_ghost",
    )
    return {
        **{name: figures[name] for name in same},
        "crossed_seconds": figures["crossed_ns"] / 1e9,
        "locked_seconds": figures["locked_ns"] / 1e9,
        "min_latency_ms": figures["min_latency_ns"] / 1e6,
        "max_latency_ms": figures["max_latency_ns"] / 1e6,
        "seed_sequence_number": figures["seed_sequence_number"] if seeded else None,
        "seed_ts_receipt_ns": figures["seed_ts_receipt_ns"] if seeded else None,
        **snapshot_columns(rebuild),
        "known_low_price": horizon[0],
        "known_high_price": horizon[1],
        **dict(_losses("price", rebuild.off_tick, lake)),
        **dict(_losses("size", rebuild.off_lot, lake)),
    }


def _losses(column: str, count: OffStepCount, lake: Path) -> Iterator[tuple[str, Any]]:
    yield f"{column}_losses", count.losses
    yield f"{column}_loss_files", [loss.file.relative_to(lake).as_posix() for loss in count.first]
    yield f"{column}_loss_rows", [loss.row for loss in count.first]
    yield f"{column}_loss_values", [loss.value for loss in count.first]
