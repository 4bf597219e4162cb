from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import load_settings
from market_pipeline.sources.crypto_lake import DELTAS, day_folder
from market_pipeline.stages.triggers.listing import (
    ArrivedFile,
    FolderLake,
    StoreLake,
    opened_lake,
    streams_of,
)
from market_pipeline.store.objects import StoreObject
from market_pipeline_tests.stages.triggers.landing import (
    SHARD,
    STREAMS,
    CountingStore,
    YearInStore,
    in_store,
    instruments_named,
)
from market_pipeline_tests.store.servers import MotoServer, no_credentials

DAY, NEXT_DAY = date(2024, 8, 8), date(2024, 8, 9)
STORED = datetime(2024, 8, 9, 2, tzinfo=UTC)
STREAM = STREAMS[0]


def stored(*names: str) -> list[StoreObject]:
    """Objects below the stream's folder."""
    return [StoreObject(f"{STREAM.folder}/{name}", 4, "etag", STORED) for name in names]


class TestStreams:
    def test_of_instruments(self):
        """A day needs three tables of each instrument, in an order that theirs does not change."""
        first, second = instruments_named(2)

        assert streams_of([first, second]) == streams_of([second, first])
        assert [
            "book_delta_v2/exchange=BINANCE/symbol=S000-USDT",
            "book/exchange=BINANCE/symbol=S000-USDT",
            "trades/exchange=BINANCE/symbol=S000-USDT",
        ] == [stream.folder for stream in streams_of([first])]


class TestStoreLake:
    def test_from_a_day_on(self):
        """Only what lies at or after the day is told, with size, ETag and time as listed."""
        store = CountingStore(stored(f"dt=2024-08-07/{SHARD}", f"dt={DAY}/{SHARD}"))

        assert [ArrivedFile(DAY, f"dt={DAY}/{SHARD}", 4, "etag", STORED.timestamp())] == list(
            in_store(store).files(STREAM, DAY)
        )

    @pytest.mark.parametrize(
        "name",
        [
            "dt=2024-08-08/1.parquet",
            "dt=2024-08-08/1.snappy.parquet.partial",
            "dt=2024-08-08/old/1.snappy.parquet",
            "dt=2024-13-08/1.snappy.parquet",
            "dt=2024-08-08",
            "latest/1.snappy.parquet",
            "dt=2024-08-08/\u0661.snappy.parquet",
        ],
    )
    def test_what_is_no_shard(self, name):
        """A key that is not a day's shard is passed over, and the others are told."""
        store = CountingStore(stored(name, f"dt={NEXT_DAY}/{SHARD}"))

        assert [NEXT_DAY] == [file.day for file in in_store(store).files(STREAM, DAY)]

    def test_one_request_for_a_thousand_keys(self):
        """A year of a stream is one request, ten years are four, and the last days are one."""
        for days, since, requests in ((365, 0, 1), (3_650, 0, 4), (3_650, 3_600, 1)):
            store = YearInStore(DAY, days)
            found = list(in_store(store).files(STREAM, DAY + timedelta(days=since)))
            assert (days - since, requests) == (len(found), store.requests)

    def test_pages_are_asked_for_when_they_are_needed(self):
        """Who stops reading asks the store for no further page."""
        store = YearInStore(DAY, 3_650)
        next(in_store(store).files(STREAM, DAY))

        assert 1 == store.requests


class TestFolderLake:
    @pytest.fixture
    def put(self, tmp_path: Path):
        """Puts a file into a day's folder."""

        def put(day: date, name: str = SHARD, content: bytes = b"PAR1") -> Path:
            folder = day_folder(tmp_path, DELTAS, "BINANCE", "S000-USDT", day)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            return folder / name

        return put

    def test_from_a_day_on(self, tmp_path, put):
        """The shards at or after the day, in order, each with its size and time of change."""
        put(DAY - timedelta(days=1))
        first, second, third = put(DAY), put(DAY, "2.snappy.parquet", b"PAR1+"), put(NEXT_DAY)
        expected = [
            ArrivedFile(day, f"dt={day}/{path.name}", size, str(ns), ns / 1e9)
            for day, path, size in ((DAY, first, 4), (DAY, second, 5), (NEXT_DAY, third, 4))
            for ns in [path.stat().st_mtime_ns]
        ]

        assert expected == list(FolderLake(tmp_path).files(STREAM, DAY))

    def test_what_is_no_day_and_no_shard(self, tmp_path, put):
        """Other files and folders are passed over, and so is a lake that is not there."""
        put(DAY, "1.snappy.parquet.partial")
        put(DAY, ".objects.json")
        for name in ("dt=latest", "dt=2024-13-01", "dt=", "tmp"):
            (tmp_path / STREAM.folder / name).mkdir()

        assert [] == list(FolderLake(tmp_path).files(STREAM, DAY))
        assert [] == list(FolderLake(tmp_path / "absent").files(STREAM, DAY))


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
        folder = FolderLake(tmp_path)
        stat = there.stat()
        mark = f"2:{stat.st_mtime_ns}"
        expected = [ArrivedFile(DAY, there.name, 0, mark, stat.st_mtime_ns / 1e9)]
        since = DAY - timedelta(days=3)

        assert expected == list(folder.files(stream, since))
        assert expected == list(StoreLake(CountingStore(), folder).files(stream, since))
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
            assert isinstance(lake, FolderLake)

    def test_a_real_listing(self, moto_server: MotoServer, monkeypatch):
        """A store is listed over the network, below its prefix, from the day on, with its ETags."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        client: Any = moto_server.client()
        client.create_bucket(Bucket="listing")
        for day in (DAY - timedelta(days=1), DAY, NEXT_DAY):
            for prefix in ("lake", "other"):
                key = f"{prefix}/{STREAM.folder}/dt={day}/{SHARD}"
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
