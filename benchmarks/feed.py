"""The market behind the synthetic day: one message at a time, in whole ticks and lots.

It is made to be as hard on a book as a busy perpetual, and its shape was taken from a real one: the
mid is a random walk with bursts, a message tells of 42 levels on average and of some hundreds at
times, four rows in ten remove a level, one in twenty-five removes a level nobody knew, most changes
are some hundred ticks from the touch, and a few lie at round prices as far as ten times the market.
The feed has a resync now and then: silence, a jump of the sequence number, and all near levels
told again.

A bid is never above the mid and an ask never below the tick after it, so the book cannot be
crossed after a message. Quotes that the mid leaves behind are pulled, so a side settles at 5,000 to
7,000 levels, however long the day is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["FIRST_NS", "MAX_MESSAGE_ROWS", "SNAPSHOT_LEVELS", "Feed", "Rows", "Tops", "fill"]
__all__ += ["new_feed"]

FIRST_NS = 1_722_470_400_000_000_000  # 2024-08-01T00:00Z
SNAPSHOT_LEVELS = 20
MAX_MESSAGE_ROWS = 6_000

_BID, _ASK = 0, 1
_FIRST_MID_TICKS = 618_000
_TOP_TICKS = 6_171_000
_BAND_TICKS = 9_000  # how far from the mid any price may be quoted
_ROUND_TICKS = 25_000  # beyond the band only multiples of this are
_MAX_MOVE_TICKS = 300

_RESYNC_EVERY = 20_000  # messages, on average
_RESYNC_TICKS = 1_000
_RESYNC_SILENCE_NS = 2_000_000_000
_SNAPSHOT_EVERY_NS = 100_000_000

# Of a populated level that is drawn, and of an empty one; in the long run this makes four removals
# in ten rows, one of them of an unknown level, and a band that is populated at six prices in ten.
_REMOVE_POPULATED = 0.6
_REMOVE_EMPTY = 0.1

MID, CLOCK_NS, RECEIPT_NS, SEQUENCE, MESSAGE, IN_BURST, ROWS_TOLD = range(7)


class Feed(NamedTuple):
    """The market and what its current message told.

    Attributes:
        lots: int32 (2, prices), the size at each tick of bids and asks, 0 for no level.
        told_by: int32 (2, prices), the last message that told of a level.
        keys: int64 (MAX_MESSAGE_ROWS,), the levels of the current message.
        numbers: int64 (7,), the scalars named in this module.
    """

    lots: NDArray[np.int32]
    told_by: NDArray[np.int32]
    keys: NDArray[np.int64]
    numbers: NDArray[np.int64]


class Rows(NamedTuple):
    """Delta rows, shape (n,); a message is the rows of equal sequence number."""

    origin_ns: NDArray[np.int64]
    receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    is_bid: NDArray[np.bool_]
    price_ticks: NDArray[np.int64]
    size_lots: NDArray[np.int64]


class Tops(NamedTuple):
    """The top 20 after a message, shape (n,) and (n, 20), best first, padded with 0."""

    origin_ns: NDArray[np.int64]
    receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]


def new_feed() -> Feed:
    """A market without quotes; its first message is a resync."""
    numbers = np.zeros(7, np.int64)
    numbers[[MID, CLOCK_NS, SEQUENCE]] = _FIRST_MID_TICKS, FIRST_NS, 5_000_000_000_000
    return Feed(
        np.zeros((2, _TOP_TICKS), np.int32),
        np.zeros((2, _TOP_TICKS), np.int32),
        np.empty(MAX_MESSAGE_ROWS, np.int64),
        numbers,
    )


@njit(nogil=True, cache=True)
def _tell(feed: Feed, side: int, price: int, lots: int) -> None:
    """Sets a level and makes it a row of the message, at most once a message."""
    numbers = feed.numbers
    if feed.told_by[side, price] == numbers[MESSAGE] or numbers[ROWS_TOLD] == feed.keys.size:
        return
    feed.told_by[side, price] = numbers[MESSAGE]
    feed.lots[side, price] = lots
    feed.keys[numbers[ROWS_TOLD]] = side * _TOP_TICKS + price
    numbers[ROWS_TOLD] += 1


@njit(nogil=True, cache=True)
def _some_lots(rng: np.random.Generator) -> int:
    return min(max(1, round(math.exp(4.9 + 2.2 * rng.standard_normal()))), 1_000_000)


@njit(nogil=True, cache=True)
def _remove(feed: Feed, side: int, first: int, last: int, keep_round: bool) -> None:
    """Removes the levels of a side from `first` to `last`, those at round prices only if asked."""
    for price in range(first, last + 1):
        if feed.lots[side, price] > 0 and not (keep_round and price % _ROUND_TICKS == 0):
            _tell(feed, side, price, 0)


@njit(nogil=True, cache=True)
def _move(rng: np.random.Generator, feed: Feed) -> None:
    """Moves the mid, removes what it crossed and what it left behind, and quotes at the touch."""
    in_burst = feed.numbers[IN_BURST]
    if rng.random() >= (0.5 if in_burst else 0.1):
        return
    ticks = min(1 + int(rng.exponential(12.0)), _MAX_MOVE_TICKS)
    old = feed.numbers[MID]
    if rng.random() < 0.5:
        mid = old + ticks
        _remove(feed, _ASK, old + 1, mid, False)
        _remove(feed, _BID, old - _BAND_TICKS + 1, mid - _BAND_TICKS, True)
        _tell(feed, _BID, mid, _some_lots(rng))
    else:
        mid = old - ticks
        _remove(feed, _BID, mid + 1, old, False)
        _remove(feed, _ASK, mid + 1 + _BAND_TICKS, old + _BAND_TICKS, True)
        _tell(feed, _ASK, mid + 1, _some_lots(rng))
    feed.numbers[MID] = mid


@njit(nogil=True, cache=True)
def _some_price(rng: np.random.Generator, mid: int, side: int) -> int:
    which = rng.random()
    if which < 0.03:
        if side == _BID:
            return _ROUND_TICKS * int(rng.integers(1, (mid - _BAND_TICKS) // _ROUND_TICKS + 1))
        first = (mid + _BAND_TICKS) // _ROUND_TICKS + 1
        return _ROUND_TICKS * int(rng.integers(first, _TOP_TICKS // _ROUND_TICKS))
    if which < 0.27:
        away = int(rng.integers(0, _BAND_TICKS))
    else:
        mean = 8.0 if which < 0.32 else 60.0 if which < 0.55 else 500.0
        away = min(int(rng.exponential(mean)), _BAND_TICKS - 1)
    return mid - away if side == _BID else mid + 1 + away


@njit(nogil=True, cache=True)
def _change_levels(rng: np.random.Generator, feed: Feed) -> None:
    """Changes, adds and removes levels of both sides."""
    mean = 4.18 if feed.numbers[IN_BURST] else 3.27
    wanted = min(1 + int(math.exp(mean + 0.9 * rng.standard_normal())), 2_000)
    for _ in range(wanted):
        side = _BID if rng.random() < 0.5 else _ASK
        price = _some_price(rng, feed.numbers[MID], side)
        removal = _REMOVE_POPULATED if feed.lots[side, price] > 0 else _REMOVE_EMPTY
        _tell(feed, side, price, 0 if rng.random() < removal else _some_lots(rng))


@njit(nogil=True, cache=True)
def _resync(rng: np.random.Generator, feed: Feed) -> None:
    """Tells the touch and every near level again; one in ten changed unseen."""
    mid = feed.numbers[MID]
    _tell(feed, _BID, mid, _some_lots(rng))
    _tell(feed, _ASK, mid + 1, _some_lots(rng))
    for away in range(1, _RESYNC_TICKS):
        for side in range(2):
            price = mid - away if side == _BID else mid + 1 + away
            lots = feed.lots[side, price]
            if rng.random() < 0.1:
                _tell(feed, side, price, 0 if lots > 0 else _some_lots(rng))
            elif lots > 0:
                _tell(feed, side, price, lots)


@njit(nogil=True, cache=True)
def _next_message(rng: np.random.Generator, feed: Feed) -> None:
    numbers = feed.numbers
    numbers[MESSAGE] += 1
    numbers[ROWS_TOLD] = 0
    if rng.random() < (0.02 if numbers[IN_BURST] else 0.001):
        numbers[IN_BURST] = 1 - numbers[IN_BURST]
    numbers[CLOCK_NS] += 500_000 + int(rng.exponential(3e6 if numbers[IN_BURST] else 34e6))
    if numbers[MESSAGE] == 1 or rng.random() < 1.0 / _RESYNC_EVERY:
        numbers[CLOCK_NS] += _RESYNC_SILENCE_NS
        numbers[SEQUENCE] += 10_000_000
        _resync(rng, feed)
    else:
        _move(rng, feed)
        _change_levels(rng, feed)
    numbers[SEQUENCE] += 1 + rng.integers(0, 5 * numbers[ROWS_TOLD])
    # Two microseconds apart, because vendor times are rounded to 256 ns.
    arrival = numbers[CLOCK_NS] + 3_000_000 + int(rng.exponential(1e6))
    numbers[RECEIPT_NS] = max(arrival, numbers[RECEIPT_NS] + 2_000)


@njit(nogil=True, cache=True)
def _write_rows(feed: Feed, rows: Rows, row: int) -> int:
    """Writes the current message, bids then asks by ascending price, and returns the row after."""
    numbers = feed.numbers
    keys = feed.keys[: numbers[ROWS_TOLD]]
    keys.sort()
    for key in keys:
        side, price = key // _TOP_TICKS, key % _TOP_TICKS
        rows.origin_ns[row] = numbers[CLOCK_NS] // 1_000_000 * 1_000_000
        rows.receipt_ns[row] = numbers[RECEIPT_NS]
        rows.sequence_number[row] = numbers[SEQUENCE]
        rows.is_bid[row] = side == _BID
        rows.price_ticks[row] = price
        rows.size_lots[row] = feed.lots[side, price]
        row += 1
    return row


@njit(nogil=True, cache=True)
def _write_top(feed: Feed, tops: Tops, row: int) -> None:
    numbers = feed.numbers
    tops.origin_ns[row] = numbers[CLOCK_NS] // 1_000_000 * 1_000_000
    tops.receipt_ns[row] = numbers[RECEIPT_NS]
    tops.sequence_number[row] = numbers[SEQUENCE]
    for side in range(2):
        prices = tops.bid_price_ticks[row] if side == _BID else tops.ask_price_ticks[row]
        sizes = tops.bid_size_lots[row] if side == _BID else tops.ask_size_lots[row]
        price = numbers[MID] + side
        rank = 0
        # Twenty levels are always within the band once the first resync is done.
        for _ in range(_BAND_TICKS):
            if rank == SNAPSHOT_LEVELS:
                break
            if feed.lots[side, price] > 0:
                prices[rank], sizes[rank] = price, feed.lots[side, price]
                rank += 1
            price += 1 if side == _ASK else -1


@njit(nogil=True, cache=True)
def fill(
    rng: np.random.Generator, feed: Feed, rows: Rows, tops: Tops, most_rows: int
) -> tuple[int, int, bool]:
    """Fills `rows` with whole messages and `tops` with the top 20 after the first of each 100 ms.

    Args:
        rng, feed: The market, which goes on where it stopped.
        rows, tops: Written from their start on.
        most_rows: The message that would pass so many rows is the end of the feed.

    Returns:
        How many rows and tops were written, and whether the feed ended.
    """
    row = top = 0
    while row + MAX_MESSAGE_ROWS <= rows.size_lots.size and top < tops.sequence_number.size:
        before = feed.numbers[RECEIPT_NS]
        _next_message(rng, feed)
        if row + feed.numbers[ROWS_TOLD] > most_rows:
            return row, top, True
        row = _write_rows(feed, rows, row)
        if feed.numbers[RECEIPT_NS] // _SNAPSHOT_EVERY_NS != before // _SNAPSHOT_EVERY_NS:
            _write_top(feed, tops, top)
            top += 1
    return row, top, False
