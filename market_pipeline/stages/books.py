"""Rebuilds instruments of a day: raw files in, staged Parquet files and the figures out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from market_pipeline import __version__
from market_pipeline.books.arrow import BookArrow
from market_pipeline.books.rebuild import OffStepCount, Rebuild, RebuildOptions
from market_pipeline.books.state import BboRows, DepthRows, Resync
from market_pipeline.books.tables import BBO, CHECKPOINTS, DEPTH, REBUILDS
from market_pipeline.errors import MarketPipelineError, MissingDataError
from market_pipeline.instruments import Instrument
from market_pipeline.lake.layout import Warehouse
from market_pipeline.lake.staging import (
    ROW_GROUP_ROWS,
    StagedFile,
    StagedWriter,
    sweep_staging,
)
from market_pipeline.settings import Settings
from market_pipeline.sources.crypto_lake import read_deltas, read_snapshots, read_trades
from market_pipeline.stages.raw import RawObjects
from market_pipeline.stages.survey import Survey, survey_day

__all__ = ["DayOfRaw", "RebuiltDay", "rebuild_day", "rebuild_instrument"]

_MEGABYTES_PER_INSTRUMENT = 250
# One checkpoint holds thousands of levels, so few of them fill a row group.
_CHECKPOINTS_PER_ROW_GROUP = 64
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
        default_factory=lambda: {table.sql_name: [] for table in (BBO, DEPTH, CHECKPOINTS)}
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
            lambda instrument: _attempt(raw, instrument, settings, warehouse), instruments
        )
        for instrument, (files, record) in zip(instruments, outcomes, strict=True):
            for table, file in files.items():
                day.staged[table].append(file)
            if not files:
                day.withdrawn.append(instrument.id)
            day.records.append(record)
            said = record["failure"] or f"{record['messages']:,} messages"
            progress(f"{instrument.id}: {said}")
    return day


def _attempt(
    raw: DayOfRaw, instrument: Instrument, settings: Settings, warehouse: Warehouse
) -> tuple[dict[str, StagedFile], dict[str, Any]]:
    try:
        return rebuild_instrument(raw, instrument, settings, warehouse)
    except MarketPipelineError as error:
        failed = {
            "outcome": "no_data" if isinstance(error, MissingDataError) else "quarantined",
            "failure_kind": type(error).__name__,
            "failure": str(error),
        }
        return {}, _blank_record(instrument, raw.day) | failed


def rebuild_instrument(
    raw: DayOfRaw, instrument: Instrument, settings: Settings, warehouse: Warehouse
) -> tuple[dict[str, StagedFile], dict[str, Any]]:
    """Rebuilds one instrument's day: its staged files by table, and its `books.rebuilds` row.

    Raises:
        MarketPipelineError: If the data is missing or cannot be used; nothing is staged then.
    """
    deltas, delta_hashes = raw.deltas.files_of(instrument)
    snapshots, snapshot_hashes = raw.snapshots.files_if_any(instrument)
    trades, trade_hashes = raw.trades.files_if_any(instrument)
    survey = survey_day(instrument, raw.day, deltas, read_trades(trades))
    rebuild = Rebuild(
        survey.price_scale,
        survey.size_scale,
        RebuildOptions(
            depth_interval_ms=settings.depth_interval_ms,
            keyframe_seconds=settings.checkpoint_seconds,
            resync=_RESYNC[instrument.policies.resync],
            crossed_resync_seconds=instrument.policies.crossed_resync_seconds,
        ),
        gap_ends_ns=survey.gap_ends_ns,
    )
    arrow = BookArrow(instrument, raw.day, survey.price_scale, survey.size_scale)
    scales = {
        "tick": format(survey.price_scale.step, "f"),
        "lot": format(survey.size_scale.step, "f"),
    }
    with ExitStack() as stack:
        bbo, depth, checkpoints = (
            stack.enter_context(
                StagedWriter(
                    warehouse, table, instrument.id, metadata=scales, row_group_rows=group_rows
                )
            )
            for table, group_rows in (
                (BBO, ROW_GROUP_ROWS),
                (DEPTH, ROW_GROUP_ROWS),
                (CHECKPOINTS, _CHECKPOINTS_PER_ROW_GROUP),
            )
        )
        for block in rebuild.blocks(read_deltas(deltas), read_snapshots(snapshots)):
            if isinstance(block, BboRows):
                bbo.write(arrow.bbo(block))
            elif isinstance(block, DepthRows):
                depth.write(arrow.depth(block))
            else:
                checkpoints.write(arrow.checkpoint(block))
    files = {
        BBO.sql_name: bbo.staged,
        DEPTH.sql_name: depth.staged,
        CHECKPOINTS.sql_name: checkpoints.staged,
    }
    record = _blank_record(instrument, raw.day) | _figures(rebuild, survey, raw.lake)
    record |= {
        "outcome": "rebuilt",
        **scales,
        "tick_inferred": instrument.tick == "infer",
        "lot_inferred": instrument.lot == "infer",
        "input_sha256": [*delta_hashes, *snapshot_hashes, *trade_hashes],
        "output_sha256": bbo.staged.sha256,
    }
    return files, record


def _blank_record(instrument: Instrument, day: date) -> dict[str, Any]:
    blank = dict.fromkeys(column.name for column in REBUILDS.columns)
    return blank | {
        "exchange": instrument.venue,
        "symbol": instrument.symbol,
        "dt": day,
        "code_version": __version__,
    }


def _figures(rebuild: Rebuild, survey: Survey, lake: Path) -> dict[str, Any]:
    figures = rebuild.figures
    seeded = bool(figures["seeded"])
    examined = bool(figures["exams"])
    horizon = [
        float(figures[f"{side}_horizon_ticks"] * survey.price_scale.step) if seeded else None
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
