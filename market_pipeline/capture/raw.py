"""The way of a frame to the disk: appended where it arrived, written by a thread of its own.

Nothing on this way drops a frame. If the disk is slower than the venue, the connections are not
read until it has caught up, so that what waits is kept by the system and the venue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from market_pipeline.errors import is_of_machine

__all__ = ["Entry", "EntryWriter", "RawSink"]

_FULL_BYTES = 64 << 20
"""At so much backlog the connections are not read until it is written."""


class Entry(NamedTuple):
    """A record in the order of `RawSink.append`, with the symbol whose file it belongs to."""

    symbol: str
    kind: int
    wall_ns: int
    monotonic_ns: int
    connection: int
    stream: str
    payload: bytes
    opcode: int = 1
    update_id: int | None = None


class RawSink(Protocol):
    """Where entries are kept."""

    def append(self, entry: Entry) -> None:
        """Takes an entry."""

    def flush(self) -> None:
        """Gives everything taken to the system."""

    def sync(self) -> None:
        """Has the system put everything on the disk."""

    def close(self) -> None:
        """Closes the files, whole and synced."""


class EntryWriter:
    """Entries from the event loop to a sink.

    Args:
        sink: Used by the writer's thread only.
        flush_s, sync_s: How long an entry may wait for the system, and for the disk.
        on_full: Called by the thread with true when the backlog is full and reading is to stop,
            with false when there is room again.
        on_refused: Called by the thread with the reason when the sink cannot write, and with an
            empty text when it can again.

    Attributes:
        written: How many entries the system has.
        lags_ns: From receipt to the system, of the last entry of each flush, the newest last.
    """

    def __init__(
        self,
        sink: RawSink,
        *,
        flush_s: float,
        sync_s: float,
        on_full: Callable[[bool], None],
        on_refused: Callable[[str], None],
    ) -> None:
        self.written = 0
        self.lags_ns: list[int] = []
        self._sink = sink
        self._flush_s, self._sync_s = flush_s, sync_s
        self._on_full, self._on_refused = on_full, on_refused
        self._waiting: list[Entry] = []
        self._waiting_bytes = 0
        self._is_full = False
        self._refused: dict[Callable[[], None], str] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="raw", daemon=True)
        self._error: BaseException | None = None

    @property
    def waiting(self) -> int:
        """Entries that the system does not have yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Appends an entry; never waits for the disk.

        Raises:
            OSError: The thread has ended on an error that no waiting mends.
        """
        if self._error is not None:
            raise OSError("The recording has ended") from self._error
        with self._lock:
            self._waiting.append(entry)
            self._waiting_bytes += len(entry.payload)
            fills = self._waiting_bytes > _FULL_BYTES and not self._is_full
            self._is_full |= fills
        if fills:
            self._on_full(True)

    def stop(self) -> None:
        """Writes what is there, closes the files and ends the thread.

        Raises:
            BaseException: What the thread ended on.
        """
        self._stopping.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        synced_s = time.monotonic()
        try:
            while not self._stopping.wait(self._flush_s):
                self._write()
                if time.monotonic() - synced_s >= self._sync_s:
                    synced_s = time.monotonic()
                    self._attempt(self._sink.sync)
            self._write()
            self._sink.close()
        except BaseException as error:
            self._error = error
            self._on_refused(str(error))

    def _write(self) -> None:
        with self._lock:
            entries, self._waiting = self._waiting, []
            self._waiting_bytes = 0
            has_room, self._is_full = self._is_full, False
        if entries:
            for entry in entries:
                self._sink.append(entry)
            self._attempt(self._sink.flush)
            self.written += len(entries)
            self.lags_ns.append(time.monotonic_ns() - entries[-1].monotonic_ns)
            self.lags_ns.append(time.monotonic_ns() - entries[0].monotonic_ns)
            del self.lags_ns[:-2_000]
        if has_room:
            self._on_full(False)

    def _attempt(self, write: Callable[[], None]) -> None:
        """Writes; a machine that refuses is reported, and asked again with the next entries."""
        before, refused = self._why, ""
        try:
            write()
        except OSError as error:
            if not is_of_machine(error):
                raise
            refused = str(error)
        self._refused[write] = refused
        if self._why != before:
            self._on_refused(self._why)

    @property
    def _why(self) -> str:
        """Why something cannot be written; a sync that goes well does not end a flush's refusal."""
        return next(filter(None, self._refused.values()), "")
