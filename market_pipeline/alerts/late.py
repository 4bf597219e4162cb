"""Days that are due and not there: an alert for each instrument."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

from market_pipeline.alerts.alert import Alert
from market_pipeline.config.instruments import Instrument, listed_on
from market_pipeline.config.settings import Settings
from market_pipeline.quality.checks.freshness import FRESHNESS
from market_pipeline.quality.intervals import NS_PER_SECOND, day_bounds_ns, utc_time
from market_pipeline.tables import TABLES, open_catalogue

__all__ = ["LOOK_BACK_DAYS", "days_due", "late_days"]

LOOK_BACK_DAYS = 3
"""How many days are looked at: after a longer downtime the days before are old news."""


def late_days(settings: Settings, instruments: Sequence[Instrument], now_s: float) -> list[Alert]:
    """An alert for every instrument and recent day that is due and has not arrived.

    A day has arrived if its verdict is available or degraded: what is wrong with a degraded day
    its own checks say. It is due `vendor_lag_hours` after its end.

    Args:
        settings: Where the verdicts are, the first day there is, and when a day is due.
        instruments: Those expected while they are listed.
        now_s: Unix time.
    """
    days = days_due(settings, now_s, LOOK_BACK_DAYS)
    if not days:
        return []
    conditions = _conditions(settings, days[0], days[-1])
    alerts = []
    for day in days:
        due_ns = _due_ns(settings, day)
        for instrument in listed_on(day, instruments):
            condition = conditions.get((instrument.id, day))
            if condition in {"available", "degraded"}:
                continue
            found = f"it is {condition}" if condition else "no run has validated it"
            alerts.append(
                Alert(
                    kind="day_late",
                    severity=FRESHNESS.severity,
                    summary=(
                        f"{day} of {instrument.id} was due at {_utc(due_ns)} and cannot be used: "
                        f"{found}."
                    ),
                    at_ns=due_ns,
                    check=FRESHNESS.name,
                    instrument=instrument.id,
                    day=day,
                )
            )
    return alerts


def days_due(settings: Settings, now_s: float, number: int) -> list[date]:
    """The last days, so many at most, that are due at a Unix time, in order."""
    ended = datetime.fromtimestamp(max(now_s - settings.vendor_lag_hours * 3_600, 0), UTC).date()
    recent = (ended - timedelta(days=back) for back in range(number, 0, -1))
    return [day for day in recent if day >= settings.start_date]


def _due_ns(settings: Settings, day: date) -> int:
    return day_bounds_ns(day)[1] + round(settings.vendor_lag_hours * 3_600 * NS_PER_SECOND)


def _conditions(settings: Settings, first: date, last: date) -> dict[tuple[str, date], str]:
    table = TABLES["validation_report"].sql_name
    with closing(open_catalogue(settings.data_dir)) as connection:
        rows = connection.execute(
            f"SELECT exchange || ':' || symbol, dt, condition FROM {table} "
            "WHERE dt BETWEEN $1 AND $2",
            [first, last],
        ).fetchall()
    return {(instrument, day): condition for instrument, day, condition in rows}


def _utc(ns: int) -> str:
    return f"{utc_time(ns):%Y-%m-%d %H:%M} UTC"
