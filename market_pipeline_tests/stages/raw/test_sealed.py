"""Downloaded days that are sealed: what the store has is known of them as of plain files."""

from __future__ import annotations

from pathlib import Path

import pytest

from market_pipeline.errors import SealError
from market_pipeline.security.stored import is_sealed, open_stored, sealed_path
from market_pipeline.sources.crypto_lake import DELTAS, day_shards
from market_pipeline.sources.raw_names import Series
from market_pipeline.stages.raw.days import FolderDays, StoreDays, by_day, same_files
from market_pipeline.stages.raw.download_days import TableDay, fetch_days
from market_pipeline.stages.raw.fetched import FetchProgress
from market_pipeline.stages.raw.inventory import take_inventory
from market_pipeline.warehouse.ledger import LEDGER_NAME
from market_pipeline_tests.security.keys import use_keys
from market_pipeline_tests.stages.days import BTC, DAY
from market_pipeline_tests.stages.raw.test_download import actions, fetch, folder_of, key, store_of


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    return use_keys(monkeypatch, tmp_path / "data", "raw")


def content(lake: Path) -> dict[str, bytes]:
    """The day by its plain names, every file of it sealed."""
    found = day_shards(lake, DELTAS, BTC.venue, BTC.symbol, DAY)
    assert all(map(is_sealed, found))
    return {path.name: open_stored(path).read() for path in found}


def test_fetched_once(lake, ring):
    """A sealed day is listed as the store's and not fetched again; one that lay plain is sealed by
    the next fetch.
    """
    store = store_of(b"one", b"two")
    plain = fetch(store, lake)
    assert ["fetched"] * 2 == actions(plain)
    first = fetch(store, lake, ring=ring)
    assert ["unchanged"] * 2 == actions(first)
    assert {"1.snappy.parquet": b"one", "2.snappy.parquet": b"two"} == content(lake)
    again = fetch(store, lake, ring=ring)
    assert first == again
    assert 2 == len(store.downloads)
    series = Series(DELTAS.name, BTC.venue, BTC.symbol)
    here, there = (by_day(days.files(series)) for days in (FolderDays(lake), StoreDays(store)))
    assert 2 == len(same_files(here[DAY], there[DAY]))


def test_a_corrected_object(lake, ring):
    """It lies sealed beside the earlier version, and the same bytes under another tag change
    nothing.
    """
    store = store_of(b"one", b"two")
    fetch(store, lake, ring=ring)
    store.objects_by_key[key(2)] = b"corrected"
    store.etags[key(1)] = "another-1"
    assert ["unchanged", "changed"] == actions(fetch(store, lake, ring=ring))
    assert {"1.snappy.parquet": b"one", "2.v2.snappy.parquet": b"corrected"} == content(lake)
    names = sorted(path.name for path in folder_of(lake).glob("*.snappy.parquet*"))
    assert 6 == len(names)  # two versions of one, one of the other, each with its slots


def test_without_the_key(lake, ring, monkeypatch):
    """Nothing is fetched over what cannot be opened: the error names the file."""
    store = store_of(b"one")
    fetch(store, lake, ring=ring)
    monkeypatch.delenv("PIPELINE_MASTER_KEY")
    with pytest.raises(SealError, match="no master key") as caught:
        fetch(store, lake)
    assert str(sealed_path(folder_of(lake) / "1.snappy.parquet")) == caught.value.file
    assert 1 == len(store.downloads)


def test_one_that_is_damaged(lake, ring):
    """It fails its own day alone, with the file named, also where the ledger is lost."""
    store = store_of(b"one", b"two")
    fetch(store, lake, ring=ring)
    damaged = sealed_path(folder_of(lake) / "1.snappy.parquet")
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    (folder_of(lake) / LEDGER_NAME).unlink()

    tables = take_inventory(lake, store, [BTC], DAY, DAY)
    (found,) = (table.days[DAY] for table in tables if table.raw_table == DELTAS.name)
    assert (2, 1) == (found.objects, found.local_objects)
    (day,) = fetch_days(
        store, lake, [TableDay(BTC, DELTAS, DAY)], FetchProgress(), parallel=1, ring=ring
    )
    assert (SealError, str(damaged)) == (type(day.failure), day.failure.file)
