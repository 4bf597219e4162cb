"""The tables of the books: what the rebuild publishes, and the trades beside them."""

from __future__ import annotations

from market_pipeline.books.record import RebuildRecord
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.warehouse.records import Identity
from market_pipeline.warehouse.tables import Column, Computed, Table, View

__all__ = ["BBO", "BOOK_FILES", "BOOK_TRADES", "CHECKPOINTS", "DEPTH", "IDENTITY", "INTERVALS"]
__all__ += ["MARKET_EVENTS", "REBUILDS", "SECONDS_AFTER", "TAKER_ORDERS"]

IDENTITY = Identity.columns()
_EVENT = (
    Column("ts_origin_ns", "BIGINT", "Exchange time of the message, ns UTC."),
    Column("ts_receipt_ns", "BIGINT", "Time the vendor received it, ns UTC; may be the earlier."),
    Column("sequence_number", "BIGINT", "The venue's last update id in the message."),
)
_FLAGS = Column("flags", "USMALLINT", "Why the book is not to be trusted; 0 is valid (see docs).")

_VERIFIED = Column(
    "verified",
    "BOOLEAN",
    "The row lies between two pieces of evidence that agree: snapshots, or a proof by ids.",
)

BBO = Table(
    schema="books",
    name="bbo",
    description="Best bid and ask after every message.",
    columns=(
        *IDENTITY,
        *_EVENT,
        Column("bid_price_ticks", "BIGINT", "Best bid in ticks; null if there is no bid."),
        Column("bid_size_lots", "BIGINT", "Its size in lots; null if there is no bid."),
        Column("ask_price_ticks", "BIGINT", "Best ask in ticks; null if there is no ask."),
        Column("ask_size_lots", "BIGINT", "Its size in lots; null if there is no ask."),
        Column("bid_price", "DOUBLE", "Best bid; null if there is no bid."),
        Column("bid_size", "DOUBLE", "Its size; null if there is no bid."),
        Column("ask_price", "DOUBLE", "Best ask; null if there is no ask."),
        Column("ask_size", "DOUBLE", "Its size; null if there is no ask."),
        _FLAGS,
        _VERIFIED,
    ),
    storage="delta",
)

_LEVELS = [(side, level) for side in ("bid", "ask") for level in range(DEPTH_LEVELS)]
_PARTS = (("price", "ticks"), ("size", "lots"))

DEPTH = Table(
    schema="books",
    name="depth",
    description=f"The top {DEPTH_LEVELS} levels a side, after the last message of each interval.",
    columns=(
        *IDENTITY,
        *_EVENT,
        _FLAGS,
        Column("price_multiplier", "BIGINT", "Price: ticks * price_multiplier / price_divisor."),
        Column("price_divisor", "BIGINT", "A power of ten; see price_multiplier."),
        Column("size_multiplier", "BIGINT", "Size: lots * size_multiplier / size_divisor."),
        Column("size_divisor", "BIGINT", "A power of ten; see size_multiplier."),
        *(
            Column(
                f"{side}_{level}_{part}_{unit}",
                "BIGINT",
                f"{part.capitalize()} in {unit} of level {level} of the {side}s, 0 the best; "
                "null if there is none.",
            )
            for side, level in _LEVELS
            for part, unit in _PARTS
        ),
        _VERIFIED,
        *(
            Column(
                f"{side}_levels_confirmed",
                "TINYINT",
                f"How many of the best {side} levels lie where snapshots show every level; unknown "
                "ones may stand among the further ones.",
            )
            for side in ("bid", "ask")
        ),
    ),
    storage="delta",
    computed=tuple(
        Computed(
            Column(
                f"{side}_{level}_{part}",
                "DOUBLE",
                f"{part.capitalize()} of level {level} of the {side}s, 0 the best; "
                "null if there is none.",
            ),
            steps=f"{side}_{level}_{part}_{unit}",
            multiplier=f"{part}_multiplier",
            divisor=f"{part}_divisor",
        )
        for side, level in _LEVELS
        for part, unit in _PARTS
    ),
)

CHECKPOINTS = Table(
    schema="books",
    name="checkpoints",
    description="The full book every few minutes and at the day's end.",
    columns=(
        *IDENTITY,
        Column("kind", "VARCHAR", "keyframe, or closing for the state after the last message."),
        *_EVENT,
        Column("messages", "BIGINT", "Messages of the day applied so far."),
        Column("flags", "USMALLINT", "Why this book is not to be trusted; 0 is valid (see docs)."),
        Column("tick", "VARCHAR", "The tick of that day, an exact decimal."),
        Column("lot", "VARCHAR", "The lot of that day, an exact decimal."),
        Column("bid_price_ticks", "BIGINT[]", "All bids in ticks, best first."),
        Column("bid_size_lots", "BIGINT[]", "Their sizes in lots."),
        Column("ask_price_ticks", "BIGINT[]", "All asks in ticks, best first."),
        Column("ask_size_lots", "BIGINT[]", "Their sizes in lots."),
        Column("bid_horizon_ticks", "BIGINT", "Lowest bid a snapshot confirmed; null before one."),
        Column("ask_horizon_ticks", "BIGINT", "Highest ask a snapshot confirmed; null before one."),
        Column("checksum", "VARCHAR", "SHA-256 of the book (see `books.arrow.checksum`)."),
        Column("format_version", "INTEGER", "Version of this row's meaning."),
    ),
    storage="delta",
)

