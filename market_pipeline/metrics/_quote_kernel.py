"""Mid and spread of bars: open, high, low and close of the books in force."""

from __future__ import annotations

from typing import Final

from market_pipeline.jit import kernel

__all__ = ["HELD", "add_quotes"]

HELD: Final = ("valid_ns", "quoted_ns")
"""Columns of the time that is held: in which a book was valid, and had both sides."""

_VALID, _QUOTED = range(2)
_OPEN, _HIGH, _LOW, _CLOSE = range(4)


@kernel
def add_quotes(quotes, held, state, bar, held_ns, has_both, bid_ticks, ask_ticks):
    """Adds the time that books were in force, piece by piece.

    Args:
        quotes: int64, shape (bars, 2, 4): mid in half ticks and spread in ticks, of each open,
            high, low and close; of no meaning where nothing is quoted.
        held: int64, shape (bars, 2): `HELD`.
        state, bar, held_ns: int64, shape (pieces,), as `time_weighted.pieces` gives them.
        has_both: bool, shape (rows,): whether a book has both sides.
        bid_ticks, ask_ticks: int64, shape (rows,).
    """
    for piece in range(state.size):
        at, row = bar[piece], state[piece]
        held[at, _VALID] += held_ns[piece]
        if not has_both[row]:
            continue
        bid, ask = bid_ticks[row], ask_ticks[row]
        for each in range(2):
            value = bid + ask if each == 0 else ask - bid
            of = quotes[at, each]
            if held[at, _QUOTED] == 0:
                of[_OPEN] = of[_HIGH] = of[_LOW] = value
            of[_HIGH], of[_LOW] = max(of[_HIGH], value), min(of[_LOW], value)
            of[_CLOSE] = value
        held[at, _QUOTED] += held_ns[piece]
