"""Operators over the events of a symbol: its live book with the best quotes, and its bars."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

from market_pipeline.capture.bars import Bar, BarOperator
from market_pipeline.capture.book import LiveBook
from market_pipeline.capture.klines import KlineComparison
from market_pipeline.capture.pipeline import Change, Event, Notice, Taken
from market_pipeline.capture.scales import Scales, scales_of_levels
from market_pipeline.capture.stream_state import BookState, Touch
from market_pipeline.capture.touch_metrics import TouchMetrics
from market_pipeline.errors import DomainError
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.records import Kline, Quote, Trade
from market_pipeline.sources.venues.venue import Kind

__all__ = ["Bars", "BestQuoteRow", "BestQuotes"]

_MOST_PRINTS, _MOST_EVENTS = 10_000, 2_000
"""Of a symbol that wait for tick and lot."""
_ASK_AGAIN_NS = 10_000_000_000
_AFTER_UNHELPFUL_NS = 250_000_000
_OF_BARS = frozenset({Kind.TRADES, Kind.KLINES})
_OF_BOOK = frozenset({Kind.DEPTH, Kind.SNAPSHOT, Kind.QUOTES})
_COUNTS = (
    *("seconds", "messages", "old", "gaps", "healed", "resyncs", "refused"),
    *("quotes_compared", "quotes_differing", "snapshots_compared", "snapshots_differing"),
)


class Bars:
    """Bars of the prints of one symbol; see `BarOperator`.

    A bar that had begun before the first print came is left out, also the first one after prints
    were left out: it would not be whole.

    Args:
        make: Gives the operator for a tick and a lot.
        scales: Gives both, or None while they are not known; prints wait meanwhile.
        klines: What bars of their width are compared with.

    Attributes:
        refused: Frames that could not be read.
        closed: Bars it gave.
    """

    name = "bars"

    def __init__(
        self,
        symbol: str,
        reader: FrameReader,
        make: Callable[[Scales], BarOperator],
        scales: Callable[[], Scales | None],
        klines: KlineComparison | None = None,
    ) -> None:
        self.symbol, self.refused, self.klines = symbol, 0, klines
        self._stream = f"{Kind.TRADES}:{symbol}"
        self.closed = self._too_late_before = 0
        self._reader, self._make, self._scales = reader, make, scales
        self._made_for: Scales | None = None
        self._bars: BarOperator | None = None
        self._waiting: list[Trade] = []
        self._whole_from_ns: int | None = None

    @property
    def too_late(self) -> int:
        """Prints that came after their bar was closed, and are in none."""
        return self._too_late_before + (0 if self._bars is None else self._bars.too_late)

    def take(self, events: Sequence[Taken]) -> list[Bar]:
        """See `Operator`."""
        for event in events:
            if not isinstance(event, Event):
                if event.change is Change.LOST and event.stream == self._stream:
                    self._whole_from_ns = None
            elif event.found.kind in _OF_BARS:
                try:
                    self._take(event)
                except DomainError:
                    self.refused += 1
        bars = self._bars_of_waiting()
        if self._bars is not None:
            self._compare(bars, self._bars.closed_until_ns)
        return bars

    def _take(self, event: Event) -> None:
        """Keeps the prints of a frame until tick and lot are known, and has its klines compared."""
        if event.found.kind is Kind.KLINES:
            if self.klines is not None:
                for each in self._reader.records(event.frame, Kind.KLINES):
                    if isinstance(each, Kline):
                        self.klines.take_kline(each)
            return
        if event.found.is_snapshot:
            return  # prints from before the subscription, of which some come again
        if self._whole_from_ns is None:
            self._whole_from_ns = event.found.event_time_ns or event.received_ns
        records = self._reader.records(event.frame, Kind.TRADES)
        self._waiting += [each for each in records if isinstance(each, Trade)]

    def _bars_of_waiting(self) -> list[Bar]:
        """The bars that the prints which wait have closed."""
        scales = self._scales()
        if scales is None:
            if len(self._waiting) > _MOST_PRINTS:
                self._waiting, self._whole_from_ns = [], None
            return []
        if scales != self._made_for:
            # Bars that are open in other steps are not whole in these.
            if self._bars is not None:
                self._whole_from_ns = self._bars.watermark_ns + self._bars.allowed_lateness_ns
            self._too_late_before = self.too_late
            self._bars, self._made_for = self._make(scales), scales
        trades, self._waiting = self._waiting, []
        return self._whole(self._bars.take(trades)) if self._bars is not None else []

    def finish(self) -> list[Bar]:
        """See `Operator`; a bar whose end the prints have not passed is left out."""
        if self._bars is None:
            return []
        latest_ns = self._bars.watermark_ns + self._bars.allowed_lateness_ns
        width_ns = self._bars.width_seconds * NS_PER_SECOND
        bars = self._whole(self._bars.finish())
        bars = [each for each in bars if each.start_ns + width_ns <= latest_ns]
        self._compare(bars, latest_ns)
        return bars

    def _compare(self, bars: list[Bar], until_ns: int) -> None:
        if self.klines is not None:
            self.klines.take_bars(bars)
            if self._whole_from_ns is not None:
                self.klines.compare(self._whole_from_ns, until_ns)

    def _whole(self, bars: list[Bar]) -> list[Bar]:
        first_ns = self._whole_from_ns or 0
        whole = [each for each in bars if each.start_ns >= first_ns]
        self.closed += len(whole)
        return whole


class BestQuoteRow(Struct, frozen=True, gc=False):
    """Best bid and ask after a message, in ticks and lots; null where the side is empty.

    `tick` and `lot` are exact decimals.
    """

    symbol: str
    ts_origin_ns: int | None
    ts_receipt_ns: int
    sequence_number: int | None
    bid_price_ticks: int | None
    bid_size_lots: int
    ask_price_ticks: int | None
    ask_size_lots: int
    tick: str
    lot: str


class BestQuotes:
    """The live book of one symbol, and a row for each message that changes its best bid or ask.

    Args:
        symbol, reader: Of the book.
        scales: Tick and lot. Without them they are inferred from the first whole book, events
            waiting for it, and refined with a further one when a level is finer.
        ask: Called when a whole book is needed.
        report: Takes lines about what happens: level and text.
        metrics: Is given the best bid and ask after each message.

    Attributes:
        book: None until tick and lot are known.
        refused: Frames that could not be read; the book is lost with each.
    """

    name = "best_quotes"

    def __init__(
        self,
        symbol: str,
        reader: FrameReader,
        scales: Scales | None = None,
        *,
        ask: Callable[[str], None] = lambda symbol: None,
        report: Callable[[str, str], None] = lambda level, text: None,
        metrics: TouchMetrics | None = None,
    ) -> None:
        self.symbol, self.refused = symbol, 0
        self._stream = f"{Kind.DEPTH}:{symbol}"
        self.scales = scales
        self.book = None if scales is None else LiveBook(reader, *scales)
        self._reader, self._ask, self._report = reader, ask, report
        self._metrics = metrics
        self._may_refine = scales is None
        self._waiting: deque[Taken] = deque(maxlen=_MOST_EVENTS)
        self._began_ns: int | None = None
        self._asked_ns: int | None = None
        self._touch = Touch(0, 0, 0, 0)

    def take(self, events: Sequence[Taken]) -> Iterator[BestQuoteRow]:
        """See `Operator`."""
        for event in events:
            if isinstance(event, Event):
                if event.found.kind not in _OF_BOOK:
                    continue
            elif event.stream not in ("", self._stream):
                continue
            if self.book is None:
                yield from self._before(event)
            else:
                yield from self._with(self.book, event)

    def finish(self) -> Sequence[BestQuoteRow]:
        """See `Operator`."""
        return ()

    def _before(self, event: Taken) -> Iterator[BestQuoteRow]:
        """Keeps events until a whole book shows tick and lot."""
        if self._began_ns is None:
            self._began_ns = event.received_ns if isinstance(event, Event) else event.at_ns
        self._waiting.append(event)
        if not isinstance(event, Event) or not event.found.is_snapshot:
            return
        scales = None
        for each in reversed(self._waiting):  # the whole book, and what it is to be joined with
            if isinstance(each, Event) and each.found.kind is not Kind.QUOTES:
                with suppress(DomainError):
                    levels = self._reader.levels(each.frame, each.found.kind)
                    scales = scales_of_levels(levels, scales)
        if scales is None:
            return
        self.scales, self.book = scales, LiveBook(self._reader, *scales)
        self._report("info", f"{self._steps_text()}, inferred from the first whole book")
        self.book.observe(self._began_ns)
        while self._waiting:
            yield from self._with(self.book, self._waiting.popleft())

    def _with(self, book: LiveBook, event: Taken) -> Iterator[BestQuoteRow]:
        if isinstance(event, Notice):
            self._notice(book, event)
            return
        state, refused = book.state, book.refused
        try:
            self._feed(book, event)
        except DomainError as error:
            self.refused += 1
            book.lost(str(error), event.received_ns)
        if book.refused > refused:
            if self._may_refine and self._refined(book, event):
                return
            if not refused:
                text = "a level is no whole number of them: it and further ones are left out"
                self._report("warning", f"{self._steps_text()}: {text}")
        self._report_change(book, state)
        if self._asked_ns is None:
            self._asked_ns = event.received_ns  # the first whole book comes unasked
        if book.state is not state or event.received_ns - self._asked_ns >= _ASK_AGAIN_NS:
            self._ask_if_needed(book, event.received_ns)
        touch = book.touch if book.is_live else None
        if self._metrics is not None and self.scales and event.found.kind is Kind.DEPTH:
            self._metrics.add(event.received_ns, touch, self.scales)
        if touch is not None and touch != self._touch:
            self._touch = touch
            yield self._row(book, event, touch)

    def _feed(self, book: LiveBook, event: Event) -> None:
        found = event.found
        if found.kind is Kind.DEPTH:
            book.take(event.frame, found, event.received_ns, event.checked)
        elif found.kind is Kind.SNAPSHOT:
            if not book.take_snapshot(event.frame, event.received_ns):
                self._asked_ns = event.received_ns - _ASK_AGAIN_NS + _AFTER_UNHELPFUL_NS
        elif found.kind is Kind.QUOTES:
            for quote in self._reader.records(event.frame, Kind.QUOTES):
                if isinstance(quote, Quote):
                    book.take_quote(quote)

    def _notice(self, book: LiveBook, notice: Notice) -> None:
        state = book.state
        if notice.change is Change.NONE:
            book.observe(notice.at_ns)
        elif notice.change is Change.UP:
            book.connected(notice.at_ns)
        else:
            is_down = notice.change is Change.DOWN
            book.lost(notice.reason, notice.at_ns, is_down=is_down)
            if self._metrics is not None:
                self._metrics.lost()
        self._report_change(book, state)
        if book.state is not state:
            self._ask_if_needed(book, notice.at_ns)

    def _ask_if_needed(self, book: LiveBook, at_ns: int) -> None:
        if book.needs_snapshot:
            self._asked_ns = at_ns
            self._ask(self.symbol)

    def _report_change(self, book: LiveBook, before: BookState) -> None:
        if book.state is not before:
            level = "info" if book.is_live else "warning"
            text = f"the book is {book.state}: {book.reason}"
            self._report(level, f"{Kind.DEPTH}:{self.symbol}: {text}")

    def _refined(self, book: LiveBook, event: Event) -> bool:
        """Begins again where a level is finer than the steps that were inferred."""
        if event.found.kind not in (Kind.DEPTH, Kind.SNAPSHOT):
            return False
        finer = scales_of_levels(self._reader.levels(event.frame, event.found.kind), self.scales)
        if finer == self.scales:
            return False
        self.scales, self.book = finer, LiveBook(self._reader, *finer)
        for name in _COUNTS:
            setattr(self.book, name, getattr(book, name))
        self.book.gaps += 1
        self._report("warning", f"{self._steps_text()}, as a level is finer than those before")
        self._feed(self.book, event)
        self._ask_if_needed(self.book, event.received_ns)
        return True

    def _row(self, book: LiveBook, event: Event, touch: Touch) -> BestQuoteRow:
        assert self.scales is not None
        return BestQuoteRow(
            self.symbol,
            event.found.event_time_ns,
            event.received_ns,
            book.last_id,
            touch.bid_price_ticks if touch.bid_size_lots else None,
            touch.bid_size_lots,
            touch.ask_price_ticks if touch.ask_size_lots else None,
            touch.ask_size_lots,
            *(f"{scale.step:f}" for scale in self.scales),
        )

    def _steps_text(self) -> str:
        assert self.scales is not None
        tick, lot = (f"{scale.step:f}" for scale in self.scales)
        return f"{Kind.DEPTH}:{self.symbol}: tick {tick} and lot {lot}"
