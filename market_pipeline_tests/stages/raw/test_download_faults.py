from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from market_pipeline.config.settings import Settings
from market_pipeline.errors import MachineError
from market_pipeline.sources.crypto_lake import DELTAS
from market_pipeline.stages.raw.day import ManifestRows, raw_day
from market_pipeline.stages.raw.download import table_prefix
from market_pipeline.store.client import open_store
from market_pipeline.store.objects import Patience
from market_pipeline_tests.stages.days import BTC, DAY, settings, write_day
from market_pipeline_tests.store.proxy import LISTS, OBJECTS, Fault, FaultyProxy
from market_pipeline_tests.store.servers import ObjectStore

HURRIED = Patience(attempts=2, connect_seconds=2.0, read_seconds=0.5, slow_seconds=0.3)
SECOND = f"{OBJECTS}.*/2.snappy"


@pytest.fixture
def prefix(object_store: ObjectStore, folder: Path) -> str:
    """Where BTC's day lies in two shards, in the bucket `faults`."""
    write_day(folder / "vendor", BTC, shards=2, snapshots=False, trades=False)
    object_store.put_folder(folder / "vendor", "faults", folder.name)
    return folder.name


@pytest.fixture
def mine(
    prefix: str,
    faulty: FaultyProxy,
    object_store: ObjectStore,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """Settings with that day behind the proxy as the lake."""
    given = object_store.environment(f"s3://faults/{prefix}", faulty.endpoint_url)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return settings(folder, lake_uri=given["PIPELINE_LAKE_URI"])


def fetched(mine: Settings) -> ManifestRows:
    with open_store(mine, patience=HURRIED) as store:
        return raw_day(store, mine, DELTAS, (BTC,), DAY)


def seen(mine: Settings) -> list[tuple[Any, ...]]:
    """What the manifest says of each object."""
    return [(row.status, row.failure_kind, row.version) for row in fetched(mine).rows]


def local(mine: Settings) -> list[str]:
    """The files that pass for the day."""
    return sorted(path.name for path in mine.lake_path.rglob("[!.]*") if path.is_file())


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            Fault(SECOND, status=403, code="AccessDenied"),
            "the store refuses access (file=URI, found=403 AccessDenied). Check that the keys",
        ),
        (
            Fault(SECOND, status=404, code="NoSuchKey"),
            "there is no such object (file=URI, found=404 NoSuchKey). Check PIPELINE_LAKE_URI",
        ),
        (
            Fault(SECOND, status=503, code="SlowDown"),
            "(file=URI, found=503 SlowDown). Wait a little and run this again",
        ),
        (Fault(SECOND, cut_after=100), "the connection to the store kept breaking at byte "),
        (Fault(SECOND, bytes_per_second=500), "kept breaking at byte"),
        (Fault(SECOND, wait_seconds=1.0), "the store does not answer as it should"),
        (Fault(SECOND, etag="0" * 32), "the object is not the one that was listed"),
        (Fault(SECOND, other_bytes=True), "not those the store's ETag is the MD5 of"),
    ],
    ids=["403", "404", "5xx", "cut", "slow", "silent", "another ETag", "a lying ETag"],
)
def test_one_object(mine: Settings, faulty: FaultyProxy, prefix: str, fault: Fault, told: str):
    """Nothing of the day is there and the row says why; the next run fetches what is missing."""
    faulty.plan(fault)
    waiting, failed = fetched(mine).rows
    before = local(mine)
    faulty.plan()
    again = seen(mine)

    uri = f"s3://faults/{prefix}/{table_prefix(DELTAS, BTC, DAY)}2.snappy.parquet"
    assert told.replace("file=URI", f"file={uri}") in failed.failure
    assert f"it could not be fetched: {failed.failure}" in failed.remark
    assert ("missing", "StoreError") == (failed.status, failed.failure_kind)
    assert ("missing", None) == (waiting.status, waiting.failure_kind)
    assert [] == before
    assert [("usable", None, 1)] * 2 == again
    assert ["1.snappy.parquet", "2.snappy.parquet"] == local(mine)
    faulty.settle()
    assert {"/2.snappy.parquet"} == {each.line.split()[1][-17:] for each in faulty.downloads()}


@pytest.mark.parametrize("status", [403, 404, 500])
def test_the_listing(mine: Settings, faulty: FaultyProxy, status: int):
    """A store that does not list is one row with the reason; with a local day that is used."""
    faulty.plan(Fault(LISTS, status=status))
    nothing = seen(mine)
    faulty.plan()
    fetched(mine)
    faulty.plan(Fault(LISTS, status=status))
    first, second = fetched(mine).rows

    assert [("missing", "StoreError", None)] == nothing
    assert ["usable", "usable"] == [first.status, second.status]
    assert "it could not be asked for, and the local copy is used: " in first.remark


def test_replaced_between_listing_and_download(
    mine: Settings, faulty: FaultyProxy, object_store: ObjectStore, prefix: str
):
    """An object that changes under our hands is told, and fetched as it is by the next run."""
    key = f"{prefix}/{table_prefix(DELTAS, BTC, DAY)}2.snappy.parquet"
    faulty.plan(Fault(SECOND, times=1, do=lambda: object_store.put("faults", key, b"other")))
    _, failed = fetched(mine).rows
    faulty.plan()

    assert "the object is not the one that was listed" in failed.failure
    assert [("usable", None, 1), ("unusable", "LakeFileError", 1)] == seen(mine)


def test_a_full_disk(mine: Settings, monkeypatch: pytest.MonkeyPatch):
    """A full disk ends the step with the reason, and leaves nothing half-written."""
    full = type("Usage", (), {"free": 10})
    with monkeypatch.context() as patch, pytest.raises(MachineError) as caught:
        patch.setattr("shutil.disk_usage", lambda _: full)
        fetched(mine)

    assert "does not fit on the disk" in str(caught.value)
    assert "found=10 bytes that are free" in str(caught.value)
    assert [] == local(mine)
    assert [] == list(mine.lake_path.rglob("*.partial"))
