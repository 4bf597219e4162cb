"""The plain twin of the trades with their books: a loop over messages for each trade, fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

from market_pipeline.books.flags import INVALIDATING, BookFlag

NO_TIME = BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY


def naive_trades(
    messages: list[tuple[int, tuple[int | None, ...], int, bool]],
    spans: list[tuple[BookFlag, int, int]],
    prints: list[tuple[int, int, int, int, bool, int, int]],
) -> list[dict[str, Any]]:
    """The columns of `books.trades` that depend on others, for each print.

    Args:
        messages: Receipt time, (bid, size, ask, size), flags, verified.
        spans: Flag, start and end in which the book is not known.
        prints: Exchange time, receipt time, id, price in ticks, whether bought, size in lots, mark.
    """
    rows = []
    for at, (origin_ns, receipt_ns, id_, ticks, is_buy, _, mark) in enumerate(prints):
        first = at
        while first and all(
            (
                prints[first - 1][0] == origin_ns,
                prints[first - 1][4] == is_buy,
                prints[first - 1][6] == mark,
                prints[first - 1][2] == prints[first][2] - 1,
            )
        ):
            first -= 1
        row: dict[str, Any] = {"id": id_, "taker_order": prints[first][2]}
        row["is_market"] = {1: True, 0: False, -1: None}[mark]
        row |= book_before(messages, spans, receipt_ns, ticks, is_buy)
        rows.append(row | mids_after(messages, spans, receipt_ns, ticks, is_buy))
    return rows


def book_before(messages, spans, receipt_ns, ticks, is_buy) -> dict[str, Any]:
    """The book that a print met, and the figures that follow from it."""
    names = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots", "flags")
    names += ("verified", "book_age_ns", "mid_distance_half_ticks", "effective_spread_ticks")
    row: dict[str, Any] = dict.fromkeys((*names, "effective_spread_bps"))
    latest = sound = None
    for ns, book, flags, verified in messages:
        if not flags & NO_TIME:
            sound = ns
            latest = ns if latest is None else max(latest, ns)
        if sound is None or latest >= receipt_ns:
            continue
        row |= dict(zip(names, (*book, flags, verified, receipt_ns - latest), strict=False))
    if row["book_age_ns"] is None:
        return row
    for flag, start, end in spans:
        if start < receipt_ns <= end:
            row["flags"], row["verified"] = row["flags"] | flag, False
    bid, ask = row["bid_price_ticks"], row["ask_price_ticks"]
    if bid is not None and ask is not None:
        mid = Fraction(bid + ask, 2)
        effective = 2 * (ticks - mid) * (1 if is_buy else -1)
        row["mid_distance_half_ticks"] = int(2 * (ticks - mid))
        row["effective_spread_ticks"] = int(effective)
        row["effective_spread_bps"] = float(effective / mid * 10_000)
    return row


def mids_after(messages, spans, receipt_ns, ticks, is_buy) -> dict[str, Any]:
    """Realised spread and impact, from the books before the print and before each later time."""
    row: dict[str, Any] = {}
    before = book_before(messages, spans, receipt_ns, ticks, is_buy)
    for seconds in (1, 5, 60):
        then_ns = receipt_ns + seconds * 10**9
        then = book_before(messages, spans, then_ns, ticks, is_buy)
        names = (f"realised_spread_{seconds}s_ticks", f"price_impact_{seconds}s_ticks")
        row |= dict.fromkeys(names)
        mids = [
            None
            if each["flags"] is None
            or each["flags"] & INVALIDATING
            or None in (each["bid_price_ticks"], each["ask_price_ticks"])
            else Fraction(each["bid_price_ticks"] + each["ask_price_ticks"], 2)
            for each in (before, then)
        ]
        is_valid = before["flags"] is not None and not before["flags"] & INVALIDATING
        ended = not any(clock >= then_ns for clock, _ in on_one_clock(messages))
        broken = ended or is_broken(messages, spans, receipt_ns, then_ns)
        if not is_valid or mids[1] is None or broken:
            continue
        sign = 1 if is_buy else -1
        row[names[0]] = int(2 * sign * (ticks - mids[1]))
        if mids[0] is not None:
            row[names[1]] = int(2 * sign * (mids[1] - mids[0]))
    return row


def on_one_clock(messages) -> list[tuple[int, int]]:
    """The time at which each message came, on a clock that never runs back, and its flags."""
    clocks: list[tuple[int, int]] = []
    for ns, _, flags, _ in messages:
        if not flags & NO_TIME:
            clocks.append((max(ns, clocks[-1][0] if clocks else ns), flags))
        elif clocks:
            clocks.append((clocks[-1][0], flags))
    return clocks


def is_broken(messages, spans, start_ns, end_ns) -> bool:
    """Whether between two times the book was invalid or unknown, or how long it was is."""
    invalid = [(start, end) for _, start, end in spans]
    for (start, flags), (end, _) in itertools.pairwise([*on_one_clock(messages), (10**18, 0)]):
        if flags & NO_TIME and start_ns <= start < end_ns:
            return True
        if flags & INVALIDATING:
            invalid.append((start, end))
    return any(min(end, end_ns) > max(start, start_ns) for start, end in invalid)
