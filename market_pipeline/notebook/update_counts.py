"""`update_counts`: how often each level of the book changes, of every message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from market_pipeline.books.player import Player, Start
from market_pipeline.books.replay import Replayed
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.errors import DomainError
from market_pipeline.metrics.update_counts import UpdateCounts, count_updates
from market_pipeline.notebook.from_checkpoint import days_between
from market_pipeline.notebook.published import (
    Times,
    instrument_ids,
    refuse_other,
    whole_step,
    with_times,
)
from market_pipeline.notebook.times import span_of
from market_pipeline.quality.intervals import NS_PER_SECOND, SECONDS_PER_DAY, day_bounds_ns
from market_pipeline.stages.rebuild.replay import DayReplay

__all__ = ["update_counts"]

_By = Literal["level", "ticks"]
_FARTHEST = 1_000
_DAY_NS = SECONDS_PER_DAY * NS_PER_SECOND
_MOST_COUNTS = 1 << 27
"""One GiB of them."""
_EVER_NS = -(2**63)


def update_counts(
    instruments: str | Sequence[str],
    start: datetime | str | int,
    end: datetime | str | int,
    *,
    by: Literal["level", "ticks"] = "level",
    limit: int = 50,
    every_seconds: float = 60.0,
    times: Times = "ns",
    data_dir: Path | str | None = None,
) -> pl.DataFrame:
    """How many rows changed each level, of every message: a replay of published days counts them.

    `metrics.book_metrics` has such counts of the 20 levels of `books.depth`, from row to row; here
    is what came and went between two of its rows, and what changed farther out.

    A row counts if it changes a size. Its level is that of its price in the book after the message
    where the size grows, in the book before it where it falls. Its ticks are how far the price is
    behind the best one of its side before the message. A message counts if the books before and
    after it are valid and have both sides, and no snapshot, policy or late message changed the
    second; the first message of a day is compared with none.

    Args:
        instruments, start, end, data_dir: As for `replay`.
        by: "level", or "ticks" for distances: these do not move when the touch moves.
        limit: The farthest level, or distance, that is counted by itself, up to 1,000.
        every_seconds: Length of the intervals, which begin at the epoch's multiples of it. While a
            day is counted, each holds 32 bytes for each level.
        times: As for `load_bbo`.

    Returns:
        A row for each interval with a message that counts, side and level, by instrument and day:
        `exchange`, `symbol` (text), `dt` (date), `ts_interval_ns` (int64, the interval's start by
        the receipt clock), `message_count` (int64, messages that count), `is_bid` (bool), `level`
        from 1 at the touch or `ticks` from -1, which is every price inside the spread (int64; null
        is what is farther out than the limit), `increase_count` and `decrease_count` (int64).

    Raises:
        MissingDataError, CheckpointError, LakeFileError, SettingsError: As `replay`.
        DomainError: As `replay`; or `by`, `limit` or `every_seconds` is none of their values, or a
            day's counts would take more than 1 GiB.
    """
    refuse_other("by", by, _By)
    refuse_other("times", times, Times)
    _refuse_no_limit(limit)
    every_ns = whole_step("every_seconds", every_seconds * NS_PER_SECOND, every_seconds)
    settings = load_settings() if data_dir is None else load_settings(data_dir=data_dir)
    ids = instrument_ids(instruments)
    span_ns = span_of(start, end)
    _refuse_too_many(min(span_ns[1] - span_ns[0], _DAY_NS) // every_ns, limit)
    by_ticks = by == "ticks"
    # A span may have no day with a message.
    parts = [_identified(UpdateCounts.between(0, 0, 1, 1, by_ticks=by_ticks), "", "", None)]
    for each in ids:
        parts += _counted(each, span_ns, every_ns, limit, settings, by_ticks=by_ticks)
    return with_times(pl.concat(parts).lazy(), times).collect()


def _refuse_no_limit(limit: int) -> None:
    is_number = isinstance(limit, int | np.integer) and not isinstance(limit, bool)
    if not (is_number and 1 <= limit <= _FARTHEST):
        raise DomainError(
            "`limit` is no number of levels or ticks",
            next_step="Give how far from the touch changes are counted by themselves.",
            column="limit",
            expected=f"a whole number from 1 to {_FARTHEST:,}",
            found=repr(limit),
        )


def _refuse_too_many(intervals: int, limit: int) -> None:
    """Those of a day are held at once: four for each interval and level."""
    if (most := _MOST_COUNTS // (4 * (limit + 3))) < intervals:
        raise DomainError(
            "`every_seconds` makes too many intervals of a day for so many levels",
            next_step="Give longer intervals, a smaller `limit`, or a shorter span.",
            column="every_seconds",
            expected=f"at most {most:,} intervals",
            found=f"{intervals:,}",
        )


def _counted(
    instrument: str,
    span_ns: tuple[int, int],
    every_ns: int,
    limit: int,
    settings: Settings,
    *,
    by_ticks: bool,
) -> Iterator[pl.DataFrame]:
    """The rows of each day of an instrument."""
    from_ns, until_ns = span_ns
    for day, message in days_between(instrument, from_ns, until_ns, settings):
        of_day_ns = day_bounds_ns(day.record.dt)
        within_ns = max(from_ns, of_day_ns[0]), min(until_ns, of_day_ns[1])
        counts = UpdateCounts.between(*within_ns, every_ns, limit, by_ticks=by_ticks)
        # From one message before, which the first one is compared with.
        replay = DayReplay(day, max(message - 1, 0), changes=True)
        source = chain[Start | Replayed]([Start(replay.book())], replay.until())
        Player([source], count_updates, counts, _EVER_NS, until_ns, shows_changes=True).play()
        yield _identified(counts, day.record.exchange, day.record.symbol, day.record.dt)


def _identified(counts: UpdateCounts, exchange: str, symbol: str, day: date | None) -> pl.DataFrame:
    """The rows of a day with whose they are."""
    return counts.frame().select(
        pl.lit(exchange).alias("exchange"),
        pl.lit(symbol).alias("symbol"),
        pl.lit(day, pl.Date).alias("dt"),
        pl.all(),
    )
