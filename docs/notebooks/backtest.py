import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="From books to a backtest")

with app.setup:
    from dataclasses import dataclass, field

    import marimo as mo
    import polars as pl

    from market_pipeline import connect, load_bbo, load_trades, plot_series
    from market_pipeline.books.flags import INVALIDATING, BookFlag

    # `make demo` makes this day. For one of your own change these three.
    instrument, day, data_dir = "SIMULATED:ETH-USDT-PERP", "2025-01-06", "data/demo"
    base, currency = instrument.partition(":")[2].split("-")[:2]
    BUY, SELL = 1, -1


@app.cell(hide_code=True)
def _():
    mo.md("""
    # From books to a backtest
    A market maker that joins the touch on both sides: the simplest rule there is, so that all the rest can be seen.
    It is no strategy to trade. What matters is what it may know, when its orders are there, and what fills them.

    | assumption | here | in its favour? |
    |:--|:--|:--|
    | knows | what was received: quotes and trades in the order of receipt times, and nothing of later ones | no |
    | orders arrive, and are gone, after | 50 ms from the decision; until then the old order can be filled | as long as the true latency is not more |
    | place in the queue | the back, behind the most that was shown at the price until the order arrived | no |
    | the queue gets shorter | by trades at the price only, never by cancellations | no |
    | filled | by what trades beyond the queue, in full when the market trades or is quoted through the price | no |
    | its own effect | none: nobody reacts to its orders, and its fills leave the others' trades as they were | yes |
    | fees | 2 bp of the value where it rested, 5 bp to close at the end | take those of your venue |
    | a book that is not valid, or silent for 10 s | orders are cancelled, nothing is decided and nothing is filled | unknown, see below |

    **Valid is known with hindsight**: a snapshot that disagrees marks all messages since the last one that agreed, and whoever traded then did not know.
    So leaving out what is not valid chooses the sample and is no rule that could be traded; the orders that it cuts off are counted.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Events
    All rows are loaded, also those that are not valid: a backtest has to know when to stop.
    A trade comes before the quote of the same receipt time, as in `books.trades`.
    A receipt clock may run back: the order is that of the feed, at the latest time so far that is sound.
    """)
    return


@app.function
def load_events(instrument, day, data_dir):
    """Quotes and trades in the order in which they were received."""
    valid = (pl.col("flags") & int(INVALIDATING) == 0).fill_null(False)
    touch = [f"{side}_{part}" for side in ("bid", "ask") for part in ("price_ticks", "size_lots")]
    is_sound = pl.col("flags") & int(BookFlag.BAD_TS_RECEIPT) == 0
    clock = pl.when(is_sound).then("ts_receipt_ns").cum_max().forward_fill()
    options = {"valid_only": False, "data_dir": data_dir}
    quotes = load_bbo(instrument, day, **options).select(
        clock.alias("ts_receipt_ns"), pl.lit(True).alias("is_quote"), valid.alias("valid"), *touch
    )
    trades = (
        load_trades(instrument, day, **options)
        .filter(pl.col("price_ticks").is_not_null(), pl.col("is_market").ne_missing(False))
        .select(
            *("ts_receipt_ns", pl.lit(False).alias("is_quote"), valid.alias("valid")),
            *("price_ticks", "size_lots", "is_buy"),
        )
    )
    both = pl.concat([trades, quotes], how="diagonal").drop_nulls("ts_receipt_ns")
    return both.sort("ts_receipt_ns", "is_quote", maintain_order=True).collect()