INTERVALS = Table(
    schema="books",
    name="intervals",
    description="Spans in which a book flag is set, and repairs, with cause, action and evidence.",
    columns=(
        *IDENTITY,
        Column("start_ns", "BIGINT", "Receipt time it begins at, ns UTC."),
        Column(
            "end_ns", "BIGINT", "Receipt time it is over at, ns UTC; start_ns if it took no time."
        ),
        Column("cause", "VARCHAR", "Name of the book flag, or POLICY (see docs)."),
        Column("invalidates", "BOOLEAN", "The span is not part of the day's valid time."),
        Column(
            "action", "VARCHAR", "What ended it: seed, resync, confirmed, uncross, none or open."
        ),
        Column("start_sequence_number", "BIGINT", "Sequence number of the message at start_ns."),
        Column(
            "end_sequence_number", "BIGINT", "The first message after it; null if the day ended."
        ),
        Column("first_message", "BIGINT", "Its first row in books.bbo, the day's first being 0."),
        Column("messages", "BIGINT", "How many rows carry the flag; 0 for a repair none shows."),
        Column("evidence", "VARCHAR", "What shows it and what ended it, in a sentence."),
    ),
    storage="delta",
)

REBUILDS = Table(
    schema="books",
    name="rebuilds",
    description="How each instrument's day was rebuilt, or why it could not be.",
    columns=RebuildRecord.columns(),
    storage="duckdb",
)

BOOK_FILES = (BBO, DEPTH, CHECKPOINTS, INTERVALS)
"""What a rebuild writes into files; `REBUILDS` says how each instrument's day was rebuilt."""

SECONDS_AFTER = (1, 5, 60)
"""How long after each trade its table has the mid."""

BOOK_TRADES = Table(
    schema="books",
    name="trades",
    description="Every trade, in file order, with the book as it was just before it.",
    columns=(
        *IDENTITY,
        Column("ts_origin_ns", "BIGINT", "Exchange time of the trade, ns UTC."),
        Column(
            "ts_receipt_ns", "BIGINT", "Time the vendor received it, ns UTC; may be the earlier."
        ),
        Column("id", "BIGINT", "The venue's number of the trade."),
        Column(
            "taker_order",
            "BIGINT",
            "First id of its taker's order: rows of one exchange time and side, ids in sequence.",
        ),
        Column("price_ticks", "BIGINT", "Price in ticks; null if it is not on the tick."),
        Column("size_lots", "BIGINT", "Size in lots; null if it is not on the lot."),
        Column("price", "DOUBLE", "Price; one that is not on the tick as the source has it."),
        Column("size", "DOUBLE", "Size; one that is not on the lot as the source has it."),
        Column("is_buy", "BOOLEAN", "The taker (the aggressor) bought."),
        Column(
            "is_market",
            "BOOLEAN",
            "False for a print outside the market, such as of an insurance fund; null if unknown.",
        ),
        Column(
            "bid_price_ticks", "BIGINT", "Best bid just before, in ticks; null if there was none."
        ),
        Column("bid_size_lots", "BIGINT", "Its size in lots; null if there was none."),
        Column(
            "ask_price_ticks", "BIGINT", "Best ask just before, in ticks; null if there was none."
        ),
        Column("ask_size_lots", "BIGINT", "Its size in lots; null if there was none."),
        Column(
            "flags",
            "USMALLINT",
            "Why that book is not to be trusted; 0 is valid, null is no book (see docs).",
        ),
        Column("verified", "BOOLEAN", "That book is verified; null without a book."),
        Column(
            "book_age_ns",
            "BIGINT",
            "Time since the book's message, on the receipt clock; null without a book.",
        ),
        Column(
            "valid_run",
            "INTEGER",
            "Number of the run of valid time it is in: between equal ones the book was always "
            "valid; null without a valid book.",
        ),
        Column(
            "mid_distance_half_ticks",
            "BIGINT",
            "Price minus that book's mid, in half ticks; null if a side or price_ticks is.",
        ),
        Column(
            "effective_spread_ticks",
            "BIGINT",
            "Twice the price's distance from the mid in ticks, positive where the taker paid it.",
        ),
        Column("effective_spread_bps", "DOUBLE", "The same over the mid, in basis points."),
        *(
            column
            for seconds in SECONDS_AFTER
            for column in (
                Column(
                    f"realised_spread_{seconds}s_ticks",
                    "BIGINT",
                    f"The same with the mid {seconds} s later; null unless the book was valid from "
                    "the trade until then.",
                ),
                Column(
                    f"price_impact_{seconds}s_ticks",
                    "BIGINT",
                    f"Twice what the mid moved within {seconds} s, positive the taker's way; with "
                    "the realised spread it is the effective one.",
                ),
            )
        ),
    ),
    storage="delta",
)

