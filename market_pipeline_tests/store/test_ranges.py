"""Downloads from a store in memory that cuts its answers wherever an example says."""

from __future__ import annotations

import hashlib
import io
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
import urllib3
from botocore.response import StreamingBody
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.config.store_address import StoreAddress
from market_pipeline.errors import StoreError
from market_pipeline.store import download as downloading
from market_pipeline.store import ranges
from market_pipeline.store.download import download
from market_pipeline.store.objects import Patience, StoreObject
from market_pipeline.store.ranges import RangeReader
from market_pipeline.store.rate_limits import TokenBucket


@dataclass
class MemoryStore:
    """Answers like boto3's client; the nth answer breaks after `cuts[n]` bytes, if that is one."""

    content: bytes
    cuts: list[int | None]
    asked_bytes: int = 0
    asked: int = 0
    etag: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get_object(self, *, Bucket, Key, IfMatch, Range=None):
        start, stop = 0, len(self.content)
        if Range is not None:
            start, last = map(int, Range.removeprefix("bytes=").split("-"))
            stop = last + 1
        assert 0 <= start <= stop <= len(self.content)
        with self._lock:
            cut = self.cuts[self.asked] if self.asked < len(self.cuts) else None
            self.asked += 1
            body = self.content[start:stop]
            kept = body if cut is None else body[:cut]
            self.asked_bytes += len(kept)
        raw = urllib3.HTTPResponse(
            io.BytesIO(kept),
            headers={"Content-Length": str(len(body))},
            preload_content=False,
            decode_content=False,
        )
        return {
            "ETag": IfMatch,
            "ContentLength": len(body),
            "ContentRange": f"bytes {start}-{stop - 1}/{len(self.content)}",
            "Body": StreamingBody(raw, len(body)),
        }

    @property
    def object(self):
        etag = self.etag or hashlib.md5(self.content).hexdigest()
        return StoreObject("a/1.parquet", len(self.content), etag, datetime(2024, 1, 1, tzinfo=UTC))

    def fetch(self, target, *, part_bytes, at_once, attempts, progress=None):
        address = StoreAddress("lake")
        reader = RangeReader(self, address, Patience(attempts), TokenBucket(0))
        with (
            mock.patch.object(ranges, "_FIRST_WAIT_SECONDS", 0.0),
            mock.patch.object(downloading, "PART_BYTES", part_bytes),
            ThreadPoolExecutor(at_once) as pool,
        ):
            uri = address.uri_of(self.object.key)
            return download(reader, pool, at_once, self.object, uri, target, progress)


contents = st.binary(max_size=300)
cuts = st.lists(st.none() | st.integers(0, 80), max_size=12)
part_sizes = st.integers(20, 320)
pools = st.integers(1, 4)


@settings(max_examples=30)
@given(content=contents, cuts=cuts, part_bytes=part_sizes, at_once=pools)
def test_equal_bytes(content, cuts, part_bytes, at_once):
    """Whatever the size, the parts and where answers break: the bytes come, and each only once."""
    store, told = MemoryStore(content, cuts), []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "lake" / "1.parquet"
        done = store.fetch(
            target,
            part_bytes=part_bytes,
            at_once=at_once,
            attempts=len(cuts) + 1,
            progress=told.append,
        )
        assert content == target.read_bytes()
        assert [target] == list(target.parent.iterdir())
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (done.sha256, done.bytes)
    assert (True, 0) == (done.md5_verified, done.resumed_bytes)
    assert len(content) == sum(told) == store.asked_bytes


@settings(max_examples=30)
@given(content=contents, cuts=cuts, part_bytes=part_sizes, at_once=pools)
def test_goes_on(content, cuts, part_bytes, at_once):
    """However often a download breaks off, the next call asks only for what is missing."""
    store = MemoryStore(content, cuts)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "1.parquet"
        for _ in range(len(cuts) + 1):
            kept = sum(path.stat().st_size for path in target.parent.iterdir())
            assert not target.exists()
            before = store.asked_bytes
            try:
                done = store.fetch(target, part_bytes=part_bytes, at_once=at_once, attempts=1)
            except StoreError as error:
                assert "cut" == error.kind
            else:
                break
        assert content == target.read_bytes()
    # One byte is asked for again if all were there: the store must say that they are still right.
    resumed = min(kept, max(0, len(content) - 1))
    assert resumed == done.resumed_bytes
    assert len(content) - resumed == store.asked_bytes - before


def test_part_of_the_size_in_memory():
    """Parts are read ahead no further than the one that is written and those that run at once."""
    store = MemoryStore(bytes(1000), [])
    address = StoreAddress("lake")
    reader = RangeReader(store, address, Patience(), TokenBucket(0))
    with (
        mock.patch.object(downloading, "PART_BYTES", 10),
        ThreadPoolExecutor(3) as pool,
    ):
        parts = downloading._parts(reader, pool, 3, store.object, 0, lambda _: None)
        next(parts)
        pool.shutdown(wait=True)
        assert store.asked <= 5


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"ETag": '"other"'}, "ETag other instead of"),
        ({"ETag": ""}, "ETag missing instead of"),
        ({"ContentLength": 7}, "7 bytes where 100 were asked for"),
        ({"ContentRange": "bytes 0-99/900"}, "bytes 0-99/900 instead of bytes 0-99/100"),
    ],
)
def test_answer_of_another_object(tmp_path, change, found):
    """An answer that is not about the listed object is a mismatch, and nothing of it is kept."""
    store = MemoryStore(bytes(100), [])
    answer = store.get_object
    store.get_object = lambda **request: answer(**request) | change
    with pytest.raises(StoreError) as caught:
        store.fetch(tmp_path / "1.parquet", part_bytes=100, at_once=1, attempts=1)
    assert "mismatch" == caught.value.kind
    assert found in caught.value.found
    assert [] == list(tmp_path.iterdir())


def test_key_service(tmp_path):
    """The ETag of an object that a key service encrypted proves nothing and is not compared."""
    store = MemoryStore(b"bytes", [], etag="0" * 32)
    answer = store.get_object
    store.get_object = lambda **request: answer(**request) | {"ServerSideEncryption": "aws:kms"}
    done = store.fetch(tmp_path / "x", part_bytes=9, at_once=1, attempts=1)
    assert (b"bytes", False) == ((tmp_path / "x").read_bytes(), done.md5_verified)


def test_nothing_after_the_end(tmp_path):
    """Once a download is given up, nobody is told of bytes that still come."""
    store, told = MemoryStore(bytes(100), []), []
    reader = RangeReader(store, StoreAddress("lake"), Patience(), TokenBucket(0))
    given_up = threading.Event()
    given_up.set()
    with pytest.raises(ranges.Stopped):
        reader.read(store.object, 0, 100, told.append, given_up)
    assert ([], 0) == (told, store.asked)
