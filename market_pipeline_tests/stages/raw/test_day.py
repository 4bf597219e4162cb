from __future__ import annotations

import errno
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from market_pipeline.errors import LakeFileError, MissingDataError
from market_pipeline.quality.profile import Profile
from market_pipeline.quality.strategy import choose_strategy
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder
from market_pipeline.stages.raw import day as stage
from market_pipeline.stages.raw.day import FetchFigures, ManifestRows, raw_day
from market_pipeline.stages.raw.download import table_prefix
from market_pipeline.stages.raw.fetched import ACTIONS, FetchProgress
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.quality.factory import a_record
from market_pipeline_tests.stages.days import ASSETS, BTC, DAY, ETH, Later, settings, write_day
from market_pipeline_tests.stages.raw.fake_store import FakeStore, store_error

ROOT = f"s3://bucket/lake/{table_prefix(DELTAS, BTC, DAY)}"


@pytest.fixture
def store(folder: Path) -> FakeStore:
    """BTC has all tables, its deltas in two shards; ETH has trades alone."""
    made = FakeStore()
    write_day(folder / "vendor", BTC, shards=2)
    write_day(folder / "vendor", ETH)
    made.put_folder(folder / "vendor")
    for key in [key for key in made.objects_by_key if "ETH" in key and "trades" not in key]:
        del made.objects_by_key[key]
    return made


def day_of(store: FakeStore | None, folder: Path, raw: RawTable = DELTAS, **more) -> ManifestRows:
    uri = str(folder / "lake") if store is None else "s3://bucket/lake"
    return raw_day(store, settings(folder, lake_uri=uri), raw, (BTC, ETH), DAY, **more)


def objects(found: ManifestRows, folder: Path, raw: RawTable = DELTAS) -> RawObjects:
    return RawObjects(folder / "data" / "lake", TABLES[ASSETS[raw.name]].frame(found.rows))


def test_a_row_for_each_object(store: FakeStore, folder: Path):
    """An object of a store has its address, tag and version beside what a folder's has."""
    first, second, missing = day_of(store, folder).rows
    write_day(folder / "lake", BTC, shards=2)
    alone, *_ = day_of(None, folder).rows

    assert first == replace(
        alone,
        uri=f"{ROOT}1.snappy.parquet",
        etag=store.etag(f"{table_prefix(DELTAS, BTC, DAY)}1.snappy.parquet"),
        version=1,
    )
    assert (2, "usable") == (second.shard, second.status)
    assert ("missing", "MissingDataError", None) == (
        *(missing.status, missing.failure_kind, missing.remark),
    )
    assert f"file={missing.uri})" in missing.failure
    assert missing.uri.endswith("symbol=ETH-USDT/dt=2024-08-08/")


def test_the_result_is_the_folder_s(store: FakeStore, folder: Path):
    """Apart from the store's own columns a day of a store has the rows of a folder."""
    write_day(folder / "lake", BTC, shards=2)
    for raw in (DELTAS, SNAPSHOTS, TRADES):
        of_store, of_folder = (day_of(each, folder, raw).rows for each in (store, None))
        assert replace(of_store[0], uri=None, etag=None, version=None) == of_folder[0]


def test_figures(store: FakeStore, folder: Path):
    """What a fetch took is told: objects for each action, bytes, time, and the waits of limits."""
    first, again = (day_of(store, folder).fetched for _ in range(2))
    size = sum(len(body) for key, body in store.objects_by_key.items() if "delta" in key)

    assert dict.fromkeys(ACTIONS, 0) | {"fetched": 2} == first.counts
    assert dict.fromkeys(ACTIONS, 0) | {"unchanged": 2} == again.counts
    assert ((size, 2), (0, 0)) == ((first.bytes, first.requests), (again.bytes, again.requests))
    assert first.megabytes_per_second == size / 1e6 / first.seconds > 0
    assert re.fullmatch(r"2 fetched in \d+\.\d s; 0\.1 MB, \d+\.\d MB/s", str(first))
    assert re.fullmatch(r"2 unchanged in \d+\.\d s", str(again))


