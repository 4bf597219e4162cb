"""Where each message of a day begins, and its times: found by the profile, read by what follows.

Suspected gaps and the places of messages follow from the times of the whole day. To decode these
once more costs as much as a quarter of the rebuild; to read them back costs a hundredth of that.
One file per instrument and day in the staging folder, which nothing depends on: where it is gone,
damaged or of other raw files, the raw files are read again.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from market_pipeline.books.boundaries import FirstRows, first_rows
from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.crypto_lake import read_times
from market_pipeline.warehouse.layout import Warehouse, make_private_folder, written_whole
from market_pipeline.warehouse.lineage import files_sha256

__all__ = ["day_messages", "forget_messages", "keep_messages"]

_FORMAT = 2
_HEAD_BYTES = 128
_MESSAGE_BYTES = len(FirstRows._fields) * np.dtype(np.int64).itemsize


def keep_messages(
    warehouse: Warehouse,
    instrument: Instrument,
    day: date,
    sha256: Sequence[str],
    messages: FirstRows,
) -> None:
    """Writes down the messages of the delta files of these hashes, in place of others of the day.

    Raises:
        OSError: If it cannot be written.
    """
    make_private_folder(warehouse.staging_dir)
    columns = [np.ascontiguousarray(column) for column in messages]
    with written_whole(_path(warehouse, instrument, day)) as file:
        file.write(_head(sha256, columns))
        for column in columns:
            file.write(column.data)


def day_messages(
    warehouse: Warehouse,
    instrument: Instrument,
    day: date,
    deltas: Sequence[Path],
    sha256: Sequence[str],
) -> FirstRows:
    """The messages of a day's delta files, as they were kept or else as the files tell.

    Args:
        warehouse: Where they may be kept.
        instrument, day: Whose.
        deltas, sha256: The raw files in order, and their hashes.

    Raises:
        MarketPipelineError: Whatever reading the files raises.
    """
    kept = _kept(_path(warehouse, instrument, day), sha256)
    return first_rows(read_times(deltas)) if kept is None else kept


def forget_messages(warehouse: Warehouse, instruments: Iterable[Instrument], day: date) -> None:
    """Removes what was kept of a day: no stage is left that asks for it."""
    for instrument in instruments:
        _path(warehouse, instrument, day).unlink(missing_ok=True)


def _kept(path: Path, sha256: Sequence[str]) -> FirstRows | None:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            size = os.fstat(file.fileno()).st_size - _HEAD_BYTES
            if size < 0 or size % _MESSAGE_BYTES:
                return None
            # Mapped, not read: it is never written to once it is there, and may be a gigabyte.
            values = np.memmap(file, np.int64, "r", _HEAD_BYTES) if size else np.empty(0, np.int64)
    except FileNotFoundError:
        return None
    columns = np.asarray(values).reshape(len(FirstRows._fields), -1)
    return FirstRows._make(columns) if head == _head(sha256, columns) else None


def _head(sha256: Sequence[str], columns: Iterable[np.ndarray]) -> bytes:
    """What the file is, of which raw files, and how long and what it holds; `_HEAD_BYTES` long."""
    size = checksum = 0
    for column in columns:
        size += column.size
        checksum = zlib.crc32(column.data, checksum)
    head = f"messages {_FORMAT} {files_sha256(sha256)} {size} {checksum:08x}"
    return head.ljust(_HEAD_BYTES - 1).encode() + b"\n"


def _path(warehouse: Warehouse, instrument: Instrument, day: date) -> Path:
    return warehouse.scratch_file(day, instrument.id, "messages")
