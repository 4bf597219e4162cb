"""Operators over events: bars, and the best bid and ask of the live book."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from market_pipeline.capture.bars import Bar, BarOperator
from market_pipeline.capture.book import LiveBook
from market_pipeline.capture.pipeline import Event
from market_pipeline.errors import DomainError
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.records import Trade
from market_pipeline.sources.venues.venue import Kind

__all__ = ["Bars", "BestQuoteRow", "BestQuotes"]


class Bars:
    """Bars of the prints of one symbol; see `BarOperator`.

    Attributes:
        refused: Frames that could not be read.
    """

    name = "bars"

    def __init__(self, reader: FrameReader, bars: BarOperator) -> None:
        self._reader, self._bars = reader, bars
        self.refused = 0

    def take(self, events: Sequence[Event]) -> list[Bar]:
        """See `Operator`."""
        trades: list[Trade] = []
        for event in events:
            if event.found.kind is Kind.TRADES and event.found.symbol == self._bars.symbol:
                try:
                    records = self._reader.records(event.frame, Kind.TRADES)
                except DomainError:
                    self.refused += 1
                    continue
                trades += [each for each in records if isinstance(each, Trade)]
        return self._bars.take(trades)

    def finish(self) -> list[Bar]:
        """See `Operator`."""
        return self._bars.finish()


class BestQuoteRow(Struct, frozen=True, gc=False):
    """Best bid and ask after a message, in ticks and lots; null where the side is empty."""

    symbol: str
    ts_origin_ns: int | None
    ts_receipt_ns: int
    sequence_number: int | None
    bid_price_ticks: int | None
    bid_size_lots: int
    ask_price_ticks: int | None
    ask_size_lots: int


class BestQuotes:
    """Best bid and ask of one symbol's live book, a row for each message that changes them.

    Attributes:
        refused: Frames that could not be read; the book is lost with each.
    """

    name = "best_quotes"

    def __init__(self, symbol: str, book: LiveBook) -> None:
        self._symbol, self._book = symbol, book
        self.refused = 0

    def take(self, events: Sequence[Event]) -> Iterator[BestQuoteRow]:
        """See `Operator`."""
        book = self._book
        before = book.touch()
        for event in events:
            found = event.found
            if found.symbol not in ("", self._symbol):
                continue
            try:
                if found.kind is Kind.SNAPSHOT:
                    book.take_snapshot(event.frame, event.received_ns)
                elif found.kind is Kind.DEPTH:
                    book.take(event.frame, found, event.received_ns)
            except DomainError as error:
                self.refused += 1
                book.lost(str(error), event.received_ns)
            touch = book.touch() if found.kind in (Kind.SNAPSHOT, Kind.DEPTH) else before
            if book.is_live and touch != before:
                yield BestQuoteRow(
                    self._symbol,
                    found.event_time_ns,
                    event.received_ns,
                    book.last_id,
                    touch.bid_price_ticks if touch.bid_size_lots else None,
                    touch.bid_size_lots,
                    touch.ask_price_ticks if touch.ask_size_lots else None,
                    touch.ask_size_lots,
                )
                before = touch

    def finish(self) -> Sequence[BestQuoteRow]:
        """See `Operator`."""
        return ()
