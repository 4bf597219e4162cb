"""The files of a recording, one for each UTC hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from market_pipeline.sources.recording.format import Entry
from market_pipeline.sources.recording.writer import Backlog, RecordingOf, RecordingWriter

__all__ = ["HOUR_NS", "HourlyRecorder"]

HOUR_NS = 3_600_000_000_000


class HourlyRecorder:
    """Writes a file for each hour of the wall clock; used by one thread.

    A clock that is put back by less than an hour makes no further file.

    Args:
        root: The folder of all recordings.
        of: What is recorded.
        on_closed: Is given the file of each hour that is over.
        waiting: See `RecordingWriter`.
    """

    def __init__(
        self,
        root: Path,
        of: RecordingOf,
        on_closed: Callable[[Path], None] = lambda _: None,
        waiting: Backlog | None = None,
    ) -> None:
        self._root, self._of, self._on_closed = root, of, on_closed
        self._waiting = waiting or Backlog()
        self._hour = -1
        self._now = RecordingWriter(root, of, self._waiting)
        self._past: list[RecordingWriter] = []

    def append(
        self,
        kind: int,
        wall_ns: int,
        monotonic_ns: int,
        connection: int,
        stream: str,
        payload: bytes,
        opcode: int = 1,
        update_id: int | None = None,
    ) -> None:
        """See `RecordingWriter.append`."""
        self._turn(wall_ns)
        self._now.append(
            kind, wall_ns, monotonic_ns, connection, stream, payload, opcode, update_id
        )

    def extend(self, entries: Sequence[Entry]) -> None:
        """See `RecordingWriter.extend`."""
        for _, own in groupby(entries, key=lambda entry: entry.wall_ns // HOUR_NS):
            part = list(own)
            self._turn(part[0].wall_ns)
            self._now.extend(part)

    def flush(self, wall_ns: int | None = None) -> None:
        """Writes what was appended, and closes the files of hours that are over.

        Args:
            wall_ns: Now, so that the file of an hour is closed also where no record comes after it.

        Raises:
            OSError: See `RecordingWriter.flush`.
        """
        if wall_ns is not None:
            self._end_before(wall_ns // HOUR_NS)
        try:
            while self._past:
                closed = self._past[0].close()
                del self._past[0]
                if closed is not None:
                    self._on_closed(closed.path)
        finally:  # what waits is counted, and has an end, only where it was flushed
            self._now.flush()

    def sync(self) -> None:
        """See `RecordingWriter.sync`."""
        self._now.sync()

    def close(self) -> None:
        """Closes all files."""
        self._past.append(self._now)
        self._now = RecordingWriter(self._root, self._of, self._waiting)
        self.flush()

    def _turn(self, wall_ns: int) -> None:
        hour = wall_ns // HOUR_NS
        self._end_before(hour)
        if self._hour < 0:
            self._hour = hour

    def _end_before(self, hour: int) -> None:
        """Ends the hour if it is another.

        The next is that of the first record to come, which may have been on its way: then it is of
        the hour that is over, and lies in a further file of it.
        """
        if self._hour < 0 or hour in (self._hour, self._hour - 1):
            return
        self._past.append(self._now)
        self._now = RecordingWriter(self._root, self._of, self._waiting)
        self._hour = -1
