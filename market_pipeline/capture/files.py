"""Where entries are kept: hourly files of each symbol, written by one process a venue and host."""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from market_pipeline.capture._sealer import HourSealer
from market_pipeline.capture.recorder import recorded_venue
from market_pipeline.config.settings import Settings
from market_pipeline.errors import LakeFileError, WarehouseBusyError
from market_pipeline.security.master import ring_of, sealing_ring
from market_pipeline.shown import shown_logger
from market_pipeline.sources.recording import (
    CONVERTER,
    HourlyRecorder,
    RecordingOf,
    recover,
)
from market_pipeline.sources.recording.format import PARTIAL_SUFFIX, SUFFIX, Entry
from market_pipeline.sources.recording.journal import JOURNAL_SUFFIX, Journal, recover_journals
from market_pipeline.sources.recording.open_file import locked
from market_pipeline.sources.recording.reader import Damage
from market_pipeline.sources.recording.writer import BACKLOG_BYTES, Backlog
from market_pipeline.warehouse.layout import make_private_folder
from market_pipeline.warehouse.locks import locking

__all__ = ["RecordingFiles", "recording_files"]

_LOG = shown_logger(__name__)


class RecordingFiles:
    """A `RawSink` of recordings.

    Args:
        root: The folder of all recordings.
        exchange: Whose symbols.
        host, session: Which machine, and which run of the recorder.
        on_closed: See `HourlyRecorder`; no journal has anything of the file any more.
    """

    def __init__(
        self,
        root: Path,
        exchange: str,
        host: str,
        session: str,
        on_closed: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self._root, self._exchange, self._host, self._session = root, exchange, host, session
        self._on_closed, self._closed = on_closed, list[Path]()
        self._recorders: dict[str, HourlyRecorder] = {}
        self._waiting = Backlog()
        self._journal = self._new_journal()
        self._settling: list[Journal] = []

    def append(self, entries: Sequence[Entry]) -> None:
        """Has the system keep entries; they are in no file of a symbol yet.

        Raises:
            OSError: The machine refuses, and nothing but memory has them.
        """
        self._journal.append(entries)

    def turn(self) -> None:
        """What is appended from now on is not of the next call of `settle`."""
        self._settling.append(self._journal)
        self._journal = self._new_journal()
        # While a file refuses they are not removed; memory has what it is to take. The last one
        # was not offered to any, and is large only where the disk was slow.
        while sum(each.size_bytes for each in self._settling[:-1]) > BACKLOG_BYTES:
            self._settling.pop(0).remove()

    def settle(self, entries: Sequence[Entry]) -> None:
        """Puts all that was appended before `turn` into the files of its symbols, on the disk.

        Raises:
            OSError: The machine refuses a file; the others are written all the same, and what it
                does not take waits for the next call.
        """
        by_symbol: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            by_symbol[entry.symbol].append(entry)
        for symbol, own in by_symbol.items():
            if symbol not in self._recorders:
                of = RecordingOf(self._exchange, symbol, self._host, self._session)
                self._recorders[symbol] = HourlyRecorder(
                    self._root, of, self._closed.append, self._waiting
                )
            self._recorders[symbol].extend(own)
        now_ns = time.time_ns()
        self._each(lambda recorder: recorder.flush(now_ns), HourlyRecorder.sync)
        self._remove_settled()

    def close(self) -> None:
        """Closes all files, with the same errors."""
        self._each(HourlyRecorder.close)
        self.turn()
        self._remove_settled()

    def _new_journal(self) -> Journal:
        return Journal(self._root / self._exchange, self._exchange, self._host, self._session)

    def _remove_settled(self) -> None:
        while self._settling:
            self._settling.pop().remove()
        # Not before: a host that seals may not open, and recovery compares journals with files.
        while self._closed:
            self._on_closed(self._closed.pop(0))

    def _each(self, *writes: Callable[[HourlyRecorder], object]) -> None:
        refused = None
        for write in writes:
            for recorder in self._recorders.values():
                try:
                    write(recorder)
                except OSError as error:
                    refused = refused or error
        if refused is not None:
            raise refused


@contextmanager
def recording_files(current: Callable[[], Settings]) -> Iterator[RecordingFiles]:
    """The files of a new session, below `recording` in the folder of the lake.

    There the source `recording` finds them. What a recorder that was killed left is closed first,
    at its last whole block. Where the settings seal captures, each file is sealed once its hour is
    over, by the master key of then, and those that lie there plain since before as well.

    Args:
        current: The settings as they are now.

    Raises:
        WarehouseBusyError: Another process on this host records the venue.
        VenueError: The settings name nothing that can be recorded.
        SealError: There is no key to seal captures with.
    """
    settings = current()
    ring = sealing_ring(settings, "captures")
    venue = recorded_venue(settings.capture)
    root, host = settings.lake_path / CONVERTER.name, socket.gethostname()
    make_private_folder(root)
    name = f"the recorder of {venue.name} on {host}"
    with locking(root / f".{venue.name}.{host}.lock", name=name, timeout_seconds=0.0):
        folder = root / venue.exchange
        _close_what_was_left(folder, host)
        if ring is None:
            yield RecordingFiles(root, venue.exchange, host, uuid4().hex[:12])
            return
        sealer = HourSealer(lambda: ring_of(current()), sorted(folder.rglob(f"*{SUFFIX}")))
        try:
            yield RecordingFiles(root, venue.exchange, host, uuid4().hex[:12], sealer.put)
        finally:
            sealer.close()


def _close_what_was_left(folder: Path, host: str) -> None:
    refused = WarehouseBusyError, LakeFileError, PermissionError, FileExistsError
    try:
        for _ in recover_journals(folder, host, _warn):
            pass
    except refused as error:
        _LOG.warning("What a recorder left is not in files yet: %s", error)
    for partial in sorted(folder.rglob(f"*{PARTIAL_SUFFIX}")):
        # Another process's, damaged in the middle, or copied again: it stays for whoever looks.
        with suppress(FileNotFoundError, *refused):
            recover(partial)
    with locked(folder.rglob(f".*{JOURNAL_SUFFIX}")) as left:
        for path in left:
            _LOG.warning(
                "%s was left, perhaps by another host, and what it has is not in files yet; once "
                "that has ended, `market-pipeline recording recover` puts it there",
                path,
            )


def _warn(damage: Damage) -> None:
    _LOG.warning(
        "%s is damaged, and %d bytes from byte %d are passed over: %s",
        *(damage.path, damage.size_bytes, damage.offset, damage.found),
    )
