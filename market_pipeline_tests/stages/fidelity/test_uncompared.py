from __future__ import annotations

from datetime import date

import pytest

from market_pipeline.books.tables import BBO
from market_pipeline.config.fidelity import Fidelity
from market_pipeline.config.instruments import Instrument
from market_pipeline.quality.fidelity.report import FIDELITY_REPORT
from market_pipeline.stages.fidelity.day import fidelity_made_of
from market_pipeline.stages.fidelity.uncompared import uncompared_days
from market_pipeline.tables import refresh_catalogue
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import lineage_row, record_lineage
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.staging import StagedWriter
from market_pipeline.warehouse.working_file import writing
from market_pipeline_tests.catalogues import drawn_working

FIRST, DAY = date(2024, 8, 7), date(2024, 8, 8)


@pytest.fixture
def own(tmp_path) -> Warehouse:
    return drawn_working(tmp_path / "own")


@pytest.fixture
def golden(tmp_path) -> Warehouse:
    return drawn_working(tmp_path / "golden")


def an_instrument(symbol, **more):
    return Instrument(venue="BINANCE", symbol=symbol, source="crypto_lake", **more)


def published(warehouse, *days, symbol="BTC-USDT", number=0):
    """Publishes a book of one row for each day."""
    for day in days:
        with StagedWriter(warehouse, BBO, f"BINANCE:{symbol}") as writer:
            row = {"exchange": "BINANCE", "symbol": symbol, "dt": day, "bid_size_lots": number}
            writer.write(BBO.frame([row]).to_arrow())
        publish(warehouse, BBO, day, [writer.staged])


def compared(warehouse, instrument):
    """Notes that the day was compared with what is there now."""
    made_of = fidelity_made_of(DAY, [instrument], FIDELITY_REPORT.empty(), warehouse)
    row = lineage_row(FIDELITY_REPORT, DAY, instrument.id, made_of[instrument.id], "0" * 64)
    with writing(warehouse) as connection:
        record_lineage(connection, {(FIDELITY_REPORT.sql_name, DAY, instrument.id): row})
    refresh_catalogue(warehouse)


def test_the_second_of_two_books(own, golden):
    """A day is to be compared once both have it, not any more when it was, and again when the
    golden one was made again.
    """
    fidelity = Fidelity(golden=f"BINANCE:BTC-USDT@{golden.data_dir}")
    instrument, plain = an_instrument("BTC-USDT", fidelity=fidelity), an_instrument("ETH-USDT")

    def found():
        return uncompared_days([plain, instrument], own, DAY).days

    published(own, FIRST, DAY)
    refresh_catalogue(own)
    assert [] == found()
    published(golden, FIRST, DAY)
    (first,) = found()
    assert (DAY, (instrument.id,)) == (first.day, first.instruments)
    compared(own, instrument)
    assert [] == found()
    published(golden, DAY, number=1)
    (again,) = found()
    assert first.fingerprint != again.fingerprint


def test_a_day_before_its_listing(own, golden):
    """A published day on which the instrument is not listed, which no run compares, is none."""
    fidelity = Fidelity(golden=f"BINANCE:BTC-USDT@{golden.data_dir}")
    instrument = an_instrument("BTC-USDT", fidelity=fidelity, listed=f"{DAY}T12:00:00Z")
    for warehouse in (own, golden):
        published(warehouse, FIRST, DAY)
        refresh_catalogue(warehouse)

    assert [DAY] == [each.day for each in uncompared_days([instrument], own, FIRST).days]


def test_a_golden_folder_that_is_gone(own, tmp_path):
    """It is named, and keeps nobody else from being compared."""
    instruments = [
        an_instrument(symbol, fidelity=Fidelity(golden=f"BINANCE:BTC-USDT{where}"))
        for symbol, where in (("BTC-USDT", f"@{tmp_path / 'gone'}"), ("ETH-USDT", ""))
    ]
    published(own, DAY)
    published(own, DAY, symbol="ETH-USDT")
    refresh_catalogue(own)
    found = uncompared_days(instruments, own, DAY)
    assert [("BINANCE:ETH-USDT",)] == [each.instruments for each in found.days]
    assert [True] == [
        "data folder of a golden book is not there" in each for each in found.failures
    ]
