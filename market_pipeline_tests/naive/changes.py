"""The plain twin of what changed between rows of depth: pair after pair, price after price."""

from __future__ import annotations

import itertools

from market_pipeline.books.flags import INVALIDATING
from market_pipeline_tests.naive.metrics import meets, on_one_clock, sound

LEVELS = {"level_1": (1, 1), "levels_2_5": (2, 5), "levels_6_10": (6, 10), "levels_11_20": (11, 20)}
TICKS = {"at_touch": (0, 0), "1_tick": (1, 1), "2_5_ticks": (2, 5), "6_10_ticks": (6, 10)}
NAMES = (*LEVELS, "inside_spread", *TICKS)


def naive_changes(messages, gap, begin, end, *, lot):
    """The columns of what changed in an interval.

    Args:
        messages: (receipt ns, (bids, asks, confirmed bids, confirmed asks), flags), levels being
            (ticks, lots), the best first; None for a message without a row of depth.
        gap: From and to when nothing was observed.
        begin, end: In ns.
        lot: A fraction.
    """
    depths = [(ts, at, flags) for at, (ts, state, flags) in enumerate(messages) if state]
    pairs = []
    for (before_ns, was, _), (ts, now, _) in itertools.pairwise(on_one_clock(sound(depths))):
        is_valid = not any(flags & INVALIDATING for _, _, flags in messages[was : now + 1])
        if is_valid and begin <= ts < end and not meets(gap, before_ns, ts):
            pairs.append(compared(messages[was][1], messages[now][1]))
    pairs = [each for each in pairs if each]
    levels = max((each["levels"] for each in pairs), default=None)
    ticks = max((each["ticks"] for each in pairs), default=None)
    row = {"depth_pair_count": len(pairs), "levels_compared": levels, "ticks_compared": ticks}
    for level in range(1, 11):
        known = [each["ofi"][level - 1] for each in pairs if each["levels"] >= level]
        row[f"ofi_level_{level}"] = sum(known) * lot if known else None
    whole = [sum(each["ofi"]) for each in pairs if each["levels"] >= 10]
    row["ofi_levels_1_10"] = sum(whole) * lot if whole else None
    for name in NAMES:
        known = [each[name] for each in pairs if each[name] is not None]
        row[f"change_count_{name}"] = sum(known) if known else None
    return row


def compared(was, now):
    """What one pair of rows shows; None if a side of one has no confirmed level."""
    sides = [(was[side][: was[side + 2]], now[side][: now[side + 2]]) for side in (0, 1)]
    if not all(itertools.chain(*sides)):
        return None
    levels = min(len(rows) for side in sides for rows in side)
    changes, reaches = [], []
    for sign, (before, after) in zip((-1, 1), sides, strict=True):
        touch = before[0][0]
        reach = min(sign * (rows[-1][0] - touch) for rows in (before, after))
        reaches.append(reach)
        for price in sorted({price for price, _ in (*before, *after)}):
            size, size_now = dict(before).get(price, 0), dict(after).get(price, 0)
            away = sign * (price - touch)
            if size != size_now and away <= reach:
                rows = after if size_now > size else before
                changes.append((1 + [each for each, _ in rows].index(price), away))
    pair = {"levels": levels, "ticks": min(reaches)}
    pair["ofi"] = [flow(sides, level) for level in range(min(levels, 10))]
    for name, (first, last) in LEVELS.items():
        count = sum(first <= level <= last for level, _ in changes)
        pair[name] = count if levels >= last else None
    pair["inside_spread"] = sum(away < 0 for _, away in changes) if pair["ticks"] >= -1 else None
    for name, (first, last) in TICKS.items():
        count = sum(first <= away <= last for _, away in changes)
        pair[name] = count if pair["ticks"] >= last else None
    return pair


def flow(sides, level):
    """Cont, Kukanov and Stoikov of one level."""
    ((pb0, qb0), (pb, qb)), ((pa0, qa0), (pa, qa)) = [
        (before[level], after[level]) for before, after in sides
    ]
    return qb * (pb >= pb0) - qb0 * (pb <= pb0) - qa * (pa <= pa0) + qa0 * (pa >= pa0)
