from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from market_pipeline.sources.crypto_lake import DELTAS, day_folder
from market_pipeline.stages.raw.days import FolderDays, RawFile, StoreDays, by_day, is_object
from market_pipeline.store.objects import StoreObject
from market_pipeline.warehouse.ledger import KnownObject
from market_pipeline_tests.stages.triggers.landing import (
    SHARD,
    STREAMS,
    CountingStore,
    YearInStore,
)

DAY, NEXT_DAY = date(2024, 8, 8), date(2024, 8, 9)
STORED = datetime(2024, 8, 9, 2, tzinfo=UTC)
SERIES = STREAMS[0].series


def stored(*names: str) -> list[StoreObject]:
    """Objects below the series' folder."""
    return [StoreObject(f"{SERIES.folder}/{name}", 4, "etag", STORED) for name in names]


class TestStoreDays:
    def test_from_a_day_on(self):
        """Only what lies at or after the day is listed, with size, ETag and time as listed."""
        store = CountingStore(stored(f"dt=2024-08-07/{SHARD}", f"dt={DAY}/{SHARD}"))

        assert [RawFile(DAY, f"dt={DAY}/{SHARD}", 4, "etag", STORED.timestamp())] == list(
            StoreDays(store).files(SERIES, DAY)
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
        """A key that is not a day's shard is passed over, and the others are listed."""
        store = CountingStore(stored(name, f"dt={NEXT_DAY}/{SHARD}"))

        assert [NEXT_DAY] == [file.day for file in StoreDays(store).files(SERIES, DAY)]

    def test_by_day(self):
        """The objects of each day by name, up to the last day asked for and no page further."""
        store = YearInStore(DAY, 3_650)
        found = by_day(StoreDays(store).files(SERIES), NEXT_DAY)

        assert {DAY: [f"dt={DAY}/{SHARD}"], NEXT_DAY: [f"dt={NEXT_DAY}/{SHARD}"]} == {
            day: list(files) for day, files in found.items()
        }
        assert 1 == store.requests

    def test_one_request_for_a_thousand_keys(self):
        """A year of a stream is one request, ten years are four, and the last days are one."""
        for days, since, requests in ((365, 0, 1), (3_650, 0, 4), (3_650, 3_600, 1)):
            store = YearInStore(DAY, days)
            found = list(StoreDays(store).files(SERIES, DAY + timedelta(days=since)))
            assert (days - since, requests) == (len(found), store.requests)

    def test_pages_are_asked_for_when_they_are_needed(self):
        """Who stops reading asks the store for no further page."""
        store = YearInStore(DAY, 3_650)
        next(StoreDays(store).files(SERIES, DAY))

        assert 1 == store.requests


class TestFolderDays:
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
            RawFile(day, f"dt={day}/{path.name}", size, str(ns), ns / 1e9, path)
            for day, path, size in ((DAY, first, 4), (DAY, second, 5), (NEXT_DAY, third, 4))
            for ns in [path.stat().st_mtime_ns]
        ]

        assert expected == list(FolderDays(tmp_path).files(SERIES, DAY))

    def test_what_is_no_day_and_no_shard(self, tmp_path, put):
        """Other files and folders are passed over, and so is a lake that is not there."""
        put(DAY, "1.snappy.parquet.partial")
        put(DAY, ".objects.json")
        for name in ("dt=latest", "dt=2024-13-01", "dt=", "tmp"):
            (tmp_path / SERIES.folder / name).mkdir()

        assert [] == list(FolderDays(tmp_path).files(SERIES, DAY))
        assert [] == list(FolderDays(tmp_path / "absent").files(SERIES, DAY))

    def test_a_day_written_otherwise(self, tmp_path, put):
        """One way of writing a date is that of a day's folder; others that ISO 8601 has are not."""
        put(DAY)
        for name in ("dt=20240808", "dt=2024-W32-4", "dt=2024-08-0\u0668"):
            folder = tmp_path / SERIES.folder / name
            folder.mkdir()
            (folder / SHARD).write_bytes(b"PAR1")

        assert [DAY] == [file.day for file in FolderDays(tmp_path).files(SERIES)]

    def test_newest_versions(self, tmp_path, put):
        """Of a shard with versions the newest counts, by its object's name, unless it is gone."""
        for name in ("1.snappy.parquet", "1.v2.snappy.parquet", "2.snappy.parquet", "2.v2.gone"):
            put(DAY, name)

        assert [(f"dt={DAY}/{SHARD}", "1.v2.snappy.parquet")] == [
            (file.name, file.path.name) for file in FolderDays(tmp_path).files(SERIES)
        ]


class TestIsObject:
    @pytest.mark.parametrize(
        ("known", "body", "etag", "is_it"),
        [
            (None, b"abcd", None, True),
            (None, b"wxyz", None, False),
            (None, b"abc", None, False),
            (None, b"abcd", "0-2", False),
            ("0-2", b"abcd", "0-2", True),
            ("0-1", b"abcd", "0-2", False),
            ("0-2", b"abc", "0-2", False),
        ],
        ids=[
            "copied by hand",
            "other bytes of the same size",
            "another size",
            "an ETag that is no MD5",
            "fetched",
            "changed since",
            "cut since",
        ],
    )
    def test_size_and_etag(self, tmp_path, known, body, etag, is_it):
        """A file is the object of four bytes if it was fetched as that, or if its MD5 says so."""
        file = tmp_path / SHARD
        file.write_bytes(body)
        entry = known and KnownObject(SHARD, 1, "s3://b/1", known, 4, "")

        assert is_it == is_object(file, entry, 4, etag or hashlib.md5(b"abcd").hexdigest())