def test_figures_in_words():
    """The waits for limits are told where there are some, and nothing to fetch is told too."""
    nothing = FetchFigures(
        {"fetched": 0}, 0, bytes=0, requests=1, seconds=0.0, blocked_seconds=2.04
    )

    assert "no objects in 0.0 s; delayed for 2.0 s by the limits" == str(nothing)
    assert 0.0 == nothing.megabytes_per_second


def test_a_folder_has_no_figures(folder: Path):
    """Where nothing is fetched nothing is told of it."""
    assert day_of(None, folder).fetched is None


def test_one_shard_fails(store: FakeStore, folder: Path):
    """A day that not all of could be fetched is not used, and the row says why."""
    store.failures[f"{table_prefix(DELTAS, BTC, DAY)}2.snappy.parquet"] = store_error("forbidden")
    found = day_of(store, folder)
    waiting, failed, _ = found.rows

    assert ["missing", "missing"] == [waiting.status, failed.status]
    assert (None, "StoreError") == (waiting.failure_kind, failed.failure_kind)
    with pytest.raises(MissingDataError, match="could not all be fetched") as caught:
        objects(found, folder).files_of(BTC)
    assert "it did not work" in caught.value.found
    assert ([], []) == objects(found, folder).files_if_any(BTC)


def test_deltas_that_could_not_be_fetched(store: FakeStore, folder: Path):
    """The day is published from its snapshots, and the reason is the store's, not the vendor's."""
    store.failures[f"{table_prefix(DELTAS, BTC, DAY)}2.snappy.parquet"] = store_error("forbidden")
    raw = RegisteredDay(
        *(DAY, folder / "data" / "lake"),
        *(
            objects(day_of(store, folder, each), folder, each)
            for each in (DELTAS, SNAPSHOTS, TRADES)
        ),
    )
    chosen = choose_strategy([Profile.from_record(row) for row in profile_day(raw, [BTC])])

    assert "snapshots_only" == chosen.name
    assert chosen.reason.startswith(
        "The deltas could not all be fetched: it did not work (file=s3:"
    )


def test_a_store_that_cannot_be_asked(store: FakeStore, folder: Path):
    """Each instrument's row has the error; the run goes on."""
    store.failures[""] = store_error("unavailable")
    found = day_of(store, folder)

    assert str(found.fetched).startswith("2 instruments could not be asked for in ")
    assert [("missing", "StoreError")] * 2 == [(row.status, row.failure_kind) for row in found.rows]
    assert f"The folder {ROOT}: it could not be asked for: it did not work" in found.rows[0].remark
    with pytest.raises(MissingDataError, match="could not all be fetched"):
        objects(found, folder).files_of(ETH)


def test_a_full_disk(store: FakeStore, folder: Path):
    """A full disk ends the step."""
    store.failures[f"{table_prefix(DELTAS, BTC, DAY)}1.snappy.parquet"] = OSError(
        errno.ENOSPC, "full"
    )
    with pytest.raises(OSError, match="full"):
        day_of(store, folder)


def test_a_corrupted_object(store: FakeStore, folder: Path):
    """What is no Parquet at the store is fetched, and registered as unusable."""
    store.objects_by_key[f"{table_prefix(DELTAS, BTC, DAY)}2.snappy.parquet"] = b"no Parquet"
    _, second, _ = day_of(store, folder).rows

    assert ("unusable", "LakeFileError", 1) == (
        *(second.status, second.failure_kind, second.version),
    )


def test_told_how_far_it_is(store: FakeStore, folder: Path):
    """Who asks is told while it goes on, in its own thread."""
    said: list[str] = []
    slow = store.download

    def download(*arguments):
        while not said:
            pass
        return slow(*arguments)

    store.download = download
    day_of(store, folder, report=lambda progress: said.append(str(progress)), report_seconds=0.01)

    assert "0 of " in said[0]


