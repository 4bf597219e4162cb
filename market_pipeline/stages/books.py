"""Rebuilds instruments of a day: raw files in, staged Parquet files and the figures out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from market_pipeline import __version__
from market_pipeline.books.arrow import BookArrow
from market_pipeline.books.integers import OffStepCount
from market_pipeline.books.intervals import Intervals
from market_pipeline.books.jit import SOURCES_DIGEST
from market_pipeline.books.rebuild import Block, Keyframe, Rebuild, RebuildOptions
from market_pipeline.books.state import Resync
from market_pipeline.books.tables import BBO, REBUILDS
from market_pipeline.errors import CheckpointError, MarketPipelineError, MissingDataError
from market_pipeline.instruments import Instrument
from market_pipeline.lake.layout import Warehouse
from market_pipeline.lake.published import is_held
from market_pipeline.lake.staging import StagedFile, sweep_staging
from market_pipeline.settings import Settings
from market_pipeline.sources.crypto_lake import (
    TRADES,
    count_deltas,
    open_shard,
    read_deltas,
    read_snapshots,
    read_trades,
)
from market_pipeline.stages.ahead import read_ahead
from market_pipeline.stages.outputs import OUTPUTS, BookFiles
from market_pipeline.stages.raw import RawObjects
from market_pipeline.stages.resume import (
    SavedRebuild,
    forget_rebuilds,
    load_rebuild,
    save_rebuild,
)
from market_pipeline.stages.seed import choose_seed
from market_pipeline.stages.survey import (
    SuspectedGaps,
    before_first_silence,
    day_steps,
    suspect_gaps,
)

__all__ = ["DayOfRaw", "RebuiltDay", "rebuild_day", "rebuild_instrument"]

_MEGABYTES_PER_INSTRUMENT = 300
# A killed rebuild goes on from the first keyframe after every so many delta rows. Files are cut
# there, so this is no setting: the same day must give the same files everywhere.
_PART_ROWS = 1 << 24
_RESYNC = {
    "never": Resync.NEVER,
    "when_invalid": Resync.WHEN_INVALID,
    "always": Resync.ALWAYS,
}


@dataclass(frozen=True, slots=True)
class DayOfRaw:
    """The registered raw objects of one day."""

    day: date
    lake: Path
    deltas: RawObjects
    snapshots: RawObjects
    trades: RawObjects


@dataclass(slots=True)
class RebuiltDay:
    """What the rebuild of a day's instruments left: staged files, and one record for each.

    Attributes:
        staged: By table (`books.bbo` …), the files of the instruments that were rebuilt.
        withdrawn: Ids of those that could not be; what was published of them before is withdrawn.
        records: Rows of `books.rebuilds`, one per instrument, in the order asked for.
    """

    staged: dict[str, list[StagedFile]] = field(
        default_factory=lambda: {name: [] for name in OUTPUTS}
    )
    withdrawn: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


def rebuild_day(
    raw: DayOfRaw,
    instruments: Sequence[Instrument],
    settings: Settings,
    warehouse: Warehouse,
    progress: Callable[[str], None] = lambda _: None,
) -> RebuiltDay:
    """Rebuilds several instruments of a day in parallel threads.

    Bad or missing data of one instrument is recorded and the others go on.

    Raises:
        Exception: Whatever is not about the data (a full disk, a fault of ours), after all ended.
    """
    by_memory = settings.memory_budget_mb // _MEGABYTES_PER_INSTRUMENT
    workers = max(1, min(settings.threads, by_memory, len(instruments)))
    sweep_staging(warehouse)
    day = RebuiltDay()
    with ThreadPoolExecutor(workers, thread_name_prefix="rebuild") as pool:
        outcomes = pool.map(
            lambda instrument: _attempt(
                raw, instrument, settings, warehouse, progress, overlap=workers < settings.threads
            ),
            instruments,
        )
        for instrument, (files, record) in zip(instruments, outcomes, strict=True):
            for table, parts in files.items():
                day.staged[table] += parts
            if not files:
                day.withdrawn.append(instrument.id)
            day.records.append(record)
            said = record["failure"] or f"{record['messages']:,} messages"
            progress(f"{instrument.id}: {said}")
    return day


def _attempt(
    raw: DayOfRaw,
    instrument: Instrument,
    settings: Settings,
    warehouse: Warehouse,
    progress: Callable[[str], None],
    *,
    overlap: bool,
) -> tuple[dict[str, list[StagedFile]], dict[str, Any]]:
    try:
        return rebuild_instrument(raw, instrument, settings, warehouse, progress, overlap=overlap)
    except MarketPipelineError as error:
        failed = {
            "outcome": "no_data" if isinstance(error, MissingDataError) else "quarantined",
            "failure_kind": type(error).__name__,
            "failure": str(error),
        }
        return {}, _blank_record(instrument, raw.day) | failed


def rebuild_instrument(
    raw: DayOfRaw,
    instrument: Instrument,
    settings: Settings,
    warehouse: Warehouse,
    progress: Callable[[str], None] = lambda _: None,
    *,
    overlap: bool = False,
) -> tuple[dict[str, list[StagedFile]], dict[str, Any]]:
    """Rebuilds one instrument's day: its staged files by table, and its `books.rebuilds` row.

    A rebuild that was killed goes on from the last part it finished, and gives the same bytes.
    With `overlap` reading and writing have threads of their own, which changes no byte.

    Raises:
        MarketPipelineError: If the data is missing or cannot be used; nothing is staged then.
    """
    deltas, delta_hashes = raw.deltas.files_of(instrument)
    snapshots, snapshot_hashes = raw.snapshots.files_if_any(instrument)
    trades, trade_hashes = raw.trades.files_if_any(instrument)
    rows, streamed = count_deltas(deltas)
    if rows == 0:
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
    # Read by who needs them, but a day whose trades are no file of trades is set aside at once.
    for file in trades:
        open_shard(file, TRADES)[0].close()
    price_scale, size_scale = day_steps(instrument, deltas)

    @cache
    def gaps() -> SuspectedGaps:
        return suspect_gaps(instrument, raw.day, deltas, read_trades(trades))

    options = RebuildOptions(
        depth_interval_ms=settings.depth_interval_ms,
        keyframe_seconds=settings.checkpoint_seconds,
        resync=_RESYNC[instrument.policies.resync],
        crossed_resync_seconds=(
            instrument.policies.crossed_resync_seconds
            if instrument.policies.crossed == "resync"
            else None
        ),
        uncross=instrument.policies.crossed == "uncross",
    )
    seed = choose_seed(warehouse, instrument, raw.day, price_scale, size_scale, gaps)
    inputs = [*delta_hashes, *snapshot_hashes, *trade_hashes]
    scales = {
        "tick": format(price_scale.step, "f"),
        "lot": format(size_scale.step, "f"),
    }
    made_from = {
        "code": SOURCES_DIGEST,
        "raw_files": inputs,
        "options": asdict(options),
        "thresholds": instrument.thresholds.model_dump(mode="json"),
        "seed": seed.checksum,
        **scales,
    }
    saved = _saved(warehouse, instrument, raw.day, made_from, progress)
    rebuild = Rebuild(price_scale, size_scale, options, start=saved.state if saved else seed.state)
    intervals = Intervals(
        instrument,
        raw.day,
        price_scale,
        options.resync,
        start=saved.intervals if saved else None,
    )

    def suspect() -> None:
        rebuild.suspect_gaps(gaps().rows)
        intervals.know_silences(gaps().silences)

    arrow = BookArrow(instrument, raw.day, price_scale, size_scale)
    with BookFiles(
        warehouse,
        instrument.id,
        arrow,
        intervals,
        scales,
        saved.files if saved else None,
        overlap=overlap,
    ) as output:
        if not (saved and saved.done):
            done = rebuild.figures
            if done["gaps"]:
                suspect()  # an interval under way may tell of a silence before
            batches = before_first_silence(
                read_ahead(read_deltas(deltas, done["rows"]), overlap=overlap),
                instrument,
                done["last_ts_receipt_ns"] if done["rows"] else None,
                suspect,
            )
            blocks = rebuild.blocks(
                batches,
                read_ahead(read_snapshots(snapshots, done["snapshots"]), overlap=overlap),
            )
            try:
                for is_last in _parts(blocks, rebuild, output):
                    output.finish_part(last=is_last)
                    state = SavedRebuild(rebuild.state(), intervals.state(), output.files, is_last)
                    save_rebuild(warehouse, instrument, raw.day, made_from, state)
            except MarketPipelineError:
                # The raw data itself is bad: nothing made of it will be gone on from.
                output.discard()
                forget_rebuilds(warehouse, [instrument], raw.day)
                raise
    record = _blank_record(instrument, raw.day) | _figures(rebuild, raw.lake)
    record |= {
        "outcome": "rebuilt",
        **scales,
        "tick_inferred": instrument.tick == "infer",
        "lot_inferred": instrument.lot == "infer",
        "seed": seed.name if rebuild.figures["seeded"] else None,
        "seed_refused": seed.refused,
        "streamed_row_groups": streamed,
        "input_sha256": inputs,
        "output_sha256": _content_hash(output.files[BBO.sql_name]),
    }
    return output.files, record


def _parts(blocks: Iterator[Block], rebuild: Rebuild, output: BookFiles) -> Iterator[bool]:
    """Writes the blocks, and yields at the end of each part whether it is the day's last."""
    part_end = rebuild.figures["rows"] + _PART_ROWS
    for block in blocks:
        output.write(block)
        if isinstance(block, Keyframe) and block.kind == "closing":
            yield True
        elif isinstance(block, Keyframe) and rebuild.figures["rows"] >= part_end:
            for rows in rebuild.written_rows():
                output.write(rows)
            part_end = rebuild.figures["rows"] + _PART_ROWS
            yield False


