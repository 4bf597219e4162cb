"""The tables of metrics."""

from __future__ import annotations

from typing import Final

from market_pipeline.metrics.columns import METRIC_COLUMNS
from market_pipeline.quality.figures.features import FeatureFigures
from market_pipeline.warehouse.records import Identity
from market_pipeline.warehouse.tables import Column, Table

__all__ = ["BARS", "BOOK_METRICS", "DAILY_METRICS", "HOURLY", "INFORMATION_BARS"]

HOURLY: Final = (
    ("valid_seconds", "DOUBLE", "Valid time"),
    ("message_count", "BIGINT", "Book messages"),
    ("spread_bps", "DOUBLE", "Mean spread in basis points"),
    ("bid_depth_20", "DOUBLE", "Mean size of the best 20 bids"),
    ("ask_depth_20", "DOUBLE", "Mean size of the best 20 asks"),
    ("volume", "DOUBLE", "Size traded"),
)
"""The day's course: name, type and meaning of what `metrics.daily` has by hour."""

BOOK_METRICS = Table(
    schema="metrics",
    name="book_metrics",
    description=(
        "One row per instrument, width and interval of the UTC day, with or without a message. "
        "All is on the receipt clock; state variables are time-weighted over valid time, and null "
        "means that there was no such time, or that it is not known."
    ),
    columns=(
        *Identity.columns(),
        Column("interval_seconds", "INTEGER", "Width; filter by it: all widths are here."),
        Column("interval_start", "TIMESTAMP", "Start, UTC; it ends interval_seconds later."),
        *(column for column in METRIC_COLUMNS if not column.only_daily),
    ),
    storage="delta",
)

DAILY_METRICS = Table(
    schema="metrics",
    name="daily",
    description=(
        "One row per instrument and UTC day: the measures of metrics.book_metrics over the day, "
        "some of them by hour, and what of that table breaks a rule."
    ),
    columns=(
        *Identity.columns(),
        *METRIC_COLUMNS,
        *(
            Column(
                f"{name}_by_hour",
                f"{kind}[]",
                f"{what} of each UTC hour, 24 of them from midnight.",
            )
            for name, kind, what in HOURLY
        ),
        *FeatureFigures.columns(),
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
            "Trades behind one of a later bar of the smallest width in the files, but in this bar.",
        ),
        Column(
            "off_step_count",
            "BIGINT",
            "Trades left out because price or size is no whole number of ticks or lots above 0.",
        ),
        Column(
            "outside_market_count",
            "BIGINT",
            "Trades left out because the venue marks them as none of the market's.",
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
        "One row per bar of equal activity: so many trades (tick), so much size (volume) or value, "
        "in all, of one side beyond the other (imbalance), or of one side in a row (runs). "
        "The last one of a day, kind and step is incomplete unless it is full."
    ),
    columns=(
        *Identity.columns(),
        Column("kind", "VARCHAR", "What the bar counts, and how, as its setting is called."),
        Column("step", "DOUBLE", "How much of it closes a bar, as configured."),
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
