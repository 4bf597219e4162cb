"""Alerts of a capture: put into the outbox and delivered by the recorder's own process.

Within a minute something must be known of frames that are missing, also where Dagster does not run
or its code cannot be loaded. A thread does it all: the record waits for nothing here.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue

from market_pipeline.alerts.alert import Alert, Severity
from market_pipeline.alerts.delivery import Patience, deliver, send_past
from market_pipeline.alerts.missing_frames import (
    ALL_SYMBOLS,
    MissingFrames,
    frames_missing,
)
from market_pipeline.alerts.outbox import Outbox
from market_pipeline.alerts.payloads import Links
from market_pipeline.alerts.targets import configured_targets
from market_pipeline.capture.status import Status
from market_pipeline.config.settings import Settings
from market_pipeline.errors import MarketPipelineError
from market_pipeline.quality.intervals import NS_PER_SECOND, utc_text
from market_pipeline.sources.recording import CONVERTER
from market_pipeline.sources.recording.check import FileState, read_facts
from market_pipeline.sources.recording.format import PARTIAL_SUFFIX, Header
from market_pipeline.sources.recording.journal import JOURNAL_SUFFIX, left_journals
from market_pipeline.warehouse.heartbeats import BEAT_SECONDS, heartbeats
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["CaptureAlerts", "hung_captures", "stopped_captures"]

_NEW_SECONDS = 2 * 86_400.0
_END_SECONDS = 30.0
"""For the last alerts of a recorder that ends; what is not sent by then waits in the outbox."""
_HUNG_SECONDS = 3 * BEAT_SECONDS


class CaptureAlerts:
    """What a capture misses, to every receiver; without one but the log nothing is done.

    Entered before the recorder's files are opened, it reports what a recorder before left open.

    Args:
        current: The settings as they are now: the receivers, and what is recorded.
        exchange: Whose symbols.
    """

    def __init__(self, current: Callable[[], Settings], exchange: str) -> None:
        self._current, self._exchange = current, exchange
        self._turn_to_receivers()
        self._warehouse = Warehouse(self._settings.data_dir)
        self._host = socket.gethostname()
        self._watch = MissingFrames(exchange, self._host, self._settings.capture)
        self._found: SimpleQueue[list[Alert] | None] = SimpleQueue()
        self._waiting: list[Alert] = []
        self._past: set[Alert] = set()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def __enter__(self) -> CaptureAlerts:
        if self._receivers:
            left = stopped_captures(self._settings, time.time(), "WARN")
            prefix = f"{self._exchange}:"
            self._found.put([each for each in left if (each.instrument or "").startswith(prefix)])
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._found.put(None)
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def look(self, status: Status) -> None:
        """Takes the state of the capture; called every few seconds, and waits for nothing."""
        if self._thread.is_alive():
            self._found.put(self._watch.look(status))

    def ended(self, error: Exception) -> None:
        """Takes what the recorder ended by."""
        text = f"the recorder has ended, {type(error).__name__}: {error}"
        instrument = f"{self._exchange}:{ALL_SYMBOLS}"
        self._found.put([frames_missing(instrument, self._host, text, "ERROR", time.time_ns())])

    def _run(self) -> None:
        turn_s = float("-inf")
        while (found := self._found.get()) is not None:
            self._waiting += found
            is_due = time.monotonic() - turn_s >= self._settings.alert_interval_seconds
            if self._waiting or is_due:
                self._turn()
                turn_s = time.monotonic()

    def _turn_to_receivers(self) -> None:
        """Those that the settings name now, with the credentials of now."""
        self._settings = self._current()
        self._targets = configured_targets(self._settings)
        # The log is the daemon's: what happens here the recorder prints itself.
        self._receivers = [target for target in self._targets if target.kind != "log"]

    def _turn(self) -> None:
        """Puts in what waits, and sends what is due."""
        self._turn_to_receivers()
        if not self._receivers:  # taken away meanwhile; there may be one again
            self._waiting.clear()
            return
        fresh = [each for each in self._waiting if each.ended_ns is None]
        links, names = Links.of(self._settings), [each.name for each in self._targets]
        try:
            Outbox(self._warehouse).take(self._waiting, names, now_s=time.time())
            self._waiting.clear()
            self._past.clear()
            deliver(
                *(self._warehouse, self._targets, links, Patience.of(self._settings)),
                only=[each.name for each in self._receivers],
            )
        except (MarketPipelineError, OSError) as error:
            # A full disk keeps the outbox from being written, and is what is to be reported.
            for alert in [each for each in fresh if each not in self._past]:
                self._past.add(alert)
                timeout_s = self._settings.alert_timeout_seconds
                send_past(alert, self._receivers, links, timeout_s, error)


def stopped_captures(
    settings: Settings, now_s: float, severity: Severity, quiet_seconds: float = 0.0
) -> list[Alert]:
    """An alert for each symbol that a killed recorder of this host left, today or yesterday.

    It left a file open, or a journal whose records no file may have.

    Args:
        settings: Where recordings lie.
        now_s: Unix time.
        severity: Of the alerts.
        quiet_seconds: Only where nothing was written for so long.
    """
    host, root = socket.gethostname(), settings.lake_path / CONVERTER.name
    left, going_on = dict[str, int](), set[str]()
    for header, state, written_ns in _not_closed(settings, now_s):
        instrument = f"{header.exchange}:{header.symbol}"
        if state is FileState.LEFT_OPEN:
            left[instrument] = max(written_ns, left.get(instrument, 0))
        else:
            going_on.add(instrument)
    # One that was killed before its first block has left a journal alone.
    for _, of, days in left_journals(sorted(root.glob(f"*/.*{JOURNAL_SUFFIX}"))):
        written_ns = max((own.last_ns for own in days.values()), default=0)
        is_new = now_s - written_ns / NS_PER_SECOND < _NEW_SECONDS
        if of is not None and of.host == host and is_new:
            for symbol, _ in days:
                instrument = f"{of.exchange}:{symbol}"
                left[instrument] = max(written_ns, left.get(instrument, 0))
    text = (
        "the recorder ended without closing its files, and nothing was recorded since {}; its next "
        "start, or `market-pipeline recording recover`, closes them"
    )
    return [
        frames_missing(instrument, host, text.format(utc_text(written_ns)), severity, written_ns)
        for instrument, written_ns in left.items()
        if instrument not in going_on and now_s - written_ns / NS_PER_SECOND >= quiet_seconds
    ]


def hung_captures(settings: Settings, now_s: float) -> list[Alert]:
    """An alert for each recorder of this host that has its files open and gives no sign of life.

    Args:
        settings: Where recordings lie.
        now_s: Unix time.
    """
    host = socket.gethostname()
    quiet = {
        each.process.removeprefix("capture-"): each
        for each in heartbeats(Warehouse(settings.data_dir))
        if each.host == host and now_s - each.wall_ns / NS_PER_SECOND >= _HUNG_SECONDS
    }
    hung = {
        header.exchange
        for header, state, _ in (_not_closed(settings, now_s) if quiet else ())
        if state is not FileState.LEFT_OPEN
    }
    text = (
        "the recorder, process {}, gives no sign of life since {}: it hangs, or cannot write; what "
        "comes may be lost until it is started again"
    )
    return [
        frames_missing(
            *(f"{exchange}:{ALL_SYMBOLS}", host, text.format(each.pid, utc_text(each.wall_ns))),
            *("ERROR", each.wall_ns),
        )
        for exchange, each in quiet.items()
        if exchange in hung
    ]


def _not_closed(settings: Settings, now_s: float) -> Iterator[tuple[Header, FileState, int]]:
    """This host's files of today and yesterday that have no end yet, with when they were written
    last, ns UTC.
    """
    host, root = socket.gethostname(), settings.lake_path / CONVERTER.name
    today = datetime.fromtimestamp(now_s, UTC).date()
    for day in (today, today - timedelta(days=1)):
        for path in sorted(root.glob(f"*/*/{day}/*{PARTIAL_SUFFIX}")):
            with suppress(FileNotFoundError):  # it was closed meanwhile
                facts, written_ns = read_facts(path), path.stat().st_mtime_ns
                if facts.header is not None and facts.header.host == host:
                    yield facts.header, facts.state, written_ns
