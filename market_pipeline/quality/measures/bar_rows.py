"""Which published bars of a day break a rule of bars, whoever made them.

A rule looks at a row by itself, at the row before it of the same width, or at the rows of the next
smaller width that its interval has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise

import polars as pl

__all__ = ["bar_violations"]

_SECONDS_PER_DAY = 86_400
_ROUNDING = 1e-9

_OHLC = ("open", "high", "low", "close")
_COUNTS = (
    *("trade_count", "late_count", "off_step_count", "outside_market_count", "other_day_count"),
)
_NEWER = "outside_market_count"
_VOLUMES = ("volume_lots", "buy_volume_lots", "volume", "buy_volume")
_OF_TRADES = (*(f"{name}_ticks" for name in _OHLC), *_OHLC, "vwap", "first_id", "last_id")
_MID = tuple(f"mid_{name}" for name in _OHLC)
_SPREAD_TICKS = tuple(f"spread_{name}_ticks" for name in _OHLC)
_SPREAD = tuple(f"spread_{name}" for name in _OHLC)
_KEY = ("width_seconds", "bar_start")
_SUMS = ("volume_lots", "buy_volume_lots", *_COUNTS)
_FLOAT_SUMS = ("volume", "buy_volume", "quote_volume")

_Rules = Mapping[str, pl.Expr]
"""By the sentence that says what is wrong, whether a row keeps the rule; null is kept."""


def bar_violations(bars: pl.DataFrame, day: date) -> pl.DataFrame:
    """The intervals whose bar breaks a rule, each once, with all that is wrong with it.

    Args:
        bars: All rows of `metrics.bars` of one instrument and day, in any order.
        day: The UTC day.

    Returns:
        width_seconds, bar_start, and `notes`, a list of sentences; by width, then by time.
    """
    widths = bars["width_seconds"].unique().sort().to_list()
    grid = _grid(tuple(widths), bars.schema["width_seconds"], day)
    keys = bars.select(_KEY)
    is_whole = keys.equals(grid)
    # Days of before it was counted have null there.
    rows = (bars if is_whole else bars.sort(_KEY)).with_columns(pl.col(_NEWER).fill_null(0))
    values = pl.exclude("bar_start")
    differs = pl.any_horizontal(values.ne_missing(values.shift()))
    rows = rows.with_columns(differs.alias("differs"))
    parts = [_broken_alone(rows), _broken(_with_ids(rows), _ids()), _not_the_sum(rows, widths)]
    found = pl.concat(parts if is_whole else [*parts, *_off_grid(rows.select(_KEY), grid)])
    return found.group_by(_KEY).agg(pl.col("note").unique().sort().alias("notes")).sort(_KEY)


@lru_cache(1)  # the instruments of a day have the same
def _grid(widths: tuple[int, ...], kind: pl.DataType, day: date) -> pl.DataFrame:
    """The keys of all intervals of a day, in order."""
    start = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - Polars' naive UTC
    end = start + timedelta(seconds=_SECONDS_PER_DAY)
    none = pl.DataFrame(schema={"width_seconds": kind, "bar_start": pl.Datetime("us")})
    starts = [
        pl.select(
            pl.lit(width, kind).alias("width_seconds"),
            pl.datetime_range(start, end, f"{width}s", closed="left").alias("bar_start"),
        )
        for width in widths
    ]
    return pl.concat([none, *starts])


def _broken_alone(rows: pl.DataFrame) -> pl.DataFrame:
    """As `_broken` of `_one_row`, asked once of rows that differ in nothing but their start."""
    runs = _runs(rows, rows["differs"])
    found = _broken(runs, _one_row(), ["index", "number"])
    found = found.with_columns(
        at=pl.int_ranges("index", pl.col("index") + pl.col("number"))
    ).explode("at")
    return rows[found["at"]].select(*_KEY, found["note"])


def _runs(rows: pl.DataFrame, is_first: pl.Series) -> pl.DataFrame:
    """The first row of each run, with its `index` and the `number` of rows; no other is copied."""
    index = is_first.arg_true()
    after = index.shift(-1, fill_value=rows.height)
    return rows[index].with_columns(
        index.cast(pl.Int64).alias("index"), (after - index).cast(pl.Int64).alias("number")
    )


def _broken(rows: pl.DataFrame, rules: _Rules, key: Sequence[str] = _KEY) -> pl.DataFrame:
    """The keys of rows that break a rule, with its sentence, as many times as they break one."""
    flags = rows.select(
        *key,
        pl.concat_list(
            pl.when(~kept.fill_null(value=True)).then(pl.lit(sentence))
            for sentence, kept in rules.items()
        )
        .list.drop_nulls()
        .alias("note"),
    )
    return flags.filter(pl.col("note").list.len() > 0).explode("note")


def _one_row() -> _Rules:
    """What holds of each row by itself."""
    floats = (*_OHLC, "vwap", *_FLOAT_SUMS, *_MID, *_SPREAD, "valid_share")
    count, has_trade = pl.col("trade_count"), pl.col("trade_count") > 0
    low, high = pl.col("low"), pl.col("high")
    vwap = pl.col("vwap").is_between(low * (1 - _ROUNDING), high * (1 + _ROUNDING))
    no_volume = pl.all_horizontal(pl.col(*_VOLUMES, "quote_volume") == 0)
    of_file = pl.col(*_VOLUMES, "quote_volume", *(n for n in _COUNTS if n != _NEWER))
    return {
        "A value is not finite.": pl.all_horizontal(pl.col(*floats).is_finite()),
        "Open or close is not between low and high.": _within("{}") & _within("{}_ticks"),
        "A price is not above 0.": pl.all_horizontal(pl.col(*_OF_TRADES[:8]) > 0),
        "A volume or a count is below 0.": pl.all_horizontal(
            pl.col(*_VOLUMES, "quote_volume", *_COUNTS) >= 0
        ),
        "More was bought than was traded.": (pl.col("buy_volume_lots") <= pl.col("volume_lots"))
        & (pl.col("buy_volume") <= pl.col("volume")),
        "It has trades and no price, size or id.": ~has_trade
        | (pl.all_horizontal(pl.col(*_OF_TRADES).is_not_null()) & (pl.col("volume_lots") > 0)),
        "It has a price or a size and no trade.": (count != 0)
        | (pl.all_horizontal(pl.col(*_OF_TRADES).is_null()) & no_volume),
        "Counts and volumes are not all there, or not all null.": _all_or_none(of_file),
        "A price or a size is not that of its ticks or lots.": pl.all_horizontal(
            _of_steps(name, f"{name}_{unit}")
            for names, unit in ((_OHLC, "ticks"), (_VOLUMES[2:], "lots"))
            for name in names
        ),
        "The mean price is not between low and high.": vwap,
        "The mean price is not quote volume over volume.": _near(
            pl.col("vwap"), pl.col("quote_volume") / pl.col("volume")
        ),
        "The id of its first trade is above that of its last.": pl.col("first_id")
        <= pl.col("last_id"),
        "Mid or spread opens or closes outside its low and high.": _within("mid_{}")
        & _within("spread_{}_ticks")
        & _within("spread_{}"),
        "Mid and spread are not all there, or not all null.": _all_or_none(
            pl.col(*_MID, *_SPREAD, *_SPREAD_TICKS)
        ),
        "There is a mid without valid time.": (pl.col("valid_share") > 0)
        | pl.col("mid_open").is_null(),
        "The valid share is not between 0 and 1.": pl.col("valid_share")
        .is_between(0, 1)
        .fill_null(value=False),
    }


def _within(name: str) -> pl.Expr:
    """Whether open and close are between low and high."""
    opened, high, low, close = (pl.col(name.format(each)) for each in _OHLC)
    return (low <= pl.min_horizontal(opened, close)) & (pl.max_horizontal(opened, close) <= high)


def _all_or_none(columns: pl.Expr) -> pl.Expr:
    return pl.all_horizontal(columns.is_null()) | pl.all_horizontal(columns.is_not_null())


def _of_steps(name: str, steps: str) -> pl.Expr:
    """Whether a value is its number of steps times the step that most rows have."""
    value, number = pl.col(name), pl.col(steps)
    return _near(value, number * (value / number).filter(number > 0).median())


def _near(value: pl.Expr, other: pl.Expr) -> pl.Expr:
    return (value - other).abs() <= _ROUNDING * pl.max_horizontal(value.abs(), other.abs())


def _with_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that have an id of a trade."""
    ids = "first_id", "last_id"
    return rows.select(*_KEY, *ids).filter(pl.any_horizontal(pl.col(ids).is_not_null()))


