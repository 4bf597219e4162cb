"""One instrument never stops another: whatever a measurement raises is a finding of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality import report as book_measures
from market_pipeline.quality.evaluate import CHECKS, evaluate, thresholds_in_force
from market_pipeline.quality.figures.book import RebuildFigures
from market_pipeline.quality.findings import Measured
from market_pipeline.quality.measure import Measure
from market_pipeline.stages.validation import day as stage
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.stages.days import (
    BTC,
    ETH,
    Later,
    delta_rows,
    instrument,
    settings,
    write_day,
)

LISTS = {
    "RAW_MEASURES": stage,
    "DAY_MEASURES": stage,
    "BOOK_MEASURES": book_measures,
}
MEASURES = [
    pytest.param(name, number, id=measure.name.replace(" ", "-"))
    for name, module in LISTS.items()
    for number, measure in enumerate(getattr(module, name))
]
NAMES = {check.name for check in CHECKS}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory):
    """Two clean instruments, rebuilt."""
    folder = tmp_path_factory.mktemp("two")
    for each in (BTC, ETH):
        write_day(folder / "lake", each)
    warehouse = Warehouse(folder / "data")
    warehouse.prepare()
    return Later(folder / "lake", folder, warehouse)


@pytest.fixture(scope="module")
def clean(two: Later):
    """The verdicts of both with nothing planted."""
    return two.validated(BTC, ETH)


def raising(measure: Measure, error: Exception) -> Measure:
    """A measurement that raises for one of the two instruments."""

    def run(day):
        if day.instrument == BTC:
            raise error
        return measure.run(day)

    return replace(measure, run=run)


def plant(monkeypatch: pytest.MonkeyPatch, name: str, number: int, error: Exception) -> Measure:
    """Makes one measurement of a list raise, for one of the two instruments."""
    module = LISTS[name]
    measures = list(getattr(module, name))
    measure = measures[number]
    measures[number] = raising(measure, error)
    monkeypatch.setattr(module, name, tuple(measures))
    return measure


@pytest.mark.parametrize(("name", "number"), MEASURES)
def test_a_measure_that_raises_is_a_finding_of_its_checks(
    two: Later, clean, monkeypatch: pytest.MonkeyPatch, caplog, name: str, number: int
):
    """Its checks have failed as errors, the day degrades; nothing else changes."""
    measure = plant(monkeypatch, name, number, ZeroDivisionError("by nothing"))
    btc, eth = two.validated(BTC, ETH)
    clean_btc, clean_eth = clean
    error = "ZeroDivisionError: by nothing"
    found = {finding.check: finding for finding in btc.findings}

    assert clean_eth == eth
    assert measure.checks and set(measure.checks) <= NAMES
    assert ("rebuilt", "degraded") == (btc.row.outcome, btc.row.condition)
    assert (measure.checks, (error,) * len(measure.checks)) == (
        btc.row.unmeasured_checks,
        btc.row.unmeasured_errors,
    )
    assert [f"The check {each} could not be measured: {error}." for each in measure.checks] == [
        reason for check in measure.checks for reason in btc.row.reasons if f" {check} " in reason
    ]
    assert {check: error for check in measure.checks} == {
        check: found[check].value for check in measure.checks
    }
    assert "Traceback" in caplog.text and measure.name in caplog.text
    gone = {
        column
        for column, value in clean_btc.row.as_record().items()
        if btc.row.as_record()[column] != value
    }
    told = {"condition", "reasons", "warnings", "unmeasured_checks", "unmeasured_errors"}
    assert all(btc.row.as_record()[column] is None for column in gone - told)


@pytest.mark.parametrize("number", range(len(stage.LOCATORS)))
def test_places_that_cannot_be_found_fail_the_checks_that_need_them(
    folder: Path, lake: Path, rebuilt, monkeypatch: pytest.MonkeyPatch, number: int
):
    """The findings stay without their places, and the day says why."""
    rows = delta_rows()
    for each in (BTC, ETH):
        write_day(lake, each, deltas=rows.slice(400))  # a head is missing
    day = rebuilt()
    expected = day.validated(BTC, ETH)[1]
    locators = list(stage.LOCATORS)
    locate = locators[number]

    def raises(findings, of):
        if of.instrument == BTC:
            raise KeyError("a place")
        return locate(findings, of)

    locators[number] = raises
    monkeypatch.setattr(stage, "LOCATORS", tuple(locators))
    btc, eth = day.validated(BTC, ETH)

    assert expected == eth
    assert "completeness" in btc.row.unmeasured_checks
    assert any("its places could not be found: KeyError: 'a place'" in r for r in btc.row.reasons)
    assert {each.check for each in expected.findings} <= {each.check for each in btc.findings}


def test_whatever_else_raises_is_a_verdict_of_its_own(two: Later, clean, monkeypatch, caplog):
    """A fault outside of every measurement takes no other instrument's verdict away."""
    original = stage.report_row

    def raises(instrument, *arguments, **more):
        if instrument == BTC:
            raise RuntimeError("of the row")
        return original(instrument, *arguments, **more)

    monkeypatch.setattr(stage, "report_row", raises)
    btc, eth = two.validated(BTC, ETH)

    assert clean[1] == eth
    assert ("quarantined", "RuntimeError", "missing") == (
        btc.row.outcome,
        btc.row.failure_kind,
        btc.row.condition,
    )
    assert "The day could not be validated: RuntimeError: of the row" in btc.row.reasons[0]
    assert ["completeness"] == [finding.check for finding in btc.findings]
    assert "Traceback" in caplog.text


