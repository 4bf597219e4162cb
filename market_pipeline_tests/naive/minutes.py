"""The plain twin of the minute metrics: loops over minutes and intervals, in exact fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.quality.intervals import NS_PER_SECOND


def naive_minutes(messages, depths, trades, gap, *, start_ns, tick, lot):
    """Every figure by a loop over minutes and intervals, in exact fractions of nanoseconds."""
    tick, lot = Fraction(tick), Fraction(lot)
    messages, depths = sound(messages), sound(depths)
    tables = [(state_spans([(ts, row, flags) for ts, *row, flags in messages], gap), touch_values)]
    tables.append(
        (state_spans([(ts, row, flags) for ts, *row, flags in depths], gap), depth_values)
    )
    minutes = {}
    for minute in range(6):
        begin, end = start_ns + minute * 60_000_000_000, start_ns + (minute + 1) * 60_000_000_000
        row = {
            "message_count": sum(
                begin <= ts < end and not flags & BookFlag.OUTSIDE_DAY for ts, *_, flags in messages
            ),
            "trade_count": sum(begin <= ts < end for ts, _, _ in trades),
            "buy_volume": sum(Fraction(q) for ts, q, buy in trades if begin <= ts < end and buy),
            "sell_volume": sum(
                Fraction(q) for ts, q, buy in trades if begin <= ts < end and not buy
            ),
        }
        for spans, values in tables:
            totals = {}
            for start, stop, state in spans:
                held = max(0, min(stop, end) - max(start, begin))
                for name, value in values(state, tick, lot).items():
                    total = totals.setdefault(name, [Fraction(0), 0])
                    if value is not None and held:
                        total[0] += value * held
                        total[1] += held
            for name, (weighted, held) in totals.items():
                row[name] = weighted / held if held else None
            seconds = sum(max(0, min(stop, end) - max(start, begin)) for start, stop, _ in spans)
            name = "valid_seconds" if values is touch_values else "depth_valid_seconds"
            row[name] = Fraction(seconds, NS_PER_SECOND)
        prices = [q for ts, q, _ in sorted(trades, key=lambda t: t[0]) if begin <= ts < end]
        bar = (prices[0], max(prices), min(prices), prices[-1]) if prices else (None,) * 4
        row |= dict(zip(("trade_open", "trade_high", "trade_low", "trade_close"), bar, strict=True))
        if row["message_count"] or row["trade_count"] or row["valid_seconds"]:
            minutes[minute] = row
    return minutes


def sound(rows):
    """The rows with a time; one with a bad stamp, or of another day, has that of the one before."""
    found, latest = [], None
    for ts, *row, flags in rows:
        if not flags & (BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY):
            latest = ts
        if latest is not None:
            found.append((latest, *row, flags))
    return found


def state_spans(rows, gap):
    """The valid stretches of time and the state in force, on a clock that never runs back."""
    spans, latest = [], rows[0][0] if rows else 0
    for (_, state, flags), (following, _, _) in itertools.pairwise(rows):
        until = max(latest, following)
        if not flags & INVALIDATING:
            before, after = (latest, min(until, gap[0])), (max(latest, gap[1]), until)
            spans += [(*span, state) for span in (before, after) if span[0] < span[1]]
        latest = until
    return spans


def touch_values(state, tick, lot):
    """The touch figures of one book; None where a side is empty."""
    bid, bid_size, ask, ask_size = (None if each is None else Fraction(each) for each in state)
    values = dict.fromkeys(
        ("spread", "spread_ticks", "spread_bps", "mid", "weighted_mid", "touch_imbalance")
    )
    values["bid_touch_size"] = None if bid is None else bid_size * lot
    values["ask_touch_size"] = None if ask is None else ask_size * lot
    if bid is not None and ask is not None:
        mid = (bid + ask) / 2
        values |= {
            "spread": (ask - bid) * tick,
            "spread_ticks": ask - bid,
            "spread_bps": (ask - bid) / mid * 10_000,
            "mid": mid * tick,
            "weighted_mid": (bid * ask_size + ask * bid_size) / (bid_size + ask_size) * tick,
            "touch_imbalance": (bid_size - ask_size) / (bid_size + ask_size),
        }
    return values


def depth_values(state, tick, lot):
    """The depth figures of one book; None where a side is empty."""
    bid, ask = (sum(map(Fraction, sizes)) if sizes else None for sizes in state)
    both = bid is not None and ask is not None
    imbalance = (bid - ask) / (bid + ask) if both else None
    return {"bid_depth_20": bid, "ask_depth_20": ask, "depth_imbalance_20": imbalance}