def _ids() -> _Rules:
    """What holds of each row with an id and those before it of its width."""
    before = pl.col("last_id").forward_fill().shift(1).over("width_seconds")
    return {
        "The id of its first trade is not above those of the bars before.": pl.col("first_id")
        > before
    }


def _off_grid(keys: pl.DataFrame, grid: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Intervals of the day without a row or with several, and rows of no such interval."""
    for frame, sentence in (
        (grid.join(keys, on=_KEY, how="anti"), "The interval has no row."),
        (keys.join(grid, on=_KEY, how="anti"), "It begins where no bar of the day does."),
        (keys.filter(pl.struct(_KEY).is_duplicated()), "The interval has more than one row."),
    ):
        yield frame.with_columns(pl.lit(sentence).alias("note"))


def _not_the_sum(rows: pl.DataFrame, widths: Sequence[int]) -> pl.DataFrame:
    """The wider bars that are not the aggregation of the smaller ones."""
    wider = {narrow: wide for narrow, wide in pairwise(widths) if wide % narrow == 0}
    # They lie behind the narrowest, which are most: to filter those takes as long as all the rest.
    narrowest = rows["width_seconds"] == min(widths, default=0)
    is_wider = pl.col("width_seconds").is_in(list(wider.values()))
    larger = rows[int(narrowest.sum()) :].filter(is_wider)
    both = larger.join(_aggregated(rows, wider), on=_KEY, how="left", suffix="_made")
    prices = [name.format(each) for name in ("{}_ticks", "{}") for each in _OHLC]
    books = [name.format(each) for name in ("mid_{}", "spread_{}_ticks") for each in _OHLC]
    near = {
        name: _near(pl.col(name), pl.col(f"{name}_made")) for name in (*_FLOAT_SUMS, "valid_share")
    }
    return _broken(
        both,
        {
            "Volumes or counts are not the sums of the smaller bars.": pl.all_horizontal(
                *(pl.col(name) == pl.col(f"{name}_made") for name in _SUMS),
                *(near[name] for name in _FLOAT_SUMS),
            ),
            "A price is not that of the smaller bars.": _same(prices),
            "Mid or spread is not that of the smaller bars.": _same(books),
            "The valid share is not the mean of the smaller bars'.": near["valid_share"],
        },
    )


def _aggregated(rows: pl.DataFrame, wider: Mapping[int, int]) -> pl.DataFrame:
    """The bars that follow from the smaller ones, given the next width of each.

    Rows of an interval that differ in nothing but their start are taken once.
    """
    width, share, number = pl.col("width_seconds"), pl.col("valid_share"), pl.col("number")
    wide = pl.coalesce(None, *(pl.when(width == each).then(wider[each]) for each in wider))
    within = pl.col("bar_start").dt.epoch("us") // pl.col("wide_us") * pl.col("wide_us")
    of = (
        rows.lazy()
        .with_columns((wide.cast(pl.Int64) * 1_000_000).alias("wide_us"))
        .with_columns(within.cast(rows.schema["bar_start"]).alias("within"))
        .select("wide_us", "within")
        .with_columns(begins=pl.col("within") != pl.col("within").shift())
        .collect()
    )
    return (
        _runs(rows.hstack(of), rows["differs"] | of["begins"])
        .filter(pl.col("wide_us").is_not_null())
        .group_by(
            (pl.col("wide_us") // 1_000_000).cast(rows.schema["width_seconds"]).alias(_KEY[0]),
            pl.col("within").alias(_KEY[1]),
            maintain_order=True,
        )
        .agg(
            (pl.col(*_SUMS, *_FLOAT_SUMS) * number).sum(),
            (share * number).sum() / number.filter(share.is_not_null()).sum().replace(0, None),
            *(
                how(pl.col(name.format(each)).drop_nulls()).alias(name.format(each))
                for name in ("{}_ticks", "{}", "mid_{}", "spread_{}_ticks")
                for each, how in zip(
                    _OHLC, (pl.Expr.first, pl.Expr.max, pl.Expr.min, pl.Expr.last), strict=True
                )
            ),
        )
    )


def _same(names: list[str]) -> pl.Expr:
    return pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_made")) for name in names)
