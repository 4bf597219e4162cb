"""What frames hold besides their ids: levels of a book, trades, best quotes, klines, funding.

Numbers become the float64 nearest to what the venue wrote, as raw tables have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.json import Decoder

from market_pipeline.sources.venues.venue import Kind

__all__ = ["RECORDS", "BookLevels", "Funding", "Kline", "Level", "Quote", "Record", "Trade"]

_LARGEST = 1.7976931348623157e308
_Price = Annotated[float, Meta(gt=0, le=_LARGEST)]
_Size = Annotated[float, Meta(ge=0, le=_LARGEST)]
_Finite = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
_Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]

Level = tuple[str, str]
"""Price and size as the venue wrote them."""


class BookLevels(Struct, frozen=True, gc=False):
    """The levels that a frame sets, a size of 0 removing one, in the frame's order."""

    bids: list[Level]
    asks: list[Level]


class Trade(Struct, frozen=True, gc=False):
    """A trade; `is_buy` is the taker's side, `id` null where the venue's is no number.

    `is_market` is false of prints outside the market (an insurance fund, a deleveraging), null
    where the venue does not say.
    """

    ts_origin_ns: int
    price: _Size
    quantity: _Size
    is_buy: bool
    id: _Id | None = None
    is_market: bool | None = None


class Quote(Struct, frozen=True, gc=False):
    """The venue's own best bid and ask; `id` is the last update of the book that it shows."""

    bid_price: _Price
    bid_size: _Size
    ask_price: _Price
    ask_size: _Size
    id: _Id | None = None
    ts_origin_ns: int | None = None


class Kline(Struct, frozen=True, gc=False):
    """A bar of the venue's own, begun at `start_ns`; it is final once `is_closed`."""

    start_ns: int
    open: _Price
    high: _Price
    low: _Price
    close: _Price
    volume: _Size
    is_closed: bool | None = None
    trade_count: int | None = None
    buy_volume: _Size | None = None
    first_id: int | None = None
    last_id: int | None = None


class Funding(Struct, frozen=True, gc=False):
    """The state of a contract; what a frame does not name is null."""

    ts_origin_ns: int | None = None
    mark_price: _Size | None = None
    index_price: _Size | None = None
    rate: _Finite | None = None
    next_funding_time_ns: int | None = None
    open_interest: _Size | None = None


Record = Trade | Quote | Kline | Funding

RECORDS: Mapping[Kind, type[Record]] = {
    Kind.TRADES: Trade,
    Kind.AGG_TRADES: Trade,
    Kind.QUOTES: Quote,
    Kind.KLINES: Kline,
    Kind.FUNDING: Funding,
}
"""The record of each kind whose frames have some."""

# Known to msgspec before any thread converts to one.
for _record in RECORDS.values():
    Decoder(_record)
