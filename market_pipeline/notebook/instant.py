"""`book_at`, `books_at`: the full book as of instants of the receipt clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.books.flags import BookFlag
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline.metrics.book_batches import with_book_in_force, with_sound_times
from market_pipeline.notebook.book import Book
from market_pipeline.notebook.from_checkpoint import PublishedRow, replayed
from market_pipeline.notebook.loaders import load_bbo
from market_pipeline.notebook.published import refuse_no_depth
from market_pipeline.notebook.times import day_of, nanoseconds_of, refuse_one_time
from market_pipeline.quality.intervals import running_time_ns
from market_pipeline.stages.published_rows import in_batches

__all__ = ["book_at", "books_at"]

_NS_PER_SECOND = 1_000_000_000
_ROWS_AT_ONCE = 1 << 17


def book_at(
    instrument: str,
    time: datetime | str | int,
    *,
    data_dir: Path | str | None = None,
    depth: int | None = None,
    max_age_seconds: float = 60.0,
) -> Book:
    """The full book as of an instant: after the last message received at or before it.

    The receipt clock never runs back: a message whose receipt time is bad, or of another day, came
    with the one before it.

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
        DomainError: The time cannot be read, or has no zone; the depth is no number of levels.
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
        DomainError: A time cannot be read, has no zone, or is before the one that it follows; the
            depth is no number of levels.
        MissingDataError, CheckpointError, LakeFileError, SettingsError: As `book_at`.
    """
    settings = load_settings() if data_dir is None else load_settings(data_dir=data_dir)
    refuse_no_depth(depth)
    refuse_one_time("times", times)
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
    max_age_ns = max_age_seconds * _NS_PER_SECOND
    for day, of_day in groupby(asked_ns, day_of):
        instants_ns = np.array([*of_day], np.int64)
        found = _in_force(instrument, day, instants_ns, settings.data_dir)
        # Before the first message of a day the book is that of the day before.
        early = int(np.count_nonzero(found.messages < 0))
        parts = [(day, instants_ns[early:], found.behind(early))]
        if early:
            before = _in_force_before(instrument, day, instants_ns[:early], settings.data_dir)
            parts.insert(0, (day - timedelta(days=1), instants_ns[:early], before))
        for of, at_ns, books in parts:
            for book, age_ns in _books_of_day(instrument, of, at_ns, books, settings):
                given = book if depth is None else book.top(depth)
                if age_ns > max_age_ns:
                    given = replace(given, flags=given.flags | BookFlag.STALE)
                yield given


class _InForce(NamedTuple):
    """By instants in ascending order, the message of a day whose book is in force, -1 for none, and
    the receipt clock at that message; shape (n,) each.
    """

    messages: NDArray[np.int64]
    clock_ns: NDArray[np.int64]

    def behind(self, instants: int) -> _InForce:
        """Those of all instants but so many."""
        return _InForce(self.messages[instants:], self.clock_ns[instants:])


def _in_force_before(
    instrument: str, day: date, instants_ns: NDArray[np.int64], data_dir: Path
) -> _InForce:
    """What the day before has for instants before the first message of a day."""
    before = day - timedelta(days=1)
    found = None
    with suppress(MissingDataError):
        found = _in_force(instrument, before, instants_ns, data_dir)
    if found is None or (found.messages < 0).any():
        raise MissingDataError(
            f"{instrument} has no published message at or before that instant",
            next_step=f"Ask for a later instant, or run the pipeline for {before}.",
            day=day,
            file=data_dir,
            found=str(instants_ns[0]),
        )
    return found


def _in_force(
    instrument: str, day: date, instants_ns: NDArray[np.int64], data_dir: Path
) -> _InForce:
    """The last message of a day received at or before each of ascending instants.

    As everywhere the receipt clock never runs back, and a row without a time of its own came with
    the row before it (`metrics.book_batches`): a bad stamp makes no later book known earlier.
    """
    rows = load_bbo(
        *(instrument, day),
        valid_only=False,
        columns=["ts_receipt_ns", "flags"],
        data_dir=data_dir,
    )
    found = _InForce(*(np.full(instants_ns.size, -1, np.int64) for _ in range(2)))
    numbered = (
        batch.with_columns(message=pl.int_range(pl.len()) + n * _ROWS_AT_ONCE)
        for n, batch in enumerate(in_batches(rows, _ROWS_AT_ONCE))
    )
    for part, _ in with_book_in_force(with_sound_times(numbered)):
        clock_ns = running_time_ns(part["ts_receipt_ns"].to_numpy())
        of_part = _InForce(part["message"].to_numpy(), clock_ns)
        start, stop = np.searchsorted(instants_ns, clock_ns[[0, -1]])
        last = np.searchsorted(clock_ns, instants_ns[start:stop], side="right") - 1
        for column, values in zip(found, of_part, strict=True):
            column[start:stop] = values[last]
            column[stop:] = values[-1]
    return found


def _books_of_day(
    instrument: str,
    day: date,
    instants_ns: NDArray[np.int64],
    found: _InForce,
    settings: Settings,
) -> Iterator[tuple[Book, int]]:
    """The book in force at each instant, and how long before its message was received."""
    messages, nth = np.unique(found.messages, return_inverse=True)
    books = replayed(instrument, day, _rows(instrument, day, messages, settings.data_dir), settings)
    made = -1
    for n, age_ns in zip(nth.tolist(), (instants_ns - found.clock_ns).tolist(), strict=True):
        if n != made:
            book, made = next(books), n
        yield book, age_ns


def _rows(
    instrument: str, day: date, messages: NDArray[np.int64], data_dir: Path
) -> Iterator[PublishedRow]:
    """The rows of `books.bbo` of ascending messages of a day, a bounded number at a time."""
    names = [each.name for each in fields(PublishedRow) if each.name != "message"]
    rows = load_bbo(instrument, day, valid_only=False, columns=names, data_dir=data_dir)
    for wanted in np.split(messages, np.flatnonzero(np.diff(messages // _ROWS_AT_ONCE)) + 1):
        first = int(wanted[0])
        part = rows.slice(first, int(wanted[-1]) + 1 - first).collect()[wanted - first]
        for message, row in zip(wanted.tolist(), part.iter_rows(), strict=True):
            yield PublishedRow(message, *row)
