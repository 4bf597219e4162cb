"""Bars and the venue's own: each closed kline of a minute is to be our bar of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import TypeAlias

import msgspec
import polars as pl

from market_pipeline.capture.bars import Bar
from market_pipeline.quality.intervals import NS_PER_SECOND, utc_time
from market_pipeline.sources.recording.check import read_facts
from market_pipeline.sources.recording.heads import Heads, venue_of
from market_pipeline.sources.recording.reader import Damage
from market_pipeline.sources.recording.union import by_host, received
from market_pipeline.sources.venues.records import Kline
from market_pipeline.sources.venues.venue import Kind

__all__ = [
    "KLINE_SECONDS",
    "KlineComparison",
    "day_differences",
    "kline_differences",
    "published_differences",
    "recorded_klines",
]

KLINE_SECONDS = 60
"""The width that klines are asked for, of every venue."""

_WIDTH_NS = KLINE_SECONDS * NS_PER_SECOND
_KEPT = 16
_STREAMS = f"{Kind.KLINES.value}:"
_NO_PRINTS: Mapping[str, float] = {"volume": 0.0, "buy_volume": 0.0, "trade_count": 0}
_PRICES = ("open", "high", "low", "close")

Differences: TypeAlias = list[str]
"""What is not the same, each as `name: ours, theirs`."""


def kline_differences(bar: Mapping[str, object], kline: Kline) -> Differences:
    """What a closed kline says otherwise than the bar of its minute; none if all agrees.

    What the venue leaves out is not compared, and neither are prices of a minute without a print.

    Args:
        bar: The columns of `metrics.bars`, without those that are not known.
    """
    names = tuple(_NO_PRINTS) if _is_empty(kline) else (*_PRICES, *_NO_PRINTS)
    pairs = ((name, bar.get(name), getattr(kline, name)) for name in names)
    return [
        f"{name}: {ours}, {theirs}"
        for name, ours, theirs in pairs
        if theirs is not None and ours != theirs
    ]


def _is_empty(kline: Kline) -> bool:
    return not kline.volume and not kline.trade_count


class KlineComparison:
    """Compares the live bars of a symbol with the venue's klines, whichever of both comes first.

    Args:
        symbol: As the venue spells it.
        report: Takes level and text of what differs.

    Attributes:
        equal, different: Klines.
    """

    def __init__(self, symbol: str, report: Callable[[str, str], None]) -> None:
        self.equal = self.different = 0
        self._symbol, self._report = symbol, report
        self._bars: dict[int, Bar] = {}
        self._klines: dict[int, Kline] = {}
        self._done_ns: int | None = None

    def take_kline(self, kline: Kline) -> None:
        """Takes a kline, which counts once it is closed.

        Of a venue that does not say when it is, the last of a minute counts once a later one began.
        One of a minute that was compared comes again, as on a new connection.
        """
        is_done = self._done_ns is not None and kline.start_ns <= self._done_ns
        if kline.is_closed is not False and not is_done:
            self._klines[kline.start_ns] = kline
            _forget(self._klines)

    def take_bars(self, bars: Iterable[Bar]) -> None:
        """Takes bars of a minute."""
        for bar in bars:
            self._bars[bar.start_ns] = bar
            _forget(self._bars)

    def compare(self, from_ns: int, until_ns: int) -> None:
        """Compares the klines of a span whose bars were all given.

        A kline from before it is left out: prints of its minute were not all taken.
        """
        for start_ns in sorted(self._klines):
            if start_ns + _WIDTH_NS > until_ns:
                return
            if self._klines[start_ns].is_closed is None and start_ns == max(self._klines):
                return
            kline, bar = self._klines.pop(start_ns), self._bars.pop(start_ns, None)
            self._done_ns = start_ns
            if start_ns < from_ns:
                continue
            ours = _NO_PRINTS if bar is None else msgspec.structs.asdict(bar)
            found = kline_differences(ours, kline)
            self.equal, self.different = self.equal + (not found), self.different + bool(found)
            if found:
                minute = f"{utc_time(start_ns):%H:%M}"
                text = f"the bar of {minute} UTC is not the venue's: {'; '.join(found)}"
                self._report("warning", f"{Kind.KLINES}:{self._symbol}: {text}")


def _forget(by_start: dict[int, Bar] | dict[int, Kline]) -> None:
    """Leaves the latest ones."""
    while len(by_start) > _KEPT:
        del by_start[min(by_start)]


def recorded_klines(
    files: Iterable[Path], exchange: str, on_damage: Callable[[Damage], None]
) -> dict[int, Kline]:
    """The closed klines of one symbol's recordings, by their start in ns; see `KlineComparison`.

    Raises:
        LakeFileError: A file is no recording, or of a venue that is not known.
        DomainError: A kline cannot be read.
    """
    heads, found = Heads(venue_of(exchange)), dict[int, Kline]()
    for arrival in received(by_host(filter(_may_have_klines, files)), on_damage):
        if not arrival.record.stream.startswith(_STREAMS):
            continue
        frame = arrival.record.payload
        if heads.of(frame).kind is Kind.KLINES:
            for each in heads.reader.records(frame, Kind.KLINES):
                if isinstance(each, Kline) and each.is_closed is not False:
                    found[each.start_ns] = each
    if found and found[max(found)].is_closed is None:
        del found[max(found)]
    return found


def _may_have_klines(file: Path) -> bool:
    """Whether a file has a stream of klines, by its footer; one that has no footer may."""
    footer = read_facts(file).footer
    return footer is None or any(name.startswith(_STREAMS) for name in footer.streams)


def published_differences(
    klines: Mapping[int, Kline], bars: pl.DataFrame
) -> dict[int, Differences | None]:
    """What published bars have otherwise than klines, by start; None where there is no bar.

    Args:
        klines: By their start, ns.
        bars: Rows of `metrics.bars` of the width of klines, of one instrument.
    """
    rows = bars.with_columns(start_ns=pl.col("bar_start").dt.epoch("us") * 1000)
    by_start = {row["start_ns"]: row for row in rows.iter_rows(named=True)}
    return {
        start_ns: kline_differences(by_start[start_ns], kline) if start_ns in by_start else None
        for start_ns, kline in sorted(klines.items())
    }


def day_differences(
    files: Iterable[Path], exchange: str, bars: pl.LazyFrame, day: date
) -> dict[int, Differences]:
    """What a day's published bars have otherwise than its recorded klines; empty where they agree.

    A minute of which no bar was published, or none of trades, is not compared.

    Args:
        files: The recordings of one symbol. What is damaged in them is passed over.
        bars: Rows of `metrics.bars` of the day and the symbol's instrument, of any widths.

    Raises:
        LakeFileError, DomainError, SealError: See `recorded_klines`.
    """
    of_trades = (pl.col("width_seconds") == KLINE_SECONDS) & pl.col("volume").is_not_null()
    minutes = bars.filter(of_trades).collect()
    if minutes.is_empty():
        return {}
    klines = recorded_klines(files, exchange, lambda _: None)
    of_day = {ns: kline for ns, kline in klines.items() if utc_time(ns).date() == day}
    found = published_differences(of_day, minutes)
    return {start_ns: each for start_ns, each in found.items() if each is not None}
