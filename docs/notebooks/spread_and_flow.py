import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Spread and flow")

with app.setup:
    import marimo as mo
    import numpy as np
    import polars as pl

    from market_pipeline import (
        asof_quotes,
        connect,
        load_bars,
        load_trades,
        plot_scatter,
        plot_series,
    )

    # `make demo` makes this day. For one of your own change these three.
    instrument, day, data_dir = "SIMULATED:ETH-USDT-PERP", "2025-01-06", "data/demo"
    base, currency = instrument.partition(":")[2].split("-")[:2]


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Spread and flow
    What a taker pays, who trades, and what order flow has to do with the price.
    Everything here is of valid books only, on the receipt clock.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Effective spread
    Twice the distance of the price from the mid just before the trade, positive where the taker paid it.
    It is negative where a trade met a price inside the last mid that was shown: the feed shows the book from message to message, and the touch may have moved in between.
    A book that is older than a second says little about what the taker met, so those trades are left out.
    """)
    return


@app.cell
def _():
    trades = load_trades(instrument, day, data_dir=data_dir, times="datetime").collect()
    fresh = trades.filter(
        pl.col("book_age_ns") < 1_000_000_000, pl.col("effective_spread_bps").is_not_null()
    )
    by_size = (
        fresh.with_columns(
            quoted_bps=2e4
            * (pl.col("ask_price_ticks") - pl.col("bid_price_ticks"))
            / (pl.col("ask_price_ticks") + pl.col("bid_price_ticks")),
            size_class=pl.col("size").bin_quantiles(
                [0.5, 0.9, 0.99], labels=["lower half", "to 90 %", "to 99 %", "largest 1 %"]
            ),
        )
        .group_by("size_class")
        .agg(
            trades=pl.len(),
            size_from=pl.col("size").min(),
            quoted_bps=pl.col("quoted_bps").mean().round(4),
            effective_bps=pl.col("effective_spread_bps").mean().round(4),
            standard_error=(
                pl.col("effective_spread_bps").std() / pl.len().cast(pl.Float64).sqrt()
            ).round(4),
            outside_the_touch=(
                pl.col("effective_spread_ticks").abs()
                > pl.col("ask_price_ticks") - pl.col("bid_price_ticks")
            )
            .mean()
            .round(4),
        )
        .sort("size_from")
    )
    by_size
    return by_size, trades


@app.cell(hide_code=True)
def _():
    mo.md("""
    `quoted_bps` is the spread that stood just before the trade, `outside_the_touch` the share of trades whose price was not between the bid and the ask of that book.
    The standard error takes trades as independent, which they are not: it is too small.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Who keeps it
    The effective spread is what the resting side keeps after a while, the realised spread, and what the market moves the taker's way in that time, the price impact.
    A mid that was moved cannot be earned back by the resting side, so a quoter looks at the realised spread and not at the quoted one.
    Both are null unless the book was valid from the trade until then; all three rows are of the trades that have all of them.
    """)
    return


@app.cell
def _(trades):
    horizons = ("1s", "5s", "60s")
    parts = [
        f"{part}_{at}_ticks" for at in horizons for part in ("realised_spread", "price_impact")
    ]
    known = trades.drop_nulls(["effective_spread_ticks", *parts])
    who_keeps = pl.concat(
        known.select(
            pl.lit(at).alias("after"),
            pl.len().alias("trades"),
            pl.col("effective_spread_ticks").mean().round(3).alias("effective, ticks"),
            pl.col(f"realised_spread_{at}_ticks").mean().round(3).alias("realised, ticks"),
            pl.col(f"price_impact_{at}_ticks").mean().round(3).alias("impact, ticks"),
            (pl.col(f"price_impact_{at}_ticks").std() / pl.len().cast(pl.Float64).sqrt())
            .round(3)
            .alias("standard error of the impact"),
        )
        for at in horizons
    )
    who_keeps
    return (who_keeps,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Through the day
    The quoted spread is weighted by time, the effective one by volume, both in five minutes.
    Shaded is what is not valid: trades there have no trusted book and are in neither line.
    """)
    return


@app.cell
def _(trades):
    venue, symbol = instrument.split(":")
    con = connect(data_dir)
    of_day = [venue, symbol, day]
    where = "WHERE exchange = ? AND symbol = ? AND dt = ?"
    spans = con.execute(f"FROM books.intervals {where}", of_day).pl()
    metrics = con.execute(
        f"FROM metrics.book_metrics {where} AND interval_seconds = 1", of_day
    ).pl()
    quoted = (
        metrics.sort("interval_start")
        .group_by_dynamic("interval_start", every="5m")
        .agg(
            quoted=(pl.col("spread_bps") * pl.col("quoted_seconds")).sum()
            / pl.col("quoted_seconds").sum()
        )
    )
    effective = (
        trades.drop_nulls("effective_spread_bps")
        .sort("ts_receipt")
        .group_by_dynamic("ts_receipt", every="5m")
        .agg(
            effective=(pl.col("effective_spread_bps") * pl.col("size")).sum() / pl.col("size").sum()
        )
        .with_columns(
            interval_start=pl.col("ts_receipt").dt.replace_time_zone(None).cast(pl.Datetime)
        )
    )
    spreads = quoted.with_columns(pl.col("interval_start").cast(pl.Datetime)).join(
        effective, on="interval_start", how="left", maintain_order="left"
    )
    plot_series(
        spreads,
        {"spread, basis points": ["quoted", "effective"]},
        time="interval_start",
        spans=spans,
    )
    return metrics, spans


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Bars
    Volume, and how much more takers bought than sold.
    Bars hold every trade, also those beside a book that is not valid: a sum of volume needs them all.
    """)
    return


@app.cell
def _(spans):
    bars = (
        load_bars(instrument, day, data_dir=data_dir, width_seconds=300)
        .with_columns(net=2 * pl.col("buy_volume") - pl.col("volume"))
        .collect()
    )
    plot_series(
        bars,
        {
            f"volume in 5 minutes, {base}": "volume",
            f"bought less sold in 5 minutes, {base}": "net",
            f"last trade, {currency}": "close",
        },
        time="bar_start",
        bars=["volume", "net"],
        spans=spans,
    )
    return (bars,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Signs of trades
    The autocorrelation of the taker's side, an order at a time: `taker_order` joins the rows of one order, which would otherwise correlate with themselves.
    On real venues it is positive for hundreds of orders, because large orders are split.
    Within two standard errors of zero there is nothing to see.
    """)
    return