def test_a_figure_that_fits_no_column_stops_nobody(two: Later, clean, monkeypatch):
    """A number beyond 64 bits is met with its own instrument, not when all are written."""
    module = book_measures

    def huge(book):
        return Measured((RebuildFigures(rows=2**70 if book.instrument == BTC else 1),))

    monkeypatch.setattr(module, "BOOK_MEASURES", (Measure("huge", ("snapshot_match",), huge),))
    btc, eth = two.validated(BTC, ETH)

    assert ("quarantined", "OverflowError") == (btc.row.outcome, btc.row.failure_kind)
    assert ("rebuilt", 1) == (eth.row.outcome, eth.row.rows)


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device")])
def test_what_is_the_machines_ends_the_run(two: Later, monkeypatch, error):
    """The next instrument would meet it too, and a repeated run may not."""
    plant(monkeypatch, "DAY_MEASURES", 0, error)

    with pytest.raises(type(error)):
        two.validated(BTC, ETH)


def test_metrics_go_on_without_what_could_not_be_measured(two: Later, clean, monkeypatch):
    """Unmeasured gaps keep an instrument's metrics back; nobody knows when there was a book."""
    gaps = next(
        number
        for number, measure in enumerate(book_measures.BOOK_MEASURES)
        if measure.name == "gaps"
    )
    plant(monkeypatch, "BOOK_MEASURES", gaps, ValueError("gaps"))
    rows = [each.row for each in two.validated(BTC, ETH)]
    metrics = two.metrics_and_reasons(BTC, ETH, rows=rows)

    assert {BTC.id: "Its gaps could not be measured, so nobody knows when there was a book."} == (
        metrics.without
    )
    assert ["ETH-USDT"] == metrics.daily["symbol"].to_list()


# --- hostile but readable data ----------------------------------------------------------------

INT64 = np.iinfo(np.int64)
STAMPS = {
    "none": lambda ns: ns * 0,
    "negative": lambda ns: -ns,
    "least": lambda ns: ns * 0 + INT64.min,
    "most": lambda ns: ns * 0 + INT64.max,
    "huge": lambda ns: ns * 0 + 2**62,
    "micros": lambda ns: ns // 1_000,
    "hours-ahead": lambda ns: ns + 5 * 3_600 * 10**9,
    "in-turn": lambda ns: np.where(np.arange(len(ns)) % 2, INT64.min, INT64.max),
}
WHERE = {
    "all": slice(None),
    "one": slice(100, 101),
    "first": slice(0, 2),
    "last": slice(-2, None),
}


def with_stamps(file: Path, column: str, stamps, where: slice) -> None:
    rows = pl.read_parquet(file, hive_partitioning=False)
    times = rows[column].to_numpy().copy()
    times[where] = stamps(times)[where]
    rows.with_columns(pl.Series(column, times)).write_parquet(file, compression="snappy")


def each_pair() -> Iterator[Any]:
    """Every table, column and place, and of the stamps each with each of those.

    By hand, every stamp at every place of every column as well.
    """
    tables, columns = ("book_delta_v2", "book", "trades"), ("timestamp", "receipt_timestamp")
    for number, (table, column) in enumerate(product(tables, columns)):
        for turn in range(len(WHERE)):
            mark = pytest.mark.attack if turn else pytest.mark.slow
            name = f"{table}-{column}-{turn}"
            yield pytest.param(table, column, number + turn, marks=mark, id=name)


@pytest.mark.parametrize(("table", "column", "turn"), [*each_pair()])
def test_no_stamps_of_one_instrument_stop_another(
    folder: Path, lake: Path, warehouse, clean, table: str, column: str, turn: int
):
    """Whatever its times are, a book is made and nothing goes unmeasured; others are as ever."""
    hostile = {name: instrument(f"{name.upper()}-USDT") for name in STAMPS}
    for each in (*hostile.values(), ETH):
        write_day(lake, each)
    places = [*WHERE.values()]
    for number, (name, each) in enumerate(hostile.items(), start=turn):
        (file,) = (lake / table).rglob(f"symbol={each.symbol}/**/*.parquet")
        with_stamps(file, column, STAMPS[name], places[number % len(places)])
    day = Later(lake, folder, warehouse, *hostile.values(), ETH)
    validated = day.validated(*hostile.values(), ETH)
    rows = [each.row for each in validated]
    metrics = day.metrics_and_reasons(*hostile.values(), ETH, rows=rows)
    checkpoints = [
        day.checkpoints.of(each.id).select(pl.len()).collect().item()
        for each in (*hostile.values(), ETH)
    ]

    assert clean[1] == validated[-1]
    assert "ETH-USDT" in metrics.daily["symbol"].to_list()
    withheld = {
        row.instrument_id
        for row in rows
        if any(
            each.withholds_metrics for each in evaluate(row, thresholds_in_force(row, Thresholds()))
        )
    }
    assert withheld == set(metrics.without)
    assert {"rebuilt"} == set(day.rebuilds["outcome"])
    assert {row.symbol: () for row in rows} == {row.symbol: row.unmeasured_checks for row in rows}
    assert max(checkpoints) <= 24 * 3_600 // settings(folder).checkpoint_seconds + 1
