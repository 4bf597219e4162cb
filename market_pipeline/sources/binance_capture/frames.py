"""The frames of Binance's websocket streams that are read, typed, and how a line becomes one.

Only the fields named here are decoded. Numbers that the venue sends as text become float64 by the
nearest value; what lies outside a field's domain makes the frame undecodable.
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from market_pipeline.sources.batches import MARKET, OUTSIDE_MARKET, UNMARKED
from market_pipeline.sources.binance_capture.lines import FindingKind, Findings, to_ns

__all__ = [
    "AggTradeFrame",
    "BookTickerFrame",
    "FrameDecoder",
    "FuturesDepthFrame",
    "Levels",
    "SnapshotFrame",
    "SpotDepthFrame",
    "TradeFrame",
    "check_json",
    "known_time",
    "level_columns",
]

_LARGEST = 1.7976931348623157e308
_Positive = Annotated[float, Meta(gt=0, le=_LARGEST)]
_Size = Annotated[float, Meta(ge=0, le=_LARGEST)]
_Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Levels = list[tuple[_Positive, _Size]]
"""One side of a book: prices and sizes."""

# What msgspec says of a text that ends too early; a test holds it to that.
_ENDS_TOO_EARLY = "Input data was truncated"
# `btcusdt@depth20@100ms`: the top of the book again and again, in the form of a depth event.
_PARTIAL_BOOK = re.compile(r"@depth\d")


class _Symbolled(Protocol):
    @property
    def s(self) -> str | None: ...


Frame = TypeVar("Frame", bound=_Symbolled)


class SpotDepthFrame(Struct, gc=False):
    """A `depthUpdate` of spot: event time, symbol, first and last update id, bids, asks."""

    E: int
    s: str
    U: _Id
    u: _Id
    b: Levels
    a: Levels

    @property
    def start(self) -> int:
        """The update id up to which the book must be right for this event."""
        return self.U - 1


class FuturesDepthFrame(Struct, gc=False):
    """A `depthUpdate` of USD-M or COIN-M; `pu` is the last update id of the event before."""

    E: int
    s: str
    pu: _Id
    u: _Id
    b: Levels
    a: Levels

    @property
    def start(self) -> int:
        """The update id up to which the book must be right for this event."""
        return self.pu


class SnapshotFrame(Struct, gc=False):
    """The answer of the REST depth endpoint; only COIN-M names the symbol."""

    lastUpdateId: _Id
    bids: Levels
    asks: Levels
    s: str | None = msgspec.field(name="symbol", default=None)


_MARKS = {"MARKET": MARKET, **dict.fromkeys(("INSURANCE_FUND", "ADL", "NA"), OUTSIDE_MARKET)}


class TradeFrame(Struct, gc=False):
    """A `trade`: match time, symbol, id, price, quantity, whether the buyer was the maker, mark.

    Futures mark each as one of the market or not; of the latter some say that nothing was traded.
    """

    T: int
    s: str
    t: _Id
    p: _Size
    q: _Size
    m: bool
    X: str | None = None

    def __post_init__(self) -> None:
        """Refuses a trade of nothing that does not say that it is none."""
        if not (self.p and self.q) and not self.is_none:
            raise ValueError("Expected `float` > 0.0 - at `$.p` and `$.q`")

    @property
    def mark(self) -> int:
        """What its word means; an unknown one means nothing that is known."""
        return UNMARKED if self.X is None else _MARKS.get(self.X, UNMARKED)

    @property
    def is_none(self) -> bool:
        """Whether nothing was traded, which the venue numbers nevertheless."""
        return self.p == 0 and self.q == 0 and self.mark == OUTSIDE_MARKET


class AggTradeFrame(Struct, gc=False):
    """An `aggTrade`: as a `trade`, with its number, and the ids of its first and last print."""

    T: int
    s: str
    a: _Id
    f: _Id
    p: _Positive
    q: _Positive
    m: bool
    last: _Id = msgspec.field(name="l")


class BookTickerFrame(Struct, gc=False):
    """A `bookTicker`: update id, best bid and ask; spot sends no event time."""

    s: str
    u: _Id
    b: _Positive
    B: _Size
    a: _Positive
    A: _Size
    E: int | None = None


class _Envelope(Struct, Generic[Frame], gc=False):
    data: Frame
    stream: str


class _AnyObject(Struct):
    """Decodes nothing: the text need only be a JSON object."""


_any_object = msgspec.json.Decoder(_AnyObject)
# Of each frame bare and in its envelope; not strict, because the venue sends numbers as text.
_decoders: dict[type[Any], tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]] = {
    kind: (
        msgspec.json.Decoder(kind, strict=False),
        msgspec.json.Decoder(_Envelope[kind], strict=False),  # type: ignore[valid-type]
    )
    for kind in (
        SpotDepthFrame,
        FuturesDepthFrame,
        SnapshotFrame,
        TradeFrame,
        AggTradeFrame,
        BookTickerFrame,
    )
}


class FrameDecoder(Generic[Frame]):
    """Decodes the frames of one kind about one symbol, in the combined stream's envelope or bare.

    Args:
        kind: One of the frames above.
        symbol: In the venue's spelling, such as BTCUSDT.
        findings: Receives frames that cannot be decoded or are about another symbol.
    """

    def __init__(self, kind: type[Frame], symbol: str, findings: Findings) -> None:
        self._bare: msgspec.json.Decoder[Frame]
        self._enveloped: msgspec.json.Decoder[_Envelope[Frame]]
        self._bare, self._enveloped = _decoders[kind]
        self._symbol = symbol
        self._findings = findings

    def decode(self, file: Path, line: int, text: bytes) -> Frame | None:
        """The frame of a line that is of this kind; None if it is left out."""
        try:
            if b'"data"' in text:
                envelope = self._enveloped.decode(text)
                if _PARTIAL_BOOK.search(envelope.stream):
                    return None
                frame = envelope.data
            else:
                frame = self._bare.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _report_undecodable(file, line, error, self._findings)
            return None
        if frame.s is not None and frame.s != self._symbol:
            self._findings.add(FindingKind.UNKNOWN_SYMBOL, file, line, self._symbol, frame.s)
            return None
        return frame


def check_json(file: Path, line: int, text: bytes, findings: Findings) -> None:
    """Tells of a line of another kind that is no JSON object."""
    try:
        _any_object.decode(text)
    except msgspec.DecodeError as error:
        _report_undecodable(file, line, error, findings)


def known_time(stamp: int, file: Path, line: int, findings: Findings) -> int | None:
    """A frame's time in ns; None, and a finding, if it has none of the numbers of digits."""
    ts_ns = to_ns(stamp)
    if ts_ns is None:
        expected = "a time of 13, 16 or 19 digits"
        findings.add(FindingKind.UNDECODABLE, file, line, expected, str(stamp))
    return ts_ns


def level_columns(levels: Levels) -> NDArray[np.float64]:
    """Levels as float64 (2, n): prices, then sizes."""
    flat = np.fromiter(chain.from_iterable(levels), np.float64, 2 * len(levels))
    return np.ascontiguousarray(flat.reshape(-1, 2).T)


def _report_undecodable(file: Path, line: int, error: Exception, findings: Findings) -> None:
    found = str(error)
    cut = found == _ENDS_TOO_EARLY
    kind = FindingKind.TRUNCATED_LINE if cut else FindingKind.UNDECODABLE
    findings.add(kind, file, line, "a whole frame of its kind", found)
