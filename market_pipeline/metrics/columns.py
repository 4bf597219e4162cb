"""The columns of the metrics of an interval: what each means, its domain, and when it is null.

`metrics.groups` has the functions that fill them, group by group.
"""

from __future__ import annotations

import math
from typing import Final

import polars as pl

from market_pipeline.books.tables import SECONDS_AFTER
from market_pipeline.metrics.change_columns import DEPTH_CHANGE_COLUMNS
from market_pipeline.metrics.metric_column import MetricColumn

__all__ = [
    "DEPTH_BPS",
    "DEPTH_COLUMNS",
    "DEPTH_LEVELS_SUMMED",
    "FLOW_COLUMNS",
    "IMPACT_WINDOW_SECONDS",
    "LEAST_PAIRS",
    "LEAST_WINDOWS",
    "METRIC_COLUMNS",
    "RATIO_COLUMN",
    "RETURN_STEPS_MS",
    "SIGN_LAGS",
    "TOUCH_COLUMNS",
    "TOUCH_DISTANCES",
    "TRADE_COLUMNS",
    "step_text",
]

RETURN_STEPS_MS: Final = (100, 1_000, 5_000, 10_000, 60_000, 300_000)
"""Sampling steps of the mid's returns."""

DEPTH_LEVELS_SUMMED: Final = (1, 5, 10, 20)
"""So many of the best levels of a side are summed."""

DEPTH_BPS: Final = (1, 5, 10, 25)
"""So far from the mid, in basis points, levels are summed."""

IMPACT_WINDOW_SECONDS: Final = 1
"""Length of the windows of trades whose value is compared with the mid's return."""

LEAST_WINDOWS: Final = 10
"""A slope or mean is not made of fewer of them."""

SIGN_LAGS: Final = (1, 2, 5, 10, 20)
"""So many orders of takers lie between those whose signs are compared."""

LEAST_PAIRS: Final = 30
"""A covariance is not made of fewer pairs."""

TOUCH_DISTANCES: Final = {
    "inside_spread_count": "at a better price than the best one of the other side",
    "at_touch_count": "at that best price",
    "through_1_tick_count": "one tick worse",
    "through_2_ticks_count": "two ticks worse",
    "through_3_ticks_count": "three ticks worse, or more",
}
"""Where trades were, from one tick or more better than the touch to three ticks or more worse."""

_NEVER = pl.lit(value=False)
_ANYWHERE = pl.lit(value=True)
_INTERVAL = pl.col("interval_seconds")
_NO_TIME = pl.col("quoted_seconds") == 0


def step_text(step_ms: int) -> str:
    """A sampling step as it stands in the names of columns."""
    return f"{step_ms}ms" if step_ms < 1_000 else f"{step_ms // 1_000}s"


def _seconds(name: str, description: str, null_where: pl.Expr = _NEVER) -> MetricColumn:
    return MetricColumn(name, "DOUBLE", description, null_where, highest=_INTERVAL)


def _quoted(
    name: str,
    description: str,
    lowest: float = 0.0,
    highest: float = math.inf,
    *,
    varies: bool = True,
) -> MetricColumn:
    return MetricColumn(name, "DOUBLE", description, _NO_TIME, lowest, highest, varies)


def _size(side: str) -> MetricColumn:
    one_sided = _NO_TIME | (pl.col("quoted_seconds") < pl.col("valid_seconds"))
    return MetricColumn(
        f"{side}_touch_size", "DOUBLE", f"Size at the best {side}.", one_sided, varies=True
    )


def _inter_arrival(name: str, description: str, highest: float | pl.Expr) -> MetricColumn:
    return MetricColumn(
        name, "DOUBLE", description, pl.col("inter_arrival_count") == 0, highest=highest
    )


def _of_returns(step_ms: int) -> tuple[MetricColumn, MetricColumn]:
    step = step_text(step_ms)
    is_finer = (_INTERVAL * 1_000) % step_ms != 0
    return (
        MetricColumn(
            f"realised_variance_{step}",
            "DOUBLE",
            f"Sum of squared log returns of the mid, sampled every {step}; null without a return.",
            (pl.col(f"return_count_{step}") == 0) | is_finer,
        ),
        MetricColumn(
            f"return_count_{step}",
            "BIGINT",
            f"How many returns that is; null where {step} do not divide the interval.",
            is_finer,
            highest=_INTERVAL * 1_000 / step_ms,
        ),
    )


