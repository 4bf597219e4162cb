"""Objects that were uploaded in parts, as large ones are: their ETag is no MD5 of the bytes."""

from __future__ import annotations

import random

import pytest

from market_pipeline.config.store_address import StoreAddress
from market_pipeline.errors import StoreError
from market_pipeline.store._uploads import parts_of
from market_pipeline.store.client import Store
from market_pipeline.store.objects import Patience
from market_pipeline_tests.store.proxy import Fault
from market_pipeline_tests.store.servers import no_credentials

MEGABYTE = 1 << 20
CONTENT = random.Random(9).randbytes(13 * MEGABYTE)
UPLOADS = {
    "alike": [6 * MEGABYTE, 6 * MEGABYTE, MEGABYTE],
    "unlike": [5 * MEGABYTE, 7 * MEGABYTE, MEGABYTE],
    "one": [13 * MEGABYTE],
}
HEADS = "^HEAD "


@pytest.fixture(scope="module")
def uploaded(object_store):
    """The same bytes, uploaded in parts of several sizes."""
    object_store.put("uploads", "whole", CONTENT)
    client = object_store.client()
    for key, sizes in UPLOADS.items():
        where = {"Bucket": "uploads", "Key": key}
        where["UploadId"] = client.create_multipart_upload(**where)["UploadId"]
        parts, begin = [], 0
        for number, size in enumerate(sizes, 1):
            body = CONTENT[begin : begin + size]
            sent = client.upload_part(**where, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            begin += size
        client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


@pytest.fixture
def store(faulty, object_store, uploaded, monkeypatch, tmp_path):
    """A client that asks through the proxy."""
    no_credentials(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_key)
    address = StoreAddress("uploads", endpoint_url=faulty.endpoint_url, region="us-east-1")
    with Store(address, patience=Patience(attempts=1)) as store:
        yield store


def listed(store, key):
    """An object as it is listed."""
    (found,) = store.objects(key)
    return found


def heads(faulty):
    faulty.settle()
    return len([each for each in faulty.requests if each.line.startswith("HEAD")])


@pytest.mark.parametrize(("key", "asked"), [("alike", 1), ("unlike", 3), ("one", 1), ("whole", 0)])
def test_verified(store, faulty, tmp_path, key, asked):
    """The bytes are verified however they were uploaded, with few questions about the parts."""
    object = listed(store, key)
    assert len(UPLOADS.get(key, ())) == parts_of(object.etag)
    done = store.download(object, tmp_path / "x")
    assert CONTENT == (tmp_path / "x").read_bytes()
    assert (True, asked) == (done.md5_verified, heads(faulty))


@pytest.mark.parametrize("key", UPLOADS)
def test_other_bytes(store, faulty, tmp_path, key):
    """Bytes that are not those of the parts are a mismatch, and nothing of them is kept."""
    faulty.plan(Fault(times=1, other_bytes=True))
    with pytest.raises(StoreError) as caught:
        store.download(listed(store, key), tmp_path / "lake" / "x")
    assert "mismatch" == caught.value.kind
    assert [] == list((tmp_path / "lake").iterdir())


def test_parts_are_not_told(store, faulty, tmp_path):
    """If a store gives the bytes but does not tell their parts, they are taken unverified."""
    faulty.plan(Fault(HEADS, status=403))
    done = store.download(listed(store, "alike"), tmp_path / "x")
    assert not done.md5_verified
    assert CONTENT == (tmp_path / "x").read_bytes()


def test_store_fails_at_the_end(store, faulty, tmp_path):
    """If the store fails when it is asked for the parts, the next call asks for one byte more."""
    faulty.plan(Fault(HEADS, status=500))
    with pytest.raises(StoreError) as caught:
        store.download(listed(store, "alike"), tmp_path / "x")
    assert "unavailable" == caught.value.kind
    assert not (tmp_path / "x").exists()
    faulty.plan()
    done = store.download(listed(store, "alike"), tmp_path / "x")
    assert (len(CONTENT) - 1, True) == (done.resumed_bytes, done.md5_verified)
    faulty.settle()
    assert 1 == sum(each.sent_bytes for each in faulty.downloads())


@pytest.mark.parametrize(
    ("etag", "parts"),
    [("0" * 32, 0), ("0" * 32 + "-3", 3), ("0" * 32 + "-0", 0), ("x" * 32 + "-3", 0), ("", 0)],
)
def test_parts_of(etag, parts):
    """The number of parts stands at the end of an ETag."""
    assert parts == parts_of(etag)
