from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from market_pipeline.stages.metrics import bars as stage
from market_pipeline.stages.metrics.bars import bars_day
from market_pipeline_tests.stages.days import BTC, DAY, ETH, write_day

WIDTHS = (60, 3_600, 86_400)


def bars_of(day, *instruments, rows, warn=lambda _: None):
    """The staged bars of some instruments."""
    reports = pl.from_dicts([row.as_record() for row in rows], infer_schema_length=None)
    trades, warehouse = day.raw.trades, day.warehouse
    return bars_day(DAY, instruments, reports, day.bbo, trades, warehouse, WIDTHS, warn)


def test_a_good_day(lake: Path, rebuilt):
    """One file has every width in order, and each minute its trades and the book's mid."""
    write_day(lake, BTC)
    day = rebuilt()
    (file,) = bars_of(day, BTC, rows=day.report(BTC)).files
    rows = pl.read_parquet(file.path)

    assert (BTC.id, 1_440 + 24 + 1) == (file.instrument, rows.height)
    assert list(WIDTHS) == rows["width_seconds"].unique(maintain_order=True).to_list()
    assert [2] == rows[:1_440]["trade_count"].unique().to_list()
    assert (100.25, 5) == (rows["mid_close"][700], rows["spread_high_ticks"][700])
    assert 2 * 1_440 == rows["trade_count"][-1]


def test_same_bytes_again(lake: Path, rebuilt):
    """The same day makes the same file."""
    write_day(lake, BTC)
    day = rebuilt()
    rows = day.report(BTC)

    assert 1 == len({bars_of(day, BTC, rows=rows).files[0].sha256 for _ in range(2)})


def test_only_rebuilt_instruments(lake: Path, rebuilt):
    """One without a book has no bars, and what was published of it is withdrawn."""
    write_day(lake, BTC)
    day = rebuilt()
    made = bars_of(day, ETH, BTC, rows=day.report(BTC, ETH))

    assert ([BTC.id], [ETH.id], {}) == (
        [file.instrument for file in made.files],
        made.withdrawn,
        made.without,
    )


def test_without_trades(lake: Path, rebuilt):
    """Without a trades file the book's part is there, and nothing is said of trades."""
    write_day(lake, BTC, trades=False)
    day = rebuilt()
    (file,) = bars_of(day, BTC, rows=day.report(BTC)).files
    rows = pl.read_parquet(file.path)

    assert rows["volume"].is_null().all()
    assert 100.25 == rows["mid_open"][700]


def test_withheld_from_one_that_the_reference_contradicts(lake: Path, rebuilt):
    """A book that a check says must not be used has no bars and a warning."""
    write_day(lake, BTC)
    day = rebuilt()
    (row,) = day.report(BTC)
    wrong = replace(
        row,
        reference_differing_messages=1,
        reference_messages=2,
        reference_first_difference="at noon",
    )
    told: list[str] = []
    made = bars_of(day, BTC, rows=[wrong], warn=told.append)

    assert ([], [BTC.id]) == (made.files, made.withdrawn)
    assert told[0].startswith("BINANCE:BTC-USDT has no bars: 1 message of 2 differs from")


def test_whatever_one_instrument_fails_at_the_others_have_theirs(lake: Path, rebuilt, monkeypatch):
    """An error nobody thought of is told for its instrument, and leaves no file behind."""
    for each in (BTC, ETH):
        write_day(lake, each)
    day = rebuilt()
    rows = day.report(BTC, ETH)
    original = stage.day_bars

    def raises(*batches, instrument, **more):
        for width in original(*batches, instrument=instrument, **more):
            yield width
            if instrument == BTC:
                raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(stage, "day_bars", raises)
    before = {*day.warehouse.staging_dir.iterdir()}
    made = bars_of(day, BTC, ETH, rows=rows)

    assert {BTC.id: "ZeroDivisionError: by nothing. See the log of the run."} == made.without
    assert {made.files[0].path} == {*day.warehouse.staging_dir.iterdir()} - before
