import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Two sources of one book")

with app.setup:
    import marimo as mo
    import numpy as np
    import polars as pl

    from market_pipeline import load_bbo, plot_series, rebuild
    from market_pipeline.books.flags import INVALIDATING

    # `make demo` makes this day. For one of your own change these three.
    instrument, day, data_dir = "SIMULATED:BTC-USDT-PERP", "2025-01-06", "data/demo"
    is_valid = pl.col("flags") & int(INVALIDATING) == 0


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Two sources of one book
    Two feeds of the same instrument and day: where do they differ, for how long, and does the worse one know it?

    One is the published day.
    The other is made here: the same raw deltas with one message in five hundred lost, rebuilt twice, once with the default policy and once without ever looking at a snapshot again.
    With two feeds of your own, load the second with `load_bbo` from its data folder.
    """)
    return


@app.cell
def _():
    venue, symbol = instrument.split(":")
    of_day = f"exchange={venue}/symbol={symbol}/dt={day}"
    deltas = pl.read_parquet(f"{data_dir}/lake/book_delta_v2/{of_day}/*.parquet")
    messages = deltas["sequence_number"].unique(maintain_order=True)
    # Not the first ones, so that both books begin alike.
    lost = messages[1_000:].sample(messages.len() // 500, seed=1)
    torn = deltas.filter(~pl.col("sequence_number").is_in(lost.implode()))
    sources = {"snapshots": f"{data_dir}/lake/book/{of_day}", "tick": "0.1", "lot": "0.001"}
    rebuilt = {
        "lossy": rebuild(torn, **sources),
        "lossy, no resync": rebuild(torn, **sources, resync="never"),
    }
    published = load_bbo(instrument, day, valid_only=False, data_dir=data_dir).collect()
    books = {"published": published} | {name: each.bbo for name, each in rebuilt.items()}
    return books, lost, rebuilt


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## By message
    Rows of equal sequence number are the same message of the venue, so the touch must be the same.
    The clocks have no part in it: this is the sharpest comparison there is, and it needs both feeds to carry the venue's numbers.

    - `differ`: the touch is not the same, of all messages in both.
    - `differ, valid`: the same where both books say of themselves that they are valid. This is the share that a user would meet without a warning.
    - `not valid`: of the second book. A book that is wrong and says so costs time, not money.
    """)
    return


@app.cell
def _(books, lost):
    _touch = ["bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots"]

    def paired(other):
        """The messages in both books, each with whether the touch is the same."""
        same = pl.all_horizontal(pl.col(n).eq_missing(pl.col(f"{n}_2")) for n in _touch)
        columns = ["sequence_number", "flags", *_touch]
        return (
            books["published"]
            .select("ts_receipt_ns", *columns)
            .join(books[other].select(columns), on="sequence_number", suffix="_2")
            .with_columns(
                differs=~same,
                valid=is_valid,
                other_valid=pl.col("flags_2") & int(INVALIDATING) == 0,
            )
            .sort("ts_receipt_ns")
        )

    pairs = {name: paired(name) for name in list(books)[1:]}
    percent = {
        name: pair.select(
            (100 * pl.col("differs").mean()).alias("differ, %"),
            (100 * (pl.col("differs") & pl.col("valid") & pl.col("other_valid")).mean()).alias(
                "differ, valid, %"
            ),
            (100 * (~pl.col("other_valid")).mean()).alias("not valid, %"),
        )
        for name, pair in pairs.items()
    }
    by_message = pl.concat(
        frame.select(
            pl.lit(name).alias("book"),
            pl.lit(books["published"].height - pairs[name].height).alias("messages missing"),
            pl.all().round(3),
        )
        for name, frame in percent.items()
    )
    mo.vstack([mo.md(f"{lost.len():,} messages were taken out."), by_message])
    return by_message, pairs


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## How long a difference stays
    Runs of messages in which the touch differs.
    A lost change of a level that is replaced soon heals by itself; one that nobody touches again stays until a snapshot is compared.
    Without snapshots the longest run grows with the day, and a mean over the day hides it.
    """)
    return


@app.cell
def _(pairs):
    def runs(pair):
        """Each run of differing messages: how many, and how many seconds."""
        return (
            pair.with_columns(run=pl.col("differs").rle_id())
            .group_by("run", maintain_order=True)
            .agg(
                pl.col("differs").first(),
                messages=pl.len(),
                start_ns=pl.col("ts_receipt_ns").min(),
            )
            .with_columns(
                seconds=(
                    pl.col("start_ns").shift(-1, fill_value=pair["ts_receipt_ns"].max())
                    - pl.col("start_ns")
                )
                / 1e9
            )
            .filter("differs")
        )

    lengths = pl.concat(
        runs(pair).select(
            pl.lit(name).alias("book"),
            pl.len().alias("runs"),
            pl.col("seconds").median().round(2).alias("median, s"),
            pl.col("seconds").quantile(0.95).round(2).alias("95 %, s"),
            pl.col("seconds").max().round(2).alias("longest, s"),
            pl.col("seconds").sum().round(1).alias("together, s"),
        )
        for name, pair in pairs.items()
    )
    lengths
    return (lengths,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## By time
    Feeds without common numbers can only be compared by what was in force at the same instants: here every second of the receipt clock.
    A difference of the clocks shows as a difference of the books, so measure the shift first; here it is zero by construction.
    Only instants at which both books are valid count, and a quote of more than a minute counts as none.
    A lost message, which has no pair by number, does count here: the book that did not get it stands still until the next one.
    """)
    return


