"""`book_at`, `books_at`: the full book as of instants of the receipt clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from itertools import chain, groupby, pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.books.flags import BookFlag
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline.notebook.book import Book
from market_pipeline.notebook.from_checkpoint import PublishedRow, replayed
from market_pipeline.notebook.loaders import load_bbo
from market_pipeline.notebook.times import day_of, nanoseconds_of
from market_pipeline.stages.published_rows import in_batches

__all__ = ["book_at", "books_at"]

_NS_PER_SECOND = 1_000_000_000
_ROWS_AT_ONCE = 1 << 20


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
    (book,) = books_at(
        instrument, [time], data_dir=data_dir, depth=depth, max_age_seconds=max_age_seconds
    )
    return book


def books_at(
    instrument: str,
    times: Iterable[datetime | str | int],
    *,
    data_dir: Path | str | None = None,
    depth: int | None = None,
    max_age_seconds: float = 60.0,
) -> Iterator[Book]:
    """The full books as of many instants, each as `book_at` gives it, in one pass over each day.

    Args:
        instrument, data_dir, depth, max_age_seconds: As for `book_at`.
        times: Instants in any form that `book_at` takes, none before the one that it follows.

    Returns:
        One book after the other, each made when it is asked for. A book of the same message as the
        one before is made once.

    Raises:
        DomainError: A time cannot be read, has no zone, or is before the one that it follows.
        MissingDataError, CheckpointError, LakeFileError, SettingsError: As `book_at`.
    """
    settings = load_settings() if data_dir is None else load_settings(data_dir=data_dir)
    asked_ns = [nanoseconds_of(time) for time in times]
    for before, after in pairwise(asked_ns):
        if after < before:
            raise DomainError(
                "The instants do not ascend",
                next_step="Sort them: the books are made in one pass.",
                column="times",
                expected=f"{before} or later",
                found=str(after),
            )
    return _books(instrument, asked_ns, settings, depth, max_age_seconds)


def _books(
    instrument: str,
    asked_ns: Sequence[int],
    settings: Settings,
    depth: int | None,
    max_age_seconds: float,
) -> Iterator[Book]:
    for day, of_day in groupby(asked_ns, day_of):
        instants_ns = np.array([*of_day], np.int64)
        messages = _last_messages(instrument, day, instants_ns, settings.data_dir)
        # Before the first message of a day the book is that of the day before.
        early = instants_ns[messages < 0]
        rows = _rows_before(instrument, day, early, settings.data_dir) if early.size else []
        rows += _rows(instrument, day, messages[messages >= 0], settings.data_dir)
        books = chain.from_iterable(
            replayed([row for row, _ in groupby(of_rows)], settings)
            for _, of_rows in groupby(rows, lambda row: row.day)
        )
        book, row = None, None
        for at_ns, next_row in zip(instants_ns.tolist(), rows, strict=True):
            if book is None or next_row != row:
                book, row = next(books), next_row
            given = book if depth is None else book.top(depth)
            if at_ns - book.ts_receipt_ns > max_age_seconds * _NS_PER_SECOND:
                given = replace(given, flags=given.flags | BookFlag.STALE)
            yield given


def _rows_before(
    instrument: str, day: date, instants_ns: NDArray[np.int64], data_dir: Path
) -> list[PublishedRow]:
    """The rows of the day before for instants before the first message of a day."""
    before = day - timedelta(days=1)
    messages = np.full(instants_ns.size, -1)
    with suppress(MissingDataError):
        messages = _last_messages(instrument, before, instants_ns, data_dir)
    if (messages < 0).any():
        raise MissingDataError(
            f"{instrument} has no published message at or before that instant",
            next_step=f"Ask for a later instant, or run the pipeline for {before}.",
            day=day,
            file=data_dir,
            found=str(instants_ns[0]),
        )
    return _rows(instrument, before, messages, data_dir)


def _last_messages(
    instrument: str, day: date, instants_ns: NDArray[np.int64], data_dir: Path
) -> NDArray[np.int64]:
    """The last message of a day received at or before each of ascending instants; -1 for none."""
    receipts = load_bbo(
        instrument, day, valid_only=False, columns=["ts_receipt_ns"], data_dir=data_dir
    )
    messages = np.full(instants_ns.size, -1, np.int64)
    first = 0
    for part in in_batches(receipts, _ROWS_AT_ONCE):
        # A receipt clock may run back, so the last in the order of the feed is asked for: from each
        # message on, the earliest time there is.
        earliest_ns = np.minimum.accumulate(part["ts_receipt_ns"].to_numpy()[::-1])[::-1]
        found = np.searchsorted(earliest_ns, instants_ns, side="right") - 1
        messages[found >= 0] = found[found >= 0] + first
        first += part.height
    return messages


def _rows(
    instrument: str, day: date, messages: NDArray[np.int64], data_dir: Path
) -> list[PublishedRow]:
    """The rows of `books.bbo` of messages of a day."""
    names = [each.name for each in fields(PublishedRow)]
    rows = load_bbo(instrument, day, valid_only=False, data_dir=data_dir).with_row_index("message")
    wanted = pl.col("message").is_in(np.unique(messages))
    found = rows.rename({"dt": "day"}).filter(wanted).select(names).collect()
    by_message = {row[names.index("message")]: PublishedRow(*row) for row in found.iter_rows()}
    return [by_message[message] for message in messages.tolist()]
