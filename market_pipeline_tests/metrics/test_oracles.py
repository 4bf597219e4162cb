"""Published libraries, in an environment of their own, get the same of a real day.

By hand: `pytest market_pipeline_tests/metrics/test_oracles.py -m attack`, which installs them.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.rivals import own_python
from market_pipeline import connect, load_bars, load_bbo, load_information_bars, load_trades
from market_pipeline.config.information_bars import InformationBars
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline_tests.metrics.test_information_bars import LOT, bars_of, rows_of
from market_pipeline_tests.published_day import publish_day
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_root

pytestmark = pytest.mark.attack

WANTED = ["frds==2.4.1", "tclf==0.4.0", "mlfinpy==0.1.2"]
SECONDS_AFTER = (1, 5, 60)
BAR_COLUMNS = ("open", "high", "low", "close", "volume", "trade_count")
STEP = 100


@dataclass(frozen=True)
class Day:
    """A published real day."""

    id: str
    day: str
    data_dir: Path

    def of(self, load, **options) -> pl.DataFrame:
        """All rows of a loader."""
        return load(self.id, self.day, data_dir=self.data_dir, **options).collect()


@pytest.fixture(scope="module", params=SAMPLE_DAYS, ids=lambda key: f"{key[0]} {key[2]}")
def day(request, tmp_path_factory) -> Day:
    venue, symbol, of = request.param
    data_dir = tmp_path_factory.mktemp("oracles")
    bars = InformationBars(tick=(STEP,))
    instrument = Instrument(venue=venue, symbol=symbol, source="crypto_lake", bars=bars)
    settings = load_settings(lake_uri=sample_root() / "lake", data_dir=data_dir)
    publish_day(settings, [instrument], of)
    return Day(instrument.id, of.isoformat(), data_dir)


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Has an oracle answer."""
    python = own_python("oracles", WANTED)
    script = Path(__file__).with_name("oracles.py")
    file = tmp_path_factory.mktemp("asked") / "arrays.npz"

    def answer(what, **arrays):
        np.savez(file, **arrays)
        command = [str(python), str(script), what, str(file)]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    return answer


def with_books(day: Day) -> pl.DataFrame:
    """The trades that had a valid book with two sides, its mid, and the taker's side as a sign."""
    trades = day.of(load_trades).drop_nulls("effective_spread_ticks")
    tick = trades.select(pl.col("price") / pl.col("price_ticks")).to_series().median()
    return trades.with_columns(
        bid_price=pl.col("bid_price_ticks") * tick,
        ask_price=pl.col("ask_price_ticks") * tick,
        mid=(pl.col("bid_price_ticks") + pl.col("ask_price_ticks")) * tick / 2,
        sign=pl.when("is_buy").then(1).otherwise(-1),
    )


def test_frds(day, ask):
    """Effective and realised spread, price impact and Kyle's lambda of the day are frds's.

    The later mids are looked up here by a join of Polars.
    """
    trades = with_books(day).sort("ts_receipt_ns", maintain_order=True)
    quotes = day.of(load_bbo, valid_only=False).sort("ts_receipt_ns", maintain_order=True)
    quotes = quotes.select("ts_receipt_ns", mid=(pl.col("bid_price") + pl.col("ask_price")) / 2)
    given = {name: trades[name].to_numpy() for name in ("price", "size", "mid", "sign")}
    for seconds in SECONDS_AFTER:
        later = trades.select(pl.col("ts_receipt_ns") + seconds * NS_PER_SECOND).join_asof(
            quotes, on="ts_receipt_ns", strategy="backward", allow_exact_matches=False
        )
        known = trades[f"realised_spread_{seconds}s_ticks"].is_not_null().to_numpy()
        given[f"mid_{seconds}s"] = np.where(known, later["mid"].to_numpy(), np.nan)
    windows = []
    prints = day.of(load_trades, valid_only=False).with_columns(
        sign=pl.when("is_buy").then(1).otherwise(-1),
        mid_2=pl.col("bid_price_ticks") + pl.col("ask_price_ticks"),
    )
    for row in prints.iter_rows(named=True):
        if windows and 0 <= row["ts_receipt_ns"] - windows[-1][0]["ts_receipt_ns"] < NS_PER_SECOND:
            windows[-1].append(row)
        else:
            windows.append([row])
    points = [
        (
            1e4 * row["sign"] * row["price_impact_1s_ticks"] / row["mid_2"],
            sum(each["sign"] * each["price"] * each["size"] for each in window) / 1e6,
        )
        for window in windows
        for row in window[:1]
        if row["price_impact_1s_ticks"] is not None
    ]
    returns, net = map(np.array, zip(*points, strict=True))
    with closing(connect(day.data_dir)) as connection:
        daily = connection.sql("FROM metrics.daily").pl().row(0, named=True)

    found = ask("costs", **given)
    found["kyle_lambda_bps_per_million"] = ask("kyle", returns_bps=returns, net_millions=net)
    assert 100 < trades.height and 10 < len(points)
    assert found == {name: pytest.approx(daily[name], rel=1e-9, abs=1e-9) for name in found}


