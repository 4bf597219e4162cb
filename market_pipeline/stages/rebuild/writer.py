"""The staged files of one instrument's rebuild, written part after part."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import pyarrow as pa

from market_pipeline.books.arrow import BookArrow
from market_pipeline.books.intervals import Intervals
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import Rows
from market_pipeline.books.state import BboRows, DepthRows, Repairs
from market_pipeline.books.tables import BBO, BOOK_FILES, CHECKPOINTS, DEPTH, INTERVALS
from market_pipeline.stages.rebuild.prefetch import Background
from market_pipeline.stages.rebuild.raw_files import RawFiles
from market_pipeline.warehouse.staging import ROW_GROUP_ROWS, StagedFile, StagedWriter

__all__ = ["BookWriter"]

# One checkpoint holds thousands of levels, and an interval its evidence in words. The writer does
# not know the size of these, so fewer of them fill a row group.
_GROUP_ROWS = {CHECKPOINTS.sql_name: 64, INTERVALS.sql_name: 1 << 16}
_TABLES = {table.sql_name: table for table in BOOK_FILES}


class BookWriter:
    """Writes the blocks of a rebuild into one file a table and part; a context manager.

    If the `with` block raises, the part under way is removed; finished parts stay.

    Args:
        raw: Whose day, in which tick and lot, and where to write.
        intervals: Finds the intervals in the blocks.
        files: Parts that are finished already, by table.
        overlap: Whether to write in a thread of its own.
    """

    def __init__(
        self,
        raw: RawFiles,
        intervals: Intervals,
        files: Mapping[str, list[StagedFile]] | None = None,
        *,
        overlap: bool = True,
    ) -> None:
        self._raw = raw
        self._arrow = BookArrow(raw.instrument, raw.day, raw.price_scale, raw.size_scale)
        self._intervals = intervals
        self._background = Background(overlap=overlap)
        self._writers: dict[str, StagedWriter] = {}
        self._keyframes: list[Keyframe] = []
        self.files = {name: list((files or {}).get(name, [])) for name in _TABLES}
        finished = [file.part for parts in self.files.values() for file in parts]
        self._part = max(finished, default=-1) + 1

    def __enter__(self) -> Self:
        self._background.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._background.__exit__(kind, error, trace)
        for writer in self._writers.values():
            writer.__exit__(kind, error, trace)
        self._writers = {}

    def write(self, block: Rows) -> None:
        """Takes the next block of the rebuild."""
        self._background.add(self._write, block)

    def finish_part(self, *, last: bool = False) -> None:
        """Finishes the files under way; a table without rows since the last part gets none.

        Of a day without any row of a table, the last part is a file without rows.
        """
        self._background.settle()
        self._write_keyframes()
        if last:
            for batch in self._intervals.finish():
                self._append(INTERVALS.sql_name, batch)
            for name in _TABLES:
                if not self.files[name]:
                    self._writer(name)
        for name, writer in self._writers.items():
            writer.__exit__(None, None, None)
            self.files[name].append(writer.staged)
        # Rows that wait for evidence may leave a part without any.
        self._part += bool(self._writers)
        self._writers = {}

    def discard(self) -> None:
        """Removes the finished parts, but none that was published before."""
        for files in self.files.values():
            for file in files:
                if file.path.parent == self._raw.warehouse.staging_dir:
                    file.path.unlink(missing_ok=True)

    def _write(self, block: Rows) -> None:
        if isinstance(block, BboRows):
            # All that came since the last rows: making Arrow of one takes as long as of several.
            self._write_keyframes()
            self._append(BBO.sql_name, self._arrow.bbo(block))
            for batch in self._intervals.add_rows(block):
                self._append(INTERVALS.sql_name, batch)
        elif isinstance(block, DepthRows):
            self._append(DEPTH.sql_name, self._arrow.depth(block))
        elif isinstance(block, Repairs):
            self._intervals.add_repairs(block)
        else:
            self._keyframes.append(block)

    def _write_keyframes(self) -> None:
        if self._keyframes:
            self._append(CHECKPOINTS.sql_name, self._arrow.checkpoints(self._keyframes))
            self._keyframes = []

    def _append(self, name: str, rows: pa.RecordBatch) -> None:
        self._writer(name).write(rows)

    def _writer(self, name: str) -> StagedWriter:
        if name not in self._writers:
            self._writers[name] = StagedWriter(
                self._raw.warehouse,
                _TABLES[name],
                self._raw.instrument.id,
                metadata=self._raw.scale_texts,
                row_group_rows=_GROUP_ROWS.get(name, ROW_GROUP_ROWS),
                part=self._part,
            ).__enter__()
        return self._writers[name]
