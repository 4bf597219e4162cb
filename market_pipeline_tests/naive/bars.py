"""The plain twin of the bars: for each bar of each width a look through all prints and books."""

from __future__ import annotations

from fractions import Fraction

from market_pipeline_tests.naive.metrics import sound, state_spans

NAMES = ("open", "high", "low", "close")


def naive_bars(prints, messages, gap, *, start_ns, widths_ns, tick, lot):
    """The rows of every width, in exact fractions.

    Args:
        prints: In file order: (receipt ns, origin ns, id, ticks, lots, taker bought, of the
            market), where ticks and lots are fractions.
        messages: (receipt ns, (bid, ask) in ticks, flags).
        gap: From and to when nothing was observed.
        start_ns: Of the day.
        widths_ns: Ascending.
        tick, lot: Decimals.
    """
    tick, lot = Fraction(tick), Fraction(lot)
    spans = state_spans(sound(messages), gap)
    received = [each for _, each in sorted(enumerate(prints), key=lambda p: (p[1][0], p[0]))]
    day = [p for p in received if start_ns <= p[1] < start_ns + widths_ns[-1]]
    outside = [p for p in day if not p[6]]
    off = [p for p in day if p[6] and (p[3].denominator > 1 or p[4].denominator > 1)]
    kept = [p for p in day if p not in off and p not in outside]
    late = []
    for n, p in enumerate(kept):
        bar = (p[1] - start_ns) // widths_ns[0]
        late += [p] if any((q[1] - start_ns) // widths_ns[0] > bar for q in kept[:n]) else []
    rows = []
    for width_ns in widths_ns:
        for begin in range(start_ns, start_ns + widths_ns[-1], width_ns):
            end = begin + width_ns
            inside = [p for p in prints if p in kept and begin <= p[1] < end]
            inside.sort(key=lambda p: (p[1], p[2]))
            before = sum(p[1] < start_ns for p in prints) if begin == start_ns else 0
            after = sum(p[1] >= start_ns + widths_ns[-1] for p in prints)
            row = {
                "volume_lots": sum(p[4] for p in inside),
                "buy_volume_lots": sum(p[4] for p in inside if p[5]),
                "quote_volume": sum(p[3] * tick * p[4] * lot for p in inside),
                "trade_count": len(inside),
                "late_count": sum(begin <= p[1] < end for p in late),
                "off_step_count": sum(begin <= p[1] < end for p in off),
                "outside_market_count": sum(begin <= p[1] < end for p in outside),
                "other_day_count": before + (after if end == start_ns + widths_ns[-1] else 0),
                "first_id": inside[0][2] if inside else None,
                "last_id": inside[-1][2] if inside else None,
                "vwap": None,
            }
            if inside:
                row["vwap"] = row["quote_volume"] / (row["volume_lots"] * lot)
            row |= ohlc("{}_ticks", [p[3] for p in inside])
            held = [
                (min(stop, end) - max(start, begin), state)
                for start, stop, state in spans
                if start < end and begin < stop
            ]
            row["valid_share"] = Fraction(sum(ns for ns, _ in held), width_ns)
            books = [state for _, state in held if None not in state]
            row |= ohlc("mid_{}", [Fraction(bid + ask, 2) * tick for bid, ask in books])
            row |= ohlc("spread_{}_ticks", [ask - bid for bid, ask in books])
            rows.append(row)
    return rows


def ohlc(name, values):
    """First, highest, lowest and last of some values; None where there are none."""
    found = (values[0], max(values), min(values), values[-1]) if values else (None,) * 4
    return {name.format(each): value for each, value in zip(NAMES, found, strict=True)}
