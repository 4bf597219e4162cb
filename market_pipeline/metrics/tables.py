"""The tables of metrics."""

from __future__ import annotations

from market_pipeline.warehouse.records import Identity
from market_pipeline.warehouse.tables import Column, Table

__all__ = ["BARS", "BOOK_METRICS", "INFORMATION_BARS"]

BOOK_METRICS = Table(
    schema="metrics",
    name="book_metrics",
    description=(
        "One row per instrument and UTC minute in which a message or a trade was received or the "
        "book was valid for some time. State variables are time-weighted over valid time, on the "
        "receipt clock; null means that there was no such time, or that the side was empty."
    ),
    columns=(
        Column("exchange", "VARCHAR", "Venue, upper case."),
        Column("symbol", "VARCHAR", "Symbol at the venue, upper case."),
        Column("dt", "DATE", "UTC day of receipt."),
        Column("minute_start", "TIMESTAMP", "Start of the minute, UTC."),
        Column("valid_seconds", "DOUBLE", "Time of the minute in which the book was valid."),
        Column("message_count", "BIGINT", "Book messages received on this day, valid or not."),
        Column("trade_count", "BIGINT", "Trades received; null without a trades file."),
        Column("buy_volume", "DOUBLE", "Quantity bought by takers; null without a trades file."),
        Column("sell_volume", "DOUBLE", "Quantity sold by takers; null without a trades file."),
        Column("trade_open", "DOUBLE", "Price of the first trade; null without a trade."),
        Column("trade_high", "DOUBLE", "Highest price of a trade; null without a trade."),
        Column("trade_low", "DOUBLE", "Lowest price of a trade; null without a trade."),
        Column("trade_close", "DOUBLE", "Price of the last trade; null without a trade."),
        Column("spread", "DOUBLE", "Best ask minus best bid, in quote currency."),
        Column("spread_ticks", "DOUBLE", "Best ask minus best bid, in ticks."),
        Column("spread_bps", "DOUBLE", "Best ask minus best bid over the mid, in basis points."),
        Column("mid", "DOUBLE", "Half of best bid plus best ask."),
        Column("weighted_mid", "DOUBLE", "Mid weighted by the opposite side's touch size."),
        Column("bid_touch_size", "DOUBLE", "Size at the best bid."),
        Column("ask_touch_size", "DOUBLE", "Size at the best ask."),
        Column("touch_imbalance", "DOUBLE", "(bid - ask) / (bid + ask) of the touch sizes."),
        Column("bid_depth_20", "DOUBLE", "Size of the best 20 bids, all confirmed; null without."),
        Column("ask_depth_20", "DOUBLE", "Size of the best 20 asks, all confirmed; null without."),
        Column("depth_imbalance_20", "DOUBLE", "(bid - ask) / (bid + ask) of those sizes."),
        Column("depth_valid_seconds", "DOUBLE", "Valid time of the depth; null without depth."),
    ),
    storage="duckdb",
)

_OPEN, _HIGH, _LOW, _CLOSE = _PRICES = ("open", "high", "low", "close")
_WHICH = {_OPEN: "first", _HIGH: "highest", _LOW: "lowest", _CLOSE: "last"}

