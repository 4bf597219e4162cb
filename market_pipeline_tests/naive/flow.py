"""The plain twin of the flow figures: lists of rows for each interval, loops, fractions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

from market_pipeline.books.flags import INVALIDATING

Row = dict[str, Any]
SECOND = 10**9
AFTER = {1: "1s", 5: "5s", 60: "60s"}


def naive_flow(rows: list[Row], edges_ns: list[int]) -> list[Row]:
    """The figures of each interval, from all rows of `books.trades`."""
    rows = [row for row in rows if edges_ns[0] <= row["ts_receipt_ns"] < edges_ns[-1]]
    prints = [row for row in rows if row["is_market"] is not False]
    orders = [list(group) for _, group in itertools.groupby(prints, lambda row: row["taker_order"])]
    windows = windows_of(prints)
    found = []
    for start, end in itertools.pairwise(edges_ns):

        def is_here(row: Row, start: int = start, end: int = end) -> bool:
            return start <= row["ts_receipt_ns"] < end

        here = [row for row in prints if is_here(row)]
        figures = {
            "outside_market_count": sum(is_here(row) for row in rows) - len(here),
            **distances(here),
            **spreads(here),
            **impact([each for each in windows if is_here(each[0])]),
            **sequences(orders, is_here),
        }
        found.append(figures)
    return found


def is_valid(row: Row) -> bool:
    return row["flags"] is not None and not row["flags"] & INVALIDATING


def sign(row: Row) -> int:
    return 1 if row["is_buy"] else -1


def mid(row: Row) -> Fraction | None:
    if not is_valid(row) or None in (row["bid_price_ticks"], row["ask_price_ticks"]):
        return None
    return Fraction(row["bid_price_ticks"] + row["ask_price_ticks"], 2)


def distances(rows: list[Row]) -> Row:
    names = ("inside_spread", "at_touch", "through_1_tick", "through_2_ticks", "through_3_ticks")
    counts = {f"{name}_count": 0 for name in (*names, "no_touch")}
    for row in rows:
        touch = row["ask_price_ticks" if row["is_buy"] else "bid_price_ticks"]
        if not is_valid(row) or touch is None or row["price_ticks"] is None:
            counts["no_touch_count"] += 1
        else:
            away = sign(row) * (row["price_ticks"] - touch)
            counts[f"{names[1 + max(-1, min(3, away))]}_count"] += 1
    return counts


def mean(values: list[tuple[float, float]]) -> float | None:
    """Of figures with their weights."""
    weight = math.fsum(weight for _, weight in values)
    return math.fsum(value * weight for value, weight in values) / weight if values else None


def bps(ticks: int, row: Row) -> float:
    return float(10_000 * ticks / mid(row))


def spreads(rows: list[Row]) -> Row:
    rows = [row for row in rows if mid(row) is not None]
    has = [row for row in rows if row["effective_spread_ticks"] is not None]
    costs = [(bps(row["effective_spread_ticks"], row), row["size"]) for row in has]
    figures = {
        "effective_spread_count": len(has),
        "effective_spread_bps": mean(costs),
        "effective_spread_equal_bps": mean([(cost, 1) for cost, _ in costs]),
    }
    for after in AFTER.values():
        names = (f"realised_spread_{after}", f"price_impact_{after}")
        has = [row for row in rows if None not in (row[f"{name}_ticks"] for name in names)]
        figures[f"{names[1]}_count"] = len(has)
        for name in names:
            parts = [(bps(row[f"{name}_ticks"], row), row["size"]) for row in has]
            figures[f"{name}_bps"] = mean(parts)
    return figures


def windows_of(prints: list[Row]) -> list[list[Row]]:
    windows: list[list[Row]] = []
    for row in prints:
        start = windows[-1][0]["ts_receipt_ns"] if windows else None
        if start is not None and start <= row["ts_receipt_ns"] < start + SECOND:
            windows[-1].append(row)
        else:
            windows.append([row])
    return windows


def impact(windows: list[list[Row]]) -> Row:
    points = []
    for first, *more in windows:
        ticks = first["price_impact_1s_ticks"]
        if mid(first) is not None and ticks is not None:
            values = [(sign(row), row["price"] * row["size"] / 1e6) for row in (first, *more)]
            net = math.fsum(way * value for way, value in values)
            change = sign(first) * bps(ticks, first) / 2
            points.append((change, net, math.fsum(value for _, value in values)))
    square = math.fsum(net * net for _, net, _ in points)
    slope = amihud = None
    if len(points) >= 10:
        amihud = math.fsum(abs(change) / value for change, _, value in points) / len(points)
        slope = math.fsum(change * net for change, net, _ in points) / square if square else None
    return {
        "impact_window_count": len(points),
        "kyle_lambda_bps_per_million": slope,
        "amihud_bps_per_million": amihud,
    }


def sequences(orders: list[list[Row]], is_here) -> Row:
    signs = [sign(order[0]) for order in orders if is_here(order[0])]
    bias = Fraction(sum(signs), len(signs)) if signs else None
    figures: Row = {"sign_count": len(signs)}
    figures["sign_mean"] = None if bias is None else float(bias)
    for lag in (1, 2, 5, 10, 20):
        pairs = [
            sign(one[0]) * sign(other[0])
            for one, other in zip(orders, orders[lag:], strict=False)
            if are_together([one, other], is_here)
        ]
        product = Fraction(sum(pairs), len(pairs)) if len(pairs) >= 30 else None
        figures[f"sign_autocorrelation_{lag}"] = (
            None if product is None else float(product - bias**2)
        )
    figures["roll_spread_ticks"] = roll(orders, is_here)
    return figures


def are_together(orders: list[list[Row]], is_here) -> bool:
    runs = {order[0]["valid_run"] for order in orders}
    return len(runs) == 1 and runs != {None} and all(is_here(order[0]) for order in orders)


def roll(orders: list[list[Row]], is_here) -> float | None:
    changes = []
    for three in zip(orders, orders[1:], orders[2:], strict=False):
        prices = [order[-1]["price_ticks"] for order in three]
        if are_together(list(three), is_here) and None not in prices:
            changes.append((prices[1] - prices[0], prices[2] - prices[1]))
    if len(changes) < 30:
        return None
    count = len(changes)
    means = [Fraction(sum(change), count) for change in zip(*changes, strict=True)]
    covariance = Fraction(sum(a * b for a, b in changes), count) - means[0] * means[1]
    return 2 * math.sqrt(-covariance) if covariance < 0 else None
