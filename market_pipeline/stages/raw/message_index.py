"""Where each message of a day begins, and its times: found by the profile, read by what follows.

Suspected gaps and the places of messages follow from the times of the whole day. To decode these
once more costs as much as a quarter of the rebuild; to read them back costs a hundredth of that.
One file per instrument and day in the staging folder, which nothing depends on: where it is gone,
damaged or of other raw files, the raw files are read again. Either way the messages are mapped from
a file, so that a day of millions of them is never held in memory.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.boundaries import FirstRows, MessageStarts
from market_pipeline.config.instruments import Instrument
from market_pipeline.mapped import ColumnWriter, map_columns, mapped
from market_pipeline.sources.crypto_lake import DELTAS, RawTable, count_rows, read_times
from market_pipeline.warehouse.layout import Warehouse, make_private_folder, written_whole
from market_pipeline.warehouse.lineage import files_sha256

__all__ = ["MessageIndex", "day_messages", "forget_messages", "keep_messages", "read_messages"]

_FORMAT = 3
_HEAD_BYTES = 192
_HEAD = re.compile(rb"messages \d+ [0-9a-f]+ (\d{1,12}) of (\d{1,12}) ")
_TYPES = [np.int64] * len(FirstRows._fields)


class MessageIndex:
    """Writes down the messages of a day as they are found.

    Args:
        file: Where to.
        most: There are no more.
    """

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._columns = ColumnWriter(file, _TYPES, most, _HEAD_BYTES)
        self._checksums = [0] * len(_TYPES)

    def add(self, messages: FirstRows) -> None:
        """Takes further messages.

        Raises:
            OSError: If they cannot be written.
        """
        self._columns.add(messages)
        self._checksums = list(map(_checksum, messages, self._checksums))

    def head(self, sha256: Sequence[str]) -> bytes:
        """What the file is: of which raw files, and how much it holds; `_HEAD_BYTES` long."""
        return _head(sha256, self._columns.rows, self._columns.most, self._checksums)


@contextmanager
def keep_messages(
    warehouse: Warehouse, instrument: Instrument, day: date, sha256: Sequence[str], most: int
) -> Iterator[MessageIndex]:
    """An index to be filled, which takes the place of another of the day when the block ends well.

    Args:
        warehouse, instrument, day: Where it is kept.
        sha256: The hashes of the raw files.
        most: Their rows.

    Raises:
        OSError: If it cannot be written.
    """
    make_private_folder(warehouse.staging_dir)
    with written_whole(_path(warehouse, instrument, day)) as file:
        index = MessageIndex(file, most)
        yield index
        file.seek(0)
        file.write(index.head(sha256))


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
        OSError: If they cannot be written down.
    """
    kept = _kept(_path(warehouse, instrument, day), sha256)
    return read_messages(deltas, warehouse) if kept is None else kept


def read_messages(
    files: Sequence[Path], warehouse: Warehouse, table: RawTable = DELTAS
) -> FirstRows:
    """The messages of delta files, or snapshots, mapped from a file that goes with them.

    Raises:
        MarketPipelineError: Whatever reading the files raises.
        OSError: If they cannot be written down.
    """
    rows = count_rows(files, table)
    make_private_folder(warehouse.staging_dir)
    return FirstRows._make(mapped(_messages(files, table), _TYPES, rows, warehouse.staging_dir))


def _messages(files: Sequence[Path], table: RawTable) -> Iterator[FirstRows]:
    starts, row = MessageStarts(), 0
    for times in read_times(files, table):
        if table is DELTAS:
            yield starts.add(*times)
        else:
            yield FirstRows(np.arange(row, row + times[0].size), *times)
            row += times[0].size


def forget_messages(warehouse: Warehouse, instruments: Iterable[Instrument], day: date) -> None:
    """Removes what was kept of a day: no stage is left that asks for it."""
    for instrument in instruments:
        _path(warehouse, instrument, day).unlink(missing_ok=True)


def _kept(path: Path, sha256: Sequence[str]) -> FirstRows | None:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            found = _HEAD.match(head)
            if found is None:
                return None
            rows, most = map(int, found.groups())
            columns = map_columns(file, _TYPES, most, rows, _HEAD_BYTES)
    except FileNotFoundError:
        return None
    except ValueError:
        return None  # it is shorter than its head says
    checksums = [_checksum(column, 0) for column in columns]
    return FirstRows._make(columns) if head == _head(sha256, rows, most, checksums) else None


def _checksum(column: NDArray[np.int64], before: int) -> int:
    return zlib.crc32(column.data, before)


def _head(sha256: Sequence[str], rows: int, most: int, checksums: Iterable[int]) -> bytes:
    every = " ".join(f"{each:08x}" for each in checksums)
    head = f"messages {_FORMAT} {files_sha256(sha256)} {rows} of {most} {every}"
    return head.ljust(_HEAD_BYTES - 1).encode() + b"\n"


def _path(warehouse: Warehouse, instrument: Instrument, day: date) -> Path:
    return warehouse.scratch_file(day, instrument.id, "messages")
