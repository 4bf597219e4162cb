"""Which file each frame of a merged sample came from, as a Parquet table."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from market_pipeline.sources.recording.union import Received, file_name
from market_pipeline.sources.venues.venue import Classified
from market_pipeline.warehouse.layout import written_whole

__all__ = ["FrameOrigins"]

_ROWS = 65_536
_NAMES = pa.dictionary(pa.int32(), pa.string())
_SCHEMA = pa.schema(
    {"wall_ns": pa.int64(), "stream": _NAMES, "last_id": pa.int64(), "file": _NAMES}
)


class FrameOrigins:
    """Writes a row for each frame of a union, in its order; a context manager.

    Columns: `wall_ns` (receipt, ns UTC), `stream`, `last_id` (null where the venue gives none),
    `file` (its day and name).
    """

    def __init__(self, path: Path) -> None:
        self._path, self._stack = path, ExitStack()
        self._rows: list[tuple[int, str, int | None, str]] = []

    def __enter__(self) -> FrameOrigins:
        file = self._stack.enter_context(written_whole(self._path))
        self._writer = self._stack.enter_context(
            pq.ParquetWriter(file, _SCHEMA, compression="zstd")
        )
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._write()
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def take(self, arrival: Received, head: Classified) -> None:
        """Takes the next frame of the union."""
        record = arrival.record
        stream = head.stream or record.stream
        self._rows.append((record.wall_ns, stream, head.last_id, file_name(arrival.file)))
        if len(self._rows) >= _ROWS:
            self._write()

    def _write(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else ([] for _ in _SCHEMA)
        arrays = [
            pa.array(list(column), field.type.value_type if field.type == _NAMES else field.type)
            for column, field in zip(columns, _SCHEMA, strict=True)
        ]
        table = pa.table(arrays, names=_SCHEMA.names).cast(_SCHEMA)
        self._writer.write_table(table)
        self._rows.clear()
