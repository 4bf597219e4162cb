"""The plain twin of the metrics: loops over intervals, messages and sampling points, in fractions.

Of one interval at a time, from all rows: nothing is summed that was summed before.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.metrics.columns import DEPTH_BPS, RETURN_STEPS_MS, step_text
from market_pipeline.quality.intervals import NS_PER_SECOND

NO_TIME = BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY
BOTH = (
    *("spread", "spread_ticks", "spread_bps", "mid", "weighted_mid"),
    "touch_imbalance",
)


def naive_touch(messages, gap, begin, end, *, start_ns, end_ns, tick, lot):
    """The touch columns of the interval from begin to end of the grid from start_ns to end_ns.

    Args:
        messages: (receipt ns, (bid, bid lots, ask, ask lots), flags); None where a side is empty.
        gap: From and to when nothing was observed.
        begin, end, start_ns, end_ns: In ns.
        tick, lot: Fractions.
    """
    rows = on_one_clock(sound(messages))
    held = [
        (max(0, min(stop, end) - max(start, begin)), state)
        for start, stop, state in state_spans(sound(messages), gap)
    ]
    row = weighted(held, lambda state: touch_values(state, tick, lot))
    row["valid_seconds"] = Fraction(sum(ns for ns, _ in held), NS_PER_SECOND)
    quoted = sum(ns for ns, state in held if None not in state)
    row["quoted_seconds"] = Fraction(quoted, NS_PER_SECOND)
    row["message_count"] = sum(
        begin <= ts < end and not flags & BookFlag.OUTSIDE_DAY for ts, _, flags in rows
    )
    row |= order_flow(rows, gap, begin, end, quoted, lot)
    row |= rhythm(messages, gap, begin, end)
    for step_ms in RETURN_STEPS_MS:
        row |= returns(rows, gap, begin, end, start_ns, end_ns, step_ms)
    return row


def order_flow(rows, gap, begin, end, quoted, lot):
    """Cont, Kukanov and Stoikov, of pairs of messages with nothing wrong between."""
    flow, events, bids, asks, mids = 0, 0, 0, 0, 0
    for (before_ns, was, was_flags), (ts, now, flags) in itertools.pairwise(rows):
        is_known = None not in (*was, *now) and not (was_flags | flags) & INVALIDATING
        if not begin <= ts < end or not is_known or meets(gap, before_ns, ts):
            continue
        (pb0, qb0, pa0, qa0), (pb, qb, pa, qa) = was, now
        flow += qb * (pb >= pb0) - qb0 * (pb <= pb0) - qa * (pa <= pa0) + qa0 * (pa >= pa0)
        events += 1
        bids += (pb0, qb0) != (pb, qb)
        asks += (pa0, qa0) != (pa, qa)
        mids += pb0 + pa0 != pb + pa
    return {
        "ofi": flow * lot if events or quoted else None,
        "ofi_event_count": events,
        "bid_change_count": bids,
        "ask_change_count": asks,
        "mid_change_count": mids,
    }


def rhythm(messages, gap, begin, end):
    """Times between messages."""
    times, latest, previous, lost, was_gap = [], None, None, False, False
    for ts, _, flags in messages:
        has_time = not flags & NO_TIME
        if latest is None and not has_time:
            continue
        lost |= bool(flags & BookFlag.GAP) and not was_gap
        was_gap = bool(flags & BookFlag.GAP)
        if not has_time:
            continue
        latest = ts if latest is None else max(latest, ts)
        is_known = previous is not None and not lost and not meets(gap, previous, latest)
        if is_known and begin <= latest < end:
            times.append(latest - previous)
        previous, lost = latest, False
    ranked = sorted(seven_digits(each) for each in times)
    divisor = math.gcd(*times)

    def quantile(share):
        return Fraction(ranked[math.ceil(share * len(ranked)) - 1], 10**6) if ranked else None

    return {
        "inter_arrival_count": len(times),
        "inter_arrival_mean_ms": Fraction(sum(times), 10**6 * len(times)) if times else None,
        "inter_arrival_p50_ms": quantile(Fraction(1, 2)),
        "inter_arrival_p99_ms": quantile(Fraction(99, 100)),
        "inter_arrival_zero_share": Fraction(times.count(0), len(times)) if times else None,
        "receipt_granularity_ns": divisor or None,
    }


def seven_digits(number):
    """Rounded down to seven binary digits."""
    shift = max(number.bit_length() - 7, 0)
    return number >> shift << shift


def returns(rows, gap, begin, end, start_ns, end_ns, step_ms):
    """Squared log returns that begin in the interval."""
    step, step_ns = step_text(step_ms), step_ms * 10**6
    names = f"realised_variance_{step}", f"return_count_{step}"
    if (end - begin) % step_ns:
        return dict.fromkeys(names)
    found = []
    first = start_ns + -(-(begin - start_ns) // step_ns) * step_ns
    for point in range(first, min(end, end_ns - step_ns + 1), step_ns):
        following = point + step_ns
        mids = mid_at(rows, gap, point), mid_at(rows, gap, following)
        is_broken = meets(gap, point, following, rows) or any(
            point < ts <= following and (flags & INVALIDATING or None in book)
            for ts, book, flags in rows
        )
        if None not in mids and not is_broken:
            found.append(math.log(mids[1] / mids[0]) ** 2)
    return dict(zip(names, (math.fsum(found) if found else None, len(found)), strict=True))


def mid_at(rows, gap, instant):
    """Twice the mid of the book in force at an instant; None without one."""
    at = sum(ts <= instant for ts, _, _ in rows)
    if at in {0, len(rows)} or gap[0] <= instant < gap[1]:
        return None
    _, book, flags = rows[at - 1]
    return None if flags & INVALIDATING or None in book else book[0] + book[2]


def meets(gap, start, end, rows=None):
    """Whether a gap takes some time between two instants, or of the feed between them."""
    if rows:
        start, end = max(start, rows[0][0]), min(end, rows[-1][0])
    return max(gap[0], start) < min(gap[1], end)


def naive_depth(depths, gap, begin, end, *, lot):
    """The depth columns of an interval.

    Args:
        depths: (receipt ns, (bids, asks, confirmed bids, confirmed asks), flags), levels being
            (ticks, lots), the best first.
        gap, begin, end, lot: As for the touch.
    """
    held = [
        (max(0, min(stop, end) - max(start, begin)), state)
        for start, stop, state in state_spans(sound(depths), gap)
    ]
    row = weighted(held, lambda state: depth_values(state, lot))
    row["depth_valid_seconds"] = Fraction(sum(ns for ns, _ in held), NS_PER_SECOND)
    sure = [
        [sides[:at] for sides, at in zip(state[:2], state[2:], strict=True)]
        for ns, state in held
        if ns
    ]
    row["levels_confirmed"] = max((min(map(len, sides)) for sides in sure), default=None)
    reach = []
    for (bids, asks), (_, state) in zip(sure, [each for each in held if each[0]], strict=True):
        if bids and asks:
            mid = Fraction(state[0][0][0] + state[1][0][0], 2)
            reach.append(min(abs(side[-1][0] / mid - 1) * 10_000 for side in (bids, asks)))
    row["confirmed_bps"] = max(reach, default=None)
    return row


def depth_values(state, lot):
    """The depth figures of one row; None where it is not known."""
    values = {}
    for levels in (1, 5, 10, 20):
        known = []
        for side, of_side, confirmed in zip(("bid", "ask"), state[:2], state[2:], strict=True):
            best = of_side[:levels]
            is_known = best and confirmed >= len(best)
            known.append(sum(lots for _, lots in best) * lot if is_known else None)
            values[f"{side}_depth_{levels}"] = known[-1]
        values[f"depth_imbalance_{levels}"] = (
            None if None in known else (known[0] - known[1]) / (known[0] + known[1])
        )
    for side, of_side, confirmed in zip(("bid", "ask"), state[:2], state[2:], strict=True):
        sure = of_side[:confirmed]
        for bps in DEPTH_BPS:
            values[f"{side}_depth_{bps}bps"] = None
            if state[0] and state[1] and sure:
                mid = Fraction(state[0][0][0] + state[1][0][0], 2)
                far = [abs(ticks / mid - 1) * 10_000 for ticks, _ in sure]
                if far[-1] >= bps:
                    values[f"{side}_depth_{bps}bps"] = lot * sum(
                        lots for (_, lots), at in zip(sure, far, strict=True) if at <= bps
                    )
    return values


def naive_traded(trades, begin, end):
    """The trade columns of an interval; trades are (receipt ns, id, taker order, size, bought)."""
    inside = [each for each in trades if begin <= each[0] < end]
    return {
        "trade_count": len(inside),
        "buy_count": sum(buy for *_, buy in inside),
        "taker_order_count": sum(number == order for _, number, order, _, _ in inside),
        "buy_volume": sum(Fraction(size) for *_, size, buy in inside if buy),
        "sell_volume": sum(Fraction(size) for *_, size, buy in inside if not buy),
    }


def weighted(held, values_of):
    """Each value's mean over the time in which it is one; None without such time."""
    totals = {}
    for ns, state in held:
        for name, value in values_of(state).items():
            total = totals.setdefault(name, [Fraction(0), 0])
            if value is not None and ns:
                total[0] += value * ns
                total[1] += ns
    return {name: total / ns if ns else None for name, (total, ns) in totals.items()}


def sound(rows):
    """The rows with a time; one with a bad stamp, or of another day, has that of the one before."""
    found, latest = [], None
    for ts, *row, flags in rows:
        if not flags & NO_TIME:
            latest = ts
        if latest is not None:
            found.append((latest, *row, flags))
    return found


def on_one_clock(rows):
    """The rows on a clock that never runs back."""
    latest = itertools.accumulate((ts for ts, _, _ in rows), max)
    return [(at, book, flags) for at, (_, book, flags) in zip(latest, rows, strict=True)]


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
    values = dict.fromkeys(BOTH)
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
