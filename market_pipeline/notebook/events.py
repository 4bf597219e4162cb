"""`events`: trades and book events of several instruments as one ordered Arrow stream."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from market_pipeline.books.tables import MARKET_EVENTS
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.notebook.from_checkpoint import days_between
from market_pipeline.notebook.published import instrument_ids
from market_pipeline.notebook.times import span_of
from market_pipeline.stages.events.stream import EventBatch, day_events
from market_pipeline.warehouse.conform import stored_schema
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["events"]


def events(
    instruments: str | Sequence[str],
    start: datetime | str | int,
    end: datetime | str | int,
    *,
    data_dir: Path | str | None = None,
    scratch_dir: Path | str | None = None,
) -> pa.RecordBatchReader:
    """Trades, deltas, snapshots and clears of published days in one order, in bounded memory.

    They are made from the raw rows as they are asked for, whether or not the instrument has them
    published. The stream of each day, and of a start within one, begins with a clear and the book
    by then. Events of several instruments come in order of the receipt clock; of equal times the
    instrument that was given first comes first.

    Args:
        instruments: An id, such as BINANCE_FUTURES:BTC-USDT-PERP, or several.
        start, end: Instants of the receipt clock in the forms that `book_at` takes; an event at the
            end is none of it.
        data_dir: The data folder; by default the one of the settings in force.
        scratch_dir: Where a day's trades lie while its events are made, 42 bytes each, in a file
            without a name; by default `staging` of the data folder, and for a user who may not
            write there the folder of temporary files (`TMPDIR`).

    Returns:
        A reader of record batches with the columns of `books.market_events`, see docs/events.md.

    Raises:
        MissingDataError, DomainError, CheckpointError, LakeFileError, SettingsError: As `replay`;
            those that are about what is read come while the batches are read.
        OSError: The scratch folder is not there, has no room, or may not be written to.
    """
    settings = load_settings() if data_dir is None else load_settings(data_dir=data_dir)
    ids = instrument_ids(instruments)
    span = span_of(start, end)
    scratch = Path(scratch_dir) if scratch_dir is not None else _own_scratch(settings.data_dir)
    streams = [_events(each, *span, settings, scratch) for each in ids]
    schema = stored_schema(MARKET_EVENTS)
    batches = (batch.cast(schema) for batch in _in_order(streams))
    return pa.RecordBatchReader.from_batches(schema, batches)


def _events(
    instrument: str, from_ns: int, until_ns: int, settings: Settings, scratch: Path | None
) -> Iterator[EventBatch]:
    span = {"from_ns": from_ns, "until_ns": until_ns}
    for day, message in days_between(instrument, **span, settings=settings, with_trades=True):
        yield from day_events(day, message=message, **span, folder=scratch)


def _own_scratch(data_dir: Path) -> Path | None:
    """Where the pipeline keeps such files, for a user who may; None is the system's folder."""
    folder = Warehouse(data_dir).staging_dir
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _in_order(streams: Sequence[Iterator[EventBatch]]) -> Iterator[pa.RecordBatch]:
    """The rows of all streams by their clocks, of equal times by stream."""
    if len(streams) == 1:
        yield from (batch.rows for batch in streams[0])
        return
    waiting: list[EventBatch | None] = [next(stream, None) for stream in streams]
    while any(waiting):
        # Up to the end of the batch that ends first all rows of all streams are here.
        ends = [(int(batch.clock_ns[-1]), k) for k, batch in enumerate(waiting) if batch]
        end_ns, first_to_end = min(ends)
        parts, clocks = [], []
        for k, batch in enumerate(waiting):
            if batch is None:
                continue
            count = int(np.count_nonzero(batch.clock_ns < end_ns + (k <= first_to_end)))
            parts.append(batch.rows.slice(0, count))
            clocks.append(batch.clock_ns[:count])
            rest = EventBatch(batch.clock_ns[count:], batch.rows.slice(count))
            waiting[k] = rest if rest.clock_ns.size else next(streams[k], None)
        order = np.argsort(np.concatenate(clocks), kind="stable")
        rows = pa.Table.from_batches(parts).unify_dictionaries().take(order)
        yield from rows.combine_chunks().to_batches()
