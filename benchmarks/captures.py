"""Captures: how many frames a CPU second converts, and follows for lost messages alone."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import generator
from benchmarks.figures import Figure
from benchmarks.lake_files import DAY, LOTS_PER_UNIT, TICKS_PER_UNIT
from benchmarks.measure import Spread, cpu_seconds
from benchmarks.workspace import ROOT, scratch, work_folder
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import Deltas
from market_pipeline.capture.book import LiveBook
from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.binance_capture import (
    CONVERTER,
    MARKET_OF_VENUE,
    Findings,
    capture_symbol,
    find_losses,
)
from market_pipeline.sources.binance_capture.lines import read_blocks, read_lines
from market_pipeline.sources.raw_writer import RawWriter
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.continuity import ContinuityChecker
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.venue import Kind

__all__ = ["Capture", "capture_figures", "made_capture", "real_captures"]

_CONVERT_BAR_K, _FOLLOW_BAR_K = 300.0, 500.0
_REAL = (
    ("BINANCE_FUTURES", "BTC-USDT-PERP"),
    ("BINANCE_FUTURES", "ETH-USDT-PERP"),
    ("BINANCE_DELIVERY", "BTC-USD-PERP"),
    ("BINANCE", "BTC-USDT"),
)
_MADE = _REAL[0]
# As in the real captures a frame has five delta rows on average, and most tell of the best bid.
_TICKERS_PER_EVENT, _TRADES_PER_EVENT = 6, 2
_FRAMES_PER_EVENT = 1 + _TICKERS_PER_EVENT + _TRADES_PER_EVENT
_SNAPSHOT_LEVELS = 1_000
# Every price and size of the captures is a whole number of these.
_STEPS = Scale(1, 2), Scale(1, 8)


@dataclass(frozen=True, slots=True)
class Capture:
    """The capture files of an instrument, in their order."""

    instrument: Instrument
    files: Sequence[Path]


def capture_figures(name: str, captures: Sequence[Capture], runs: int) -> list[Figure]:
    """Both rates over all of the captures; the passes take turns."""
    frames = sum(_frames(file) for capture in captures for file in capture.files)
    group = f"captures, {name}, {frames:,} frames"
    passes = (
        ("raw tables of all frames", _convert, _CONVERT_BAR_K),
        ("lost messages alone", _follow, _FOLLOW_BAR_K),
        ("live: classified, ids followed", _classify, None),
        ("live: the book and its best quotes checked", _keep_book, None),
    )
    rates: list[list[float]] = [[] for _ in passes]
    for run in range(runs + 1):
        for into, (_, work, _) in zip(rates, passes, strict=True):
            seconds = sum(cpu_seconds(partial(work, capture)) for capture in captures)
            if run:  # the first loads or compiles the kernel
                into.append(frames / seconds / 1e3)
    return [
        Figure(group, what, "k frames / CPU s", Spread.of(each), bar=bar)
        for (what, _, bar), each in zip(passes, rates, strict=True)
    ]


def _frames(file: Path) -> int:
    return sum(lines for _, lines, _ in read_blocks(file, Findings()))


def _convert(capture: Capture) -> None:
    with scratch() as folder, RawWriter(folder, CONVERTER.name) as out:
        CONVERTER.convert(capture.files, out, capture.instrument, DAY)


def _follow(capture: Capture) -> None:
    market = MARKET_OF_VENUE[capture.instrument.venue]
    symbol = capture_symbol(market, capture.instrument.symbol)
    find_losses(capture.files, market, symbol, Findings())


def _classify(capture: Capture) -> None:
    """Every frame by itself, as it is received."""
    reader = _reader(capture)
    checker = ContinuityChecker(reader.venue)
    for file in capture.files:
        for _, _, frame in read_lines(file, Findings()):
            checker.check("", reader.classify(frame))


def _keep_book(capture: Capture) -> None:
    reader = _reader(capture)
    book = LiveBook(reader, *_STEPS)
    for file in capture.files:
        for _, received_ns, frame in read_lines(file, Findings()):
            found = reader.classify(frame)
            if found.kind is Kind.DEPTH:
                book.take(frame, found, received_ns)
            elif found.kind is Kind.SNAPSHOT:
                book.take_snapshot(frame, received_ns)
            elif found.kind is Kind.QUOTES:
                for quote in reader.records(frame, Kind.QUOTES):
                    book.take_quote(quote)


def _reader(capture: Capture) -> FrameReader:
    return FrameReader(VENUES[f"binance_{MARKET_OF_VENUE[capture.instrument.venue]}"])


def _instrument(venue: str, symbol: str) -> Instrument:
    return Instrument(venue=venue, symbol=symbol, source=CONVERTER.name)


def real_captures() -> list[Capture]:
    """Four instruments of the sample data, some minutes each.

    Raises:
        FileNotFoundError: If the sample data is not here.
    """
    default = ROOT.parent / "shared" / "data" / "binance_2024"
    root = Path(os.environ.get("MARKET_PIPELINE_SAMPLE_DATA", default))
    captures = []
    for venue, symbol in _REAL:
        market = MARKET_OF_VENUE[venue]
        stem = capture_symbol(market, symbol).lower()
        files = sorted((root / "captures" / market).glob(f"{stem}_*.gz"))
        if not files:
            raise FileNotFoundError(
                "the sample data is not here: set MARKET_PIPELINE_SAMPLE_DATA to its folder"
            )
        captures.append(Capture(_instrument(venue, symbol), files))
    return captures


def made_capture(frames: int) -> Capture:
    """A capture of the synthetic day with at least so many frames, written if it is not there."""
    path = work_folder() / "captures" / f"{frames}-{_version()}.gz"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        with gzip.open(partial, "wb", compresslevel=6) as file:
            for line in _lines(frames):
                file.write(line.encode())
        partial.rename(path)
    return Capture(_instrument(*_MADE), [path])


def _version() -> str:
    digest = hashlib.sha256()
    for name in ("feed.py", "generator.py", "captures.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:8]


def _lines(frames: int) -> Iterator[str]:
    """Yields a snapshot, then the events of the synthetic day with what is sent between them."""
    events = -(-frames // _FRAMES_PER_EVENT)
    before = trade_id = 0
    for block in generator.blocks(1 << 62):
        deltas = block.deltas
        ends = np.flatnonzero(np.diff(deltas.sequence_number, append=0)) + 1
        for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            last, receipt_ns = int(deltas.sequence_number[begin]), int(deltas.ts_receipt_ns[begin])
            if not before:
                before = last - 1
                yield f"{receipt_ns} {_snapshot(last)}\n"
            yield f"{receipt_ns} {_event(deltas, begin, end, before)}\n"
            for frame in _between(int(deltas.ts_origin_ns[begin]) // 10**6, last, trade_id):
                yield f"{receipt_ns} {frame}\n"
            before, trade_id = last, trade_id + _TRADES_PER_EVENT
            events -= 1
            if events == 0:
                return


def _snapshot(last: int) -> str:
    bids = ",".join(f'["{60_000 - k}.10","1.5"]' for k in range(_SNAPSHOT_LEVELS))
    asks = ",".join(f'["{60_001 + k}.10","1.5"]' for k in range(_SNAPSHOT_LEVELS))
    return f'{{"lastUpdateId":{last},"bids":[{bids}],"asks":[{asks}]}}'


def _event(deltas: Deltas, begin: int, end: int, before: int) -> str:
    prices = (deltas.price_ticks[begin:end] / TICKS_PER_UNIT).tolist()
    sizes = (deltas.size_lots[begin:end] / LOTS_PER_UNIT).tolist()
    levels = [f'["{price:.2f}","{size:.3f}"]' for price, size in zip(prices, sizes, strict=True)]
    bids = int(deltas.is_bid[begin:end].sum())
    at_ms, last = deltas.ts_origin_ns[begin] // 10**6, deltas.sequence_number[begin]
    ids = f'"U":{before + 1},"u":{last},"pu":{before}'
    sides = f'"b":[{",".join(levels[:bids])}],"a":[{",".join(levels[bids:])}]'
    data = f'{{"e":"depthUpdate","E":{at_ms},"T":{at_ms},"s":"BTCUSDT",{ids},{sides}}}'
    return f'{{"stream":"btcusdt@depth@0ms","data":{data}}}'


def _between(at_ms: int, last: int, trade_id: int) -> Iterator[str]:
    """Yields best bids and trades."""
    times = f'"E":{at_ms},"T":{at_ms},"s":"BTCUSDT"'
    for k in range(_TICKERS_PER_EVENT):
        touch = f'"b":"60000.{k}0","B":"2.5{k}7","a":"60001.{k}0","A":"0.0{k}1"'
        data = f'{{"e":"bookTicker","u":{last + k},{touch},{times}}}'
        yield f'{{"stream":"btcusdt@bookTicker","data":{data}}}'
    for k in range(1, _TRADES_PER_EVENT + 1):
        match = f'"t":{trade_id + k},"p":"60000.{k}0","q":"0.00{k}","X":"MARKET","m":false'
        yield f'{{"stream":"btcusdt@trade","data":{{"e":"trade",{times},{match}}}}}'
