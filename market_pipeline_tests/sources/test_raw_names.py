from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from market_pipeline.errors import LakeFileError
from market_pipeline.sources.raw_names import (
    Series,
    Shard,
    day_name,
    days_below,
    folder_shards,
    live_shards,
    refuse_names,
    series_below,
)
from market_pipeline_tests.test_shown import HOSTILE, acting

ONE = "1.snappy.parquet"


def folder_of(folder: Path, *names: str) -> Path:
    """A folder with empty files of these names."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def to_nowhere(path: Path) -> None:
    """A link to what is not there."""
    path.symlink_to(path.with_name("nowhere"))


def to_itself(path: Path) -> None:
    """A link that leads round and round."""
    path.symlink_to(path)


class TestNames:
    @pytest.mark.parametrize(
        "other",
        [
            "00001.snappy.parquet",
            "01.snappy.parquet",
            "1.parquet",
            "1.gz.parquet",
            "1.zstd.parquet",
            "001.parquet",
            "1.SNAPPY.PARQUET",
            "1.snappy.Parquet",
            "1.v1.snappy.parquet",
            "1.v02.snappy.parquet",
            "1 (1).snappy.parquet",
            "1-copy.snappy.parquet",
            "\u0661.snappy.parquet",
            "1\n.snappy.parquet",
        ],
    )
    def test_of_the_same_number(self, tmp_path: Path, other):
        """Two files of one number are refused however the second is written, and both are named."""
        folder = folder_of(tmp_path / "dt", ONE, other)
        with pytest.raises(LakeFileError, match="named as the same shard") as caught:
            folder_shards(folder)

        assert [] == acting(str(caught.value))
        assert {ONE, other} == set(caught.value.found.split(" and "))
        assert str(folder) == caught.value.file

    @pytest.mark.parametrize(
        "name", ["2.parquet", "2.gz.parquet", "2.SNAPPY.parquet", "2.v1.parquet"]
    )
    def test_of_another_spelling(self, tmp_path: Path, name):
        """A numbered Parquet file of another spelling is no silent hole in the day."""
        with pytest.raises(LakeFileError, match=re.escape(name)):
            folder_shards(folder_of(tmp_path / "dt", ONE, name))

    def test_nothing_but_another_spelling(self, tmp_path: Path):
        """A folder without any shard holds none, whatever else is in it."""
        assert [] == folder_shards(folder_of(tmp_path / "dt", "1.parquet", "1.gz.parquet"))

    def test_versions_and_strangers(self, tmp_path: Path):
        """Versions of a shard, one that is gone, and files that are no shards are no doubles."""
        names = (ONE, "1.v2.snappy.parquet", "1.v10.snappy.parquet", "002.snappy.parquet")
        gone = ("2.snappy.parquet", "2.v2.gone")
        others = ("2.snappy.parquet.partial", ".2.snappy.parquet.incoming", "x.parquet", "1.md5")
        folder = folder_of(tmp_path / "dt", *names, *gone, *others)

        assert ["1.v10.snappy.parquet", "002.snappy.parquet"] == [
            each.name for each in folder_shards(folder)
        ]

    def test_a_hostile_name(self):
        """A store's listing of any name is refused in a message that is fit to be shown."""
        with pytest.raises(LakeFileError) as caught:
            refuse_names([f"1{HOSTILE}.parquet", ONE], "s3://bucket/lake")

        assert [] == acting(str(caught.value))

    @pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, to_nowhere, to_itself])
    def test_no_file(self, tmp_path: Path, make: Callable[[Path], object]):
        """What is named as a shard and is no file is refused and never opened."""
        folder = folder_of(tmp_path / "dt", ONE)
        make(folder / "2.snappy.parquet")
        with pytest.raises(LakeFileError, match="is no file") as caught:
            folder_shards(folder)

        assert str(folder / "2.snappy.parquet") == caught.value.file
        assert [ONE] == [each.name for each in live_shards(folder)]

    def test_a_link_to_a_file(self, tmp_path: Path):
        """A lake may be made of links to where the files are."""
        folder = folder_of(tmp_path / "dt")
        (folder / ONE).symlink_to(folder_of(tmp_path / "elsewhere", "x") / "x")

        assert [folder / ONE] == folder_shards(folder)

    def test_the_sensor_sees_them(self, tmp_path: Path):
        """Who only looks whether a day has arrived is not stopped."""
        folder = folder_of(tmp_path / "dt", ONE, "00001.snappy.parquet", "2.parquet")

        assert ["00001.snappy.parquet", ONE] == [each.name for each in live_shards(folder)]


class TestParsed:
    @pytest.mark.parametrize(
        "shard", [Shard("1"), Shard("00001"), Shard("12", 2), Shard("3", 10, is_gone=True)]
    )
    def test_shard(self, shard):
        """A shard's name says all there is of it, and leads to the name of its object."""
        assert shard == Shard.of_name(shard.name)
        assert Shard(shard.digits) == Shard.of_object(shard.object)
        assert (None if shard.version > 1 else shard) == Shard.of_object(shard.name)

    @pytest.mark.parametrize(
        "name", ["1.gone", "1.v0.snappy.parquet", "1.v1.snappy.parquet", "1.v1.gone", "1.v02.gone"]
    )
    def test_no_shard(self, name):
        """Versions begin with 2, and what is gone was a version."""
        assert Shard.of_name(name) is None

    def test_series(self):
        """A series is found again from its folder, also below further ones."""
        series = Series("book", "BINANCE", "BTC-USDT")

        assert series == Series.of_folder(series.folder)
        assert Series("a/book", "BINANCE", "BTC-USDT") == Series.of_folder(f"a/{series.folder}")
        assert Series.of_folder("book/exchange=BINANCE") is None

    def test_series_below(self, tmp_path: Path):
        """The series of a table in order; links and other folders are passed over."""
        for name in ("symbol=B", "symbol=A", "else"):
            (tmp_path / "book" / "exchange=X" / name).mkdir(parents=True)
        (tmp_path / "book" / "exchange=X" / "symbol=C").symlink_to(tmp_path)
        (tmp_path / "book" / "exchange=Y").symlink_to(tmp_path / "book" / "exchange=X")

        assert [Series("book", "X", "A"), Series("book", "X", "B")] == series_below(
            tmp_path, "book"
        )

    def test_days_below(self, tmp_path: Path):
        """The folders of days are those with a date in their name, written in the one way."""
        days = [date(2024, 8, 8), date(2024, 8, 9)]
        others = ("dt=2024-02-30", "dt=20240808", "dt=2024-W32-4", "dt=2024-8-8", "other")
        for name in (*others, *map(day_name, reversed(days))):
            (tmp_path / name).mkdir()

        assert days == days_below(tmp_path)
        assert [] == days_below(tmp_path / "absent")