def _saved(
    warehouse: Warehouse,
    instrument: Instrument,
    day: date,
    made_from: Mapping[str, Any],
    progress: Callable[[str], None],
) -> SavedRebuild | None:
    """The rebuild to go on from; what cannot be gone on from is told, and passed over."""
    try:
        saved = load_rebuild(warehouse, instrument, day, made_from)
    except CheckpointError as error:
        progress(f"{instrument.id}: {error}")
        return None
    if saved is None:
        return None
    gone = [
        file.path.name
        for name, files in saved.files.items()
        for file in files
        if not is_held(warehouse, OUTPUTS[name][0], day, file)
    ]
    if gone:
        progress(f"{instrument.id}: starts over: {len(gone)} finished files are gone")
        return None
    progress(f"{instrument.id}: goes on after {saved.state.rows:,} rows")
    return saved


def _content_hash(files: Sequence[StagedFile]) -> str:
    """One hash of an instrument's files of a table: the SHA-256 of theirs in order, as text."""
    return hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest()


def _blank_record(instrument: Instrument, day: date) -> dict[str, Any]:
    blank = dict.fromkeys(column.name for column in REBUILDS.columns)
    return blank | {
        "exchange": instrument.venue,
        "symbol": instrument.symbol,
        "dt": day,
        "code_version": __version__,
    }


