"""What is made of a capture while it runs: live books, bars and best quotes, and their sinks.

It has a thread and an event loop of its own. The record is fed before it and never waits for it:
where it is slow or fails, its own rows and the time of its books suffer, and frames do not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from functools import partial

from market_pipeline.capture.bars import BarOperator
from market_pipeline.capture.flow import Handover, Policy, TokenBucket
from market_pipeline.capture.klines import KLINE_SECONDS, KlineComparison
from market_pipeline.capture.operators import Bars, BestQuotes
from market_pipeline.capture.pipeline import (
    Change,
    Event,
    Notice,
    Operator,
    Pipeline,
    Taken,
    label_of,
)
from market_pipeline.capture.scales import Scales, listed_scales
from market_pipeline.capture.sinks import Sink, sink_of
from market_pipeline.capture.status import SinkStatus, Status, StreamStatus
from market_pipeline.capture.stream_state import CUT, BookState
from market_pipeline.capture.touch_metrics import TouchMetrics
from market_pipeline.config.capture import CaptureSettings
from market_pipeline.config.instruments import Instrument, load_instruments
from market_pipeline.config.settings import Settings
from market_pipeline.errors import InstrumentsError
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.venue import Kind, Venue
from market_pipeline.telemetry.metrics.capture_table import SINK_COMMIT_DURATION
from market_pipeline.telemetry.metrics.recording import record

__all__ = ["Derived", "derived_part"]

_OF_OPERATORS = frozenset({Kind.DEPTH, Kind.SNAPSHOT, Kind.QUOTES, Kind.TRADES, Kind.KLINES})


class Derived:
    """The derived part of a capture.

    Args:
        settings: What is recorded, and how rows are made and written.
        venue: Whose frames.
        scales: Tick and lot by symbol; those of others are inferred.
        sinks: By name.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        venue: Venue,
        scales: Mapping[str, Scales],
        sinks: dict[str, Sink],
    ) -> None:
        self._settings, self._reader = settings, FrameReader(venue)
        self._asked: Callable[[str], None] = lambda symbol: None
        self._reported: Callable[[str, str], None] = lambda level, text: None
        self.handover: Handover[Taken] = Handover(
            settings.batch_rows,
            settings.batch_bytes,
            settings.batch_ms / 1000,
            settings.queue_batches,
        )
        self.books: dict[str, BestQuotes] = {}
        self._failed_at_ns: dict[str, int] = {}
        self._cut_at_ns: dict[str, int] = {}
        self._klines: dict[str, KlineComparison] = {}
        self._without_bars: list[str] = []
        self._now_ns = 0
        self.pipeline = Pipeline(
            self._operators(scales, bool(sinks)),
            sinks,
            sink_batches=settings.sink_batches,
            sink_policy=Policy(settings.sink_policy),
            sink_workers=settings.sink_workers,
            pace=partial(TokenBucket, settings.sink_rows_per_second, settings.sink_rows_burst),
            # A touch is worth nothing once there is a later one; with `block` none is left out.
            conflate=() if settings.sink_policy == "block" else {BestQuotes.name},
            on_failed=self._switched_off,
            on_back=self._back,
            on_commit=partial(self._committed, venue.exchange),
        )
        self._thread = threading.Thread(target=self._run, name="derived", daemon=True)

    @property
    def is_pressed(self) -> bool:
        """Whether a queue asks for less: what can wait, such as REST snapshots, should."""
        return self.handover.is_pressed or self.pipeline.is_pressed

    def start(self, ask: Callable[[str], None], report: Callable[[str, str], None]) -> None:
        """Starts the thread, which calls both functions.

        Args:
            ask: Takes a symbol whose book needs a whole one.
            report: Takes level and text of what happens.
        """
        self._asked, self._reported = ask, report
        for symbol, book in self.books.items():
            if book.scales is not None:
                tick, lot = (f"{scale.step:f}" for scale in book.scales)
                text = f"tick {tick} and lot {lot}, of the instruments file"
                report("info", f"{Kind.DEPTH}:{symbol}: {text}")
        for symbol in self._without_bars:
            text = "tick and lot are neither in the instruments file nor to be inferred from depth"
            report("warning", f"{symbol} has no bars: {text}")
        self._thread.start()

    def put(self, event: Event) -> None:
        """Gives a frame after it was recorded; never waits.

        Where the queue is full the frame is not taken, and the books of its stream are lost.
        """
        if event.found.kind not in _OF_OPERATORS:
            return
        self._now_ns = event.received_ns
        if self._cut_at_ns and self.handover.has_room:
            self._note_cut()
        if not self.handover.put(event, len(event.frame)):
            self._cut_at_ns.setdefault(event.found.stream, event.received_ns)

    def note(self, notice: Notice) -> None:
        """Gives what frames do not show, in its place among them."""
        self._now_ns = notice.at_ns
        if self._cut_at_ns:
            # What passes while frames are left out is not to count as what the book was before.
            if notice.change is Change.NONE:
                return
            self._note_cut()
        self.handover.put(notice, always=True)

    @property
    def is_running(self) -> bool:
        """Whether rows are still made or written."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Takes nothing more; what waits is made and written."""
        if self._cut_at_ns:
            self._note_cut()
            self.note(Notice(Change.NONE, self._now_ns))
        self.handover.close()

    def stop(self) -> None:
        """Has what waits made and written, for so long as the settings allow."""
        self.close()
        self._thread.join(self._settings.sink_end_seconds)
        if self._thread.is_alive():
            rows = {name: len(queue) for name, queue in self.pipeline.queues.items()}
            self._report("error", f"sinks have not ended in time; batches not written: {rows}")

    def refresh(self, status: Status) -> None:
        """Brings what is known of books and sinks up to date."""
        status.derived_waiting, status.derived_dropped = (
            self.handover.waiting,
            self.handover.dropped,
        )
        status.derived_share = self.handover.share
        status.switched_off = {name: str(error) for name, error in self.pipeline.failed.items()}
        for name, queue in self.pipeline.queues.items():
            sink = self.pipeline.sinks[name]
            # A sink of one's own need not count.
            commits, failures = (getattr(sink, each, 0) for each in ("commits", "failures"))
            status.sinks[name] = SinkStatus(
                *(self.pipeline.written[name], queue.dropped, len(queue), queue.blocked_s),
                *(commits, failures, self.pipeline.paces[name].blocked_s, queue.share),
                self.pipeline.left_out[name],
            )
        status.conflated = self.pipeline.conflated
        for symbol, each in self.books.items():
            name = f"{Kind.DEPTH}:{symbol}"
            self._refresh_stream(name, status.streams[name], each)
        for symbol, klines in self._klines.items():
            stream = status.streams[f"{Kind.KLINES}:{symbol}"]
            stream.klines_equal, stream.klines_different = klines.equal, klines.different
        for operator in self.pipeline.operators:
            if isinstance(operator, Bars):
                stream = status.streams[f"{Kind.TRADES}:{operator.symbol}"]
                stream.bars, stream.late_trades = operator.closed, operator.too_late

    def _refresh_stream(self, name: str, stream: StreamStatus, each: BestQuotes) -> None:
        book, label = each.book, label_of(each)
        if book is not None:
            stream.book, stream.reason = book.state, book.reason
            stream.resyncs, stream.refused_levels = book.resyncs, book.refused
            stream.count(book.seconds)
        since_ns = self._cut_at_ns.get(name)
        if since_ns is not None:
            stream.book, stream.reason = BookState.RESYNC, CUT
        if label in self._failed_at_ns:
            since_ns = self._failed_at_ns[label]
            stream.book, stream.reason = "off", str(self.pipeline.failed.get(label, ""))
        if since_ns is not None:
            stream.gap_s += max(self._now_ns - since_ns, 0) / NS_PER_SECOND

    def _operators(self, scales: Mapping[str, Scales], has_sinks: bool) -> list[Operator]:
        settings, operators = self._settings, list[Operator]()
        for symbol in settings.symbols:
            if Kind.DEPTH in settings.streams:
                metrics = TouchMetrics(symbol, settings.metrics_seconds) if has_sinks else None
                self.books[symbol] = BestQuotes(
                    symbol,
                    self._reader,
                    scales.get(symbol),
                    ask=self._ask,
                    report=self._report,
                    metrics=metrics,
                )
                # They are made of the books that the one before them has given.
                operators += [self.books[symbol], *([] if metrics is None else [metrics])]
            if Kind.TRADES in settings.streams:
                if symbol in self.books or symbol in scales:
                    operators.append(self._bars(symbol, scales.get(symbol)))
                else:
                    self._without_bars.append(symbol)
        return operators

    def _ask(self, symbol: str) -> None:
        self._asked(symbol)

    def _report(self, level: str, text: str) -> None:
        self._reported(level, text)

    def _bars(self, symbol: str, listed: Scales | None) -> Bars:
        lateness_ns = round(self._settings.bar_lateness_seconds * NS_PER_SECOND)
        width_s = self._settings.bar_width_seconds

        def make(scales: Scales) -> BarOperator:
            return BarOperator(symbol, *scales, width_s, lateness_ns)

        if Kind.KLINES in self._settings.streams and width_s == KLINE_SECONDS:
            self._klines[symbol] = KlineComparison(symbol, self._report)
        book = self.books.get(symbol)
        known = (lambda: listed) if book is None else (lambda: book.scales)
        return Bars(symbol, self._reader, make, known, self._klines.get(symbol))

    def _note_cut(self) -> None:
        """Has books and bars lose what was not taken, from the first such frame of a stream on."""
        for stream, at_ns in self._cut_at_ns.items():
            self.handover.put(Notice(Change.LOST, at_ns, stream, CUT), always=True)
        self._cut_at_ns.clear()
        self._report("warning", f"{CUT}: {self.handover.dropped:,} frames left out so far")

    def _switched_off(self, name: str, error: Exception) -> None:
        self._failed_at_ns[name] = self._now_ns
        self._report("error", f"{name} is switched off: {type(error).__name__}: {error}")

    def _back(self, name: str, kind: str) -> None:
        rows = self.pipeline.left_out[name]
        self._report("info", f"{name} takes {kind} again; {rows:,} rows were left out so far")

    @staticmethod
    def _committed(venue: str, sink: str, seconds: float) -> None:
        record(SINK_COMMIT_DURATION, seconds, venue=venue, sink=sink)

    def _run(self) -> None:
        try:
            asyncio.run(self.pipeline.run(self.handover.batches()))
        except Exception as error:
            for operator in self.pipeline.operators:
                self._switched_off(label_of(operator), error)


def derived_part(
    settings: Settings, venue: Venue, report: Callable[[str, str], None]
) -> Derived | None:
    """The derived part that the settings ask for, with tick and lot of the instruments file.

    A file that is not there or cannot be used keeps nobody from recording: what it does not say is
    inferred.

    Raises:
        SettingsError: A sink is unknown.
    """
    capture = settings.capture
    if not capture.live:
        return None
    instruments: tuple[Instrument, ...] = ()
    if settings.instruments_file.exists():
        try:
            instruments = load_instruments(settings.instruments_file)
        except InstrumentsError as error:
            report("warning", f"ticks and lots are inferred: {error}")
    folder = capture.sink_folder or settings.data_dir / "live" / venue.name
    sinks = {name: sink_of(name, folder, capture.sink_file_seconds) for name in capture.sinks}
    return Derived(capture, venue, listed_scales(instruments, venue, capture.symbols), sinks)
