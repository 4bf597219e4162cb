"""Published libraries as oracles; runs in an environment of its own, so it imports none of ours.

`python oracles.py WHAT FILE.npz` prints what a library makes of the file's arrays, as JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np


def costs(given):
    """frds: effective spread, then of each time realised spread and price impact; in bps.

    It weighs by price times volume, so a volume of size over price weighs by size.
    """
    from frds.measures.price_impact import simple_price_impact
    from frds.measures.spread import effective_spread, realized_spread

    found = {}
    price, mid, sign = given["price"], given["mid"], given["sign"]
    volume = given["size"] / price
    found["effective_spread_bps"] = 100 * effective_spread(price, mid, volume, sign)
    for after in ("1s", "5s", "60s"):
        later = given[f"mid_{after}"]
        has = ~np.isnan(later)
        parts = price[has], later[has], mid[has], volume[has], sign[has]
        found[f"realised_spread_{after}_bps"] = 100 * realized_spread(*parts)
        found[f"price_impact_{after}_bps"] = 100 * simple_price_impact(*parts)
    return found


def kyle(given):
    """frds: the slope of returns in bps on net values in millions."""
    from frds.measures._kyle_lambda import kyle_lambda

    return kyle_lambda(given["returns_bps"], given["net_millions"]) / 1e6


def signs(given):
    """tclf: who took, by the quote rule and else by the tick rule; 0 where neither can tell."""
    from tclf.classical_classifier import ClassicalClassifier

    names = ["trade_price", "bid_ex", "ask_ex", "price_all_lag"]
    rows = np.column_stack([given[name] for name in names])
    rule = ClassicalClassifier(
        layers=[("quote", "ex"), ("tick", "all")], features=names, strategy="const"
    )
    return rule.fit(rows).predict(rows).astype(int).tolist()


def bars(given):
    """mlfinpy: bars of a kind and step; open, high, low, close, volume, trades of each."""
    import pandas as pd
    from mlfinpy.data_structure.standard_bars import get_dollar_bars, get_tick_bars, get_volume_bars
    from mlfinpy.data_structure.time_bars import get_time_bars

    trades = pd.DataFrame(
        {
            "date_time": pd.to_datetime(given["ts_ns"], utc=True),
            "price": given["price"],
            "volume": given["size"],
        }
    )
    kind, step = str(given["kind"]), given["step"].item()
    if kind == "time":
        found = get_time_bars(trades, resolution="S", num_units=int(step), verbose=False)
    else:
        make = {"tick": get_tick_bars, "volume": get_volume_bars, "value": get_dollar_bars}[kind]
        found = make(trades, threshold=step, verbose=False)
    columns = ("open", "high", "low", "close", "volume", "cum_ticks")
    return [] if found is None else found[list(columns)].astype(float).to_numpy().tolist()


if __name__ == "__main__":
    oracles = {each.__name__: each for each in (costs, kyle, signs, bars)}
    sys.stdout.write(json.dumps(oracles[sys.argv[1]](np.load(sys.argv[2]))))
