"""The book of capture files, for a comparison: rebuilt once, into files of a temporary folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from market_pipeline.books.arrow import BookArrow
from market_pipeline.books.intervals import Intervals
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows, DepthRows, Repairs
from market_pipeline.books.step_inference import StepInference
from market_pipeline.books.tables import BBO, DEPTH, INTERVALS
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import MissingDataError
from market_pipeline.notebook.feeds import feeds_of
from market_pipeline.quality.fidelity.books import ComparedBook
from market_pipeline.security.stored import is_stored, plain_name, stored_in
from market_pipeline.sources.binance_capture import Findings
from market_pipeline.stages.fidelity.books import book_of_files
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.staging import StagedWriter

__all__ = ["capture_files", "captured_book"]

_NO_LEVELS = Scale(1, 0)


def capture_files(path: Path) -> list[Path]:
    """The captures at a path, in the order of their names; none if it is something else."""
    if path.is_dir():
        return [each for each in stored_in(path) if each.suffix == ".gz" and is_stored(each)]
    path = plain_name(path)
    return [path] if path.suffix == ".gz" and is_stored(path) else []


def captured_book(files: Sequence[Path], instrument: str, folder: Path) -> ComparedBook:
    """The book of captures, with the top 20 levels after every message.

    The captures are read twice, once for their steps; what is rebuilt lies in `folder`, and memory
    does not grow with the files.

    Args:
        files: Captures in feed order.
        instrument: Whose lines to take, VENUE:SYMBOL.
        folder: A folder for the files that are made.

    Raises:
        MissingDataError: There is no delta row of the instrument.
        InstrumentsError: The venue is none that captures are read of.
        LakeFileError, SchemaError: A capture cannot be read.
    """
    feeds = feeds_of([str(file) for file in files], instrument=instrument)
    prices, sizes, first_ns = StepInference(), StepInference(), None
    for batch in feeds.deltas(Findings()):
        if batch.price.size and first_ns is None:
            first_ns = int(batch.ts_receipt_ns[0])
        prices.add(batch.price)
        sizes.add(batch.size)
    if first_ns is None:
        raise MissingDataError(
            "A capture holds no depth event of the instrument",
            next_step="Name the instrument whose lines it holds with --instrument.",
            file=files[0],
            expected=f"depth events of {instrument}",
            found="none",
        )
    venue, _, symbol = instrument.partition(":")
    whose = Instrument(venue=venue, symbol=symbol, source="binance_capture")
    tick, lot = prices.scale or _NO_LEVELS, sizes.scale or _NO_LEVELS
    options = RebuildOptions(depth_interval_ms=0, keyframe_seconds=0, ids_prove=feeds.ids_prove)
    rebuild = Rebuild(tick, lot, options)
    day = datetime.fromtimestamp(first_ns // 1_000_000_000, UTC).date()
    intervals, arrow = Intervals(whose, day, tick), BookArrow(whose, day, tick, lot)
    warehouse = Warehouse(folder)
    steps = {"tick": format(tick.step, "f"), "lot": format(lot.step, "f")}
    with ExitStack() as opened:
        bbo, depth, spans = (
            opened.enter_context(StagedWriter(warehouse, table, whose.id, metadata=steps))
            for table in (BBO, DEPTH, INTERVALS)
        )
        for block in rebuild.blocks(feeds.deltas(Findings()), feeds.snapshots(Findings())):
            if isinstance(block, BboRows):
                bbo.write(arrow.bbo(block))
                for rows in intervals.add_rows(block):
                    spans.write(rows)
            elif isinstance(block, DepthRows):
                depth.write(arrow.depth(block))
            elif isinstance(block, Repairs):
                intervals.add_repairs(block)
        for rows in intervals.finish():
            spans.write(rows)
    name = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    return book_of_files(name, *([writer.staged.path] for writer in (bbo, depth, spans)))
