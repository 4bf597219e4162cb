"""Which upstream columns each column of the event stream is made of."""

from __future__ import annotations

from market_pipeline.books.state import DEPTH_LEVELS

__all__ = ["EVENT_COLUMNS"]

_DELTAS, _SNAPSHOTS, _TRADES = "raw_book_deltas", "raw_book_snapshots", "raw_trades"
_FLAGS = ("book_bbo", "flags")
_NUMBERS = [(_DELTAS, "sequence_number"), (_SNAPSHOTS, "sequence_number")]


def _levels(part: str) -> list[tuple[str, str]]:
    return [
        (_SNAPSHOTS, f"{side}_{level}_{part}")
        for side in ("bid", "ask")
        for level in range(DEPTH_LEVELS)
    ]


_PRICE = [(_DELTAS, "price"), *_levels("price"), (_TRADES, "price")]
_SIZE = [(_DELTAS, "size"), *_levels("size"), (_TRADES, "amount")]
EVENT_COLUMNS = {
    "ts_origin_ns": [(_DELTAS, "timestamp"), (_TRADES, "timestamp")],
    "ts_receipt_ns": [(_DELTAS, "receipt_timestamp"), (_TRADES, "receipt_timestamp")],
    "sequence_number": _NUMBERS[:1],
    "kind": [_FLAGS, *_NUMBERS],
    "action": [_FLAGS, (_DELTAS, "size"), *_NUMBERS],
    "side": [(_DELTAS, "side_is_bid"), (_TRADES, "side")],
    "price_ticks": _PRICE,
    "size_lots": _SIZE,
    "price": _PRICE,
    "size": _SIZE,
    "flags": [_FLAGS, *_NUMBERS],
    "book_flags": [_FLAGS],
    "trade_id": [(_TRADES, "id")],
}
