"""Rebuilds one instrument's day: raw files in, staged files and its record out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from market_pipeline import __version__
from market_pipeline.books.from_snapshots import SnapshotRebuild
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.rebuild_figures import rebuild_figures
from market_pipeline.books.record import Outcome, RebuildRecord
from market_pipeline.books.tables import BBO, REBUILDS
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import MissingDataError
from market_pipeline.quality.strategy import choose_strategy
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, DeltaCounts, count_deltas
from market_pipeline.sources.registry import gap_evidence
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.rebuild.from_deltas import publish_deltas
from market_pipeline.stages.rebuild.from_snapshots import publish_snapshots
from market_pipeline.stages.rebuild.raw_files import RawFiles
from market_pipeline.stages.rebuild.resume import package_digest
from market_pipeline.stages.rebuild.seed import choose_seed
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import MadeOf, files_sha256
from market_pipeline.warehouse.staging import StagedFile

__all__ = ["blank_record", "rebuild_instrument"]


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
    table = SNAPSHOTS if record.is_of_snapshots else DELTAS
    raw = RawFiles.open(day, instrument, table, warehouse)
    if record.is_of_snapshots:
        files, rebuild = publish_snapshots(raw, options, overlap=overlap)
        return files, _rebuilt(record, raw, day.lake, rebuild, files, gaps=len(raw.gaps.silences))
    counts = _counted(raw)
    seed = choose_seed(published or warehouse, raw)
    made_from = _made_from(made_of, day.lake)
    files, from_deltas = publish_deltas(
        raw, options, seed.state, made_from, progress, overlap=overlap
    )
    return files, _rebuilt(
        record,
        raw,
        day.lake,
        from_deltas,
        files,
        seed=seed.name if from_deltas.figures["seeded"] else None,
        seed_refused=seed.refused,
        streamed_row_groups=counts.streamed_row_groups,
        bytes_in_flight=counts.bytes_in_flight,
    )


def _made_from(made_of: MadeOf, lake: Path) -> dict[str, str]:
    """What two states of a rebuild must have in common, that one may be resumed from the other.

    Beyond what decides the rows that is the code between the states, and the files they name.
    """
    made_from = {name: json.dumps(value) for name, value in made_of.decisive(REBUILDS).items()}
    package = f"{__version__} {package_digest()}, pyarrow {pa.__version__}"
    return made_from | {"package": package, "lake": str(lake)}


def _counted(raw: RawFiles) -> DeltaCounts:
    counts = count_deltas(raw.deltas)
    if counts.rows == 0:
        raise MissingDataError(
            "The delta files hold no row",
            next_step="Fetch the day again; if the vendor's file is empty too, report it.",
            exchange=raw.instrument.venue,
            symbol=raw.instrument.symbol,
            day=raw.day,
            file=raw.deltas[0],
            expected="at least one delta row",
            found="0 rows",
        )
    return counts


def blank_record(
    instrument: Instrument, day: RegisteredDay, outcome: Outcome = "rebuilt"
) -> RebuildRecord:
    """A row of `books.rebuilds` that says no more than whose it is, and how it is to be made."""
    strategy = choose_strategy([*day.profiles_of(instrument).values()])
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
    raw: RawFiles,
    lake: Path,
    rebuild: Rebuild | SnapshotRebuild,
    files: Mapping[str, list[StagedFile]],
    **others: str | int | None,
) -> RebuildRecord:
    """The record with the figures of a rebuild, the files it left, and what else is given."""
    columns = vars(rebuild_figures(rebuild, lake)) | raw.scale_texts
    columns |= {
        "tick_inferred": raw.instrument.tick == "infer",
        "lot_inferred": raw.instrument.lot == "infer",
        "input_sha256": tuple(raw.sha256),
        "output_sha256": files_sha256(file.sha256 for file in files[BBO.sql_name]),
    }
    return replace(record, **columns | others)
