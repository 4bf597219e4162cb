"""The days that are due: which of them are there, and how much of their time is valid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date

from market_pipeline.alerts.late import days_due
from market_pipeline.config.instruments import Instrument, listed_on
from market_pipeline.config.settings import Settings
from market_pipeline.doctor.finding import Finding
from market_pipeline.health.report import ExpectedDay, There
from market_pipeline.tables import TABLES, open_catalogue

__all__ = ["check_coverage", "check_days", "days_to_run", "expected_days"]

_LEAST_COVERAGE = 0.995
_NAMED = 5
_MOST_TRIES = 3
_WORDS: tuple[There, ...] = ("available", "degraded", "rejected", "missing", "not validated")
_THERE = {"available", "degraded"}
_RUN = "`market-pipeline run --start-date {} --end-date {}` makes them; `verdict` says what failed."


def expected_days(
    settings: Settings, instruments: Sequence[Instrument], now_s: float, number: int
) -> list[ExpectedDay]:
    """The last days that are due at a Unix time, so many at most, of each instrument listed then.

    Raises:
        MarketPipelineError: What is published cannot be read.
    """
    days = days_due(settings, now_s, number)
    found = _verdicts(settings, days) if days else {}
    return [
        replace(
            found.get((each.id, day)) or ExpectedDay(each.id, day, "not validated"),
            expected_seconds=each.expected_seconds(day),
        )
        for day in days
        for each in listed_on(day, instruments)
    ]


def check_days(expected: Sequence[ExpectedDay]) -> Iterator[Finding]:
    """Is every day there that is due? What was rejected is not, and stands beside the others."""
    if not expected:
        yield "ok", "no day is due"
        return
    counts = Counter(each.found for each in expected)
    listed = ", ".join(f"{counts[word]:,} {word}" for word in _WORDS if counts[word])
    text = f"{len(expected):,} days of instruments are due: {listed}"
    absent = [each for each in expected if each.found not in _THERE]
    if not absent:
        yield "ok", text
        return
    newest = expected[-1].day
    names = [f"{each.day} of {each.instrument} is {each.found}" for each in absent[::-1]]
    more = f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    nothing = all(each.found not in _THERE for each in expected if each.day == newest)
    first, last = min(each.day for each in absent), max(each.day for each in absent)
    yield (
        "error" if nothing else "warn",
        f"{text}; {'; '.join(names[:_NAMED])}{more}",
        _RUN.format(first, last),
    )


def check_coverage(expected: Sequence[ExpectedDay]) -> Iterator[Finding]:
    """Is the book of the newest day that is due valid nearly all of the time?

    Coverage is the valid time of all instruments over the time in which they were listed; one that
    was rejected or is missing counts as no valid time at all.
    """
    if not expected:
        return
    day = expected[-1].day
    of_day = [each for each in expected if each.day == day]
    # A day may have been validated before it was known that it is a part of one.
    valid_seconds = sum(min(each.valid_seconds, each.expected_seconds) for each in of_day)
    share = valid_seconds / sum(each.expected_seconds for each in of_day)
    text = f"{share:.2%} of {day} is valid, over {len(of_day):,} instruments"
    if share >= _LEAST_COVERAGE:
        yield "ok", text
        return
    worst = min(of_day, key=lambda each: each.valid_seconds / each.expected_seconds)
    reason = f": {worst.reason}" if worst.reason else ""
    yield (
        "warn",
        f"{text}, the least of {worst.instrument} ({worst.found}){reason}",
        f"`market-pipeline report {worst.instrument} {day}` shows when, and why.",
    )


def days_to_run(expected: Sequence[ExpectedDay], tries: Mapping[str, int]) -> list[date]:
    """The days of which something is missing that a run may bring, and was not tried too often.

    What was rejected is left out: the same files are rejected again.
    """
    absent = {each.day for each in expected if each.found in ("missing", "not validated")}
    return sorted(day for day in absent if tries.get(day.isoformat(), 0) < _MOST_TRIES)


def _verdicts(settings: Settings, days: Sequence[date]) -> dict[tuple[str, date], ExpectedDay]:
    table = TABLES["validation_report"].sql_name
    with closing(open_catalogue(settings.data_dir)) as connection:
        rows = connection.execute(
            "SELECT exchange || ':' || symbol, dt, "
            "CASE WHEN outcome = 'quarantined' THEN 'rejected' "
            "WHEN condition = 'pending' THEN 'missing' ELSE condition END, "
            f"coalesce(valid_seconds, 0), coalesce(reasons[1], '') FROM {table} "
            "WHERE dt BETWEEN $1 AND $2",
            [days[0], days[-1]],
        ).fetchall()
    return {(name, day): ExpectedDay(name, day, *more) for name, day, *more in rows}
