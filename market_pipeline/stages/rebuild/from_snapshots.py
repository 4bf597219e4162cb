"""Publishes an instrument's day from its snapshots, where the deltas cannot be used."""

from __future__ import annotations

from market_pipeline.books.from_snapshots import SnapshotRebuild
from market_pipeline.books.intervals import Intervals
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.books.soundness import marks_of
from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.stages.rebuild.prefetch import read_ahead
from market_pipeline.stages.rebuild.raw_files import RawFiles
from market_pipeline.stages.rebuild.writer import BookWriter
from market_pipeline.warehouse.staging import StagedFile

__all__ = ["publish_snapshots"]


def publish_snapshots(
    raw: RawFiles, options: RebuildOptions, *, overlap: bool = False
) -> tuple[dict[str, list[StagedFile]], SnapshotRebuild]:
    """Stages the tables of a day with a row for each usable snapshot: by table, and its figures.

    The times of all snapshots are read beforehand, because how long a silence may last follows from
    the whole day.

    Raises:
        MissingDataError: There is no snapshot.
        DomainError: There are, but none is a book.
        MarketPipelineError: A file cannot be used; nothing is staged then.
    """
    messages = raw.messages()
    if not messages.row.size:
        raise MissingDataError(
            "Neither the deltas nor the snapshots of the day hold a usable row",
            next_step="Fetch the day again; if the vendor's files are empty too, report it.",
            exchange=raw.instrument.venue,
            symbol=raw.instrument.symbol,
            day=raw.day,
            file=raw.snapshots[0],
            expected="at least one snapshot",
            found="0 rows",
        )
    rebuild = SnapshotRebuild(
        raw.price_scale,
        raw.size_scale,
        options,
        silence_ns=raw.gaps.silence_ns,
        marks=marks_of(messages.ts_origin_ns, messages.ts_receipt_ns, messages.sequence_number),
    )
    intervals = Intervals(raw.instrument, raw.day, raw.price_scale, silences=raw.gaps.silences)
    with BookWriter(raw, intervals, overlap=overlap) as output:
        for block in rebuild.blocks(
            read_ahead(read_snapshots(raw.snapshots, with_origin=True), overlap=overlap)
        ):
            output.write(block)
        if rebuild.figures["messages"] == 0:
            raise DomainError(
                "The deltas of the day cannot be used, and no snapshot is a book",
                next_step="The day is set aside; fetch it again or report it to the vendor.",
                exchange=raw.instrument.venue,
                symbol=raw.instrument.symbol,
                day=raw.day,
                file=raw.snapshots[0],
                expected="a snapshot whose levels are ordered and whole ticks and lots",
                found=f"{rebuild.figures['snapshots']} snapshots, none of them usable",
            )
        output.finish_part(last=True)
    return output.files, rebuild
