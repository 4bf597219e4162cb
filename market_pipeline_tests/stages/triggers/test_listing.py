from __future__ import annotations

import hashlib
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.stages.raw.days import FolderDays, RawFile, StoreDays
from market_pipeline.stages.triggers.listing import RawLake, opened_lake, streams_of
from market_pipeline_tests.stages.triggers.landing import (
    SHARD,
    STREAMS,
    CountingStore,
    instruments_named,
)
from market_pipeline_tests.store.servers import MotoServer, no_credentials

DAY, NEXT_DAY = date(2024, 8, 8), date(2024, 8, 9)
STREAM = STREAMS[0]


class TestStreams:
    def test_of_instruments(self):
        """A day needs three tables of each instrument, in an order that theirs does not change."""
        first, second = instruments_named(2)

        assert streams_of([first, second]) == streams_of([second, first])
        assert [
            "book_delta_v2/exchange=BINANCE/symbol=S000-USDT",
            "book/exchange=BINANCE/symbol=S000-USDT",
            "trades/exchange=BINANCE/symbol=S000-USDT",
        ] == [stream.series.folder for stream in streams_of([first])]


class TestConverters:
    def test_files_for_a_converter(self, tmp_path, monkeypatch):
        """The vendor's files of a day are one stream, in a folder and beside a store alike."""
        tardis = Instrument(venue="BINANCE", symbol="BTC-USDT", source="tardis_csv")
        (stream,) = streams_of([tardis])
        there = tmp_path / "trades.csv.gz"
        there.write_bytes(b"gz")
        asked = []

        def find(lake: Path, instrument: Instrument, day: date) -> list[Path]:
            asked.append((lake, instrument))
            return [there, lake / "gone.csv.gz"] if day == DAY else []

        monkeypatch.setattr(
            "market_pipeline.stages.triggers.listing.converter_of",
            lambda _: SimpleNamespace(find=find),
        )
        stat = there.stat()
        mark = f"2:{stat.st_mtime_ns}"
        expected = [RawFile(DAY, there.name, 0, mark, stat.st_mtime_ns / 1e9, there)]
        since = DAY - timedelta(days=3)

        for days in (FolderDays(tmp_path), StoreDays(CountingStore())):
            assert expected == list(RawLake(tmp_path, days).files(stream, since))
        assert {(tmp_path, tardis)} == set(asked)


class TestOpenedLake:
    @pytest.fixture(autouse=True)
    def nothing_else(self, tmp_path, monkeypatch):
        """No settings and no credentials but those of the test."""
        no_credentials(monkeypatch, tmp_path)
        monkeypatch.chdir(tmp_path)

    def test_a_folder(self, tmp_path):
        """Without a store the lake is the folder."""
        with opened_lake(load_settings(lake_uri=str(tmp_path))) as lake:
            assert RawLake(tmp_path, FolderDays(tmp_path)) == lake

    def test_a_real_listing(self, moto_server: MotoServer, monkeypatch):
        """A store is listed over the network, below its prefix, from the day on, with its ETags."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        client: Any = moto_server.client()
        client.create_bucket(Bucket="listing")
        for day in (DAY - timedelta(days=1), DAY, NEXT_DAY):
            for prefix in ("lake", "other"):
                key = f"{prefix}/{STREAM.series.folder}/dt={day}/{SHARD}"
                client.put_object(Bucket="listing", Key=key, Body=b"PAR1")
        settings = load_settings(
            lake_uri="s3://listing/lake",
            lake_endpoint_url=moto_server.endpoint_url,
            lake_region="us-east-1",
        )
        with opened_lake(settings) as lake:
            found = list(lake.files(STREAM, DAY))

        md5 = hashlib.md5(b"PAR1").hexdigest()
        assert [(DAY, 4, md5), (NEXT_DAY, 4, md5)] == [
            (file.day, file.bytes, file.mark) for file in found
        ]
