from __future__ import annotations

import errno
import time
from datetime import timedelta
from pathlib import Path

import pytest

from market_pipeline.errors import LakeFileError
from market_pipeline.sources.crypto_lake import DELTAS, TRADES, day_shards
from market_pipeline.stages.raw.download_days import fetch_days, to_fetch
from market_pipeline.stages.raw.fetched import FetchProgress
from market_pipeline.stages.raw.inventory import take_inventory
from market_pipeline_tests.stages.raw.fake_store import FakeStore, store_error
from market_pipeline_tests.stages.raw.test_inventory import BTC, DAY, DAYS, ETH, key


@pytest.fixture
def store() -> FakeStore:
    """Four days of a table of two instruments."""
    return FakeStore({key(day=day, of=of): b"abcd" for day in DAYS for of in (BTC, ETH)})


def fetched(store, lake, progress=None, parallel=2):
    """Fetches all that the store has."""
    instruments = [BTC, ETH]
    wanted = to_fetch(take_inventory(lake, store, instruments), instruments)
    return list(fetch_days(store, lake, wanted, progress or FetchProgress(), parallel=parallel))


class _SlowAfterTwo(FakeStore):
    """A store of whose third object no byte comes until the download is given up."""

    def download(self, object, target, progress=None):
        while len(self.downloads) == 2:
            progress(0)
            time.sleep(0.002)
        return super().download(object, target, progress)


def test_order():
    """The earliest days come first, and those that nobody has not at all."""
    store = FakeStore({key(TRADES, DAYS[0]): b"a", key(day=DAYS[1]): b"a", key(day=DAY): b"a"})
    wanted = to_fetch(take_inventory(Path("nowhere"), store, [BTC]), [BTC])

    assert [(DAY, DELTAS), (DAY, TRADES), (DAYS[1], DELTAS)] == [
        (each.day, each.raw) for each in wanted
    ]


def test_all_of_it_once(store, tmp_path):
    """Every day becomes local; a second time nothing is downloaded."""
    progress = FetchProgress()
    first, second = fetched(store, tmp_path, progress), fetched(store, tmp_path)

    assert (8, 8, 32) == (len(first), len(store.downloads), progress.arrived_bytes)
    assert {"fetched"} == {each.action for day in first for each in day.objects}
    assert {"unchanged"} == {each.action for day in second for each in day.objects}
    assert all(day.is_there for day in [*first, *second])
    assert [1] * 8 == [
        len(day_shards(tmp_path, DELTAS, of.venue, of.symbol, day))
        for day in DAYS
        for of in (BTC, ETH)
    ]


def test_stopped_and_gone_on_with(store, tmp_path):
    """Given up in the middle, the next call downloads the rest and nothing twice."""
    slow = _SlowAfterTwo(store.objects_by_key, downloads=store.downloads)
    wanted = to_fetch(take_inventory(tmp_path, slow, [BTC, ETH]), [BTC, ETH])
    days = fetch_days(slow, tmp_path, wanted, FetchProgress(), parallel=1)
    ended = [next(days), next(days)]
    days.close()
    before = len(store.downloads)
    fetched(store, tmp_path)

    assert (2, True) == (before, all(day.is_there for day in ended))
    assert sorted(store.objects_by_key) == sorted(store.downloads)


def test_one_fails(store, tmp_path):
    """A day that cannot be downloaded is told, and the others come."""
    store.failures[key()] = store_error("cut")
    days = fetched(store, tmp_path)
    (bad,) = [day for day in days if not day.is_there]

    assert (BTC, DAY, "failed") == (bad.of.instrument, bad.of.day, bad.objects[0].action)
    assert 7 == len(store.downloads)


def test_listing_fails(store, tmp_path):
    """A day that cannot be listed any more and is not local is a failure, not an exception."""
    wanted = to_fetch(take_inventory(tmp_path, store, [BTC]), [BTC])
    store.failures[""] = store_error("unavailable")
    days = list(fetch_days(store, tmp_path, wanted, FetchProgress(), parallel=2))

    assert [False] * 4 == [day.is_there for day in days]
    assert {"unavailable"} == {day.failure.kind for day in days}


def test_full_disk(store, tmp_path):
    """A full disk ends all of it: what follows would fail as well."""
    full = OSError(errno.ENOSPC, "full")
    store.failures = {key(day=DAY + timedelta(days=n)): full for n in range(4)}
    with pytest.raises(OSError, match="full"):
        fetched(store, tmp_path, parallel=1)


def test_one_shard_twice(store, tmp_path):
    """A day of two objects of one number is told as such, and the others come."""
    store.objects_by_key[key().replace("/1.", "/01.")] = b"abcd"
    (bad,) = [day for day in fetched(store, tmp_path) if not day.is_there]

    assert (BTC, DAY, LakeFileError) == (bad.of.instrument, bad.of.day, type(bad.failure))
    assert 7 == len(store.downloads)
