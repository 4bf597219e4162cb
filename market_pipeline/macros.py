"""What Python loads of the tables as table macros of the catalogue, for those who ask in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.books.tables import BBO, BOOK_TRADES, DEPTH, INTERVALS, MARKET_EVENTS
from market_pipeline.metrics.book_batches import NO_TIME
from market_pipeline.metrics.checkpoint_depth import CHECKPOINT_DEPTH
from market_pipeline.metrics.contract_states import BOOK_FUNDING, BOOK_OPEN_INTEREST
from market_pipeline.metrics.tables import BARS, BOOK_METRICS, DAILY_METRICS, INFORMATION_BARS
from market_pipeline.warehouse.tables import Macro, Table, View

__all__ = ["MACROS"]

_IDS = (
    "CASE WHEN typeof(instruments) = 'VARCHAR' THEN [instruments::VARCHAR] "
    "ELSE instruments::VARCHAR[] END"
)
_VENUE, _SYMBOL = "split_part(id, ':', 1)", "substr(id, strpos(id, ':') + 1)"


def _loader(
    name: str, table: Table | View, parameters: Sequence[str] = (), condition: str = "true"
) -> Macro:
    """The rows of instruments and days as `notebook.loaders` gives them, with further choices."""
    # As a join of two columns it leaves out the files of other instruments unread.
    own = f"(exchange, symbol) IN (SELECT ({_VENUE}, {_SYMBOL}) FROM (SELECT unnest({_IDS}) AS id))"
    days = "dt BETWEEN first_day::DATE AND coalesce(last_day, first_day)::DATE"
    return Macro(
        name,
        f"Rows of {table.sql_name}: instruments as VENUE:SYMBOL or a list of them, first and last "
        f"day, both included{''.join(f'; {each}' for each in parameters)}.",
        ", ".join(("instruments", "first_day", "last_day := NULL", *parameters)),
        f"SELECT * FROM {table.sql_name} WHERE {days} AND {own} AND {condition}",
    )


def _with_contract(name: str, loader: Macro, choice: str, instant_ns: str) -> Macro:
    """The rows of a loader, and beside each what was known of its contract at that instant."""

    def in_force(table: Table) -> str:
        # Of rows received at one time the last counts; of the day before, what holds over midnight.
        return (
            f"(SELECT * FROM {table.sql_name} "
            "WHERE dt BETWEEN first_day::DATE - 1 AND coalesce(last_day, first_day)::DATE "
            'QUALIFY "row" = max("row") OVER (PARTITION BY exchange, symbol, ts_receipt_ns))'
        )

    def joined(table: Table, alias: str) -> str:
        keys = " AND ".join(f"rows.{key} = {alias}.{key}" for key in ("exchange", "symbol"))
        return (
            f"ASOF LEFT JOIN {in_force(table)} AS {alias} "
            f"ON {keys} AND rows.instant_ns > {alias}.ts_receipt_ns"
        )

    given = f"instruments, first_day, last_day := last_day, {choice} := {choice}"
    return Macro(
        name,
        f"Rows of {loader.name}, with the funding and the open interest received last before "
        f"{'each' if loader.name == 'load_trades' else 'the end of each'}.",
        loader.parameters,
        "SELECT rows.* EXCLUDE (instant_ns), funding.rate AS funding_rate, funding.mark_price, "
        "funding.index_price, funding.next_funding_ns, "
        "rows.instant_ns - funding.ts_receipt_ns AS funding_age_ns, interest.open_interest, "
        "rows.instant_ns - interest.ts_receipt_ns AS open_interest_age_ns "
        f"FROM (SELECT *, {instant_ns} AS instant_ns FROM {loader.name}({given}) AS loaded) "
        "AS rows "
        f"{joined(BOOK_FUNDING, 'funding')} {joined(BOOK_OPEN_INTEREST, 'interest')}",
    )


def _numbered(loader: str, first_day: str, last_day: str, valid_only: str) -> str:
    """The rows of a loader, each with its `place`: those of a day come in the order of its file,
    which a number without an order keeps.
    """
    return (
        f"SELECT *, row_number() OVER () AS place FROM {loader}(instruments, {first_day}, "
        f"last_day := {last_day}, valid_only := {valid_only})"
    )


def _depth_matrix() -> Macro:
    """The last depth of each interval as cells of time and price, as `notebook.sampled` has it."""
    levels = ", ".join(
        f"{{is_bid: {side == 'bid'}, price_ticks: {side}_{level}_price_ticks, "
        f"size: {side}_{level}_size, is_confirmed: {side}_levels_confirmed > {level}}}"
        for side in ("bid", "ask")
        for level in range(DEPTH_LEVELS)
    )
    interval = "exchange, symbol, dt, ts_interval_ns, price_multiplier, price_divisor"
    every = "round(every_seconds * 1e9)::BIGINT"
    rows = _numbered("load_depth", "first_day", "last_day", "valid_only")
    last = (
        f"SELECT {interval}, unnest(arg_max([{levels}], place)) AS level FROM (SELECT *, "
        f"ts_receipt_ns // {every} * {every} AS ts_interval_ns FROM ({rows})) GROUP BY {interval}"
    )
    # Of numbers that are not integers DuckDB's // is no division into whole steps.
    cell = "level.price_ticks // step_ticks::BIGINT * step_ticks::BIGINT"
    return Macro(
        "depth_matrix",
        "The depth by time and price as a heat map draws it: of each interval the last row of "
        "books.depth, its levels added up by steps of the price; confirmed_only leaves out levels "
        "that no snapshot confirmed.",
        "instruments, first_day, last_day := NULL, every_seconds := 60, step_ticks := 1, "
        "confirmed_only := false, valid_only := true",
        "SELECT exchange, symbol, dt, ts_interval_ns, level.is_bid AS is_bid, "
        f"{cell} AS price_ticks, {cell} * price_multiplier / price_divisor AS price, "
        f"sum(level.size) AS size FROM ({last}) "
        f"WHERE CASE WHEN {every} >= 1 AND step_ticks >= 1 AND step_ticks % 1 = 0 THEN true "
        "ELSE error('every_seconds must be above 0, step_ticks whole and above 0') END "
        "AND level.price_ticks IS NOT NULL AND (NOT confirmed_only OR level.is_confirmed) "
        "GROUP BY ALL ORDER BY exchange, symbol, dt, ts_interval_ns, price_ticks, is_bid",
    )


def _asof_quotes() -> Macro:
    """The quote in force at given times, as `notebook.sampled` has it."""
    own = [f"{side}_{part}" for side in ("bid", "ask") for part in ("price_ticks", "size_lots")]
    own += [f"{side}_{part}" for side in ("bid", "ask") for part in ("price", "size")]
    first, last = (f"make_timestamp_ns(list_{edge}(at_ns))::DATE" for edge in ("min", "max"))
    asked = (
        f"SELECT {_VENUE} AS exchange, {_SYMBOL} AS symbol, "
        "of_id, ts_asof_ns, of_time FROM (SELECT id, min(of_id) AS of_id FROM (SELECT "
        f"unnest({_IDS}) AS id, generate_subscripts({_IDS}, 1) AS of_id) GROUP BY id), "
        "(SELECT unnest(at_ns::BIGINT[]) AS ts_asof_ns, generate_subscripts(at_ns, 1) AS of_time)"
    )
    # A clock that never runs backwards, of rows that have a time. Of those of one time the last
    # counts.
    books = (
        f"SELECT * FROM (SELECT *, max(CASE WHEN flags & {int(NO_TIME)} = 0 THEN ts_receipt_ns END)"
        " OVER (PARTITION BY exchange, symbol ORDER BY dt, place ROWS UNBOUNDED PRECEDING) "
        f"AS clock_ns FROM ({_numbered('load_bbo', f'{first} - 1', last, 'false')})) "
        "WHERE clock_ns IS NOT NULL "
        "QUALIFY row_number() OVER (PARTITION BY exchange, symbol, clock_ns "
        "ORDER BY dt DESC, place DESC) = 1"
    )
    flag = " ".join(f"WHEN '{each.name}' THEN {int(each)}" for each in BookFlag)
    # Of which the row of the last message before does not know: `metrics.trades.unknown_spans`.
    marks = (
        f"SELECT exchange, symbol, ts_asof_ns, bit_or(CASE cause {flag} END) AS mark "
        f"FROM (SELECT DISTINCT exchange, symbol, ts_asof_ns FROM asked) JOIN {INTERVALS.sql_name} "
        "USING (exchange, symbol) WHERE start_ns <= ts_asof_ns AND ts_asof_ns < end_ns "
        f"AND invalidates AND (cause = '{BookFlag.GAP.name}' OR messages = 0) "
        f"AND dt BETWEEN {first} - 1 AND {last} GROUP BY ALL"
    )
    quotes = (
        "SELECT asked.*, books.* EXCLUDE (exchange, symbol, flags, verified), mark, "
        "asked.ts_asof_ns - clock_ns AS age_ns, (flags | CASE WHEN asked.ts_asof_ns - clock_ns > "
        f"max_age_seconds * 1e9 THEN {int(BookFlag.STALE)} ELSE 0 END | coalesce(mark, 0))"
        "::USMALLINT AS flags, verified AND mark IS NULL AS verified FROM asked "
        "ASOF LEFT JOIN books ON asked.exchange = books.exchange AND asked.symbol = books.symbol "
        "AND asked.ts_asof_ns >= clock_ns LEFT JOIN marks ON asked.exchange = marks.exchange "
        "AND asked.symbol = marks.symbol AND asked.ts_asof_ns = marks.ts_asof_ns"
    )
    is_valid = f"NOT valid_only OR flags & {int(INVALIDATING)} = 0"
    touch = ", ".join(f"CASE WHEN {is_valid} THEN {name} END AS {name}" for name in own)
    return Macro(
        "asof_quotes",
        "The best bid and ask in force at times of the receipt clock, a list of ns since the "
        "epoch, UTC: after the last message at or before each; without prices where the book was "
        "not valid, unless valid_only := false.",
        "instruments, at_ns, valid_only := true, max_age_seconds := 60",
        f"WITH asked AS ({asked}), books AS ({books}), marks AS ({marks}), quotes AS ({quotes}) "
        f"SELECT exchange, symbol, ts_asof_ns, ts_origin_ns, ts_receipt_ns, sequence_number, "
        f"{touch}, flags, verified, age_ns FROM quotes ORDER BY of_id, of_time",
    )


_VALID = f"(NOT valid_only OR flags & {int(INVALIDATING)} = 0)"
_LOAD_BBO, _LOAD_DEPTH, _LOAD_TRADES = (
    _loader(name, table, ["valid_only := true"], _VALID)
    for name, table in (
        ("load_bbo", BBO),
        ("load_depth", DEPTH),
        ("load_trades", BOOK_TRADES),
    )
)
_LOAD_BARS = _loader(
    "load_bars",
    BARS,
    ["width_seconds := NULL"],
    "(width_seconds IS NULL OR bars.width_seconds = width_seconds)",
)
_LOAD_METRICS = _loader(
    "load_metrics",
    BOOK_METRICS,
    ["interval_seconds := NULL"],
    "(interval_seconds IS NULL OR book_metrics.interval_seconds = interval_seconds)",
)
_LOAD_INFORMATION_BARS = _loader(
    "load_information_bars",
    INFORMATION_BARS,
    ["kind := NULL", "step := NULL"],
    "(kind IS NULL OR information_bars.kind = kind) "
    "AND (step IS NULL OR information_bars.step = step)",
)
MACROS: tuple[Macro, ...] = (
    *(_LOAD_BBO, _LOAD_DEPTH, _LOAD_TRADES, _LOAD_BARS, _LOAD_METRICS, _LOAD_INFORMATION_BARS),
    _loader("load_daily", DAILY_METRICS),
    _loader("load_checkpoint_depth", CHECKPOINT_DEPTH),
    _loader("load_intervals", INTERVALS),
    _loader("load_funding", BOOK_FUNDING),
    _loader("load_open_interest", BOOK_OPEN_INTEREST),
    _loader("events", MARKET_EVENTS),
    _depth_matrix(),
    _asof_quotes(),
    _with_contract("trades_with_contract", _LOAD_TRADES, "valid_only", "ts_receipt_ns"),
    _with_contract(
        *("bars_with_contract", _LOAD_BARS, "width_seconds"),
        "epoch_ns(bar_start) + loaded.width_seconds::BIGINT * 1000000000",
    ),
)
"""What Python loads as table macros of the catalogue, and trades and bars with the funding."""