@app.cell
def _(trades):
    orders = trades.group_by("taker_order", maintain_order=True).agg(pl.col("is_buy").first())
    sign = np.where(orders["is_buy"].to_numpy(), 1.0, -1.0)
    sign -= sign.mean()
    lags = (1, 2, 3, 5, 10, 20, 50, 100)
    signs = pl.DataFrame(
        {
            "lag in orders": lags,
            "autocorrelation": [
                round(float((sign[lag:] * sign[:-lag]).mean() / sign.var()), 4) for lag in lags
            ],
            "two standard errors": [round(2 / float(np.sqrt(sign.size - lag)), 4) for lag in lags],
        }
    )
    signs
    return (signs,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Order flow imbalance
    What comes to the best bid less what comes to the best ask, in size, added up over ten seconds (Cont, Kukanov and Stoikov, 2014).
    From one message to the next, with bid price $b$ and size $q^b$, ask price $a$ and size $q^a$:

    $$e_n = q^b_n 1_{b_n \ge b_{n-1}} - q^b_{n-1} 1_{b_n \le b_{n-1}} - q^a_n 1_{a_n \le a_{n-1}} + q^a_{n-1} 1_{a_n \ge a_{n-1}}$$

    `ofi` of [`metrics.book_metrics`](../metrics.md) adds it up over the messages before and after which the book is valid, with no gap between: of valid rows alone, the two around a gap would look like neighbours.
    The mid is that in force at the ends of each interval, by `asof_quotes`; an interval that is not valid throughout is left out.
    """)
    return


@app.cell
def _(metrics):
    flows = (
        metrics.sort("interval_start")
        .group_by_dynamic("interval_start", every="10s")
        .agg(ofi=pl.col("ofi").sum(), valid=pl.col("valid_seconds").sum() > 10 - 1e-6)
        .with_columns(at=pl.col("interval_start").dt.replace_time_zone("UTC"))
    )
    quotes = asof_quotes(instrument, flows["at"], data_dir=data_dir).collect()
    mid = (quotes["bid_price"] + quotes["ask_price"]) / 2
    ofi = (
        flows.with_columns(move=mid.shift(-1) - mid)
        .with_columns(
            next_move=pl.when(pl.col("valid").shift(-1)).then(pl.col("move").shift(-1)),
        )
        .filter("valid")
    )
    return (ofi,)


@app.function
def fit(frame, x, y):
    """Least squares of `y` on `x`: intercept, slope, its standard error, R squared, rows."""
    both = frame.select(x, y).drop_nulls().to_numpy()
    slope, intercept = np.polyfit(both[:, 0], both[:, 1], 1)
    left = both[:, 1] - intercept - slope * both[:, 0]
    spread = both[:, 0] - both[:, 0].mean()
    error = np.sqrt((left**2 * spread**2).sum()) / (spread**2).sum()  # White (1980)
    return intercept, slope, error, 1 - left.var() / both[:, 1].var(), len(both)


@app.cell
def _(ofi):
    same, after = fit(ofi, "ofi", "move"), fit(ofi, "ofi", "next_move")
    fits = pl.DataFrame(
        [
            {
                "change of the mid": name,
                f"{currency} per 100 {base}": round(100 * slope, 4),
                "standard error": round(100 * error, 4),
                "R squared": round(r2, 4),
                "intervals": rows,
            }
            for name, (_, slope, error, r2, rows) in (
                ("same ten seconds", same),
                ("next ten seconds", after),
            )
        ]
    )
    fits
    return fits, same


@app.cell
def _(ofi, same):
    plot_scatter(
        ofi,
        "ofi",
        "move",
        x_title=f"order flow imbalance, {base}",
        y_title=f"change of the mid in the same 10 s, {currency}",
        line=same[:2],
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What this means
    - **Same ten seconds**: flow and price move together, because a new best price is flow by the definition. That describes a market; it predicts nothing.
    - **Next ten seconds**: this is the only row that could be a signal, and one day is no evidence for it. Choose the interval before you look, and look at days that you did not choose it on.
    - **Fees and latency** are not in it: a move smaller than the cost of two trades is not there for a taker.
    - **This demo** is simulated: its figures show how the tools work and say nothing about any venue.
    """)
    return


if __name__ == "__main__":
    app.run()
