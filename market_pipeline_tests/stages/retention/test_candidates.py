from __future__ import annotations

from market_pipeline.sources.crypto_lake_contracts import FUNDING
from market_pipeline.stages.raw.download import fetch_table
from market_pipeline_tests.stages.raw.test_inventory import BTC, key
from market_pipeline_tests.stages.retention.test_prune import OLD, Fetched, decided


def test_optional_tables(folder):
    """A fetched day of a table that only contracts have goes as any other."""
    fetched = Fetched(folder)
    fetched.store.objects_by_key[key(FUNDING, OLD)] = b"abcd"
    fetch_table(fetched.store, fetched.lake, FUNDING, BTC, OLD)
    assert [("raw", OLD, True)] == decided(fetched.plan())
