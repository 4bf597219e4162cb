"""The plain twin of bars of equal activity: one trade after the other, in exact fractions."""

from __future__ import annotations

from fractions import Fraction


def naive_information_bars(trades, kind, step, *, tick, lot):
    """The bars of one kind and step.

    Args:
        trades: In file order: (origin ns, receipt ns, id, price, size, taker bought), where price
            and size are fractions, whole ticks and lots.
        kind, step: What a bar counts, and how much of it closes it; `_imbalance` behind it counts
            that of buyers less that of sellers, and `_runs` that of one side until the other comes.
        tick, lot: Fractions.
    """
    what, _, rule = kind.partition("_")
    bars, parts, latest = [], [], 0
    bought, sold = Fraction(0), Fraction(0)
    for trade in sorted(trades, key=lambda each: (each[0], each[2])):
        origin, receipt, number, price, size, is_buy = trade
        latest = max(latest, receipt)
        goes_on = False
        while size > 0:
            if rule == "runs" and (sold if is_buy else bought):
                parts, bought, sold = [], Fraction(0), Fraction(0)
            mine, other = (bought, sold) if is_buy else (sold, bought)
            counted = mine - other if rule else mine + other
            part, added = taken(what, Fraction(step) - counted, price, size, lot)
            parts.append((origin, latest, number, price, part, is_buy, goes_on))
            size, goes_on = size - part, True
            bought, sold = bought + added * is_buy, sold + added * (not is_buy)
            if counted + added == step:
                bars.append(bar_of(parts, tick, lot, is_complete=True))
                parts, bought, sold = [], Fraction(0), Fraction(0)
    return [*bars, *([bar_of(parts, tick, lot, is_complete=False)] if parts else [])]


def taken(what, missing, price, size, lot):
    """How much of a size goes into the open bar, and how much that counts of what it misses."""
    if what == "tick":
        return size, Fraction(1)
    if what == "volume":
        part = min(size, missing)
        return part, part
    if price * size < missing:
        return size, price * size
    lots = int(missing / price / lot + Fraction(1, 2))
    return max(lots, 1) * lot, missing


def bar_of(parts, tick, lot, *, is_complete):
    """What the table says of a bar of these parts."""
    origin, latest, number, price, size, is_buy, goes_on = zip(*parts, strict=True)
    return {
        "is_complete": is_complete,
        "first_ns": origin[0],
        "last_ns": origin[-1],
        "known_ns": latest[-1],
        "open_ticks": price[0] / tick,
        "high_ticks": max(price) / tick,
        "low_ticks": min(price) / tick,
        "close_ticks": price[-1] / tick,
        "volume_lots": sum(size) / lot,
        "buy_volume_lots": sum(part for part, buy in zip(size, is_buy, strict=True) if buy) / lot,
        "quote_volume": sum(p * s for p, s in zip(price, size, strict=True)),
        "trade_count": len(parts),
        "first_id": number[0],
        "last_id": number[-1],
        "goes_on": goes_on[0],
    }