def _figures(rebuild: Rebuild, lake: Path) -> dict[str, Any]:
    figures = rebuild.figures
    seeded = bool(figures["seeded"])
    examined = bool(figures["exams"])
    horizon = [
        float(figures[f"{side}_horizon_ticks"] * rebuild.price_scale.step) if seeded else None
        for side in ("bid", "ask")
    ]
    same = (
        "rows",
        "messages",
        "snapshots",
        "snapshots_unusable",
        "snapshots_unplaced",
        "resyncs",
        "levels_learned",
        "gaps",
        "crossed_messages",
        "locked_messages",
        "uncrossed_levels",
        "negative_latency_messages",
        "unknown_removals",
        "exams",
        "exams_failed",
        "exam_levels",
        "exam_levels_matching",
        "exam_levels_missing",
        "exam_levels_ours",
        "exam_levels_ghost",
    )
    return {
        **{name: figures[name] for name in same},
        "crossed_seconds": figures["crossed_ns"] / 1e9,
        "locked_seconds": figures["locked_ns"] / 1e9,
        "min_latency_ms": figures["min_latency_ns"] / 1e6,
        "max_latency_ms": figures["max_latency_ns"] / 1e6,
        "seed_sequence_number": figures["seed_sequence_number"] if seeded else None,
        "seed_ts_receipt_ns": figures["seed_ts_receipt_ns"] if seeded else None,
        "exam_first_failed_ns": (
            figures["exam_first_failed_ts_receipt_ns"] if figures["exams_failed"] else None
        ),
        "max_mid_deviation_ticks": (
            figures["exam_max_mid_deviation_half_ticks"] / 2 if examined else None
        ),
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
