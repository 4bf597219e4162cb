"""Which published bars of a day break a rule of bars, whoever made them.

A rule looks at a row by itself, at the row before it of the same width, or at the rows of the next
smaller width that its interval has. Of a quiet day it takes longer to ask the rules than to look at
the values, so they are asked of several instruments together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeVar

import polars as pl

__all__ = ["bar_violations"]

_Of = TypeVar("_Of")

_SECONDS_PER_DAY = 86_400
_ROWS_HELD = 1 << 15
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
_ROW_KEY = ("width_seconds", "bar_start")
_KEY = ("of", *_ROW_KEY)
_SUMS = ("volume_lots", "buy_volume_lots", *_COUNTS)
_FLOAT_SUMS = ("volume", "buy_volume", "quote_volume")

_Rules = Mapping[str, pl.Expr]
"""By the sentence that says what is wrong, whether a row keeps the rule; null is kept."""


def bar_violations(
    bars: Iterable[tuple[_Of, pl.DataFrame]], day: date
) -> Iterator[tuple[_Of, int, pl.DataFrame]]:
    """Yields (instrument, number of its bars, violations) in the order of the instruments.

    Violations are the intervals whose bar breaks a rule, each once, by width, then by time:
    width_seconds, bar_start, and `notes`, a list of sentences that say all that is wrong.

    Args:
        bars: By instrument, or whatever stands for one, all its rows of `metrics.bars` of the day,
            in any order. Those of one are in memory, and what differs of several.
        day: The UTC day.
    """
    held: list[tuple[_Of, int, _Runs]] = []
    for of, rows in bars:
        held.append((of, rows.height, _runs(rows, len(held), day)))
        del rows  # or it would be held while the next ones are read
        if sum(runs.first.height for *_, runs in held) >= _ROWS_HELD:
            yield from _with_violations(held)
            held = []
    if held:
        yield from _with_violations(held)


def _with_violations(
    held: Sequence[tuple[_Of, int, _Runs]],
) -> Iterator[tuple[_Of, int, pl.DataFrame]]:
    all_runs = [runs for *_, runs in held]
    found = _violations(all_runs)
    by_number = found.partition_by("of", as_dict=True, include_key=False)
    none = found.clear().drop("of")
    for at, (of, number, _) in enumerate(held):
        yield of, number, by_number.get((at,), none)


def _violations(all_runs: Sequence[_Runs]) -> pl.DataFrame:
    """As `bar_violations`, of several instruments, each by its number in `of`."""
    first = pl.concat(runs.first for runs in all_runs)
    # Days of before it was counted have null there.
    first = first.with_columns(pl.col(_NEWER).fill_null(0))
    found = pl.concat(
        [
            *_broken_alone(first, [runs.keys for runs in all_runs]),
            _broken(_with_ids(first), _ids()),
            _not_the_sum(first),
            *(part for runs in all_runs for part in runs.off_grid),
        ]
    )
    return found.group_by(_KEY).agg(pl.col("note").unique().sort().alias("notes")).sort(_KEY)


class _Runs(NamedTuple):
    """The rows of an instrument, those that follow each other and differ in nothing but their start
    taken once.

    Attributes:
        keys: The width and the start of all rows, in order.
        first: The first row of each run, with the instrument's number as `of`, with its `wider`,
            `within` and `is_made` (`_with_wider`), and with its `index` and the `number` of rows.
        off_grid: What is wrong with the keys.
    """

    keys: pl.DataFrame
    first: pl.DataFrame
    off_grid: Sequence[pl.DataFrame]


def _runs(rows: pl.DataFrame, of: int, day: date) -> _Runs:
    widths = tuple(rows["width_seconds"].unique().sort().to_list())
    grid = _grid(widths, rows.schema["width_seconds"], day)
    keys, off_grid = rows.select(_ROW_KEY), []
    grid_keys = grid.select(_ROW_KEY)
    if not keys.equals(grid_keys):
        rows = rows.sort(_ROW_KEY)
        keys = rows.select(_ROW_KEY)
        grid = _with_wider(keys, widths)
        off_grid = [
            each.with_columns(of=pl.lit(of, pl.Int32)).select(*_KEY, "note")
            for each in _off_grid(keys, grid_keys)
        ]
    values = pl.exclude("bar_start")
    # A row with the id of a trade, or that is compared with smaller ones, is a run by itself.
    is_alone = pl.any_horizontal(pl.col("first_id", "last_id").is_not_null())
    differs = rows.select(
        pl.any_horizontal(values.ne_missing(values.shift()), is_alone)
    ).to_series()
    index = (differs | grid["begins"]).arg_true()
    after = index.shift(-1, fill_value=rows.height)
    first = rows[index].hstack(grid.select("wider", "within", "is_made")[index])
    first = first.with_columns(
        pl.lit(of, pl.Int32).alias("of"),
        index.cast(pl.Int64).alias("index"),
        (after - index).cast(pl.Int64).alias("number"),
    )
    return _Runs(keys, first, off_grid)


@lru_cache(1)  # the instruments of a day have the same
def _grid(widths: tuple[int, ...], kind: pl.DataType, day: date) -> pl.DataFrame:
    """The keys of all intervals of a day, in order, with what `_with_wider` adds."""
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
    return _with_wider(pl.concat([none, *starts]), widths)


def _with_wider(keys: pl.DataFrame, widths: Sequence[int]) -> pl.DataFrame:
    """Keys with how they lie in those of the next width.

    Returns:
        The keys, and of each row `wider`, the next width if it is a multiple, and `within`, the
        start of the interval of that width; whether it `is_made` of smaller ones; and whether it
        `begins` a run, whatever its values are.
    """
    wider = {narrow: wide for narrow, wide in pairwise(widths) if wide % narrow == 0}
    width = pl.col("width_seconds")
    wide = pl.coalesce(None, *(pl.when(width == each).then(wider[each]) for each in wider))
    wide_us = pl.col("wider").cast(pl.Int64) * 1_000_000
    within = pl.col("bar_start").dt.epoch("us") // wide_us * wide_us
    return (
        keys.lazy()
        .with_columns(
            wide.cast(keys.schema["width_seconds"]).alias("wider"),
            width.is_in(list(wider.values())).alias("is_made"),
        )
        .with_columns(within.cast(keys.schema["bar_start"]).alias("within"))
        .with_columns(
            begins=pl.col("is_made")
            | (pl.col("within") != pl.col("within").shift()).fill_null(value=False)
        )
        .collect()
    )


def _broken_alone(first: pl.DataFrame, keys: Sequence[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """As `_broken` of `_one_row`, of all rows of each run."""
    found = _broken(first, _one_row(), ["of", "index", "number"])
    found = found.with_columns(
        at=pl.int_ranges("index", pl.col("index") + pl.col("number"))
    ).explode("at")
    for (of,), rows in found.partition_by("of", as_dict=True).items():
        yield keys[of][rows["at"]].hstack(rows.select("of", "note")).select(*_KEY, "note")


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
    return _near(value, number * (value / number).filter(number > 0).median().over("of"))


def _near(value: pl.Expr, other: pl.Expr) -> pl.Expr:
    return (value - other).abs() <= _ROUNDING * pl.max_horizontal(value.abs(), other.abs())


def _with_ids(first: pl.DataFrame) -> pl.DataFrame:
    """The rows that have an id of a trade."""
    ids = "first_id", "last_id"
    return first.select(*_KEY, *ids).filter(pl.any_horizontal(pl.col(ids).is_not_null()))


def _ids() -> _Rules:
    """What holds of each row with an id and those before it of its width."""
    before = pl.col("last_id").forward_fill().shift(1).over("of", "width_seconds")
    return {
        "The id of its first trade is not above those of the bars before.": pl.col("first_id")
        > before
    }


def _off_grid(keys: pl.DataFrame, grid: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Intervals of the day without a row or with several, and rows of no such interval."""
    for frame, sentence in (
        (grid.join(keys, on=_ROW_KEY, how="anti"), "The interval has no row."),
        (keys.join(grid, on=_ROW_KEY, how="anti"), "It begins where no bar of the day does."),
        (keys.filter(pl.struct(_ROW_KEY).is_duplicated()), "The interval has more than one row."),
    ):
        yield frame.with_columns(pl.lit(sentence).alias("note"))


def _not_the_sum(first: pl.DataFrame) -> pl.DataFrame:
    """The wider bars that are not the aggregation of the smaller ones."""
    larger = first.filter("is_made")
    both = larger.join(_aggregated(first), on=_KEY, how="left", suffix="_made")
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


def _aggregated(first: pl.DataFrame) -> pl.DataFrame:
    """The bars that follow from the smaller ones."""
    share, number = pl.col("valid_share"), pl.col("number")
    return (
        first.filter(pl.col("wider").is_not_null())
        .group_by(
            "of",
            pl.col("wider").alias("width_seconds"),
            pl.col("within").alias("bar_start"),
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