def test_interrupted(store: FakeStore, folder: Path):
    """An interrupt while waiting stops the downloads instead of waiting for their end."""
    seen: list[FetchProgress] = []
    slow = store.download

    def download(object, target, progress):
        while not seen:
            pass
        progress(1)
        while True:
            progress(0)
        return slow(object, target, progress)

    def interrupt(progress: FetchProgress) -> None:
        seen.append(progress)
        raise KeyboardInterrupt

    store.download = download
    with pytest.raises(KeyboardInterrupt):
        day_of(store, folder, report=interrupt, report_seconds=0.01)

    assert [] == list((folder / "data").rglob("*.parquet"))


@pytest.mark.parametrize("from_store", [False, True])
def test_whatever_one_instrument_fails_at_the_others_are_registered(
    store: FakeStore, folder: Path, monkeypatch, caplog, from_store: bool
):
    """Its row has the error, and what is made of it says so; the log has the traceback."""
    for each in (BTC, ETH):
        write_day(folder / "lake", each)
    name = "fetch_table" if from_store else "register_local_day"
    original = getattr(stage, name)

    def raises(*arguments, **more):
        if BTC in arguments:
            raise ZeroDivisionError("by nothing")
        return original(*arguments, **more)

    monkeypatch.setattr(stage, name, raises)
    found = day_of(store if from_store else None, folder, TRADES)
    btc, eth = found.rows
    registered = RawObjects(
        folder / "lake",
        TABLES["raw_trades"].frame(found.rows),
    )

    assert ("missing", "ZeroDivisionError", "ZeroDivisionError: by nothing") == (
        btc.status,
        btc.failure_kind,
        btc.failure,
    )
    assert "usable" == eth.status
    with pytest.raises(LakeFileError, match="could not be registered"):
        registered.files_if_any(BTC)
    assert "Traceback" in caplog.text


class TestOneShardTwice:
    def test_at_the_store(self, store: FakeStore, folder: Path, caplog: pytest.LogCaptureFixture):
        """Two objects of one number are downloaded by nobody, and both are named."""
        again = f"{table_prefix(DELTAS, BTC, DAY)}00001.snappy.parquet"
        store.objects_by_key[again] = b"other bytes"
        found = day_of(store, folder)
        with pytest.raises(LakeFileError, match="named as the same shard") as caught:
            objects(found, folder).files_of(BTC)

        assert ["LakeFileError", "MissingDataError"] == [row.failure_kind for row in found.rows]
        assert "00001.snappy.parquet and 1.snappy.parquet" in str(caught.value)
        assert [] == [key for key in store.downloads if key.startswith("book_delta_v2")]
        assert [] == [record for record in caplog.records if record.exc_info]

    @pytest.mark.parametrize("raw", [DELTAS, SNAPSHOTS, TRADES], ids=lambda raw: raw.name)
    def test_in_the_folder(self, folder: Path, lake: Path, warehouse: Warehouse, raw):
        """The instrument's day is set aside, the reason has both names, and the other goes on."""
        for each in (BTC, ETH):
            write_day(lake, each)
        first = day_folder(lake, raw, BTC.venue, BTC.symbol, DAY) / "1.snappy.parquet"
        shutil.copy(first, first.with_name("01.parquet"))
        later = Later(lake, folder, warehouse)
        of_btc, of_eth = later.report(BTC, ETH)

        assert ("rebuilt", "quarantined") == (of_eth.outcome, of_btc.outcome)
        assert "01.parquet and 1.snappy.parquet" in of_btc.reasons[0]

    def test_deltas_of_a_day_from_snapshots(self, folder: Path, lake: Path, warehouse: Warehouse):
        """Such a day is validated without its deltas, any other not at all."""
        write_day(lake, BTC)
        first = day_folder(lake, DELTAS, BTC.venue, BTC.symbol, DAY) / "1.snappy.parquet"
        shutil.copy(first, first.with_name("01.snappy.parquet"))
        day = Later(lake, folder, warehouse).day_of(BTC)

        assert [] == replace(day, record=a_record(strategy="snapshots_only")).delta_files
        with pytest.raises(LakeFileError, match=re.escape("01.snappy.parquet and 1.snappy")):
            _ = replace(day, record=a_record(strategy="full_deltas")).delta_files
