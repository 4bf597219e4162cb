from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from market_pipeline.metrics import intervals
from market_pipeline.metrics.day_rows import Filled
from market_pipeline.quality.checks.features import check_features
from market_pipeline.quality.figures.features import FeatureFigures
from market_pipeline.stages.metrics import book_metrics as stage
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.stages.days import (
    BTC,
    ETH,
    START_NS,
    Later,
    delta_rows,
    minutes_of,
    write_day,
)


def test_a_good_day(lake: Path, rebuilt):
    """Every minute of the day has its two messages and trades, and the spread of its book."""
    write_day(lake, BTC)
    day = rebuilt()
    made = day.metrics_and_reasons(BTC, rows=day.report(BTC))
    minutes = minutes_of(made)

    assert (2_880, 2_880, 0) == made.daily.select(
        "message_count", "trade_count", "feature_violations"
    ).row(0)

    assert 1_440 == minutes.height
    assert [[2], [2]] == [
        minutes[name].unique().to_list() for name in ("message_count", "trade_count")
    ]
    assert [0.5, 100.25, 5.0] == [
        pytest.approx(minutes[name][700]) for name in ("spread", "mid", "spread_ticks")
    ]


def test_only_rebuilt_instruments(lake: Path, rebuilt):
    """An instrument without a book has no minute; without any there are none, but columns."""
    write_day(lake, BTC)
    day = rebuilt()
    rows = day.report(BTC, ETH)

    assert ["BTC-USDT"] == day.metrics(ETH, BTC, rows=rows)["symbol"].unique().to_list()
    assert (0, True) == (
        day.metrics(ETH, rows=rows).height,
        "spread" in day.metrics(ETH, rows=rows).columns,
    )


def test_without_trades(lake: Path, rebuilt):
    """Without a trades file the trades of a minute are unknown, not zero."""
    write_day(lake, BTC, trades=False)
    day = rebuilt()
    minutes = day.metrics(BTC, rows=day.report(BTC))

    assert minutes["trade_count"].is_null().all()
    assert 2 * 1_440 == minutes["message_count"].sum()


def test_a_gap_is_no_valid_time(lake: Path, rebuilt):
    """The time of a gap that the report located counts as time without a book."""
    rows = delta_rows()
    early, late = rows.slice(0, 2_000), rows.slice(2_400)
    write_day(lake, BTC, deltas=pa.concat_tables([early, late]))
    day = rebuilt()
    (row,) = day.report(BTC)
    minutes = day.metrics(BTC, rows=[row])

    assert (1, 201 * 30.0) == (row.gap_count, row.gap_seconds)
    assert row.valid_seconds == pytest.approx(minutes["valid_seconds"].sum(), abs=60)


def test_trades_that_changed_since(lake: Path, rebuilt):
    """Of a file that the vendor replaces meanwhile nothing is known; the others have theirs."""
    for each in (BTC, ETH):
        write_day(lake, each)
    day = rebuilt()
    rows = day.report(BTC, ETH)
    changed = next((lake / "trades").rglob("symbol=ETH-USDT/**/*.parquet"))
    changed.write_bytes(changed.read_bytes() + b"more")
    made = day.metrics_and_reasons(ETH, BTC, rows=rows)

    assert [("ETH-USDT", None), ("BTC-USDT", 2_880)] == made.daily.select(
        "symbol", "trade_count"
    ).rows()


def test_withheld_from_one_that_the_reference_contradicts(lake: Path, rebuilt):
    """A book that a check says must not be used has no minute and a warning; others have theirs."""
    for each in (BTC, ETH):
        write_day(lake, each)
    day = rebuilt()
    btc, eth = day.report(BTC, ETH)
    wrong = replace(
        btc,
        reference_differing_messages=1,
        reference_messages=2,
        reference_first_difference="at noon",
    )
    reports = pl.from_dicts([row.as_record() for row in (wrong, eth)], infer_schema_length=None)
    told: list[str] = []
    made = day.metrics_by(reports, BTC, ETH, warn=told.append)

    assert ["ETH-USDT"] == minutes_of(made)["symbol"].unique().to_list()
    assert [BTC.id] == made.withdrawn
    assert 1 == len(told)
    assert told[0].startswith("BINANCE:BTC-USDT has no metrics: 1 message of 2 differs from")


def test_whatever_one_instrument_fails_at_the_others_have_theirs(
    lake: Path, rebuilt, monkeypatch, caplog
):
    """An error nobody thought of is told for its instrument, which the next run tries again."""
    for each in (BTC, ETH):
        write_day(lake, each)
    day = rebuilt()
    rows = day.report(BTC, ETH)
    expected = day.metrics(ETH, rows=rows)
    original = stage.day_metrics

    def raises(*batches, instrument, **more):
        if instrument == BTC:
            raise ZeroDivisionError("by nothing")
        return original(*batches, instrument=instrument, **more)

    monkeypatch.setattr(stage, "day_metrics", raises)
    made = day.metrics_and_reasons(BTC, ETH, rows=rows)

    assert expected.equals(minutes_of(made))
    assert {BTC.id: "ZeroDivisionError: by nothing. See the log of the run."} == made.without
    assert [BTC.id] == made.withdrawn
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("column", "planted", "expected"),
    [
        ("spread_bps", float("nan"), "a finite number"),
        ("touch_imbalance", 3.0, "in the column's domain"),
        ("mid", None, "nothing explains a null"),
    ],
)
def test_a_wrong_value_is_located(
    lake: Path, folder: Path, warehouse: Warehouse, monkeypatch, column, planted, expected
):
    """A group that goes wrong in one second is found out: column, interval and value."""
    write_day(lake, BTC)
    day = Later(lake, folder, warehouse, widths={})
    rows = day.report(BTC)
    touch, *others = intervals.GROUPS

    def fill(*given):
        made = touch.fill(*given)
        seconds = [len(each) for each in made.changes].index(86_400)
        made.changes[seconds][50_000:50_002] = True

        def columns(chosen):
            rows = pl.DataFrame(made.columns(chosen))
            row = sum(map(len, chosen[:seconds])) + chosen[seconds].tolist().index(50_000)
            is_here = pl.int_range(pl.len()) == row
            value = pl.when(is_here).then(pl.lit(planted, pl.Float64)).otherwise(pl.col(column))
            return rows.with_columns(value.alias(column)).to_dict()

        return Filled(made.changes, columns)

    monkeypatch.setattr(intervals, "GROUPS", (replace(touch, fill=fill), *others))
    (figures,) = FeatureFigures.read(day.metrics_and_reasons(BTC, rows=rows).daily)
    outcome = check_features(figures)

    start_ns = START_NS + 50_000 * 10**9
    assert (1, (column,), (1,), (start_ns,)) == (
        *(figures.feature_violations, figures.violation_columns, figures.violation_seconds),
        figures.violation_starts_ns,
    )
    assert expected in figures.violation_expected[0]
    assert (False, "1 value") == (outcome.passed, outcome.summary[:7])
