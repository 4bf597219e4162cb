"""Downloads from a real store through a proxy that errs: what a user gets, and what is left."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import stat
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest

from market_pipeline.config.store_address import StoreAddress
from market_pipeline.errors import MachineError, StoreError
from market_pipeline.store import download as downloading
from market_pipeline.store.client import Store
from market_pipeline.store.objects import Patience
from market_pipeline_tests.store.proxy import LISTS, Fault
from market_pipeline_tests.store.servers import SECRET_KEY, no_credentials

KEY = "trades/exchange=BINANCE/symbol=BTC-USDT/dt=2024-08-08/1.snappy.parquet"
BUCKET, PREFIX = "faults", "some/lake"
FULL_KEY = f"{PREFIX}/{KEY}"
PART = 100_000
CONTENT = random.Random(5).randbytes(950_000)
PATIENT = Patience(attempts=2)
IMPATIENT = Patience(attempts=2, connect_seconds=20.0, read_seconds=2.0, slow_seconds=1.5)


@pytest.fixture(autouse=True)
def signed(monkeypatch, tmp_path, object_store):
    """Keys in the environment, small parts, and no waits between attempts."""
    no_credentials(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_key)
    monkeypatch.setattr(downloading, "PART_BYTES", PART)
    monkeypatch.setattr("market_pipeline.store.ranges._FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff._MAX_BACKOFF", 0)
    monkeypatch.setattr("botocore.retries.bucket.TokenBucket.acquire", lambda *_, **__: True)


@pytest.fixture
def store(faulty, object_store, request):
    """A client that asks the real store through the proxy; impatient only with faults of time."""
    fault = request.node.callspec.params.get("fault") if hasattr(request.node, "callspec") else None
    is_slow = fault is not None and (fault.wait_seconds or fault.bytes_per_second)
    patience = IMPATIENT if is_slow else PATIENT
    object_store.put(BUCKET, FULL_KEY, CONTENT)
    address = StoreAddress(BUCKET, PREFIX, endpoint_url=faulty.endpoint_url, region="us-east-1")
    with Store(address, parallel_downloads=3, patience=patience) as store:
        yield store


@pytest.fixture
def listed(store):
    """The object as the store lists it."""
    (found,) = store.objects("trades/")
    assert KEY == found.key
    return found


@pytest.fixture
def target(tmp_path):
    """Where the object goes: in folders that are not there yet."""
    return tmp_path / "lake" / "dt=2024-08-08" / "1.snappy.parquet"


def beside(target):
    """What lies in the target's folder."""
    return sorted(target.parent.iterdir()) if target.parent.exists() else []


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def refused(kind, store, listed, target):
    """What a download is refused with, which leaves no file under the target's name."""
    with pytest.raises(kind) as caught:
        store.download(listed, target)
    assert not target.exists()
    return caught.value


def failure(store, listed, target):
    """The error of a download that must fail and leave no file under the target's name."""
    error = refused(StoreError, store, listed, target)
    assert f"s3://{BUCKET}/{FULL_KEY}" == error.uri
    assert error.next_step
    assert SECRET_KEY not in f"{error} {error!r} {vars(error)}"
    return error


def test_whole(store, listed, target):
    """An object comes whole, with its hash and size, for its owner alone."""
    told = []
    done = store.download(listed, target, told.append)
    assert CONTENT == target.read_bytes()
    assert (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)) == (done.sha256, done.bytes)
    assert (len(CONTENT), 0, True) == (sum(told), done.resumed_bytes, done.md5_verified)
    assert [target] == beside(target)
    assert (0o600, 0o700) == (mode(target), mode(target.parent))


def test_usage(store, listed, target, faulty):
    """The client counts its requests and the bytes of objects."""
    store.download(listed, target)
    usage = store.usage
    faulty.settle()
    assert len(faulty.requests) == usage.requests == 1 + 10
    assert len(CONTENT) == usage.bytes
    assert 0 == store.blocked_seconds == usage.blocked_for_bytes_seconds


def test_limits(faulty, listed, target, monkeypatch):
    """A client with limits tells how long they held it up."""
    slept = []
    monkeypatch.setattr("market_pipeline.store.rate_limits.time.monotonic", lambda: 0.0)
    address = StoreAddress(BUCKET, PREFIX, endpoint_url=faulty.endpoint_url, region="us-east-1")
    with Store(address, requests_per_second=4, megabytes_per_second=0.5) as slow:
        for each in (slow._requests_limit, slow._bytes_limit):
            each._clock, each._sleep, each._counted_at = (lambda: 0.0), slept.append, 0.0
        slow.download(listed, target)
        usage = slow.usage
    # Ten requests, four of which are free; 950,000 bytes, 500,000 of which are.
    assert sum(each / 4 for each in range(1, 7)) == usage.blocked_for_requests_seconds
    assert (len(CONTENT) - 500_000) / 500_000 <= usage.blocked_for_bytes_seconds
    assert sum(slept) == pytest.approx(slow.blocked_seconds)


