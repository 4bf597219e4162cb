from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.config.store_address import PRESETS, StoreAddress, store_address

buckets = st.text(string.ascii_lowercase + string.digits, min_size=3, max_size=20)
names = st.text(string.ascii_letters + string.digits + "-_=.% +", min_size=1, max_size=8).filter(
    lambda name: name not in {".", ".."}
)
prefixes = st.lists(names, max_size=4).map("/".join)


@given(bucket=buckets, prefix=prefixes, slashes=st.integers(0, 2))
def test_parsed(bucket, prefix, slashes):
    """An s3:// URI gives its bucket and prefix, and the address gives the URI back."""
    address = store_address(f"s3://{bucket}/{prefix}{'/' * slashes}")
    assert StoreAddress(bucket, prefix) == address
    assert address == store_address(address.uri)


@given(bucket=buckets, prefix=prefixes, key=names)
def test_keys(bucket, prefix, key):
    """A key below the prefix is one of the bucket's with the prefix before it."""
    address = StoreAddress(bucket, prefix)
    expected = f"{prefix}/{key}" if prefix else key
    assert (expected, f"s3://{bucket}/{expected}") == (address.full_key(key), address.uri_of(key))


def test_presets():
    """The vendor's two buckets have names: the free one is read unsigned, the paid one is not."""
    sample, paid = store_address("sample"), store_address("crypto-lake")
    assert ("s3://sample.crypto.lake", True) == (sample.uri, sample.anonymous)
    assert ("s3://qnt.data/market-data/cryptofeed", False) == (paid.uri, paid.anonymous)
    assert "eu-west-1" == paid.region
    assert {"sample", "crypto-lake"} == set(PRESETS)


@pytest.mark.parametrize("uri", ["/srv/lake", "lake", "./sample", "samples", "file:///srv", "C:x"])
def test_folders(uri):
    """What is neither an s3:// URI nor a preset's name is no store."""
    assert store_address(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        "s3:",
        "s3:bucket/prefix",
        "s3:/bucket",
        "s3://",
        "s3:///prefix",
        "s3://ab",
        "s3://Upper/x",
        "s3://key:secret@bucket/x",
        "s3://bucket?versions",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "s3://bucket/a\nb",
    ],
)
def test_refused(uri):
    """An s3:// URI that cannot be an address is refused without being shown."""
    with pytest.raises(ValueError, match="expected `s3://bucket/prefix`") as caught:
        store_address(uri)
    assert "secret" not in str(caught.value)
