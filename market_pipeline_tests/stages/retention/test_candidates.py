from __future__ import annotations

from market_pipeline.security.sealing import seal_in_place
from market_pipeline.sources.crypto_lake_contracts import FUNDING
from market_pipeline.stages.raw.download import fetch_table
from market_pipeline.stages.retention.prune import Retention
from market_pipeline_tests.security.keys import use_keys
from market_pipeline_tests.stages.raw.test_inventory import BTC, ETH, key
from market_pipeline_tests.stages.retention.test_prune import OLD, TODAY, Fetched, decided


def test_optional_tables(folder):
    """A fetched day of a table that only contracts have goes as any other."""
    fetched = Fetched(folder)
    fetched.store.objects_by_key[key(FUNDING, OLD)] = b"abcd"
    fetch_table(fetched.store, fetched.lake, FUNDING, BTC, OLD)
    assert [("raw", OLD, True)] == decided(fetched.plan())


def test_sealed_file_that_no_key_opens(folder, monkeypatch):
    """One that no ledger knows stays, with the reason; the days beside it go as ever."""
    fetched = Fetched(folder)
    fetched.raw_day(OLD, ETH)
    fetched.store.objects_by_key[key(day=OLD)] = b"abcd"
    file = fetched.lake / key(day=OLD)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"abcd")
    ring = use_keys(monkeypatch, fetched.settings.data_dir, "raw")
    seal_in_place(file, ring, "raw")
    assert [True, True] == [each.goes for each in fetched.plan()]

    monkeypatch.delenv("PIPELINE_MASTER_KEY")
    closed, other = fetched.plan(Retention(TODAY, 10, None, also_last_copies=True))
    assert (False, True) == (closed.goes, other.goes)
    assert "no key that is set opens a file that the ledger does not know" in closed.why