BARS = Table(
    schema="metrics",
    name="bars",
    description=(
        "One row per instrument, width and interval of the UTC day, with or without a trade. "
        "Trades are on the exchange's clock, mid and spread on the receipt clock over valid time."
    ),
    columns=(
        *Identity.columns(),
        Column("width_seconds", "INTEGER", "Width of the bar; filter by it: all widths are here."),
        Column("bar_start", "TIMESTAMP", "Start of the bar, UTC; it ends width_seconds later."),
        *(
            Column(
                f"{name}_ticks",
                "BIGINT",
                f"Price of the {which} trade by exchange time in ticks; null without a trade."
                if name in {_OPEN, _CLOSE}
                else f"{which.capitalize()} price of a trade in ticks; null without a trade.",
            )
            for name, which in _WHICH.items()
        ),
        *(
            Column(name, "DOUBLE", f"The price of {name}_ticks; null without a trade.")
            for name in _PRICES
        ),
        Column("volume_lots", "BIGINT", "Size traded in lots; null without a trades file."),
        Column("buy_volume_lots", "BIGINT", "That of takers who bought, in lots."),
        Column("volume", "DOUBLE", "Size traded; null without a trades file."),
        Column("buy_volume", "DOUBLE", "That of takers who bought."),
        Column(
            "quote_volume",
            "DOUBLE",
            "Sum of price times size; of an inverse contract that is no amount of money.",
        ),
        Column("vwap", "DOUBLE", "quote_volume over volume; null without a trade."),
        Column("trade_count", "BIGINT", "Trades as the vendor has them; null without a file."),
        Column("first_id", "BIGINT", "The venue's id of the trade of open; null without one."),
        Column("last_id", "BIGINT", "The venue's id of the trade of close; null without one."),
        Column(
            "late_count",
            "BIGINT",
            "Trades received after one of a later bar of the smallest width; they are in the bar.",
        ),
        Column(
            "off_step_count",
            "BIGINT",
            "Trades left out because price or size is no whole number of ticks or lots above 0.",
        ),
        Column(
            "other_day_count",
            "BIGINT",
            "Trades of the day's files left out because their exchange time is of another day: "
            "those before at the day's first bar, those after at its last.",
        ),
        *(
            Column(
                f"mid_{name}",
                "DOUBLE",
                f"The {which} mid in force, on the receipt clock; null without valid time.",
            )
            for name, which in _WHICH.items()
        ),
        *(
            Column(
                f"spread_{name}_ticks",
                "BIGINT",
                f"The {which} spread in force in ticks, on the receipt clock; null without valid "
                "time.",
            )
            for name, which in _WHICH.items()
        ),
        *(
            Column(f"spread_{name}", "DOUBLE", f"spread_{name}_ticks in quote currency.")
            for name in _PRICES
        ),
        Column(
            "valid_share",
            "DOUBLE",
            "Share of the interval in which the book was valid, on the receipt clock.",
        ),
    ),
    storage="delta",
)

INFORMATION_BARS = Table(
    schema="metrics",
    name="information_bars",
    description=(
        "One row per bar of equal activity: so many trades (tick), so much size (volume) or value. "
        "The last one of a day, kind and step is incomplete unless it is full."
    ),
    columns=(
        *Identity.columns(),
        Column("kind", "VARCHAR", "What the bar counts: tick (its trades), volume or value."),
        Column("step", "DOUBLE", "How much of it a bar has, as configured."),
        Column("bar_number", "BIGINT", "Of the bars of a day, kind and step, from 0."),
        Column("is_complete", "BOOLEAN", "False for the last one of the day, unless it is full."),
        Column("first_ns", "BIGINT", "Exchange time of the first trade."),
        Column("last_ns", "BIGINT", "Exchange time of the last trade."),
        Column(
            "known_ns",
            "BIGINT",
            "When its last trade was received, or one of a bar before it that came later: "
            "nobody knew the bar earlier.",
        ),
        *(
            Column(
                f"{name}_ticks",
                "BIGINT",
                f"Price of the {which} trade by exchange time in ticks."
                if name in {_OPEN, _CLOSE}
                else f"{which.capitalize()} price of a trade in ticks.",
            )
            for name, which in _WHICH.items()
        ),
        *(Column(name, "DOUBLE", f"The price of {name}_ticks.") for name in _PRICES),
        Column("volume_lots", "BIGINT", "Size traded in lots; of a split trade its part."),
        Column("buy_volume_lots", "BIGINT", "That of takers who bought, in lots."),
        Column("volume", "DOUBLE", "Size traded; of a split trade its part."),
        Column("buy_volume", "DOUBLE", "That of takers who bought."),
        Column(
            "quote_volume",
            "DOUBLE",
            "Sum of price times size; of an inverse contract that is no amount of money.",
        ),
        Column("vwap", "DOUBLE", "quote_volume over volume."),
        Column("trade_count", "BIGINT", "Trades with a part in it, as the vendor has them."),
        Column("first_id", "BIGINT", "The venue's id of the first trade."),
        Column("last_id", "BIGINT", "The venue's id of the last trade."),
        Column("goes_on", "BOOLEAN", "Whether its first trade began in the bar before."),
    ),
    storage="delta",
)