@app.cell
def _(books):
    _start_ns = books["published"]["ts_receipt_ns"].min()
    _end_ns = books["published"]["ts_receipt_ns"].max()
    seconds = pl.DataFrame(
        {"ts_ns": np.arange(_start_ns - _start_ns % 1_000_000_000, _end_ns, 1_000_000_000)}
    )

    def in_force(name):
        """The mid in ticks at every second, null where the book was not valid."""
        mid = (pl.col("bid_price_ticks") + pl.col("ask_price_ticks")) / 2
        rows = books[name].select(
            pl.col("ts_receipt_ns").cum_max(), pl.when(is_valid).then(mid).alias(name)
        )
        at = seconds.join_asof(
            rows, left_on="ts_ns", right_on="ts_receipt_ns", tolerance=60_000_000_000
        )
        return at[name]

    grid = seconds.with_columns(in_force(name) for name in books).with_columns(
        (pl.col(name) - pl.col("published")).alias(f"{name}: off by") for name in list(books)[1:]
    )
    off = [f"{name}: off by" for name in list(books)[1:]]
    by_time = pl.DataFrame(
        {
            "book": list(books)[1:],
            "instants compared": [grid[each].count() for each in off],
            "mid differs, %": [round(100 * (grid[each] != 0).mean(), 3) for each in off],
            "root mean square, ticks": [
                round(float(np.sqrt((grid[each] ** 2).mean())), 4) for each in off
            ],
            "largest, ticks": [grid[each].abs().max() for each in off],
        }
    )
    by_time
    return by_time, grid, off


@app.cell
def _(grid, off, rebuilt):
    mo.vstack(
        [
            plot_series(
                grid,
                {f"{name}: mid less that of the published book, ticks": each},
                time="ts_ns",
                spans=book.intervals,
            )
            for each, (name, book) in zip(off, rebuilt.items(), strict=True)
        ]
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What this means
    - **Equal quotes are weak evidence**: both feeds may have lost the same. Only the venue's own numbers prove a loss.
    - **Look at the runs, not the mean**: a day that differs in 0.1 % of the messages may be wrong for an hour.
    - **A difference while both say valid** is the one to look at first: it is what a model would be fitted to.
    - Do not merge two feeds row by row where they differ: take one, and the other where the first is not valid.

    For two published days or captures, `compare` (and `market-pipeline compare`) does this for all levels, on several grids, and grades it; see [Fidelity](../fidelity.md).
    """)
    return


if __name__ == "__main__":
    app.run()
