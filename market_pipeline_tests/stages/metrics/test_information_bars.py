from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from market_pipeline.config.information_bars import InformationBars
from market_pipeline_tests.stages.days import BTC, ETH, MESSAGES, write_day

CUT = InformationBars(tick=(1_000,), volume=("0.7",), value=(1_000, 90))


def with_bars(instrument, bars=CUT):
    """The instrument with these bars."""
    return instrument.model_copy(update={"bars": bars})


def test_a_good_day(lake: Path, rebuilt):
    """One file has every series, and each has all that was traded."""
    write_day(lake, BTC)
    (file,) = rebuilt().information_bars(with_bars(BTC)).files
    rows = pl.read_parquet(file.path)

    assert [("tick", 1_000.0), ("volume", 0.7), ("value", 90.0), ("value", 1_000.0)] == (
        rows.select("kind", "step").unique(maintain_order=True).rows()
    )
    sums = rows.group_by("kind", "step", maintain_order=True).agg(pl.col("volume_lots").sum())
    assert [MESSAGES * 500] * 4 == sums["volume_lots"].to_list()
    assert [1_000, 1_000, 880] == rows.filter(kind="tick")["trade_count"].to_list()


def test_same_bytes_again(lake: Path, rebuilt):
    """The same day makes the same file."""
    write_day(lake, BTC)
    day = rebuilt()

    assert 1 == len({day.information_bars(with_bars(BTC)).files[0].sha256 for _ in range(2)})


@pytest.mark.parametrize("bars", [CUT, InformationBars(tick=())])
def test_nothing_to_make(lake: Path, rebuilt, bars):
    """Without trades, or where no bars are configured, the file has no row."""
    write_day(lake, BTC, trades=bars != CUT)
    made = rebuilt().information_bars(with_bars(BTC, bars))

    assert ([0], {}, []) == ([file.rows for file in made.files], made.without, made.withdrawn)


def test_only_rebuilt_instruments(lake: Path, rebuilt):
    """One without a book has none, and what was published of it is withdrawn."""
    write_day(lake, BTC)
    made = rebuilt().information_bars(ETH, BTC)

    assert ([BTC.id], [ETH.id], {}) == (
        [file.instrument for file in made.files],
        made.withdrawn,
        made.without,
    )


def test_a_step_that_is_not_of_its_lots(lake: Path, rebuilt):
    """It is told for its instrument, and the others have their bars."""
    for each in (BTC, ETH):
        write_day(lake, each)
    told: list[str] = []
    half_a_lot = with_bars(BTC, InformationBars(volume=("0.0005",)))
    made = rebuilt().information_bars(half_a_lot, ETH, warn=told.append)

    assert ([ETH.id], [BTC.id]) == ([file.instrument for file in made.files], made.withdrawn)
    assert told[0].startswith(
        "BINANCE:BTC-USDT has no bars of equal activity: Bars of this volume cannot be made"
    )
