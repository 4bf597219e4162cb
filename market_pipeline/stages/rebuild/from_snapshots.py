"""Publishes an instrument's day from its snapshots, where the deltas cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.arrow import BookArrow
from market_pipeline.books.from_snapshots import SnapshotRebuild
from market_pipeline.books.intervals import Intervals
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.books.soundness import marks_of
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline.sources.crypto_lake import SNAPSHOTS, read_snapshots
from market_pipeline.sources.crypto_lake_trades import read_trade_times
from market_pipeline.stages.raw.message_index import read_messages
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.stages.rebuild.gap_scan import steps_of, suspect_gaps_between
from market_pipeline.stages.rebuild.prefetch import read_ahead
from market_pipeline.stages.rebuild.writer import BookWriter
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.staging import StagedFile

__all__ = ["PublishedSnapshots", "publish_snapshots"]


@dataclass(frozen=True, slots=True)
class PublishedSnapshots:
    """What a day of snapshots became.

    Attributes:
        files: The staged files by table.
        rebuild: With its figures.
        gaps: Silences in which snapshots are suspected to be lost.
        sha256: Of the raw files read, in order.
    """

    files: dict[str, list[StagedFile]]
    rebuild: SnapshotRebuild
    gaps: int
    sha256: list[str]


def publish_snapshots(
    snapshots: RawObjects,
    trades: RawObjects,
    instrument: Instrument,
    day: date,
    options: RebuildOptions,
    warehouse: Warehouse,
    *,
    overlap: bool = False,
) -> PublishedSnapshots:
    """Stages the tables of a day with a row for each usable snapshot.

    The times of all snapshots are read beforehand, because how long a silence may last follows from
    the whole day; so are their levels, where the tick or the lot is inferred.

    Raises:
        MissingDataError: There is no snapshot.
        DomainError: There are, but none is a book.
        MarketPipelineError: A file cannot be used; nothing is staged then.
    """
    files, hashes = snapshots.files_of(instrument)
    trade_files, trade_hashes = trades.files_if_any(instrument)
    messages = read_messages(files, warehouse, SNAPSHOTS)
    if not messages.row.size:
        raise _nothing_there(files[0], instrument, day)
    price_scale, size_scale = steps_of(instrument, _values(files))
    trade_times = read_trade_times(trade_files, warehouse.staging_dir)
    gaps = suspect_gaps_between(messages, trade_times, day, instrument.gap_rule)
    marks = marks_of(messages.ts_origin_ns, messages.ts_receipt_ns, messages.sequence_number)
    rebuild = SnapshotRebuild(
        price_scale, size_scale, options, silence_ns=gaps.silence_ns, marks=marks
    )
    intervals = Intervals(instrument, day, price_scale, silences=gaps.silences)
    arrow = BookArrow(instrument, day, price_scale, size_scale)
    scales = {"tick": format(price_scale.step, "f"), "lot": format(size_scale.step, "f")}
    with BookWriter(warehouse, instrument.id, arrow, intervals, scales, overlap=overlap) as output:
        for block in rebuild.blocks(
            read_ahead(read_snapshots(files, with_origin=True), overlap=overlap)
        ):
            output.write(block)
        if rebuild.figures["messages"] == 0:
            raise DomainError(
                "The deltas of the day cannot be used, and no snapshot is a book",
                next_step="The day is set aside; fetch it again or report it to the vendor.",
                exchange=instrument.venue,
                symbol=instrument.symbol,
                day=day,
                file=files[0],
                expected="a snapshot whose levels are ordered and whole ticks and lots",
                found=f"{rebuild.figures['snapshots']} snapshots, none of them usable",
            )
        output.finish_part(last=True)
    return PublishedSnapshots(output.files, rebuild, len(gaps.silences), [*hashes, *trade_hashes])


def _nothing_there(file: Path, instrument: Instrument, day: date) -> MissingDataError:
    return MissingDataError(
        "Neither the deltas nor the snapshots of the day hold a usable row",
        next_step="Fetch the day again; if the vendor's files are empty too, report it.",
        exchange=instrument.venue,
        symbol=instrument.symbol,
        day=day,
        file=file,
        expected="at least one snapshot",
        found="0 rows",
    )


def _values(files: Sequence[Path]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The prices and sizes of all levels."""
    for batch in read_snapshots(files):
        yield batch.bid_price.ravel(), batch.bid_size.ravel()
        yield batch.ask_price.ravel(), batch.ask_size.ravel()
