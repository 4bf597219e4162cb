from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from market_pipeline.quality.figures.raw import DeliveryFigures
from market_pipeline.quality.findings import Measured
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.stages.validation.context import InstrumentDay
from market_pipeline.stages.validation.delivery import measure_delivery
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline_tests.quality.factory import a_record
from market_pipeline_tests.stages.days import BTC, DAY, ETH, manifest, raw_day, write_day


def measured(lake: Path, **remarks: str | None) -> Measured:
    """What is measured of BTC where its tables have these remarks; ETH is remarked always."""
    write_day(lake, BTC)
    write_day(lake, ETH)
    of_btc = pl.col("symbol") == "BTC-USDT"
    told = {
        name: RawObjects(
            lake,
            manifest(lake, raw, BTC, ETH).with_columns(
                uri=pl.lit("s3://b/") + pl.col("path"),
                remark=pl.when(of_btc).then(pl.lit(remarks.get(name))).otherwise(pl.lit("ETH")),
            ),
        )
        for name, raw in (("deltas", DELTAS), ("snapshots", SNAPSHOTS), ("trades", TRADES))
    }
    raw = replace(raw_day(lake, BTC, ETH), **told)
    return measure_delivery(InstrumentDay(BTC, Lookups(raw, None), a_record(), None, None))


def test_a_folder(lake: Path):
    """Of a lake in a folder nothing is known, so nothing is measured."""
    write_day(lake, BTC)
    day = InstrumentDay(BTC, Lookups(raw_day(lake, BTC), None), a_record(), None, None)

    assert Measured() == measure_delivery(day)


def test_nothing_to_remark(lake: Path):
    """A day of a store without a remark has no remarks, which is not the same as not asked."""
    assert Measured((DeliveryFigures(delivery_remarks=()),)) == measured(lake)


def test_remarks(lake: Path):
    """Each remark of the instrument is told, and is a place with its file."""
    found = measured(lake, deltas="s3://b/1: changed", trades="s3://b/2: gone")

    assert {"delivery_remarks": ("s3://b/1: changed", "s3://b/2: gone")} == found.columns
    assert [
        ("delivery", "first", "s3://b/1: changed."),
        ("delivery", "further", "s3://b/2: gone."),
    ] == [(each.check, each.place, each.note) for each in found.findings]
    day = f"exchange=BINANCE/symbol=BTC-USDT/dt={DAY}/1.snappy.parquet"
    assert [f"book_delta_v2/{day}", f"trades/{day}"] == [each.file for each in found.findings]
