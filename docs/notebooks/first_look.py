import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="First look at a day")

with app.setup:
    import marimo as mo
    import polars as pl

    from market_pipeline import (
        book_at,
        connect,
        depth_matrix,
        load_bbo,
        plot_book,
        plot_day,
        plot_depth,
        plot_series,
    )

    # `make demo` makes this day. For one of your own change these three.
    instrument, day, data_dir = "SIMULATED:ETH-USDT-PERP", "2025-01-06", "data/demo"
    currency = instrument.split("-")[1]


@app.cell(hide_code=True)
def _():
    mo.md("""
    # First look at a day
    Before a day is used: may it be, when is its book valid, and does it look like a market?
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The verdict, and why
    `available` is a day without a failed check; `degraded` is usable where its book is valid.
    The reasons say what failed, how much, and where in the raw files.
    """)
    return


@app.cell
def _():
    con = connect(data_dir)
    venue, symbol = instrument.split(":")
    report = con.execute(
        "FROM quality.validation_report WHERE exchange = ? AND symbol = ? AND dt = ?",
        [venue, symbol, day],
    ).pl()
    verdict = report.row(0, named=True)
    mo.md(
        f"**{instrument} on {day}: {verdict['condition']}**, "
        f"{verdict['valid_seconds'] / 864:.2f} % of the day is valid\n\n"
        + "\n".join(f"- {reason}" for reason in verdict["reasons"])
        + "\n\nWarnings, which do not degrade a day:\n\n"
        + "\n".join(f"- {warning}" for warning in verdict["warnings"])
    )
    return con, symbol, venue, verdict


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Coverage
    Which days there are beside it, and how much of each is valid.
    """)
    return


@app.cell
def _(con):
    coverage = con.sql(
        "SELECT dt, symbol, condition, round(100 * valid_share, 2) AS valid_percent "
        "FROM quality.coverage WHERE condition IS NOT NULL ORDER BY dt, symbol"
    ).pl()
    coverage
    return (coverage,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Valid time
    What is known against the book, and for how long.
    Spans of two causes may overlap, so the seconds do not add up to the invalid time.
    Only causes that invalidate take a span out of the valid time; the others, such as `UNVERIFIED`, say that nothing yet confirms the book.
    """)
    return


@app.cell
def _(con, symbol, venue):
    spans = con.execute(
        "FROM books.intervals WHERE exchange = ? AND symbol = ? AND dt = ? ORDER BY start_ns",
        [venue, symbol, day],
    ).pl()
    seconds = (pl.col("end_ns") - pl.col("start_ns")) / 1e9
    (
        spans.group_by("cause", "invalidates")
        .agg(
            spans=pl.len(),
            seconds=seconds.sum().round(3),
            longest_seconds=seconds.max().round(3),
        )
        .sort("invalidates", "seconds", descending=True)
    )
    return (spans,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The day
    Mid, spread and depth of the valid book, and when it was not: the same plot as on the report page.
    Look for steps and flat stretches in the mid, a spread that stays wide, and rows of depth that never change.
    """)
    return


@app.cell
def _():
    plot_day(instrument, day, data_dir=data_dir)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The longest span that is not valid
    The same plot around it, a second to a step.
    Nothing is drawn inside: nobody knows the book there, and a line across it would be invented.
    """)
    return


@app.cell
def _(spans):
    worst = (
        spans.filter("invalidates").sort(pl.col("end_ns") - pl.col("start_ns")).tail(1).to_dicts()
    )
    around_ns = 300_000_000_000
    pictures = [
        plot_day(
            instrument,
            day,
            start=span["start_ns"] - around_ns,
            end=span["end_ns"] + around_ns,
            data_dir=data_dir,
        )
        for span in worst
    ]
    mo.vstack(
        [*pictures, mo.md("\n".join(f"{each['cause']}: {each['evidence']}" for each in worst))]
    )
    return (worst,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Quotes and spread
    A row of `load_bbo` is the touch after a message, and by default only valid rows come.
    A mean over rows weighs busy moments; a mean over time weighs each row by how long it stood.
    Say which one you quote: they may differ by a factor.
    """)
    return


@app.cell
def _():
    quotes = (
        load_bbo(instrument, day, data_dir=data_dir, times="datetime")
        .with_columns(
            mid=(pl.col("bid_price") + pl.col("ask_price")) / 2,
            spread_ticks=pl.col("ask_price_ticks") - pl.col("bid_price_ticks"),
        )
        .drop_nulls("mid")
        .collect()
    )
    middle = quotes["ts_receipt"][quotes.height // 2]
    quotes.select("ts_receipt", "bid_price", "bid_size", "ask_price", "ask_size", "flags").head(5)
    return middle, quotes


@app.cell
def _(con, quotes, symbol, venue):
    minutes = con.execute(
        "FROM metrics.book_metrics WHERE exchange = ? AND symbol = ? AND dt = ? "
        "AND interval_seconds = 60",
        [venue, symbol, day],
    ).pl()
    over_time = minutes.select(
        (pl.col("spread_ticks") * pl.col("quoted_seconds")).sum() / pl.col("quoted_seconds").sum()
    ).item()
    spread = {"mean over rows": quotes["spread_ticks"].mean(), "mean over valid time": over_time}
    pl.DataFrame({"spread in ticks": list(spread), "value": [round(v, 3) for v in spread.values()]})
    return (spread,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Mid with the spans that are not valid
    The line breaks in each shaded span.
    A return from the last valid mid before a span to the first after it is no return that anybody could have traded.
    """)
    return


@app.cell
def _(quotes, spans):
    plot_series(quotes, {f"mid, {currency}": "mid", "spread, ticks": "spread_ticks"}, spans=spans)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The book at an instant
    `book_at` replays the raw messages from the last checkpoint, so it is the whole book and not only 20 levels.
    This is the book after half of the day's messages; the best 50 levels a side are drawn.
    """)
    return


@app.cell
def _(middle):
    book = book_at(instrument, middle, data_dir=data_dir)
    plot_book(book)
    return (book,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Depth by price
    An hour of the best 20 levels a side; the colour is the size, on a logarithmic scale.
    A band that stays at its price while the mid moves is a resting order; one that goes along is a quoter.
    Where the picture is empty there is no size in the 20 published levels, which does not mean that the book is empty there.
    """)
    return


@app.cell
def _(middle):
    half_an_hour = pl.duration(minutes=30)
    around = pl.col("ts_interval").is_between(middle - half_an_hour, middle + half_an_hour)
    cells = depth_matrix(
        instrument, day, every_seconds=10, step_ticks=2, times="datetime", data_dir=data_dir
    )
    plot_depth(cells.filter(around).collect())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What this day must not be used for
    - **Spans that are not valid**: no metric, signal or fill inside them, and no return across them.
    - **Latency**: receipt times are those of the vendor's machine, not of yours.
    - **This demo**: the market is simulated. Its figures show how the tools work and say nothing about any venue.
    """)
    return


if __name__ == "__main__":
    app.run()
