"""`book_at`: the full book as of an instant of the receipt clock."""

from __future__ import annotations

import operator
import re
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from market_pipeline.books.flags import BookFlag
from market_pipeline.config.settings import load_settings
from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline.notebook._from_checkpoint import PublishedRow, replayed
from market_pipeline.notebook.book import Book
from market_pipeline.notebook.published import load_bbo

__all__ = ["book_at", "nanoseconds_of"]

_NS_PER_SECOND = 1_000_000_000
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)")


def book_at(
    instrument: str,
    time: datetime | str | int,
    *,
    data_dir: Path | str | None = None,
    depth: int | None = None,
    max_age_seconds: float = 60.0,
) -> Book:
    """The full book as of an instant: after the last message received at or before it.

    It begins with the last checkpoint before the instant and applies the raw messages and snapshots
    from there on, by the instrument's policies, so it is the book that the pipeline had. Of the raw
    rows only the row groups of that time are read.

    Args:
        instrument: Its id, such as BINANCE_FUTURES:BTC-USDT-PERP.
        time: An instant of the receipt clock: a datetime with a time zone, text as
            2024-08-08T12:00:00.5Z, or int ns since the epoch, UTC.
        data_dir: The data folder; by default the one of the settings in force.
        depth: Only so many levels a side; by default all.
        max_age_seconds: A book whose last message is older than this is flagged STALE.

    Returns:
        The book, with the flags of its published row. They are those of its last message: in a
        silence that later turns out to be a gap there is no GAP yet, but soon STALE.

    Raises:
        MissingDataError: That day is not published, no message came before the instant, or the raw
            deltas are not in the lake any more.
        DomainError: The time cannot be read, or has no zone.
        CheckpointError: The checkpoint is damaged, or it does not lead to the published row.
        LakeFileError: A raw file cannot be read, or changed since it was registered.
        SettingsError: The settings are not usable.
    """
    settings = load_settings() if data_dir is None else load_settings(data_dir=data_dir)
    at_ns = nanoseconds_of(time)
    row = _last_row(instrument, at_ns, settings.data_dir)
    book = replayed(row, settings)
    if at_ns - row.ts_receipt_ns > max_age_seconds * _NS_PER_SECOND:
        book = replace(book, flags=book.flags | BookFlag.STALE)
    return book if depth is None else book.top(depth)


def _last_row(instrument: str, at_ns: int, data_dir: Path) -> PublishedRow:
    """The row of `books.bbo` of the last message received at or before an instant."""
    try:
        day = datetime.fromtimestamp(at_ns // _NS_PER_SECOND, UTC).date()
        before = day - timedelta(days=1)
    except (OverflowError, ValueError):
        raise _no_instant(at_ns) from None
    found = _last_row_of(instrument, day, at_ns, data_dir)
    if found is None:
        # Before the first message of a day the book is that of the day before.
        with suppress(MissingDataError):
            found = _last_row_of(instrument, before, at_ns, data_dir)
    if found is None:
        raise MissingDataError(
            f"{instrument} has no published message at or before that instant",
            next_step=f"Ask for a later instant, or run the pipeline for {before}.",
            day=day,
            file=data_dir,
            found=str(at_ns),
        )
    return found


def _last_row_of(instrument: str, day: date, at_ns: int, data_dir: Path) -> PublishedRow | None:
    rows = load_bbo(instrument, day, valid_only=False, data_dir=data_dir).with_row_index("message")
    until = rows.filter(pl.col("ts_receipt_ns") <= at_ns)
    # A receipt clock may run back, so the last in the order of the feed is asked for.
    message = until.select(pl.col("message").max()).collect().item()
    if message is None:
        return None
    columns = [each.name for each in fields(PublishedRow)]
    row = rows.rename({"dt": "day"}).slice(message, 1).select(columns).collect()
    return PublishedRow(*row.row(0))


def nanoseconds_of(time: datetime | str | int) -> int:
    """An instant as ns since the epoch, UTC, without losing one.

    Raises:
        DomainError: It is no time, or has no zone.
    """
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise _no_instant(time)
        # A subclass may be finer than datetime itself.
        return _ns_of(time) + int(getattr(time, "nanosecond", 0))
    if isinstance(time, str):
        parts = _ISO.fullmatch(time.strip())
        if parts is None:
            raise _no_instant(time)
        try:
            whole = datetime.fromisoformat(parts[1] + parts[3])
        except ValueError:
            raise _no_instant(time) from None
        return _ns_of(whole) + int((parts[2] or "").ljust(9, "0"))
    try:
        return operator.index(time)
    except TypeError:
        raise _no_instant(time) from None


def _ns_of(time: datetime) -> int:
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1) * 1_000


def _no_instant(found: object) -> DomainError:
    return DomainError(
        "`time` is no instant",
        next_step="Say which zone is meant: a local time may be any of 24 instants.",
        column="time",
        expected="a datetime with a zone, text as 2024-08-08T12:00:00Z, or int ns since the epoch",
        found=repr(found),
    )