TOUCH_COLUMNS: Final = (
    _seconds("valid_seconds", "Time of the interval in which the book was valid."),
    _seconds("quoted_seconds", "That in which it had both sides: what means are weighted by."),
    MetricColumn(
        "message_count", "BIGINT", "Book messages received, valid or not: the book's events."
    ),
    _quoted("spread", "Best ask minus best bid, in quote currency.", varies=False),
    _quoted("spread_ticks", "Best ask minus best bid, in ticks.", varies=False),
    _quoted(
        "spread_bps",
        "Best ask minus best bid over the mid, in basis points.",
        highest=20_000.0,
        varies=False,
    ),
    _quoted("mid", "Half of best bid plus best ask.", varies=False),
    _quoted("weighted_mid", "Mid weighted by the opposite side's touch size."),
    _size("bid"),
    _size("ask"),
    _quoted("touch_imbalance", "(bid - ask) / (bid + ask) of the touch sizes.", -1.0, 1.0),
    MetricColumn(
        "ofi",
        "DOUBLE",
        "Order flow imbalance at the touch, a size: the sum over the events of ofi_event_count.",
        _NO_TIME & (pl.col("ofi_event_count") == 0),
        lowest=-math.inf,
        varies=True,
    ),
    MetricColumn(
        "ofi_event_count",
        "BIGINT",
        "Messages whose book and the one before are valid, have both sides, and no gap between.",
        highest=pl.col("message_count"),
    ),
    *(
        MetricColumn(
            f"{name}_change_count",
            "BIGINT",
            f"Those of them that changed {what}.",
            highest=pl.col("ofi_event_count"),
        )
        for name, what in (
            ("bid", "price or size of the best bid"),
            ("ask", "price or size of the best ask"),
            ("mid", "the mid"),
        )
    ),
    MetricColumn(
        "inter_arrival_count",
        "BIGINT",
        "Messages whose time since the message before is known: none was lost between.",
        highest=pl.col("message_count"),
    ),
    _inter_arrival("inter_arrival_mean_ms", "Their mean time since the message before.", math.inf),
    _inter_arrival(
        "inter_arrival_p50_ms", "Its median, rounded down to 7 binary digits.", math.inf
    ),
    _inter_arrival(
        "inter_arrival_p99_ms", "Its 99 % quantile, rounded down to 7 binary digits.", math.inf
    ),
    _inter_arrival("inter_arrival_zero_share", "Share of those at the time of the one before.", 1),
    MetricColumn(
        "receipt_granularity_ns",
        "BIGINT",
        "Largest number of ns that divides all those times: the receipt clock's step; null if all "
        "are 0.",
        pl.col("inter_arrival_zero_share").fill_null(1.0) == 1.0,
        lowest=1,
        only_daily=True,
    ),
    *(column for step_ms in RETURN_STEPS_MS for column in _of_returns(step_ms)),
)


def _depth(
    name: str, description: str, unconfirmed: pl.Expr, *, varies: bool = True
) -> MetricColumn:
    is_null = (pl.col("depth_valid_seconds") == 0) | unconfirmed
    is_imbalance = name.startswith("depth_imbalance")
    lowest, highest = (-1.0, 1.0) if is_imbalance else (0.0, math.inf)
    return MetricColumn(name, "DOUBLE", description, is_null, lowest, highest, varies)


def _depth_of_levels(levels: int) -> tuple[MetricColumn, ...]:
    fewer = pl.col("levels_confirmed") < levels
    best = "best" if levels == 1 else f"best {levels}"
    return (
        *(
            _depth(
                f"{side}_depth_{levels}",
                f"Size of the {best} {side}{'s' * (levels > 1)}, while confirmed; else null.",
                fewer,
            )
            for side in ("bid", "ask")
        ),
        _depth(
            f"depth_imbalance_{levels}",
            "(bid - ask) / (bid + ask) of those sizes.",
            fewer,
        ),
    )


DEPTH_COLUMNS: Final = (
    _seconds("depth_valid_seconds", "Time in which a row of books.depth was valid."),
    MetricColumn(
        "levels_confirmed",
        "BIGINT",
        "Most levels confirmed on both sides at once; null without valid depth.",
        pl.col("depth_valid_seconds") == 0,
        highest=20,
    ),
    MetricColumn(
        "confirmed_bps",
        "DOUBLE",
        "Farthest from the mid, on both sides at once, that published levels were confirmed.",
        (pl.col("depth_valid_seconds") == 0) | (pl.col("levels_confirmed") == 0),
    ),
    *(column for levels in DEPTH_LEVELS_SUMMED for column in _depth_of_levels(levels)),
    *(
        _depth(
            f"{side}_depth_{bps}bps",
            f"Size of the {side}s within {bps} bps of the mid, while levels so far are confirmed.",
            pl.col("confirmed_bps").fill_null(0.0) < bps,
            varies=False,
        )
        for bps in DEPTH_BPS
        for side in ("bid", "ask")
    ),
)

_NO_FILE = pl.col("trade_count").is_null()