@app.cell
def _():
    events = load_events(instrument, day, data_dir)
    events.group_by("is_quote", "valid").len().sort("is_quote", "valid")
    return (events,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The engine
    One pass over the events. An order has the time from which it is there and the time from which it is gone; both are in the future when they are decided.
    """)
    return


@app.class_definition
@dataclass
class Order:
    """A resting order at the venue, in ticks, lots and ns of the receipt clock."""

    side: int
    price: int
    lots: int
    queue: int
    from_ns: int
    until_ns: int = 2**63 - 1


@app.class_definition
@dataclass
class Maker:
    """Joins the touch on both sides as long as the book is valid and the position small."""

    lots: int = 100
    most_lots: int = 1_000
    latency_ns: int = 50_000_000
    silent_ns: int = 10_000_000_000
    front_of_queue: bool = False
    position: int = 0
    quote: tuple | None = None
    quote_ns: int = 0
    orders: list = field(default_factory=list)
    fills: list = field(default_factory=list)
    caught: int = 0

    def run(self, events):
        """The fills of all events, in order."""
        for ns, is_quote, valid, bid, bid_lots, ask, ask_lots, price, lots, is_buy in events:
            if self.quote is not None and ns - self.quote_ns > self.silent_ns:
                self.stop(self.quote_ns + self.silent_ns)
            self.orders = [each for each in self.orders if each.until_ns > ns]
            if not is_quote:
                if valid and self.quote is not None:
                    self.on_trade(ns, price, lots, SELL if is_buy else BUY)
            elif valid and bid is not None and ask is not None:
                self.on_quote(ns, bid, bid_lots, ask, ask_lots)
            else:
                self.stop(ns)
        return pl.DataFrame(
            self.fills, schema=["ts_receipt_ns", "side", "price_ticks", "lots"], orient="row"
        )

    def stop(self, ns):
        """The book is not to be trusted: cancel everything, and decide nothing."""
        if self.quote is not None:
            self.caught += sum(each.from_ns <= ns < each.until_ns for each in self.orders)
        self.quote = None
        for order in self.orders:
            order.until_ns = min(order.until_ns, ns + self.latency_ns)

    def on_trade(self, ns, price, lots, side):
        """A taker met resting orders of a side."""
        for order in self.orders:
            if order.side != side or order.from_ns > ns:
                continue
            if (price - order.price) * side < 0:
                self.fill(ns, order, order.lots)
            elif price == order.price:
                order.queue, beyond = max(order.queue - lots, 0), max(lots - order.queue, 0)
                self.fill(ns, order, min(beyond, order.lots))

    def on_quote(self, ns, bid, bid_lots, ask, ask_lots):
        """The touch is known: fill what the market went through, then decide."""
        self.quote, self.quote_ns = (bid, ask), ns
        for order in self.orders:
            opposite = ask if order.side == BUY else bid
            if order.from_ns > ns and order.price == (bid if order.side == BUY else ask):
                if not self.front_of_queue:  # who came meanwhile is before it
                    order.queue = max(order.queue, bid_lots if order.side == BUY else ask_lots)
            elif order.from_ns <= ns and (opposite - order.price) * order.side <= 0:
                self.fill(ns, order, order.lots)
        for side, price, shown in ((BUY, bid, bid_lots), (SELL, ask, ask_lots)):
            wanted = self.position * side < self.most_lots
            kept = False
            for order in self.orders:
                if order.side == side and order.until_ns > ns + self.latency_ns:
                    kept = wanted and order.price == price and order.lots > 0
                    if not kept:
                        order.until_ns = ns + self.latency_ns
            if wanted and not kept:
                queue = 0 if self.front_of_queue else shown
                self.orders.append(Order(side, price, self.lots, queue, ns + self.latency_ns))

    def fill(self, ns, order, lots):
        """Books a fill at the order's own price."""
        if lots > 0:
            order.lots -= lots
            self.position += order.side * lots
            self.fills.append((ns, order.side, order.price, lots))


@app.cell
def _(events):
    order = [
        *("ts_receipt_ns", "is_quote", "valid"),
        *("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots"),
        *("price_ticks", "size_lots", "is_buy"),
    ]
    rows = events.select(order).rows()
    settings = {
        "back of the queue, 50 ms": {},
        "back of the queue, 0 ms": {"latency_ns": 0},
        "front of the queue, 50 ms": {"front_of_queue": True},
    }
    makers = {name: Maker(**chosen) for name, chosen in settings.items()}
    fills = {name: maker.run(rows) for name, maker in makers.items()}
    return fills, makers, rows


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Does it look ahead?
    The fills up to noon must be the same if the afternoon has not happened yet.
    This finds what reads a later row, and it costs one more run; keep it in every backtest.
    It does not find what the flags know of the afternoon.
    """)
    return


@app.cell
def _(fills, rows):
    noon_ns = rows[0][0] + 12 * 3_600_000_000_000
    morning = Maker().run([row for row in rows if row[0] < noon_ns])
    whole = fills["back of the queue, 50 ms"].filter(pl.col("ts_receipt_ns") < noon_ns)
    assert morning.equals(whole)
    mo.md(f"The {morning.height:,} fills of the first twelve hours are the same in both runs.")
    return (morning,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Results
    In the quote currency, of spot or a linear contract. `gross` is cash and the position at the last valid mid; `fees` are of every fill, and of closing what is left at the opposite touch.
    `after 10 s` is what the mid did in the ten seconds after a fill, per fill and in ticks, positive in its favour: a resting order is filled more often when the price comes its way and goes on.
    It is known ten seconds late and is an evaluation, no input; a fill without a valid quote within a minute before that instant has none.
    `caught` counts orders that were there when the book became invalid or silent: what became of them nobody knows, and here nothing did.
    """)
    return