_OF_FIRST = (
    *("bid_price_ticks", "ask_price_ticks", "flags", "valid_run"),
    *(f"price_impact_{seconds}s_ticks" for seconds in SECONDS_AFTER),
)

# A struct, because the least id of values would pass over the prints whose value is null.
_ORDERS_QUERY = f"""
SELECT exchange, symbol, dt, taker_order, ts_origin_ns, ts_receipt_ns, is_buy, is_market, prints,
       prices, size, vwap, last_price, effective_spread_bps, unnest(of_first)
FROM (
    SELECT exchange, symbol, dt, taker_order,
           min(ts_origin_ns) AS ts_origin_ns, min(ts_receipt_ns) AS ts_receipt_ns,
           any_value(is_buy) AS is_buy, any_value(is_market) AS is_market,
           count(*) AS prints, count(DISTINCT price) AS prices,
           sum(size) AS size, sum(price * size) / sum(size) AS vwap,
           arg_max(price, id) AS last_price,
           sum(effective_spread_bps * size)
               / sum(size) FILTER (effective_spread_bps IS NOT NULL) AS effective_spread_bps,
           arg_min({{{", ".join(f"'{name}': {name}" for name in _OF_FIRST)}}}, id) AS of_first
    FROM {BOOK_TRADES.sql_name}
    GROUP BY exchange, symbol, dt, taker_order
)
"""

_TRADE_COLUMNS = {column.name: column for column in BOOK_TRADES.columns}

TAKER_ORDERS = View(
    schema="books",
    name="taker_orders",
    description="The orders of takers: the rows of books.trades with equal taker_order as one, "
    "with the book as it was just before its first print.",
    columns=(
        *IDENTITY,
        _TRADE_COLUMNS["taker_order"],
        Column("ts_origin_ns", "BIGINT", "Exchange time of its prints, ns UTC."),
        Column("ts_receipt_ns", "BIGINT", "Time the vendor received the first of them, ns UTC."),
        _TRADE_COLUMNS["is_buy"],
        _TRADE_COLUMNS["is_market"],
        Column("prints", "BIGINT", "How many prints it has, at least 1."),
        Column("prices", "BIGINT", "At how many prices: 1 if it took from one level only."),
        Column("size", "DOUBLE", "Size of all of them."),
        Column("vwap", "DOUBLE", "Mean price, weighted by size."),
        Column("last_price", "DOUBLE", "Price of the last print: how deep it reached."),
        Column(
            "effective_spread_bps",
            "DOUBLE",
            "Mean effective spread over the mid, weighted by size, in basis points; null without "
            "a mid.",
        ),
        *(_TRADE_COLUMNS[name] for name in _OF_FIRST),
    ),
    query=_ORDERS_QUERY,
)

MARKET_EVENTS = Table(
    schema="books",
    name="market_events",
    description="Trades, deltas, snapshots and clears in one order, of those that ask for it.",
    columns=(
        *IDENTITY,
        Column("ts_origin_ns", "BIGINT", "Exchange time of the message or trade, ns UTC."),
        Column(
            "ts_receipt_ns", "BIGINT", "Time the vendor received it, ns UTC; may be the earlier."
        ),
        Column(
            "sequence_number",
            "BIGINT",
            "The venue's last update id in it; null of trades.",
        ),
        Column("kind", "VARCHAR", "trade, delta, snapshot or clear."),
        Column(
            "action",
            "VARCHAR",
            "T trade, A add, M modify, C cancel (the level is gone), R clear, N changes nothing.",
        ),
        Column("side", "VARCHAR", "B bid, A ask, N none; of a trade the taker's: B bought."),
        Column("price_ticks", "BIGINT", "Price in ticks; null of a clear and off the tick."),
        Column(
            "size_lots",
            "BIGINT",
            "Traded size, or the level's whole size after it, in lots; null as price_ticks is.",
        ),
        Column("price", "DOUBLE", "Price; null of a clear, and of a delta off the tick."),
        Column("size", "DOUBLE", "Size; null of a clear, and of a delta off the lot."),
        Column(
            "flags",
            "USMALLINT",
            "DBN's bits: 128 last of its event, 32 snapshot, 16 price levels, 8 bad receipt time, "
            "4 book not valid.",
        ),
        Column(
            "book_flags",
            "USMALLINT",
            "Flags of the message in books.bbo; of a trade those of the message before it.",
        ),
        Column("message", "BIGINT", "The message's row of the day in books.bbo, from 0; or null."),
        Column(
            "file_row",
            "BIGINT",
            "Row of the day's raw deltas or trades, counted over its files from 0; null of a clear "
            "and a snapshot.",
        ),
        Column("trade_id", "BIGINT", "The venue's number of the trade; null of all else."),
    ),
    storage="delta",
)