@pytest.mark.parametrize(
    ("fault", "kind", "found"),
    [
        (Fault(status=403, code="AccessDenied"), "forbidden", "403 AccessDenied"),
        (Fault(status=403, code="ExpiredToken"), "forbidden", "403 ExpiredToken"),
        (Fault(status=404, code="NoSuchKey"), "missing", "404 NoSuchKey"),
        (Fault(status=404, code="NoSuchBucket"), "missing", "404 NoSuchBucket"),
        (Fault(status=500, code="InternalError"), "unavailable", "500 InternalError"),
        (Fault(status=503, code="SlowDown"), "unavailable", "503 SlowDown"),
        (Fault(wait_seconds=4.0), "unavailable", "ReadTimeoutError"),
        (Fault(cut_after=30_000), "cut", "ProtocolError"),
        (Fault(cut_after=0), "cut", "ProtocolError"),
        (Fault(bytes_per_second=400), "cut", "below 1,000 bytes a second"),
        (Fault(other_bytes=True), "mismatch", "MD5"),
        (Fault(etag="0" * 32), "mismatch", "ETag"),
        (Fault(status=412, code="PreconditionFailed"), "mismatch", "412 PreconditionFailed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_fault(store, listed, target, faulty, fault, kind, found):
    """Each fault that does not pass is an error of its kind, and leaves no whole or false file."""
    faulty.plan(fault)
    error = failure(store, listed, target)
    assert kind == error.kind
    assert found in error.found
    # What may be left is a beginning of the object, under a name of its own.
    for left_over in beside(target):
        assert kind in {"cut", "unavailable", "forbidden"}
        assert left_over.name.endswith(".partial")
        assert CONTENT.startswith(left_over.read_bytes())
    faulty.plan()
    store.download(listed, target)
    assert CONTENT == target.read_bytes()
    assert [target] == beside(target)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(times=1, status=500, code="InternalError"),
        Fault(times=1, status=503, code="SlowDown"),
        Fault(times=1, wait_seconds=4.0),
        Fault(times=1, cut_after=30_000),
        Fault(times=1, cut_after=0),
        Fault(times=1, bytes_per_second=400),
    ],
    ids=["500", "slow down", "silence", "cut", "cut at once", "trickle"],
)
def test_passing_fault(store, listed, target, faulty, fault):
    """A fault that passes is not seen: the request is repeated, from where it broke off."""
    faulty.plan(fault)
    told = []
    store.download(listed, target, told.append)
    assert CONTENT == target.read_bytes()
    assert len(CONTENT) == sum(told)
    faulty.settle()
    asked = len(faulty.downloads())
    # The impatient client asks more often where the machine is slow.
    assert 11 == asked or (fault.wait_seconds + (fault.bytes_per_second or 0) and asked > 11)


@pytest.mark.parametrize("kind", ["forbidden", "unavailable"])
def test_listing_refused(store, faulty, kind):
    """Listing fails as clearly as fetching does."""
    status, code = (403, "AccessDenied") if kind == "forbidden" else (503, "SlowDown")
    faulty.plan(Fault(LISTS, status=status, code=code))
    for ask in (store.objects, store.folders):
        with pytest.raises(StoreError) as caught:
            list(ask("trades/"))
        assert (kind, f"s3://{BUCKET}/{PREFIX}/trades/") == (caught.value.kind, caught.value.uri)


def test_resumed(store, listed, target, faulty):
    """A download that broke off goes on where it stopped and asks for the missing bytes only."""
    faulty.plan(Fault(after=4, cut_after=0))
    assert "cut" == failure(store, listed, target).kind
    (partial,) = beside(target)
    kept = partial.stat().st_size
    assert 0 < kept < len(CONTENT) and kept % PART == 0
    store._pool.shutdown()  # what it read ahead is over, as that of a process that ended
    faulty.settle()
    faulty.plan()
    told = []
    with Store(store.address) as next_store:
        done = next_store.download(listed, target, told.append)
    assert CONTENT == target.read_bytes()
    asked = sorted(
        tuple(map(int, each.range.removeprefix("bytes=").split("-"))) for each in faulty.downloads()
    )
    assert kept == asked[0][0]
    assert len(CONTENT) - kept == sum(last - first + 1 for first, last in asked)
    assert (kept, len(CONTENT)) == (done.resumed_bytes, sum(told))
    assert [target] == beside(target)


def test_replaced_meanwhile(store, listed, target, faulty, object_store):
    """An object that is replaced in the middle is a mismatch; listed again it comes whole."""
    other = CONTENT[::-1]
    faulty.plan(
        Fault(after=3, times=1, do=lambda: object_store.put(BUCKET, FULL_KEY, other)),
    )
    error = failure(store, listed, target)
    assert "mismatch" == error.kind
    assert [] == beside(target)
    (again,) = store.objects("trades/")
    assert again.etag != listed.etag
    store.download(again, target)
    assert other == target.read_bytes()


def test_beginning_of_another_version(store, listed, target, faulty, object_store):
    """The kept beginning of an object that was replaced since is not gone on with."""
    faulty.plan(Fault(after=4, cut_after=0))
    failure(store, listed, target)
    assert 1 == len(beside(target))
    faulty.plan()
    other = CONTENT[::-1]
    object_store.put(BUCKET, FULL_KEY, other)
    (again,) = store.objects("trades/")
    done = store.download(again, target)
    assert 0 == done.resumed_bytes
    assert other == target.read_bytes()
    assert [target] == beside(target)


def test_false_beginning(store, listed, target, faulty):
    """A kept beginning that was damaged is found by the ETag, and is gone at the next attempt."""
    faulty.plan(Fault(after=4, cut_after=0))
    failure(store, listed, target)
    (partial,) = beside(target)
    partial.write_bytes(b"x" + partial.read_bytes()[1:])
    faulty.plan()
    assert "mismatch" == failure(store, listed, target).kind
    assert [] == beside(target)
    store.download(listed, target)
    assert CONTENT == target.read_bytes()


def test_earlier_file_stays(store, listed, target, faulty):
    """A file that is there is replaced by a finished download only."""
    target.parent.mkdir(parents=True)
    target.write_bytes(b"earlier")
    faulty.plan(Fault(after=2, other_bytes=True))
    with pytest.raises(StoreError):
        store.download(listed, target)
    assert b"earlier" == target.read_bytes()
    faulty.plan()
    store.download(listed, target)
    assert CONTENT == target.read_bytes()


def test_two_at_once(store, listed, target, faulty):
    """Two that fetch the same object to the same place do not write into each other's file."""
    faulty.plan(Fault(bytes_per_second=2_000_000))
    with ThreadPoolExecutor(2) as pool, Store(store.address) as other:
        both = [pool.submit(each.download, listed, target) for each in (store, other)]
        hashes = {each.result().sha256 for each in both}
    assert {hashlib.sha256(CONTENT).hexdigest()} == hashes
    assert CONTENT == target.read_bytes()
    assert [target] == beside(target)


def test_killed(store, listed, target, faulty):
    """A process that is killed leaves a beginning; the next one asks for the rest only."""
    faulty.plan(Fault(bytes_per_second=200_000))
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from market_pipeline.store import download\n"
        "from market_pipeline.store.client import Store, StoreAddress\n"
        f"download.PART_BYTES = {PART}\n"
        f"address = StoreAddress({BUCKET!r}, {PREFIX!r}, endpoint_url={faulty.endpoint_url!r})\n"
        "store = Store(address, parallel_downloads=2)\n"
        "(found,) = store.objects('trades/')\n"
        "store.download(found, Path(sys.argv[1]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, target]) as process:
        while not any(path.stat().st_size >= PART for path in beside(target)):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    (partial,) = beside(target)
    kept = partial.stat().st_size
    assert kept < len(CONTENT)
    faulty.settle()
    faulty.plan()
    done = store.download(listed, target)
    assert kept == done.resumed_bytes
    assert len(CONTENT) - kept == sum(each.sent_bytes for each in faulty.downloads())
    assert CONTENT == target.read_bytes()
    assert [target] == beside(target)


class TestDiskFull:
    def test_foreseen(self, store, listed, target, faulty, monkeypatch):
        """If the disk has less room than the object needs, nothing is asked for."""
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, len(CONTENT) - 1))
        faulty.plan()
        error = refused(MachineError, store, listed, target)
        assert ("950,000 bytes", "949,999 bytes that are free") == (error.expected, error.found)
        assert str(target) == error.file
        assert ([], []) == (beside(target), faulty.requests)

    @pytest.mark.parametrize("call", ["write", "fsync"])
    def test_in_the_middle(self, store, listed, target, monkeypatch, call):
        """A disk that fills up meanwhile ends the download and keeps nothing of it."""
        plain, calls = getattr(os, call), []

        def full(descriptor, *data):
            calls.append(descriptor)
            if len(calls) > 5 or call == "fsync":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return plain(descriptor, *data)

        monkeypatch.setattr(downloading.os, call, full)
        error = refused(OSError, store, listed, target)
        assert (errno.ENOSPC, str(target)) == (error.errno, error.filename)
        assert [] == beside(target)

    def test_file_size_limit(self, store, listed, target, full_at):
        """The limit of a file's size that the system really sets counts as a full disk."""
        with full_at(250_000):
            error = refused(OSError, store, listed, target)
        assert (errno.EFBIG, str(target)) == (error.errno, error.filename)
        assert [] == beside(target)


def test_folder_cannot_be_made(store, listed, tmp_path):
    """A target whose folder cannot be made is an error that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=str(tmp_path / "file")):
        store.download(listed, tmp_path / "file" / "1.parquet")
