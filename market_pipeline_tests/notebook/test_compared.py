from __future__ import annotations

from pathlib import Path

import pytest

from market_pipeline import compare, plot_fidelity
from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline_tests.notebook.conftest import FAULTY, Market

pytestmark = pytest.mark.slow


def test_a_day_against_itself(market: Market):
    """It passes with 0 in every figure, which are there as a frame, and can be drawn."""
    of = market.instrument.id
    found = compare(of, of, FAULTY.isoformat(), data_dir=market.data_dir)
    assert ("pass", f"{of} in {market.data_dir} against {of} in {market.data_dir}") == (
        found.pair.grade,
        found.title,
    )
    assert ({0.0}, len(found.metrics)) == (set(found.figures["value"]), found.figures.height)
    assert ["metric", "level", "side", "grid_ms", "value"] == found.figures.columns[:5]
    assert found.title == plot_fidelity(found).title


def test_a_day_under_another_policy(market: Market):
    """A book of another data folder is the same where the policy did the same."""
    of = market.instrument.id
    found = compare(of, f"{of}@{market.uncrossed}", FAULTY, data_dir=market.data_dir)
    assert ("pass", str(market.uncrossed)) == (found.pair.grade, found.other.partition(" in ")[2])


def test_a_capture(sample_data: Path):
    """A capture against itself passes too."""
    file = sample_data / "captures" / "spot" / "btcusdt_20240808.gz"
    found = compare(file, file, instrument="BINANCE:BTC-USDT")
    assert ("pass", 3_451) == (found.pair.grade, found.pair.matched)


def test_no_book_and_no_day(market: Market):
    """What is no book, a published one without its day, and a day without one are refused."""
    of = market.instrument.id
    with pytest.raises(DomainError, match="neither published nor captured"):
        compare("nothing.gz", of, FAULTY, data_dir=market.data_dir)
    with pytest.raises(DomainError, match="is of a day"):
        compare(of, of, data_dir=market.data_dir)
    with pytest.raises(MissingDataError, match="no published book"):
        compare(of, of, "2025-04-01", data_dir=market.data_dir)
