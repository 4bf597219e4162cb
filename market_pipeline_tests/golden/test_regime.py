"""The regime of a span among published days."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from market_pipeline import connect
from market_pipeline.config.settings import load_settings
from market_pipeline.golden.figures import Figures
from market_pipeline.golden.manifest import VERSION, Manifest
from market_pipeline.golden.regime import Regime, regime_of
from market_pipeline.sources.simulated import simulate
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.sources.simulated.days import DAY, instrument

NEXT_NS = 1_741_046_400_000_000_000
"""The beginning of the day after the published one."""


def sample(rate, volatility, *, symbol="CALM-USD", start_ns=NEXT_NS):
    figures = Figures(24.0, 1, 0, 0.0, 1.0, rate, volatility, "", {}, [])
    hour = start_ns, start_ns + 3_600_000_000_000
    return Manifest(VERSION, "n", "", "", "SIMULATED", symbol, *hour, "", {}, (), figures)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The data folder of one published day."""
    root = tmp_path_factory.mktemp("regime")
    simulated = instrument("CALM-USD")
    simulate(root / "lake", [simulated], DAY, DAY, messages_per_day=4_000, snapshot_interval_s=20.0)
    settings = load_settings(data_dir=root / "data", lake_uri=str(root / "lake"), **MINUTES)
    publish_day(settings, [simulated.as_instrument()], DAY)
    return root / "data"


@pytest.mark.slow
def test_ranks_among_the_days_before(published):
    """A busier span is above the day and a calmer one below it, by the day's own figures."""
    with connect(published) as connection:
        ((rate,),) = connection.execute(
            "SELECT messages / observed_seconds FROM quality.validation_report"
        ).fetchall()
        closes = connection.execute(
            "SELECT close FROM metrics.bars WHERE width_seconds = 60 AND close > 0 "
            "ORDER BY bar_start"
        ).fetchall()
    prices = [close for (close,) in closes]
    squares = [math.log(b / a) ** 2 for a, b in pairwise(prices)]
    volatility = math.sqrt(math.fsum(squares) / len(squares))
    busy = regime_of(published, sample(rate * 1.001, volatility * 0.999))
    assert Regime(1, rate * 1.001, volatility * 0.999, 1.0, 0.0) == busy
    calm = regime_of(published, sample(rate * 0.999, volatility * 1.001))
    assert (0.0, 1.0) == (calm.rate_rank, calm.volatility_rank)
    assert (1, None, None) == (
        regime_of(published, sample(None, None)).days,
        regime_of(published, sample(None, None)).rate_rank,
        regime_of(published, sample(None, None)).volatility_rank,
    )


@pytest.mark.slow
def test_null_where_nothing_is_published_before(published, tmp_path):
    """Of another instrument, before the first published day, and without a warehouse."""
    none = Regime(0, 1.0, 2.0)
    assert [none, none, none] == [
        regime_of(published, sample(1.0, 2.0, symbol="OTHER-USD")),
        regime_of(published, sample(1.0, 2.0, start_ns=NEXT_NS - 86_400_000_000_000)),
        regime_of(tmp_path, sample(1.0, 2.0)),
    ]
