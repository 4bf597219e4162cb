from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from market_pipeline.alerts.late import LOOK_BACK_DAYS, late_days
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.tables import TABLES, refresh_catalogue
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.catalogues import drawn_catalogue
from market_pipeline_tests.quality.factory import a_row

DAY = date(2024, 8, 8)
INSTRUMENTS = [
    Instrument(venue="BINANCE", symbol=symbol, source="crypto_lake") for symbol in ("BTC", "ETH")
]


def at(hour: float, day: date = DAY) -> float:
    """The Unix time so many hours after the end of a day."""
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, hours=hour)
    return end.timestamp()


@pytest.fixture
def looked(tmp_path):
    """Instruments and days that are late at a Unix time."""

    def look(now_s: float, **overrides) -> list[tuple[str, date]]:
        given = {"data_dir": tmp_path / "data", "start_date": DAY, **overrides}
        return [
            (alert.instrument, alert.day)
            for alert in late_days(load_settings(**given), INSTRUMENTS, now_s)
        ]

    return look


@pytest.fixture
def publish(tmp_path):
    """Publishes a day's conditions by symbol."""

    def write(day: date = DAY, **conditions: str) -> None:
        warehouse = drawn_catalogue(tmp_path / "data")
        table = TABLES["validation_report"]
        rows = [
            replace(a_row(), exchange="BINANCE", symbol=symbol, dt=day, condition=condition)
            for symbol, condition in conditions.items()
        ]
        frame = table.frame(row.as_record() for row in rows)
        replace_rows(warehouse, table, day, None, frame)
        refresh_catalogue(warehouse)

    return write


def test_not_before_it_is_due(looked):
    """Until 04:00 UTC of the next day nothing is late; from then on each instrument is."""
    both = [("BINANCE:BTC", DAY), ("BINANCE:ETH", DAY)]

    assert ([], both) == (looked(at(3.99)), looked(at(4)))
    assert ([], both) == (
        looked(at(29.9), vendor_lag_hours=30),
        looked(at(30), vendor_lag_hours=30),
    )


@pytest.mark.parametrize(
    ("condition", "late"),
    [("available", False), ("degraded", False), ("pending", True), ("missing", True)],
)
def test_what_has_arrived(looked, publish, condition, late):
    """A day that is available or degraded is there; one that is pending or missing is late."""
    publish(BTC=condition, ETH="available")

    assert ([("BINANCE:BTC", DAY)] if late else []) == looked(at(4))


def test_looks_back_a_few_days(looked, publish):
    """After a downtime the last days are told, not all of history, and none before the start."""
    days = [DAY + timedelta(days=n) for n in range(10)]
    told = sorted({day for _, day in looked(at(4, days[-1]))})

    assert days[-LOOK_BACK_DAYS:] == told
    assert days[:2] == sorted({day for _, day in looked(at(4, days[1]))})


def test_text(tmp_path, publish):
    """It says which day of which instrument, when it was due, and how it stands."""
    publish(ETH="missing")
    settings = load_settings(data_dir=tmp_path / "data", start_date=DAY)
    first, second = late_days(settings, INSTRUMENTS, at(5))

    assert (
        "2024-08-08 of BINANCE:BTC was due at 2024-08-09 04:00 UTC and cannot be used: no run "
        "has validated it."
    ) == first.summary
    assert second.summary.endswith("cannot be used: it is missing.")
    assert ("day_late", "WARN", "freshness", round(at(4) * 1e9)) == (
        second.kind,
        second.severity,
        second.check,
        second.at_ns,
    )


def test_listing(tmp_path):
    """A day on which an instrument is not listed is never late; one that it is in part is."""
    settings = load_settings(data_dir=tmp_path / "data", start_date=DAY)
    drawn_catalogue(settings.data_dir)
    btc, eth = INSTRUMENTS
    gone = btc.model_copy(update={"delisted": datetime(2024, 8, 9, 1, tzinfo=UTC)})
    new = eth.model_copy(update={"listed": datetime(2024, 8, 10, tzinfo=UTC)})
    late = late_days(settings, [gone, new], at(4, date(2024, 8, 10)))

    assert [(gone.id, 8), (gone.id, 9), (new.id, 10)] == [
        (each.instrument, each.day.day) for each in late
    ]
