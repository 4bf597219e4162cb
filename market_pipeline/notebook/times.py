"""Days and instants as they are asked for; instants of any kind become int ns, UTC."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from market_pipeline.errors import DomainError
from market_pipeline.quality.intervals import utc_time

__all__ = ["day_of", "nanoseconds_of", "refuse_one_time", "span_of", "utc_day"]

_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)")


def span_of(start: datetime | str | int, end: datetime | str | int) -> tuple[int, int]:
    """The first instant of a span, and the one that it ends before.

    Raises:
        DomainError: One is no time, or has no zone, or the end is before the start.
    """
    from_ns, until_ns = nanoseconds_of(start), nanoseconds_of(end)
    if until_ns < from_ns:
        raise DomainError(
            "The end is before the start",
            next_step="Give the first instant, and the one to stop before.",
            column="end",
            expected=f"{from_ns} or later",
            found=str(until_ns),
        )
    return from_ns, until_ns


def day_of(at_ns: int) -> date:
    """The UTC day of an instant.

    Raises:
        DomainError: It is none that has a date, or a day before.
    """
    try:
        day = utc_time(at_ns).date()
        day - timedelta(days=1)
    except (OverflowError, ValueError):
        raise _no_instant(at_ns) from None
    return day


def utc_day(name: str, value: date | str) -> date:
    """A day given as one or as text; `name` is that of the argument.

    Raises:
        DomainError: It is no day, or an instant.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise DomainError(
            f"`{name}` is no day",
            next_step="Give a whole UTC day; a part of it is taken by ts_receipt_ns.",
            column=name,
            expected="a date, or text as 2024-08-08",
            found=repr(value),
        ) from None


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


def refuse_one_time(name: str, times: object) -> None:
    """Refuses one time where many are expected; `name` is that of the argument.

    A text would be read letter by letter.

    Raises:
        DomainError: It is one.
    """
    if isinstance(times, str) or not isinstance(times, Iterable):
        raise DomainError(
            f"`{name}` is one time",
            next_step="Put it into a list.",
            column=name,
            expected="a list of times",
            found=repr(times),
        )


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