@app.function
def equity(fills, quotes, tick, lot, fee_bps):
    """Cash, position and value after each fill; of the quotes the last valid mid."""
    value = pl.col("price_ticks") * tick * pl.col("lots") * lot
    return (
        fills.with_columns(
            cash=(-pl.col("side") * value).cum_sum(),
            fees=(value * fee_bps / 1e4).cum_sum(),
            position=(pl.col("side") * pl.col("lots")).cum_sum() * lot,
        )
        .sort("ts_receipt_ns", maintain_order=True)
        .join_asof(quotes, on="ts_receipt_ns")
        .with_columns(gross=pl.col("cash") + pl.col("position") * pl.col("mid_ticks") * tick)
        .with_columns(net=pl.col("gross") - pl.col("fees"))
    )


@app.cell
def _(events, fills, makers):
    con = connect(data_dir)
    venue, symbol = instrument.split(":")
    tick, lot = (
        float(step)
        for step in con.execute(
            "SELECT tick, lot FROM books.rebuilds WHERE exchange = ? AND symbol = ? AND dt = ?",
            [venue, symbol, day],
        ).fetchone()
    )
    quotes = (
        events.filter("is_quote", "valid")
        .select(
            "ts_receipt_ns",
            mid_ticks=(pl.col("bid_price_ticks") + pl.col("ask_price_ticks")) / 2,
            half_spread_ticks=(pl.col("ask_price_ticks") - pl.col("bid_price_ticks")) / 2,
        )
        .drop_nulls()
    )
    results = {name: equity(each, quotes, tick, lot, fee_bps=2) for name, each in fills.items()}
    last = quotes.tail(1).to_dicts()[0]

    def summary(name, frame):
        end = frame.tail(1).to_dicts()[0]
        left = abs(end["position"]) * tick
        gross = end["cash"] + end["position"] * last["mid_ticks"] * tick
        closing = left * last["half_spread_ticks"] + left * last["mid_ticks"] * 5 / 1e4
        later = frame.select(
            "side", "mid_ticks", at_ns=pl.col("ts_receipt_ns") + 10_000_000_000
        ).join_asof(
            quotes.select("ts_receipt_ns", later="mid_ticks"),
            left_on="at_ns",
            right_on="ts_receipt_ns",
            tolerance=60_000_000_000,
        )
        moved = (pl.col("side") * (pl.col("later") - pl.col("mid_ticks"))).mean()
        return {
            "orders": name,
            "fills": frame.height,
            f"traded, {base}": round(frame["lots"].sum() * lot),
            "gross": round(gross),
            "fees": round(end["fees"] + closing),
            "net": round(gross - end["fees"] - closing),
            f"position, {base}": round(frame["position"].abs().max(), 2),
            "after 10 s": round(later.select(moved).item(), 2),
            "caught": makers[name].caught,
        }

    table = pl.DataFrame([summary(*each) for each in results.items() if each[1].height])
    table
    return con, results, symbol, table, venue


@app.cell
def _(con, results, symbol, venue):
    spans = con.execute(
        "FROM books.intervals WHERE exchange = ? AND symbol = ? AND dt = ?", [venue, symbol, day]
    ).pl()
    plot_series(
        results["back of the queue, 50 ms"],
        {
            f"back of the queue, 50 ms: {currency}": ["gross", "net"],
            f"position, {base}": "position",
        },
        spans=spans,
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What this means
    - **Between the rows of the table** lies what you do not know about your orders. If the sign of the result changes between them, there is no result.
    - **Fees first**: a maker earns at most half the spread, and where that is less than the fee there is nothing to optimise.
    - **Spans that are not valid** are where the market was worst to be in, and a backtest is blind there. Report their length beside the result, and never fill them with the last quote.
    - **Your latency** is to the exchange and back; receipt times have only the vendor's way from it.
    - **One day** is an example. This one is simulated, so nothing here says whether making a market pays.
    """)
    return


if __name__ == "__main__":
    app.run()