TRADE_COLUMNS: Final = (
    MetricColumn(
        "trade_count",
        "BIGINT",
        "Trades of the market that were received; null without a trades file.",
        pl.col("trade_count").is_null().all(),
    ),
    MetricColumn(
        "buy_count",
        "BIGINT",
        "Those of takers who bought.",
        _NO_FILE,
        highest=pl.col("trade_count"),
    ),
    MetricColumn(
        "taker_order_count",
        "BIGINT",
        "Orders of takers, each at its first trade (see books.trades).",
        _NO_FILE,
        highest=pl.col("trade_count"),
    ),
    MetricColumn("buy_volume", "DOUBLE", "Size bought by takers.", _NO_FILE),
    MetricColumn("sell_volume", "DOUBLE", "Size sold by takers.", _NO_FILE),
)


def _flow_count(name: str, description: str) -> MetricColumn:
    return MetricColumn(name, "BIGINT", description, _NO_FILE, highest=pl.col("trade_count"))


def _flow_mean(name: str, description: str, is_null: pl.Expr) -> MetricColumn:
    return MetricColumn(name, "DOUBLE", description, _NO_FILE | is_null, lowest=-math.inf)


def _flow_after(seconds: int) -> tuple[MetricColumn, ...]:
    realised, impact = f"realised_spread_{seconds}s", f"price_impact_{seconds}s"
    is_null = pl.col(f"{impact}_count") == 0
    return (
        _flow_count(f"{impact}_count", f"Trades whose mid {seconds} s later is known too."),
        _flow_mean(
            f"{realised}_bps",
            f"Their mean realised spread after {seconds} s, weighted by size, in basis points.",
            is_null,
        ),
        _flow_mean(
            f"{impact}_bps",
            f"Their mean price impact after {seconds} s, weighted by size, in basis points.",
            is_null,
        ),
    )


_NO_SPREAD = pl.col("effective_spread_count") == 0
_FEW_WINDOWS = pl.col("impact_window_count") < LEAST_WINDOWS

FLOW_COLUMNS: Final = (
    MetricColumn("outside_market_count", "BIGINT", "Prints outside the market.", _NO_FILE),
    *(
        _flow_count(name, f"Trades {where}, in the valid book just before.")
        for name, where in TOUCH_DISTANCES.items()
    ),
    _flow_count("no_touch_count", "Trades without such a price, or off the tick."),
    _flow_count("effective_spread_count", "Trades with a mid in the valid book just before."),
    _flow_mean(
        "effective_spread_bps", "Their mean effective spread in bps, weighted by size.", _NO_SPREAD
    ),
    _flow_mean("effective_spread_equal_bps", "The same with each trade alike.", _NO_SPREAD),
    *(column for seconds in SECONDS_AFTER for column in _flow_after(seconds)),
    _flow_count(
        "impact_window_count",
        f"Windows of {IMPACT_WINDOW_SECONDS} s from a trade on in which the book was valid.",
    ),
    _flow_mean(
        "kyle_lambda_bps_per_million",
        "Slope of their mid returns in basis points on the net value bought, in millions of quote "
        f"currency; null below {LEAST_WINDOWS} windows.",
        _FEW_WINDOWS,
    ),
    MetricColumn(
        "amihud_bps_per_million",
        "DOUBLE",
        "Mean of their absolute mid returns in basis points over the value traded, in millions of "
        f"quote currency; null below {LEAST_WINDOWS} windows.",
        _NO_FILE | _FEW_WINDOWS,
    ),
    MetricColumn(
        "roll_spread_ticks",
        "DOUBLE",
        "Spread that the bounce of prices from order to order shows, in ticks; null without a "
        f"bounce, or below {LEAST_PAIRS} pairs of changes.",
        _ANYWHERE,
    ),
    _flow_count("sign_count", "Orders of takers, each at its first trade."),
    MetricColumn(
        "sign_mean",
        "DOUBLE",
        "Mean of their signs, 1 for a buy and -1 for a sell.",
        _NO_FILE | (pl.col("sign_count") == 0),
        -1.0,
        1.0,
    ),
    *(
        MetricColumn(
            f"sign_autocorrelation_{lag}",
            "DOUBLE",
            f"Mean product of the signs of orders {lag} apart less the squared mean; null below "
            f"{LEAST_PAIRS} pairs.",
            _ANYWHERE,
            -2.0,
            1.0,
        )
        for lag in SIGN_LAGS
    ),
)

RATIO_COLUMN: Final = MetricColumn(
    "trade_to_book_ratio",
    "DOUBLE",
    "taker_order_count over message_count: both are events; null without a message.",
    _NO_FILE | (pl.col("message_count") == 0),
)

_OF_TRADES: Final = (*TRADE_COLUMNS, *FLOW_COLUMNS, RATIO_COLUMN)
METRIC_COLUMNS: Final = (*TOUCH_COLUMNS, *DEPTH_COLUMNS, *DEPTH_CHANGE_COLUMNS, *_OF_TRADES)
"""All of them, in the order of the tables."""
