"""Which columns of `books.trades` each column of `metrics.information_bars` is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["INFORMATION_BAR_COLUMNS"]

_CUT_BY = ("ts_origin_ns", "id", "price_ticks", "size_lots", "is_market", "is_buy")
_NAMES = (
    *("bar_number", "is_complete", "first_ns", "last_ns", "known_ns"),
    *("open_ticks", "high_ticks", "low_ticks", "close_ticks", "open", "high", "low", "close"),
    *("volume_lots", "buy_volume_lots", "volume", "buy_volume", "quote_volume", "vwap"),
    *("trade_count", "first_id", "last_id", "goes_on"),
)
_BESIDES = {"known_ns": ("ts_receipt_ns",)}

INFORMATION_BAR_COLUMNS: Mapping[str, Sequence[tuple[str, str]]] = {
    name: [("trades", column) for column in (*_CUT_BY, *_BESIDES.get(name, ()))] for name in _NAMES
}
"""All depend on where bars are cut; `kind` and `step` are settings."""
