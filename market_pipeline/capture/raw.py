"""The way of a frame to the disk: appended where it arrived, written by threads of its own.

Nothing on this way drops a frame. One thread gives all that has come to the system every few
milliseconds, in one write; another puts it into files and on the disk, every second or so. If the
disk is slower than the venue, the connections are not read until it has caught up, so that what
waits is kept by the system and the venue.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from market_pipeline.errors import is_of_machine
from market_pipeline.sources.recording.format import Entry

__all__ = ["EntryWriter", "RawSink"]

_FULL_BYTES = 64 << 20
"""At so much backlog the connections are not read until it is written."""
_SETTLED_BYTES = 8 << 20
"""So much is put into files at once, however little time has passed."""
_SWITCH_S = 0.0002
"""After so long a thread that computes lets another one run: the interpreter's own 5 ms, once for
each write, would be most of the lag while frames arrive faster than they can be read.
"""
_COLLECT_AFTER = 50_000
"""So many more objects have the collector look for cycles, with all threads waiting for it. After
the interpreter's own 700 a few batches do. What a capture makes of frames has no cycles, and what
was there before the first of them is never looked at again: that took a tenth of a second and more.
"""


class RawSink(Protocol):
    """Where entries are kept; `append` and `turn` are called by one thread, `settle` by another."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Gives entries to the system."""

    def turn(self) -> None:
        """The next `settle` is of what was appended so far; there is none meanwhile."""

    def settle(self, entries: Sequence[Entry]) -> None:
        """Puts what was appended before the last `turn` where it stays, on the disk."""

    def close(self) -> None:
        """Closes the files, whole and synced; there is no other call meanwhile."""


class EntryWriter:
    """Entries from the event loop to a sink.

    Args:
        sink: Used by the writer's threads only.
        flush_s, sync_s: How long an entry may wait for the system, and for the disk.
        on_full: Called by the thread with true when the backlog is full and reading is to stop,
            with false when there is room again.
        on_refused: Called by the thread with the reason when the sink cannot write, and with an
            empty text when it can again.

    Attributes:
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
        self.lags_ns: list[int] = []
        self._sink = sink
        self._flush_s, self._sync_s = flush_s, sync_s
        self._on_full, self._on_refused = on_full, on_refused
        self._waiting = deque[Entry]()
        self._put_bytes = self._done_bytes = 0  # the one by the event loop, the other by the thread
        self._unsettled: list[Entry] = []
        self._unsettled_bytes = self._settling_bytes = 0
        self._settling: Future[None] | None = None
        self._is_full = False
        self._refused = ""  # why, until files have all again
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="raw", daemon=True)
        self._error: BaseException | None = None

    @property
    def waiting(self) -> int:
        """Entries that the system does not have yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Starts the threads."""
        self._switched_s, self._collected_after = sys.getswitchinterval(), gc.get_threshold()
        sys.setswitchinterval(_SWITCH_S)
        gc.set_threshold(_COLLECT_AFTER, *self._collected_after[1:])
        gc.collect()
        gc.freeze()
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Appends an entry; never waits for the disk. Called by the event loop.

        Raises:
            OSError: The thread has ended on an error that no waiting mends.
        """
        if self._error is not None:
            raise OSError("The recording has ended") from self._error
        self._waiting.append(entry)
        self._put_bytes += len(entry.payload)
        if self._put_bytes - self._done_bytes > _FULL_BYTES and not self._is_full:
            self._is_full = True
            self._on_full(True)

    def stop(self) -> None:
        """Writes what is there, closes the files and ends the threads.

        Raises:
            BaseException: What the thread ended on.
        """
        self._stopping.set()
        self._thread.join()
        sys.setswitchinterval(self._switched_s)
        gc.unfreeze()
        gc.set_threshold(*self._collected_after)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        settled_s = time.monotonic()
        try:
            with ThreadPoolExecutor(1, "files") as files:
                while not self._stopping.wait(self._flush_s):
                    self._write()
                    self._let_in()
                    if self._settling is not None and not self._settling.done():
                        continue
                    is_due = time.monotonic() - settled_s >= self._sync_s
                    if is_due or self._unsettled_bytes >= _SETTLED_BYTES:
                        self._finish_settling()
                        settled_s = time.monotonic()
                        self._settle(files)
                self._write()
                self._finish_settling()
                self._settle(files)
                self._finish_settling()
            self._sink.close()
        except BaseException as error:
            self._error = error
            self._on_refused(str(error))

    def _write(self) -> None:
        """Gives the system what has come."""
        entries = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not entries:
            return
        if self._is_taken(lambda: self._sink.append(entries)):
            now_ns = time.monotonic_ns()
            self.lags_ns += [now_ns - entries[-1].monotonic_ns, now_ns - entries[0].monotonic_ns]
            del self.lags_ns[:-2_000]
        self._unsettled += entries
        self._unsettled_bytes += sum([len(entry.payload) for entry in entries])

    def _settle(self, files: ThreadPoolExecutor) -> None:
        """Has the other thread put into files what came since it was last asked."""
        entries, self._unsettled = self._unsettled, []
        self._settling_bytes, self._unsettled_bytes = self._unsettled_bytes, 0
        self._sink.turn()
        self._settling = files.submit(self._sink.settle, entries)

    def _finish_settling(self) -> None:
        """Waits for the other thread, and reports what came of it."""
        if self._settling is None:
            return
        if self._is_taken(self._settling.result) and self._refused:
            self._refused = ""
            self._on_refused("")
        self._done_bytes += self._settling_bytes
        self._settling = None

    def _let_in(self) -> None:
        """Has the connections read again once there is room."""
        if self._is_full and self._put_bytes - self._done_bytes <= _FULL_BYTES:
            self._is_full = False
            self._on_full(False)

    def _is_taken(self, write: Callable[[], None]) -> bool:
        """Writes; a machine that refuses is reported, and asked again with the next entries."""
        try:
            write()
        except OSError as error:
            if not is_of_machine(error):
                raise
            if not self._refused:
                self._refused = str(error)
                self._on_refused(self._refused)
            return False
        return True
