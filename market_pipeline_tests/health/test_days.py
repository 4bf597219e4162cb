from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.health.days import check_coverage, check_days, days_to_run, expected_days
from market_pipeline.health.report import ExpectedDay
from market_pipeline.tables import TABLES, refresh_catalogue
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.catalogues import drawn_catalogue
from market_pipeline_tests.quality.factory import a_row

DAY = date(2024, 8, 8)
LAST = DAY + timedelta(days=1)
NOW_S = datetime(2024, 8, 10, 5, tzinfo=UTC).timestamp()
INSTRUMENTS = [
    Instrument(venue="BINANCE", symbol=symbol, source="crypto_lake")
    for symbol in ("BTC", "ETH", "SOL", "XRP")
]


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Two days are due, of which the first has a verdict of three instruments."""
    warehouse, table = drawn_catalogue(tmp_path / "data"), TABLES["validation_report"]
    of_day = replace(a_row(), exchange="BINANCE", dt=DAY)
    rows = [
        replace(of_day, symbol="BTC", condition="available", valid_seconds=86_400.0),
        replace(of_day, symbol="ETH", condition="missing", outcome="quarantined"),
        replace(of_day, symbol="SOL", condition="pending", outcome="no_data", valid_seconds=None),
    ]
    replace_rows(warehouse, table, DAY, None, table.frame(row.as_record() for row in rows))
    refresh_catalogue(warehouse)
    return Settings(data_dir=tmp_path / "data", start_date=DAY)


def test_what_became_of_each_day(settings):
    """Rejected, missing and not validated days are told apart, and none is left out."""
    found = {
        (each.instrument, each.day): each.found
        for each in expected_days(settings, INSTRUMENTS, NOW_S, 7)
    }
    first = ("available", "rejected", "missing", "not validated")

    assert list(first) == [found.pop((each.id, DAY)) for each in INSTRUMENTS]
    assert {(each.id, LAST): "not validated" for each in INSTRUMENTS} == found


def an_expected(found, day=DAY, instrument="A:B", valid_seconds=0.0) -> ExpectedDay:
    return ExpectedDay(instrument, day, found, valid_seconds)


@pytest.mark.parametrize(
    ("days", "status"),
    [
        ([], "ok"),
        ([an_expected("available"), an_expected("degraded", LAST)], "ok"),
        ([an_expected("missing"), an_expected("available", LAST)], "warn"),
        ([an_expected("rejected", LAST), an_expected("available", LAST)], "warn"),
        ([an_expected("available"), an_expected("not validated", LAST)], "error"),
    ],
)
def test_days(days, status):
    """Whatever is absent warns; where nothing of the newest day is there, it is an error."""
    ((found, text, *_),) = check_days(days)

    assert status == found
    assert all(each.found in text for each in days)


@pytest.mark.parametrize(
    ("valid_seconds", "status"), [((86_400, 86_000), "ok"), ((86_400, 85_500), "warn")]
)
def test_coverage(valid_seconds, status):
    """It is the valid time of the newest day over that of all instruments; 99.5 % are needed."""
    before = an_expected("missing")
    days = [an_expected("available", LAST, f"A:{s}", s) for s in valid_seconds]
    ((found, *_),) = check_coverage([before, *days])

    assert status == found


def test_a_rejected_instrument_lowers_coverage():
    """It stays in what is expected."""
    days = [an_expected("available", LAST, "A:B", 86_400.0), an_expected("rejected", LAST, "A:C")]
    ((status, text, _),) = check_coverage(days)

    assert ("warn", True) == (status, text.startswith("50.00%"))


def test_days_that_a_run_may_bring():
    """Missing and not validated ones, tried less than three times; what was rejected is not."""
    later = LAST + timedelta(days=1)
    days = [an_expected("missing"), an_expected("rejected", LAST), an_expected("missing", later)]

    assert [DAY, later] == days_to_run(days, {LAST.isoformat(): 2, later.isoformat(): 2})
    assert [DAY] == days_to_run(days, {later.isoformat(): 3})


def test_listing(settings):
    """Of what is not listed nothing is expected, and of a part of a day only that much."""
    btc, eth, *_ = INSTRUMENTS
    noon = datetime.combine(LAST, time(12), UTC)
    instruments = [
        btc.model_copy(update={"delisted": noon}),
        eth.model_copy(update={"listed": datetime.combine(LAST, time(), UTC)}),
    ]
    expected = expected_days(settings, instruments, NOW_S, 7)

    assert [(btc.id, DAY, 86_400.0), (btc.id, LAST, 43_200.0), (eth.id, LAST, 86_400.0)] == [
        (each.instrument, each.day, each.expected_seconds) for each in expected
    ]


def test_coverage_of_parts_of_a_day():
    """It is over the seconds expected; more than those is none, and the worst is by its share."""
    days = [
        replace(an_expected("available", LAST, "A:B", 86_400.0), expected_seconds=43_200.0),
        an_expected("available", LAST, "A:C", 64_800.0),
    ]
    ((status, text, _),) = check_coverage(days)

    assert "warn" == status
    assert text.startswith(f"83.33% of {LAST} is valid, over 2 instruments, the least of A:C")
