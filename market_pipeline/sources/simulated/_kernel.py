"""The market of the simulated venue, message by message, in integer ticks and lots.

One array holds the book: element i is the price `i + base` ticks, a positive value the lots bid
there, a negative one the lots offered. A message comes about in this order:

1. Its time. Gaps are a mixture of a busy and a calm exponential with a persisting regime, scaled by
   the hour; the exchange's stamp is a whole millisecond, receipt is that plus a delay.
2. Trades before it, all at the touch as the message before left it, never more than stood there.
3. The fair price moves, more in volatile stretches (log-volatility is an AR(1)); the touch follows.
   Volatility is per message, not per second, so busy hours are also the volatile ones.
4. Orders come, change and go on both sides, most of them near the touch.
5. Every level that entered the top 20 is reported again, so a reader that knew the top 20 once
   always knows it. What is further out may be unknown to the reader, as in the vendor's files.

What changed is written as rows: bids, then asks, each by ascending price, sizes absolute.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market_pipeline.sources.simulated.state import (
    MAX_MESSAGE_ROWS,
    MAX_MESSAGE_TRADES,
    TOP_LEVELS,
    Book,
    Character,
    Output,
)

__all__ = ["advance", "open_book"]

_BID, _ASK = 0, 1
_NS_PER_MS = 1_000_000
_MIN_GAP_MS = 2  # leaves a whole millisecond between two messages for the trades
_TRADE_LEAD_MS = 50  # trades are at most so much older than the message that tells of them
_MIN_RECEIPT_GAP_NS = 2_000  # well above the 256 ns that vendor times are rounded to
_MAX_MOVE_TICKS = 400.0
_MAX_EXTRA_SPREAD_TICKS = 30
_FAR_LEVELS_AT_OPENING = 200


@njit(nogil=True, cache=True)
def _touch(book: Book, side: int, index: int) -> None:
    book.touched[book.touched_count[0]] = side * book.levels.size + index
    book.touched_count[0] += 1


@njit(nogil=True, cache=True)
def _put(book: Book, side: int, index: int, lots: int) -> None:
    """Sets the lots of a side at an index where the other side has none."""
    had = book.levels[index] != 0
    book.levels[index] = lots if side == _BID else -lots
    book.counts[side] += int(lots != 0) - int(had)
    _touch(book, side, index)


@njit(nogil=True, cache=True)
def _new_lots(rng: np.random.Generator, character: Character, distance: int) -> int:
    """The size of a new level: log-normal, larger further from the touch."""
    growth = 1.0 + 0.25 * math.log1p(distance)
    return max(1, round(growth * math.exp(character.log_lots + 0.9 * rng.standard_normal())))


@njit(nogil=True, cache=True)
def _changed_lots(rng: np.random.Generator, character: Character, lots: int) -> int:
    """Another size of a standing level, drawn a little towards the median."""
    mean = 0.8 * math.log(lots) + 0.2 * character.log_lots
    return max(1, round(math.exp(mean + 0.4 * rng.standard_normal())))


@njit(nogil=True, cache=True)
def _log_uniform(rng: np.random.Generator, low: float, high: float) -> int:
    return int(low * math.exp(rng.random() * math.log(high / low)))


@njit(nogil=True, cache=True)
def _standing(book: Book, side: int, start: int, reach: int) -> int:
    """The first populated index of a side from `start` away from the touch; -1 if out of reach."""
    levels = book.levels
    if side == _BID:
        for index in range(start, max(start - reach, 0), -1):
            if levels[index] > 0:
                return index
    else:
        for index in range(start, min(start + reach, levels.size)):
            if levels[index] < 0:
                return index
    return -1


@njit(nogil=True, cache=True)
def _far_index(rng: np.random.Generator, book: Book, zone: int, best: int, side: int) -> int:
    """A price far from the touch, on a round number of ticks; the nearest ones most likely."""
    room = best - 1 if side == _BID else book.levels.size - 2 - best
    distance = _log_uniform(rng, zone, max(zone + 1.0, 0.95 * room))
    index = best - distance if side == _BID else best + distance
    grain = max(1, int(10 ** (math.floor(math.log10(distance)) - 1)))
    return min(max(index // grain * grain, 1), book.levels.size - 2)


@njit(nogil=True, cache=True)
def _top(book: Book, best_bid: int, best_ask: int, top: NDArray[np.int64]) -> None:
    """Writes the indices of the best 20 bids and then the best 20 asks."""
    levels = book.levels
    index = best_bid
    for rank in range(TOP_LEVELS):
        while index > 0 and levels[index] <= 0:
            index -= 1
        top[rank] = index
        index -= 1
    index = best_ask
    for rank in range(TOP_LEVELS):
        while index < levels.size - 1 and levels[index] >= 0:
            index += 1
        top[TOP_LEVELS + rank] = index
        index += 1


@njit(nogil=True, cache=True)
def open_book(
    rng: np.random.Generator, character: Character, book: Book, state: NDArray[np.void]
) -> None:
    """Fills an empty book around the anchor and sets the touch of the state."""
    bid = character.anchor
    ask = bid + 1
    for side in range(2):
        best = bid if side == _BID else ask
        outwards = -1 if side == _BID else 1
        for distance in range(character.zone):
            if distance < TOP_LEVELS or rng.random() < character.density:
                lots = _new_lots(rng, character, distance)
                _put(book, side, best + outwards * distance, lots)
                book.touched_count[0] = 0  # no message tells of the opening
        for _ in range(_FAR_LEVELS_AT_OPENING):
            index = _far_index(rng, book, character.zone, best, side)
            if book.levels[index] == 0:
                _put(book, side, index, _new_lots(rng, character, character.zone))
                book.touched_count[0] = 0
    now = state[0]
    now["best_bid"], now["best_ask"] = bid, ask
    now["bid_edge"], now["ask_edge"] = bid - TOP_LEVELS + 1, ask + TOP_LEVELS - 1
    now["fair"] = bid + 0.5
    now["last_taker"] = 1


@njit(nogil=True, cache=True)
def _requote(
    rng: np.random.Generator,
    character: Character,
    book: Book,
    old_bid: int,
    old_ask: int,
    bid: int,
    ask: int,
) -> None:
    """Moves the touch: clears what stands in the way, and fills part of what was left behind."""
    for index in range(old_ask, ask):
        if book.levels[index] < 0:
            _put(book, _ASK, index, 0)
    for index in range(old_bid, bid, -1):
        if book.levels[index] > 0:
            _put(book, _BID, index, 0)
    for index in range(old_bid + 1, bid):
        if rng.random() < character.density:
            _put(book, _BID, index, _new_lots(rng, character, bid - index))
    for index in range(ask + 1, old_ask):
        if rng.random() < character.density:
            _put(book, _ASK, index, _new_lots(rng, character, index - ask))
    if book.levels[bid] == 0:
        _put(book, _BID, bid, _new_lots(rng, character, 0))
    if book.levels[ask] == 0:
        _put(book, _ASK, ask, _new_lots(rng, character, 0))


@njit(nogil=True, cache=True)
def _orders(
    rng: np.random.Generator, character: Character, book: Book, best_bid: int, best_ask: int
) -> None:
    """Orders away from the best price: new, changed and cancelled levels, and some never reported.

    New levels come where there is room and go where it is crowded, which keeps the density. The
    last order changes a level that stands, so no message consists of removals only.
    """
    usual_spacing = int(1.0 / character.density)
    for remaining in range(rng.poisson(2.4), -1, -1):
        side = _BID if rng.random() < 0.5 else _ASK
        best = best_bid if side == _BID else best_ask
        outwards = -1 if side == _BID else 1
        kind = rng.random()
        if kind < 0.3 or remaining == 0:
            start = best + outwards * (_log_uniform(rng, 1.0, character.zone**0.7) - 1)
            index = _standing(book, side, start, 4 * usual_spacing)
            if index < 0:
                index = best
            _put(book, side, index, _changed_lots(rng, character, abs(book.levels[index])))
        elif kind < 0.9:
            if rng.random() < 0.6:
                distance = _log_uniform(rng, 1.0, 4.0 * character.zone)
            else:
                distance = 1 + int(rng.random() * character.zone)
            index = best + outwards * distance
            if 0 < index < book.levels.size - 1:
                near = _standing(book, side, index, usual_spacing)
                if near < 0 and distance <= character.zone:
                    _put(book, side, index, _new_lots(rng, character, distance))
                elif near >= 0 and rng.random() < 0.7:
                    _put(book, side, near, 0)
        elif kind < 0.95:
            # Placed and cancelled since the last message: reported as the removal of nothing.
            index = best + outwards * _log_uniform(rng, 1.0, character.zone)
            if 0 < index < book.levels.size - 1 and book.levels[index] == 0:
                _touch(book, side, index)
        else:
            index = _far_index(rng, book, character.zone, best, side)
            lots = abs(book.levels[index])
            if lots == 0:
                _put(book, side, index, _new_lots(rng, character, character.zone))
            elif rng.random() < 0.5:
                _put(book, side, index, _changed_lots(rng, character, lots))
            else:
                _put(book, side, index, 0)


@njit(nogil=True, cache=True)
def advance(
    rng: np.random.Generator,
    character: Character,
    book: Book,
    state: NDArray[np.void],
    busyness: NDArray[np.float64],
    day_start_ms: int,
    day_end_ms: int,
    out: Output,
) -> tuple[int, int, int, int, bool]:
    """Makes messages until an output is full or the day is over.

    Args:
        rng: The day's own random numbers.
        character: The instrument's.
        book, state: Changed in place; `state` has the dtype STATE and shape (1,).
        busyness: float64, shape (25,): traffic at each full hour, on average 1.
        day_start_ms, day_end_ms: The UTC day, in milliseconds since the epoch.
        out: Overwritten.

    Returns:
        How many messages, rows, trades and snapshots were written, and whether the day is over.
    """
    span = book.levels.size
    top = np.empty(2 * TOP_LEVELS, np.int64)
    now = state[0]
    messages, rows, trades, snapshots = 0, 0, 0, 0
    while (
        messages < out.message_end.size
        and rows + MAX_MESSAGE_ROWS <= out.row_lots.size
        and trades + MAX_MESSAGE_TRADES <= out.trade_lots.size
        and snapshots < out.snapshot_message.size
    ):
        # 1. When.
        in_burst = now["in_burst"]
        in_burst = int(rng.random() < (0.9 if in_burst else 0.03))
        hour = (now["origin_ms"] - day_start_ms) / 3_600_000.0
        hour = min(max(hour, 0.0), 23.999)
        part = hour - int(hour)
        traffic = (1.0 - part) * busyness[int(hour)] + part * busyness[int(hour) + 1]
        mean_gap_ms = character.burst_gap_ms if in_burst else character.calm_gap_ms
        gap_ms = _MIN_GAP_MS + int(rng.exponential(mean_gap_ms) / traffic)
        origin_ms = now["origin_ms"] + gap_ms
        delay_ms = 2.0 + math.exp(0.4 + 0.6 * rng.standard_normal())
        if rng.random() < 0.002:
            delay_ms += rng.exponential(30.0)
        earliest_ns = now["receipt_ns"] + (MAX_MESSAGE_TRADES + 1) * _MIN_RECEIPT_GAP_NS
        receipt_ns = max(origin_ms * _NS_PER_MS + int(delay_ms * _NS_PER_MS), earliest_ns)
        if receipt_ns >= day_end_ms * _NS_PER_MS:
            return messages, rows, trades, snapshots, True
        now["in_burst"] = in_burst
        book.touched_count[0] = 0
        best_bid, best_ask = now["best_bid"], now["best_ask"]

        # 2. Trades at the touch as it was before this message.
        swept = 0
        if rng.random() < (0.5 if in_burst else 0.25):
            takers = 1 + min(rng.poisson(0.7), MAX_MESSAGE_TRADES - 1)
            trade_ms = origin_ms - 1 - int(rng.random() * min(gap_ms - 1, _TRADE_LEAD_MS))
            trade_ns = now["receipt_ns"]
            for taker in range(takers):
                if rng.random() < 0.3:
                    now["last_taker"] = -now["last_taker"]
                is_buy = now["last_taker"] > 0
                index = best_ask if is_buy else best_bid
                standing = abs(book.levels[index])
                if standing == 0:
                    continue
                lots = round(math.exp(character.log_lots - 2.5 + 1.8 * rng.standard_normal()))
                lots = min(max(lots, 1), standing)
                if taker > 0 and trade_ms < origin_ms - 1 and rng.random() < 0.5:
                    trade_ms += 1 + int(rng.random() * (origin_ms - 1 - trade_ms))
                latest_ns = receipt_ns - (takers - taker) * _MIN_RECEIPT_GAP_NS
                arrival_ns = trade_ms * _NS_PER_MS + int(
                    (2.0 + math.exp(0.4 + 0.6 * rng.standard_normal())) * _NS_PER_MS
                )
                trade_ns = min(max(arrival_ns, trade_ns + _MIN_RECEIPT_GAP_NS), latest_ns)
                now["trade_id"] += 1
                out.trade_origin_ms[trades] = trade_ms
                out.trade_receipt_ns[trades] = trade_ns
                out.trade_id[trades] = now["trade_id"]
                out.trade_is_buy[trades] = is_buy
                out.trade_index[trades] = index
                out.trade_lots[trades] = lots
                trades += 1
                _put(book, _ASK if is_buy else _BID, index, standing - lots)
                if lots == standing:
                    swept = 1 if is_buy else -1

        # 3. The fair price, and the touch around it.
        now["log_volatility"] = 0.9995 * now["log_volatility"] + 0.02 * rng.standard_normal()
        moves = rng.random() < (0.6 if in_burst else 0.3)
        volatility = 1.7 * character.volatility * math.exp(now["log_volatility"] - 0.4)
        move = 0.0
        if moves:
            move = volatility * rng.standard_normal()
            if rng.random() < 0.02:
                move *= 4.0
        if swept != 0:
            move += swept * (1.0 + 0.5 * volatility * abs(rng.standard_normal()))
        move = min(max(move, -_MAX_MOVE_TICKS), _MAX_MOVE_TICKS)
        fair = now["fair"] + move + 1e-7 * (character.anchor - now["fair"])
        now["fair"] = min(max(fair, 1.5 * character.zone), span - 1.5 * character.zone)
        extra = now["extra_spread"]
        if swept != 0 or rng.random() < (0.06 if in_burst else 0.02):
            extra = min(extra + rng.geometric(0.4), _MAX_EXTRA_SPREAD_TICKS)
        elif extra > 0 and rng.random() < 0.4:
            extra = extra // 2
        if moves or swept != 0 or extra != now["extra_spread"]:
            now["extra_spread"] = extra
            bid = math.floor(now["fair"] - 0.5 * extra)
            ask = bid + 1 + extra
            _requote(rng, character, book, best_bid, best_ask, bid, ask)
            best_bid, best_ask = bid, ask
            now["best_bid"], now["best_ask"] = bid, ask

        # 4. Orders behind the touch.
        _orders(rng, character, book, best_bid, best_ask)

        # 5. Levels that came into the top 20 are reported again.
        _top(book, best_bid, best_ask, top)
        for rank in range(TOP_LEVELS):
            bid_index, ask_index = top[rank], top[TOP_LEVELS + rank]
            if bid_index < now["bid_edge"]:
                _put(book, _BID, bid_index, _changed_lots(rng, character, book.levels[bid_index]))
            if ask_index > now["ask_edge"]:
                _put(book, _ASK, ask_index, _changed_lots(rng, character, -book.levels[ask_index]))
        now["bid_edge"], now["ask_edge"] = top[TOP_LEVELS - 1], top[2 * TOP_LEVELS - 1]

        # The message: each touched level once.
        touched = book.touched[: book.touched_count[0]]
        touched.sort()
        last_key = -1
        for key in touched:
            if key != last_key:
                side = key // span
                index = key - side * span
                lots = book.levels[index] if side == _BID else -book.levels[index]
                out.row_side[rows] = side
                out.row_index[rows] = index
                out.row_lots[rows] = max(lots, 0)
                rows += 1
                last_key = key
        now["sequence"] += 1 + int(math.exp(6.5 + 0.9 * rng.standard_normal()))
        now["origin_ms"] = origin_ms
        now["receipt_ns"] = receipt_ns
        out.message_origin_ms[messages] = origin_ms
        out.message_receipt_ns[messages] = receipt_ns
        out.message_sequence[messages] = now["sequence"]
        out.message_end[messages] = rows
        touch = out.message_touch[messages]
        touch[0], touch[1] = best_bid, book.levels[best_bid]
        touch[2], touch[3] = best_ask, -book.levels[best_ask]
        touch[4], touch[5] = book.counts[_BID], book.counts[_ASK]
        if receipt_ns >= now["next_snapshot_ns"]:
            interval_ns = character.snapshot_interval_ns
            late_ns = receipt_ns - now["next_snapshot_ns"]
            now["next_snapshot_ns"] += (late_ns // interval_ns + 1) * interval_ns
            out.snapshot_message[snapshots] = messages
            for rank in range(2 * TOP_LEVELS):
                out.snapshot_index[snapshots, rank] = top[rank]
                out.snapshot_lots[snapshots, rank] = abs(book.levels[top[rank]])
            snapshots += 1
        messages += 1
    return messages, rows, trades, snapshots, False