def test_tclf(day, ask):
    """The quote rule names the venue's taker wherever the price is not the mid, but for trades
    that met a book which had moved before it was shown: fewer than one in ten.
    """
    trades = with_books(day)
    lag = trades.select(
        pl.when(pl.col("price") != pl.col("price").shift(1)).then(pl.col("price").shift(1))
    ).to_series().forward_fill()  # fmt: skip
    found = ask(
        "signs",
        trade_price=trades["price"].to_numpy(),
        bid_ex=trades["bid_price"].to_numpy(),
        ask_ex=trades["ask_price"].to_numpy(),
        price_all_lag=lag.cast(pl.Float64).fill_null(np.nan).to_numpy(),
    )
    off_mid = (trades["mid_distance_half_ticks"] != 0).to_numpy()
    same = np.array(found) == trades["sign"].to_numpy()
    inside = (trades["effective_spread_ticks"] < 0).to_numpy()

    assert (~same[off_mid] == inside[off_mid]).all()
    assert 0.9 < same[off_mid].mean()


def rows(frame: pl.DataFrame) -> list[tuple[float, ...]]:
    return frame.select(pl.col(BAR_COLUMNS).cast(pl.Float64)).rows()


def assert_same(found, expected):
    """Mlfinpy sums sizes as floats."""
    assert len(found) == len(expected) > 0
    assert all(
        row == pytest.approx(own, rel=1e-9) for row, own in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("seconds", [1, 60])
def test_mlfinpy_time_bars(day, ask, seconds):
    """Bars of an exchange's second and minute; it leaves out empty ones, and the
    last one.
    """
    own = day.of(load_bars, width_seconds=seconds).filter(pl.col("trade_count") > 0)
    found = ask("bars", **traded(day), kind="time", step=seconds)
    assert_same(found, rows(own)[:-1])


def test_mlfinpy_tick_bars(day, ask):
    """Bars of a hundred trades; it leaves out the last one, which is not full."""
    own = day.of(load_information_bars, kind="tick", step=STEP).filter("is_complete")
    assert_same(ask("bars", **traded(day), kind="tick", step=STEP), rows(own))


@pytest.mark.parametrize(("kind", "step"), [("volume", "0.007"), ("value", "41.5")])
def test_mlfinpy_bars_of_single_lots(ask, kind, step):
    """Where no trade can be split, because each is one lot, volume and value bars are its bars."""
    random = np.random.default_rng(3)
    ticks = 60_000 + np.cumsum(random.integers(-3, 4, 2_000))
    trades = rows_of(*((at, at, at, tick, 1, True) for at, tick in enumerate(ticks.tolist())))
    own = bars_of(trades, kind, Decimal(step)).filter("is_complete")
    found = ask(
        "bars",
        ts_ns=trades["ts_origin_ns"].to_numpy(),
        price=ticks * 0.1,
        size=np.full(ticks.size, float(LOT)),
        kind=kind,
        step=float(step) - 1e-9,  # it sums floats
    )
    assert_same(found, rows(own))


def traded(day: Day) -> dict[str, np.ndarray]:
    """The trades that bars are of, in the exchange's order."""
    all_of = day.of(load_trades, valid_only=False)
    of_day = pl.from_epoch("ts_origin_ns", "ns").dt.date().cast(pl.String) == day.day
    ordered = all_of.filter(of_day).sort("ts_origin_ns", "id", maintain_order=True)
    return {
        "ts_ns": ordered["ts_origin_ns"].to_numpy(),
        "price": ordered["price"].to_numpy(),
        "size": ordered["size"].to_numpy(),
    }
